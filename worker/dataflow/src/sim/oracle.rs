//! [pure] What the output of a run must be.

use std::collections::BTreeMap;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::UInt8Type;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::sink::Part;
use crate::changelog::{KIND_COLUMN, RowKind};
use crate::error::{DataflowError, ErrorKind, Result};

/// Between the values of a row.
pub const SEPARATOR: &str = " | ";

/// Rows and how often each is there.
pub type Multiset = BTreeMap<String, i64>;

/// The result that a sink's parts stand for: all rows, or what a change-log makes of them.
///
/// # Errors
/// When a change-log takes back a row that is not there, or inserts an update without its old version.
pub fn result<'a>(parts: impl IntoIterator<Item = &'a Part>) -> Result<Multiset> {
    let mut rows = Multiset::new();
    for part in parts {
        for batch in &part.batches {
            apply(&mut rows, batch).map_err(|e| DataflowError { place: format!("epoch {} of {}", part.epoch, part.subtask), ..e })?;
        }
    }
    Ok(rows)
}

/// Adds a batch to a result.
///
/// # Errors
/// See [`result`].
pub fn apply(rows: &mut Multiset, batch: &RecordBatch) -> Result<()> {
    let schema = batch.schema();
    let kinds = schema.index_of(KIND_COLUMN).ok().map(|column| batch.column(column).as_primitive::<UInt8Type>().values());
    let values = if kinds.is_some() { batch.project(&(0..batch.num_columns() - 1).collect::<Vec<_>>())? } else { batch.clone() };
    for (row, text) in texts(&values)?.into_iter().enumerate() {
        let kind = kinds.map_or(Some(RowKind::Insert), |kinds| RowKind::from_u8(kinds[row]));
        let Some(kind) = kind else { return Err(invalid(format!("a row of an unknown kind: {text}"))) };
        let count = rows.entry(text.clone()).or_default();
        *count += kind.sign();
        match *count {
            ..0 => return Err(invalid(format!("the change-log says {} of a row that is not there: {text}", kind.symbol()))),
            0 => drop(rows.remove(&text)),
            _ => {}
        }
    }
    Ok(())
}

/// Each row of a batch as text.
///
/// # Errors
/// For columns that have no text form.
pub fn texts(batch: &RecordBatch) -> Result<Vec<String>> {
    let options = FormatOptions::default().with_null("null");
    let formatters = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
    let formatters = formatters.collect::<std::result::Result<Vec<_>, _>>()?;
    let text = |row: usize| formatters.iter().map(|f| f.value(row).to_string()).collect::<Vec<_>>().join(SEPARATOR);
    Ok((0..batch.num_rows()).map(text).collect())
}

/// The first rows that are there more often than they should be, in words; `None` when there are none. Rows count as the
/// same that agree in what `identity` keeps of them: of a window over lost rows nobody can tell the sums.
pub fn repeated(expected: &Multiset, found: &Multiset, identity: impl Fn(&str) -> Identity) -> Option<String> {
    let mut counts: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    let counted = |rows: &Multiset| rows.iter().map(|(row, count)| (identity(row), *count)).collect::<Vec<_>>();
    for (row, count) in counted(expected) {
        counts.entry(row.text).or_default().0 += count;
    }
    for (row, count) in counted(found) {
        let counts = counts.entry(row.text).or_default();
        counts.0 = if row.unique { 1 } else { counts.0 };
        counts.1 += count;
    }
    let mut repeated = counts.into_iter().filter(|(_, (most, found))| found > most);
    repeated.next().map(|(row, (most, found))| format!("{found} times instead of at most {most}: {row}"))
}

/// What makes a row the one that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The columns that tell it from others.
    pub text: String,
    /// Whether there is one such row at most, whatever the input.
    pub unique: bool,
}

fn invalid(message: String) -> DataflowError {
    DataflowError::new("change-log", ErrorKind::Bug, message)
}

/// The first differences between two results, in words; `None` when they are equal.
pub fn difference(expected: &Multiset, found: &Multiset) -> Option<String> {
    let mut differences = Vec::new();
    for row in expected.keys().chain(found.keys().filter(|row| !expected.contains_key(*row))) {
        let (wanted, got) = (expected.get(row).copied().unwrap_or(0), found.get(row).copied().unwrap_or(0));
        if wanted != got {
            differences.push(format!("{got} times instead of {wanted}: {row}"));
        }
    }
    (!differences.is_empty()).then(|| format!("{} rows differ; {}", differences.len(), differences[..differences.len().min(4)].join("; ")))
}
