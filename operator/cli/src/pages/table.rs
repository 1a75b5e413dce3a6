//! [pure] Tables: columns as wide as their widest cell, figures to the right.

use super::paint::{Paint, Tone};

/// Between two columns.
const GAP: &str = "   ";

/// One cell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, tone: Tone::Plain }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

/// A cell in a tone.
pub fn cell(tone: Tone, text: impl Into<String>) -> Cell {
    Cell { text: text.into(), tone }
}

/// A table.
#[derive(Debug, Clone, Default)]
pub struct Table {
    headers: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty one. A header that begins with `>` is a column of figures: to the right.
    pub fn new(headers: &[&'static str]) -> Self {
        Self { headers: headers.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The text, each line after `indent`.
    pub fn render(&self, paint: Paint, indent: &str) -> String {
        let header = |header: &&'static str| cell(Tone::Faint, header.trim_start_matches('>'));
        let header: Vec<Cell> = self.headers.iter().map(header).collect();
        let lines = || std::iter::once(&header).chain(&self.rows);
        let width = |column: usize| lines().filter_map(|row| row.get(column)).map(|cell| cell.text.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.headers.len()).map(width).collect();
        let mut text = String::new();
        for row in lines() {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let pad = " ".repeat(width - cell.text.chars().count());
                let painted = paint.text(cell.tone, &cell.text);
                let figures = self.headers[column].starts_with('>');
                line += &if figures { format!("{pad}{painted}") } else { format!("{painted}{pad}") };
                line += GAP;
            }
            text += &format!("{indent}{}\n", line.trim_end());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must() {
        let mut table = Table::new(&["NAME", ">ROWS", "WHY"]);
        table.row(vec!["a".into(), "1".into(), "".into()]);
        table.row(vec![cell(Tone::Bad, "läng"), "1234567".into(), "because".into()]);
        expect![[r#"
            | NAME      ROWS   WHY
            | a            1
            | läng   1234567   because
        "#]]
        .assert_eq(&table.render(Paint::Plain, "| "));
        assert!(table.render(Paint::Colors, "").contains("\u{1b}[31mläng\u{1b}[0m   1234567"));
    }
}
