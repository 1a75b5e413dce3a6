//! [pure] The only place that formats or parses a path in the store.
//!
//! Invariants:
//! - An [`ObjectPath`] is relative, has no empty, hidden or parent segment, and only `A-Z a-z 0-9 . _ -` in its
//!   segments: whatever a manifest claims, nothing outside the job's root (or the savepoint's) is ever touched.
//! - Names hold what retention must know without reading the object: generation and epoch of a state file or
//!   manifest, the number of a record.
//! - Names that begin with a dot belong to the store's own bookkeeping (temporary files, locks) and are no objects.

use std::fmt;

/// Longest segment, bytes: what common file systems allow.
const MAX_SEGMENT_BYTES: usize = 255;
/// Longest path, bytes: S3 keys end at 1,024, and the store's own prefix must fit as well.
const MAX_PATH_BYTES: usize = 800;
/// Digits of a record's number, so that names sort as numbers do.
const SEQ_DIGITS: usize = 20;

/// Why a string is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a path in the checkpoint store: {reason}")]
pub struct PathError {
    /// What was given, cut to 100 characters.
    pub given: String,
    /// The rule that it breaks.
    pub reason: &'static str,
}

/// A checked path, relative to the root that it is used with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectPath(String);

impl ObjectPath {
    /// Checks a path that came from outside.
    pub fn parse(given: &str) -> Result<Self, PathError> {
        let refuse = |reason| Err(PathError { given: given.chars().take(100).collect(), reason });
        if given.len() > MAX_PATH_BYTES {
            return refuse("it is longer than 800 bytes");
        }
        for segment in given.split('/') {
            if let Err(reason) = check_segment(segment) {
                return refuse(reason);
            }
        }
        Ok(Self(given.to_string()))
    }

    /// The path as text, segments joined by `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// This path with `below` under it.
    pub fn join(&self, below: &ObjectPath) -> Self {
        Self(format!("{}/{}", self.0, below.0))
    }

    /// The last segment.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// A path below this one, as a path of its own; `None` when it is not below.
    pub fn relative(&self, whole: &ObjectPath) -> Option<ObjectPath> {
        whole.0.strip_prefix(&self.0)?.strip_prefix('/').map(|rest| Self(rest.to_string()))
    }

    /// Trusted: `segments` were checked or are made of digits and fixed words.
    fn trusted(text: String) -> Self {
        debug_assert!(Self::parse(&text).is_ok(), "{text}");
        Self(text)
    }
}

impl fmt::Display for ObjectPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check_segment(segment: &str) -> Result<(), &'static str> {
    if segment.is_empty() {
        return Err("it is absolute, empty, or has an empty segment");
    }
    if segment.len() > MAX_SEGMENT_BYTES {
        return Err("a segment is longer than 255 bytes");
    }
    if segment.starts_with('.') {
        return Err("a segment begins with a dot");
    }
    if !segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        return Err("only the characters A-Z a-z 0-9 . _ - are allowed");
    }
    Ok(())
}

fn check_id(given: &str) -> Result<(), PathError> {
    check_segment(given).map_err(|reason| PathError { given: given.chars().take(100).collect(), reason })
}

/// The paths of one job in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobPaths {
    root: ObjectPath,
    uid: String,
}

impl JobPaths {
    /// `<namespace>/<job>/<uid>`; each must be one segment.
    pub fn new(namespace: &str, job: &str, uid: &str) -> Result<Self, PathError> {
        for id in [namespace, job, uid] {
            check_id(id)?;
        }
        Ok(Self { root: ObjectPath::parse(&format!("{namespace}/{job}/{uid}"))?, uid: uid.to_string() })
    }

    /// The folder of everything of this job.
    pub fn root(&self) -> &ObjectPath {
        &self.root
    }

    /// The job's unique id.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// The object that holds the current generation.
    pub fn fence(&self) -> ObjectPath {
        self.below("fence")
    }

    /// The folder of the records.
    pub fn log(&self) -> ObjectPath {
        self.below("log")
    }

    /// The record with this number.
    pub fn record(&self, seq: u64) -> ObjectPath {
        self.below(&format!("log/{seq:0SEQ_DIGITS$}"))
    }

    /// The folder of all that a generation writes.
    pub fn generation(&self, generation: u64) -> ObjectPath {
        self.below(&format!("g{generation}"))
    }

    /// The folder of a savepoint.
    pub fn savepoint(&self, id: &str) -> Result<ObjectPath, PathError> {
        check_id(id)?;
        Ok(self.below(&format!("savepoints/{id}")))
    }

    /// The folder of all savepoints.
    pub fn savepoints(&self) -> ObjectPath {
        self.below("savepoints")
    }

    /// A path that a manifest or record names relative to the job's root.
    pub fn resolve(&self, relative: &str) -> Result<ObjectPath, PathError> {
        Ok(self.root.join(&ObjectPath::parse(relative)?))
    }

    fn below(&self, rest: &str) -> ObjectPath {
        ObjectPath::trusted(format!("{}/{rest}", self.root.0))
    }
}

/// A state file's path, relative to the job's root. `index` counts the files of this subtask in this checkpoint.
pub fn state_file(generation: u64, epoch: u64, subtask: u32, index: u32) -> ObjectPath {
    ObjectPath::trusted(format!("g{generation}/e{epoch}-s{subtask}-{index}.state"))
}

/// The path of a file that generation took over from a savepoint of `epoch`, relative to the job's root.
pub fn imported_file(generation: u64, epoch: u64, index: usize) -> ObjectPath {
    ObjectPath::trusted(format!("g{generation}/e{epoch}-import-{index}.state"))
}

/// A manifest's path, relative to the job's root. The token keeps two attempts at one epoch apart.
pub fn manifest(generation: u64, epoch: u64, attempt: u64) -> ObjectPath {
    ObjectPath::trusted(format!("g{generation}/e{epoch}-{attempt}.manifest"))
}

/// The description of a savepoint, relative to its folder. It is written last: a folder without it is no savepoint.
pub fn savepoint_manifest() -> ObjectPath {
    ObjectPath::trusted("manifest".to_string())
}

/// A state file of a savepoint, relative to its folder. Two attempts at one id never share a name.
pub fn savepoint_file(generation: u64, epoch: u64, index: usize) -> ObjectPath {
    ObjectPath::trusted(format!("g{generation}-e{epoch}-{index}.state"))
}

/// Whether the last segment of a path is that of a [`savepoint_file`].
pub fn is_savepoint_file(name: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts = name.strip_suffix(".state").and_then(|name| {
        let mut parts = name.split('-');
        let all = (parts.next()?.strip_prefix('g')?, parts.next()?.strip_prefix('e')?, parts.next()?);
        parts.next().is_none().then_some(all)
    });
    parts.is_some_and(|(generation, epoch, index)| digits(generation) && digits(epoch) && digits(index))
}

/// An object beside `path` on which an endpoint is tried out.
pub fn probe_beside(path: &ObjectPath, nonce: u64) -> ObjectPath {
    let folder = path.0.rsplit_once('/').map(|(folder, _)| folder);
    ObjectPath::trusted(match folder {
        Some(folder) => format!("{folder}/probe-{nonce:016x}"),
        None => format!("probe-{nonce:016x}"),
    })
}

/// What a path below the job's root stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The fence.
    Fence,
    /// The record with this number.
    Record(u64),
    /// Something that a generation wrote at an epoch: a state file or a manifest.
    Written {
        /// The generation.
        generation: u64,
        /// The epoch.
        epoch: u64,
    },
    /// Part of a savepoint.
    Savepoint,
    /// Left over from trying an endpoint out.
    Probe,
    /// Not ours: never touched.
    Unknown,
}

/// Reads a path relative to the job's root.
pub fn kind_of(relative: &ObjectPath) -> Kind {
    let segments: Vec<&str> = relative.0.split('/').collect();
    match segments.as_slice() {
        ["fence"] => Kind::Fence,
        ["savepoints", _, ..] => Kind::Savepoint,
        ["log", seq] if seq.len() == SEQ_DIGITS => number(seq).map_or(Kind::Unknown, Kind::Record),
        [name] | ["log", name] if name.starts_with("probe-") => Kind::Probe,
        [folder, name] => {
            let generation = folder.strip_prefix('g').and_then(number);
            let epoch = name.strip_prefix('e').and_then(|rest| rest.split('-').next()).and_then(number);
            match (generation, epoch) {
                (Some(generation), Some(epoch)) => Kind::Written { generation, epoch },
                _ if name.starts_with("probe-") => Kind::Probe,
                _ => Kind::Unknown,
            }
        }
        _ => Kind::Unknown,
    }
}

/// The generation whose folder this is.
pub fn generation_of_folder(name: &str) -> Option<u64> {
    name.strip_prefix('g').and_then(number)
}

/// Digits only: `parse` alone would take a sign.
fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_could_leave_the_root_are_refused() {
        for bad in ["", "/", "/etc/passwd", "a//b", "a/", "../x", "a/../b", "a/./b", ".hidden", "a b", "a\\b", "a\0b", "ü", "a:b", "a%2e"]
        {
            assert!(ObjectPath::parse(bad).is_err(), "{bad:?}");
        }
        assert!(ObjectPath::parse(&"a".repeat(255)).is_ok());
        assert!(ObjectPath::parse(&"a".repeat(256)).is_err());
        let long = ["a".repeat(200), "b".repeat(200), "c".repeat(200), "d".repeat(197)].join("/");
        assert_eq!(long.len(), 800);
        assert!(ObjectPath::parse(&long).is_ok());
        assert!(ObjectPath::parse(&format!("{long}e")).is_err());
    }

    #[test]
    fn a_job_id_is_one_segment() {
        assert!(JobPaths::new("default", "bids", "uid-1").is_ok());
        for bad in ["a/b", "..", "", "a b"] {
            assert!(JobPaths::new(bad, "j", "u").is_err());
            assert!(JobPaths::new("n", bad, "u").is_err());
            assert!(JobPaths::new("n", "j", bad).is_err());
            assert!(JobPaths::new("n", "j", "u").unwrap().savepoint(bad).is_err());
        }
    }

    #[test]
    fn what_is_formatted_is_read_back() {
        let job = JobPaths::new("n", "j", "u").unwrap();
        let kind = |path: &ObjectPath| kind_of(&job.root().relative(path).unwrap());
        assert_eq!(kind(&job.fence()), Kind::Fence);
        assert_eq!(kind(&job.record(u64::MAX)), Kind::Record(u64::MAX));
        assert_eq!(kind(&job.savepoint("a").unwrap().join(&savepoint_manifest())), Kind::Savepoint);
        assert_eq!(kind(&probe_beside(&job.fence(), 7)), Kind::Probe);
        assert_eq!(kind(&probe_beside(&job.record(1), 7)), Kind::Probe);
        assert_eq!(kind_of(&state_file(3, 9, 1, 0)), Kind::Written { generation: 3, epoch: 9 });
        assert_eq!(kind_of(&manifest(3, 9, 2)), Kind::Written { generation: 3, epoch: 9 });
        assert_eq!(kind_of(&imported_file(3, 9, 2)), Kind::Written { generation: 3, epoch: 9 });
        for other in ["log/7", "g1/notes", "g-1/e1-0.manifest", "gx/e1-0", "README", "a/b/c"] {
            assert_eq!(kind_of(&ObjectPath::parse(other).unwrap()), Kind::Unknown, "{other}");
        }
    }

    #[test]
    fn names_of_records_sort_as_their_numbers() {
        let job = JobPaths::new("n", "j", "u").unwrap();
        assert!(job.record(9) < job.record(10));
        assert!(job.record(99) < job.record(100));
    }
}
