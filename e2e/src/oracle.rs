//! [io] Oracles: what a folder of committed output holds, compared as multisets.
//!
//! A change-log counts with its signs, so that one comparison serves both: a lost or repeated row, insert or retraction,
//! leaves a count that differs.

use std::collections::BTreeMap;
use std::path::Path;

/// Rows with how often they count (a retracted row counts -1).
pub type Multiset = BTreeMap<String, i64>;

/// Differences shown in a message, at most.
const SHOWN: usize = 5;

/// Reads every committed part file below `folder`; staged files (hidden names) do not count.
///
/// # Errors
/// When a file cannot be read or holds a line that is no JSON object.
pub fn read_folder(folder: &Path) -> Result<Multiset, String> {
    let mut rows = Multiset::new();
    for file in part_files(folder)? {
        let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        count(&mut rows, &text).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    rows.retain(|_, count| *count != 0);
    Ok(rows)
}

/// Counts the rows of one committed file.
///
/// # Errors
/// When it ends in the middle of a line, or a line is no JSON object.
pub fn count(rows: &mut Multiset, text: &str) -> Result<(), String> {
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("a committed file ends in the middle of a line".into());
    }
    for line in text.lines() {
        let (row, sign) = row_of(line).map_err(|error| format!("{error}: {line}"))?;
        *rows.entry(row).or_default() += sign;
    }
    Ok(())
}

/// The committed files below a folder, sorted.
///
/// # Errors
/// When a folder cannot be listed.
pub fn part_files(folder: &Path) -> Result<Vec<std::path::PathBuf>, String> {
    let mut files = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(files),
        Err(error) => return Err(format!("{}: {error}", folder.display())),
    };
    for entry in entries {
        let entry = entry.map_err(|error| format!("{}: {error}", folder.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || name.starts_with('_') {
            continue;
        }
        let path = entry.path();
        if path.is_dir() { files.extend(part_files(&path)?) } else { files.push(path) }
    }
    files.sort();
    Ok(files)
}

/// A line as a row and its sign. Debezium change events are taken apart.
fn row_of(line: &str) -> Result<(String, i64), String> {
    let value: serde_json::Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let object = value.as_object().ok_or("not an object")?;
    match (object.get("op").and_then(|op| op.as_str()), object.contains_key("before")) {
        (Some("c"), true) => Ok((object["after"].to_string(), 1)),
        (Some("d"), true) => Ok((object["before"].to_string(), -1)),
        _ => Ok((value.to_string(), 1)),
    }
}

/// What one output has too little or too much of, against the expected one.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Rows lost.
    pub lost: u64,
    /// Rows repeated or made up.
    pub repeated: u64,
    /// Some of them.
    pub examples: Vec<String>,
}

/// Compares two outputs.
pub fn compare(expected: &Multiset, actual: &Multiset) -> Difference {
    let mut difference = Difference::default();
    let keys: std::collections::BTreeSet<&String> = expected.keys().chain(actual.keys()).collect();
    for row in keys {
        let (want, have) = (expected.get(row).copied().unwrap_or(0), actual.get(row).copied().unwrap_or(0));
        if want == have {
            continue;
        }
        if have < want {
            difference.lost += want.abs_diff(have);
        } else {
            difference.repeated += want.abs_diff(have);
        }
        if difference.examples.len() < SHOWN {
            difference.examples.push(format!("{row}: expected {want}, found {have}"));
        }
    }
    difference
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_and_a_repeated_row_are_both_seen() {
        let expected = Multiset::from([("a".into(), 2), ("b".into(), 1)]);
        let actual = Multiset::from([("a".into(), 1), ("b".into(), 2)]);
        let difference = compare(&expected, &actual);
        assert_eq!((difference.lost, difference.repeated), (1, 1));
        assert_eq!(compare(&expected, &expected), Difference::default());
    }

    #[test]
    fn retractions_cancel_what_they_retract() {
        let folder = tempfile::tempdir().unwrap();
        let line = |before: &str, after: &str, op: &str| format!("{{\"before\":{before},\"after\":{after},\"op\":\"{op}\"}}\n");
        let log = [line("null", "{\"n\":1}", "c"), line("{\"n\":1}", "null", "d"), line("null", "{\"n\":2}", "c")].concat();
        std::fs::write(folder.path().join("part-0.json"), log).unwrap();
        std::fs::write(folder.path().join(".staged"), "not json").unwrap();
        assert_eq!(read_folder(folder.path()).unwrap(), Multiset::from([("{\"n\":2}".into(), 1)]));
    }

    #[test]
    fn a_torn_line_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("part-0.json"), "{\"n\":1}\n{\"n\":").unwrap();
        assert!(read_folder(folder.path()).is_err());
    }
}
