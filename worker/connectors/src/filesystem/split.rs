//! [io] Splits by name: a file as it was when it was found, or a row group of it.
//!
//! The name is all that a checkpoint holds of a file: path, number of the row group, and what tells one content from
//! another, so that whoever reads it, whenever, knows that it is still what was found.

use object_store::ObjectMeta;
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};

/// Before the number of a row group.
const GROUP_MARK: &str = "#row-group=";
/// Before what tells one content from another.
const VERSION_MARK: &str = "#found=";

/// What tells one content of a file from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    /// Bytes.
    pub(crate) size: u64,
    /// Time of the last change, ms since 1970.
    pub(crate) modified: i64,
    /// The store's mark of the content; of a local file its time of change in ns.
    pub(crate) tag: Option<String>,
}

impl Version {
    /// Of an object.
    pub(crate) fn of(meta: &ObjectMeta) -> Self {
        let tag = meta.e_tag.as_ref().map(|tag| tag.trim_start_matches("W/").trim_matches('"').to_owned());
        Self { size: meta.size, modified: meta.last_modified.timestamp_millis(), tag: tag.filter(|tag| !tag.is_empty()) }
    }

    /// Of a local file.
    pub(crate) fn of_file(metadata: &std::fs::Metadata) -> Self {
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
        Self { size: metadata.len(), modified: modified.as_millis() as i64, tag: Some(format!("{:x}", modified.as_nanos())) }
    }

    /// Whether both are of one content.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let marks = match (&self.tag, &other.tag) {
            (Some(a), Some(b)) => a == b,
            // Some answers of a store tell seconds only.
            _ => self.modified / 1000 == other.modified / 1000,
        };
        self.size == other.size && marks
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{},{}", self.size, self.modified)?;
        self.tag.as_ref().map_or(Ok(()), |tag| write!(f, ",{tag}"))
    }
}

/// What one reader reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileSplit {
    /// Path relative to the table's; empty when that is itself a file.
    pub(crate) file: String,
    /// None in checkpoints of a time that did not know it.
    pub(crate) version: Option<Version>,
    /// The row group; none for files that are read whole.
    pub(crate) group: Option<usize>,
}

impl FileSplit {
    /// Reads the name of a split.
    pub(crate) fn parse(id: &str) -> Self {
        let (rest, version) = match id.rsplit_once(VERSION_MARK).and_then(|(rest, text)| Some((rest, version(text)?))) {
            Some((rest, version)) => (rest, Some(version)),
            None => (id, None),
        };
        match rest.rsplit_once(GROUP_MARK).and_then(|(file, group)| Some((file, group.parse().ok()?))) {
            Some((file, group)) => Self { file: file.to_owned(), version, group: Some(group) },
            None => Self { file: rest.to_owned(), version, group: None },
        }
    }

    /// # Errors
    /// When the file is no longer what was found.
    pub(crate) fn verify(&self, now: &Version, shown: &str) -> Result<()> {
        match &self.version {
            Some(found) if !found.is_same(now) => Err(changed(shown, found, now)),
            _ => Ok(()),
        }
    }
}

impl std::fmt::Display for FileSplit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.file)?;
        self.group.map_or(Ok(()), |group| write!(f, "{GROUP_MARK}{group}"))?;
        self.version.as_ref().map_or(Ok(()), |version| write!(f, "{VERSION_MARK}{version}"))
    }
}

fn version(text: &str) -> Option<Version> {
    let mut parts = text.splitn(3, ',');
    let (size, modified) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some(Version { size, modified, tag: parts.next().map(str::to_owned) })
}

/// A file is no longer what was found.
pub(crate) fn changed(shown: &str, found: &Version, now: &Version) -> DataflowError {
    let message = format!(
        "{shown} has changed since it was found ({} bytes then, {} now; {found} and {now}). Files must not change once they are \
         there: write under a name that begins with '.' or '_' and rename it when it is whole, or write another file",
        found.size, now.size
    );
    DataflowError::new("filesystem", ErrorKind::Data, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_splits_are_read_back() {
        let version = |tag: Option<&str>| Some(Version { size: 12, modified: 1_700_000_000_123, tag: tag.map(str::to_owned) });
        for file in ["a.csv", "", "day=2013-01-01/a#b,c.parquet", "odd#row-group=x"] {
            for version in [None, version(None), version(Some("9bb58f26192e4ba00f01e2e7b136bbd8-3"))] {
                for group in [None, Some(7)] {
                    let split = FileSplit { file: file.to_owned(), version: version.clone(), group };
                    assert_eq!(FileSplit::parse(&split.to_string()), split);
                }
            }
        }
        let old = FileSplit { file: "a.parquet".to_owned(), version: None, group: Some(3) };
        assert_eq!(FileSplit::parse("a.parquet#row-group=3"), old, "the form of older checkpoints");
    }

    #[test]
    fn one_content_is_told_from_another() {
        let found = Version { size: 12, modified: 1_999, tag: Some("x".to_owned()) };
        assert!(found.is_same(&Version { modified: 1_000, ..found.clone() }));
        assert!(!found.is_same(&Version { tag: Some("y".to_owned()), ..found.clone() }));
        assert!(!found.is_same(&Version { size: 13, ..found.clone() }));
        let untold = Version { tag: None, ..found.clone() };
        assert!(found.is_same(&Version { modified: 1_000, ..untold.clone() }), "to the second");
        assert!(!found.is_same(&Version { modified: 2_000, ..untold }));
    }
}
