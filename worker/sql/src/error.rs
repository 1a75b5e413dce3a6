//! [pure] What a planning error says: where, which text, what is wrong, what to do.
//!
//! Inside the crate a mistake is a [`Fault`] with a span of the parser; [`SqlError`] is what leaves it, with the
//! offending text cut out of the SQL.

use std::fmt;

use datafusion_expr::sqlparser::tokenizer::{Location, Span};

/// Characters of offending text that an error repeats, at most.
const MAX_QUOTED_CHARS: usize = 60;

/// A mistake in a SQL text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlError {
    /// Line, from 1.
    pub line: u64,
    /// Column in characters, from 1.
    pub column: u64,
    /// The offending text.
    pub text: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for SqlError {}

/// A mistake and its place; without a place it belongs to the whole statement.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) span: Span,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// All mistakes found before planning could not go on. Empty when the cause has been reported already.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults(pub(crate) Vec<Fault>);

pub(crate) type Result<T, E = Faults> = std::result::Result<T, E>;

impl Fault {
    pub(crate) fn new(span: Span, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with a hint, if there is one.
    pub(crate) fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }
}

impl<T> From<Fault> for Result<T> {
    fn from(fault: Fault) -> Self {
        Err(fault.into())
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

/// The end of a function that only fails.
pub(crate) fn fail<T>(span: Span, message: impl Into<String>) -> Result<T> {
    Err(Fault::new(span, message).into())
}

/// The same with a hint.
pub(crate) fn fail_hint<T>(span: Span, message: impl Into<String>, hint: impl Into<String>) -> Result<T> {
    Err(Fault::new(span, message).hint(hint).into())
}

/// Collects the values of `results`, or the faults of all of them.
pub(crate) fn collect<T>(results: impl IntoIterator<Item = Result<T>>) -> Result<Vec<T>> {
    let (mut values, mut faults, mut failed) = (Vec::new(), Vec::new(), false);
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(more) => {
                failed = true;
                faults.extend(more.0);
            }
        }
    }
    if failed { Err(Faults(faults)) } else { Ok(values) }
}

/// Whether the parser knew where.
pub(crate) fn known(span: Span) -> bool {
    span.start.line > 0
}

/// Cuts offending texts out of the SQL.
pub(crate) struct SourceText<'a> {
    lines: Vec<&'a str>,
}

impl<'a> SourceText<'a> {
    pub(crate) fn new(sql: &'a str) -> Self {
        Self { lines: sql.split('\n').collect() }
    }

    /// The error of `fault`, placed at `statement` when the fault has no place of its own.
    pub(crate) fn error(&self, fault: Fault, statement: Span) -> SqlError {
        let span = if known(fault.span) { fault.span } else { statement };
        SqlError {
            line: span.start.line.max(1),
            column: span.start.column.max(1),
            text: self.cut(span),
            message: fault.message,
            hint: fault.hint,
        }
    }

    fn cut(&self, Span { start, end }: Span) -> String {
        let Some(line) = self.lines.get((start.line.max(1) - 1) as usize) else { return String::new() };
        let end = if end.line == start.line { end.column } else { u64::MAX };
        let from = start.column.max(1) - 1;
        let length = end.saturating_sub(1).saturating_sub(from).max(1);
        line.chars().skip(from as usize).take((length as usize).min(MAX_QUOTED_CHARS)).collect::<String>().trim_end().into()
    }
}

/// A span of nothing at `line:column`.
pub(crate) fn point(line: u64, column: u64) -> Span {
    let location = Location { line, column };
    Span { start: location, end: location }
}

/// `did you mean "price"?` when a candidate is close to `word`.
pub(crate) fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let length = word.chars().count();
    let limit = (length / 3).max(1).min(length.saturating_sub(1));
    candidates
        .into_iter()
        .map(|candidate| (distance(&word.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| format!("did you mean \"{candidate}\"?"))
}

/// Edit distance with transpositions of neighbours (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_name_is_suggested_and_a_far_one_is_not() {
        assert_eq!(did_you_mean("prise", ["price", "bidder"]).as_deref(), Some("did you mean \"price\"?"));
        assert_eq!(did_you_mean("pirce", ["price"]).as_deref(), Some("did you mean \"price\"?"));
        assert_eq!(did_you_mean("channel", ["price", "bidder"]), None);
    }

    #[test]
    fn the_offending_text_is_cut_by_characters() {
        let text = SourceText::new("SELECT 'é', prise\nFROM t");
        let mut span = point(1, 13);
        span.end.column = 18;
        let error = text.error(Fault::new(span, "unknown column"), point(1, 1));
        assert_eq!((error.text.as_str(), error.to_string().as_str()), ("prise", "1:13: unknown column"));
    }
}
