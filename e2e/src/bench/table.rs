//! [pure] Markdown tables and the figures in them.

/// A Markdown table.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column heads.
    pub fn new(heads: &[&str]) -> Self {
        let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
        let rule = vec!["---".to_owned(); heads.len()];
        Self { rows: vec![heads, rule] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: &[String]) {
        self.rows.push(cells.to_vec());
    }

    /// A row as a line.
    pub fn line(cells: &[String]) -> String {
        format!("| {} |", cells.join(" | "))
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.rows.iter().try_for_each(|row| writeln!(f, "{}", Self::line(row)))
    }
}

/// `3.24 M`, `810 k`, `95`.
pub fn amount(number: f64) -> String {
    match number {
        n if n >= 1e6 => format!("{:.2} M", n / 1e6),
        n if n >= 1e3 => format!("{:.0} k", n / 1e3),
        n => format!("{n:.0}"),
    }
}

/// The value at a share of the sorted figures (nearest rank); 0 of none.
pub fn percentile(figures: &[f64], share: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let figures = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(percentile(&figures, 0.5), 3.0);
        assert_eq!(percentile(&figures, 0.99), 5.0);
        assert_eq!(percentile(&[], 0.5), 0.0);
    }

    #[test]
    fn amounts_are_short() {
        assert_eq!([amount(3_240_000.0), amount(810_400.0), amount(95.0)], ["3.24 M", "810 k", "95"]);
    }
}
