//! [pure] What may be deleted.
//!
//! Kept: the newest record of each of the newest `keep` checkpoints, every record behind the oldest of these, whatever
//! their manifests reference, and what the running generation has written for a checkpoint that is not published yet.
//! Everything else that a generation up to this one wrote is garbage: of expired checkpoints, of abandoned ones, of
//! dead generations, of a sweep that was interrupted.
//!
//! Assumption: a state file of epoch e that is missing from the first manifest published at or after e is dead; its
//! subtask never references it again.
//!
//! Why a paused, fenced collector does no harm: it deletes nothing of higher generations; the record from which its
//! successor started was at the log's end when it looked, or its files belong to an epoch that it has not published,
//! or to its own newest record; and what later checkpoints reference of old files only shrinks.

use std::collections::{BTreeMap, BTreeSet};

use crate::paths::{Kind, ObjectPath, kind_of};
use crate::record::Record;

/// Checkpoints that may be kept at most.
pub const MAX_KEEP: usize = 1_000;

/// The first record to keep, of those that a listing showed; `None`: the log is empty.
///
/// A checkpoint that generations started from has several records; only the newest one of it matters.
pub fn first_kept(records: &BTreeMap<u64, Record>, keep: usize) -> Option<u64> {
    let keep = keep.clamp(1, MAX_KEEP);
    let mut checkpoints = BTreeSet::new();
    let mut first = *records.keys().next_back()?;
    for (seq, record) in records.iter().rev() {
        let checkpoint = record.manifest.as_ref().map(|manifest| &manifest.path);
        if checkpoints.contains(&checkpoint) {
            continue;
        }
        if checkpoints.len() == keep {
            break;
        }
        checkpoints.insert(checkpoint);
        first = *seq;
    }
    Some(first)
}

/// What a collector knows.
#[derive(Debug)]
pub struct Observed<'a> {
    /// The collector's generation.
    pub generation: u64,
    /// The newest epoch that this generation has published or started from; of later ones files may be on their way.
    pub published: u64,
    /// The first record to keep, see [`first_kept`].
    pub first_kept: u64,
    /// Objects by path relative to the job's root: what a listing showed.
    pub listed: &'a [ObjectPath],
    /// Relative paths that the kept records reference: their manifests, and the files of these.
    pub referenced: &'a BTreeSet<String>,
}

/// What to delete, in this order: records (oldest first), then what nothing references. A crash on the way leaves
/// garbage, which the next sweep finds, and never a record with a hole.
pub fn retain(observed: &Observed<'_>) -> Vec<ObjectPath> {
    let mut records = BTreeMap::new();
    let mut rest = BTreeSet::new();
    for path in observed.listed {
        match kind_of(path) {
            Kind::Record(seq) if seq < observed.first_kept => {
                records.insert(seq, path.clone());
            }
            Kind::Written { generation, epoch } => {
                let finished = generation < observed.generation || (generation == observed.generation && epoch <= observed.published);
                if finished && !observed.referenced.contains(path.as_str()) {
                    rest.insert(path.clone());
                }
            }
            Kind::Probe => {
                rest.insert(path.clone());
            }
            Kind::Record(_) | Kind::Fence | Kind::Savepoint | Kind::Unknown => {}
        }
    }
    records.into_values().chain(rest).collect()
}
