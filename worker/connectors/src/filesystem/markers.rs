//! [io] Partitions that are not whole yet, and the files that say that one is.
//!
//! A partition that gets files is noted among the staged files before they are moved into place, and forgotten when its
//! marker is there: so whoever commits after a crash knows what still waits. Everything is done in one place (process 0)
//! with all that a record carries, files first; each step may be repeated.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::time::Millis;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::commit::PartitionCommit;
use super::staging::{StagedFile, Staging};
use crate::failpoint;

/// Notes that are read or written at once.
const NOTES: usize = 16;

/// See the module's documentation.
pub(crate) struct Markers {
    commit: PartitionCommit,
    /// Of the job and sink; known with the first writer.
    token: OnceLock<String>,
    /// By partition: since when it waits. None: to be read from the notes.
    waiting: Mutex<Option<BTreeMap<String, Millis>>>,
}

/// A partition that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    partition: String,
    since: Millis,
}

/// What is to be committed.
pub(crate) struct Commit {
    pub(crate) files: Vec<StagedFile>,
    /// Partitions whose files were shown already.
    pub(crate) shown: Vec<String>,
    pub(crate) now: Millis,
    pub(crate) watermark: Option<Millis>,
}

impl Markers {
    pub(crate) fn new(commit: PartitionCommit) -> Self {
        Self { commit, token: OnceLock::new(), waiting: Mutex::default() }
    }

    /// Whose notes are whose.
    pub(crate) fn belongs_to(&self, token: &str) {
        self.token.get_or_init(|| token.to_owned());
    }

    /// Moves files into place, then marks the partitions that are whole.
    pub(crate) async fn commit(&self, staging: &Staging, commit: Commit) -> Result<()> {
        let token = self.token.get().ok_or_else(|| DataflowError::new("filesystem", ErrorKind::Bug, "a commit without a writer"))?;
        let prefix = format!("{token}-waits-");
        // What fails midway is read again.
        let mut held = self.waiting.lock().await;
        let mut waiting = match held.take() {
            Some(waiting) => waiting,
            None => read_notes(staging, &prefix).await?,
        };
        let folder = |file: &StagedFile| file.path.rsplit_once('/').map(|(folder, _)| format!("{folder}/"));
        let touched: std::collections::BTreeSet<String> = commit.files.iter().filter_map(folder).chain(commit.shown).collect();
        let new: Vec<Note> = touched
            .into_iter()
            .filter(|partition| !waiting.contains_key(partition))
            .map(|partition| Note { partition, since: commit.now })
            .collect();
        write_notes(staging, &prefix, &new).await?;
        waiting.extend(new.into_iter().map(|note| (note.partition, note.since)));
        failpoint::pass("files.noted");
        staging.publish(commit.files).await?;
        failpoint::pass("files.moved");
        let mut whole = Vec::new();
        for (partition, since) in &waiting {
            if self.commit.is_whole(partition, *since, commit.now, commit.watermark)? {
                whole.push(partition.clone());
            }
        }
        for partition in whole {
            staging.put(&format!("{partition}{}", self.commit.success_file), Vec::new()).await?;
            failpoint::pass("files.marked");
            staging.remove_staged(&name(&prefix, &partition)).await?;
            waiting.remove(&partition);
        }
        *held = Some(waiting);
        Ok(())
    }
}

/// FNV-1a over the partition: a name of bounded length.
fn name(prefix: &str, partition: &str) -> String {
    format!("{prefix}{:016x}", super::sink::fnv(partition.as_bytes()))
}

async fn read_notes(staging: &Staging, prefix: &str) -> Result<BTreeMap<String, Millis>> {
    use futures::{StreamExt, TryStreamExt};
    let names = staging.staged_names(prefix).await?;
    let notes = futures::stream::iter(names.into_iter().map(|name| async move {
        let bytes = staging.read_staged(&name).await?;
        // Gone since it was listed: somebody has marked it.
        bytes.map(|bytes| serde_json::from_slice::<Note>(&bytes)).transpose().map_err(|error| {
            let message = format!("the note {name} among the staged files cannot be read: {error}");
            DataflowError::new("filesystem", ErrorKind::State, message)
        })
    }));
    let notes: Vec<Option<Note>> = notes.buffer_unordered(NOTES).try_collect().await?;
    Ok(notes.into_iter().flatten().map(|note| (note.partition, note.since)).collect())
}

async fn write_notes(staging: &Staging, prefix: &str, notes: &[Note]) -> Result<()> {
    use futures::{StreamExt, TryStreamExt};
    let puts = notes.iter().cloned().map(|note| async move {
        let bytes = serde_json::to_vec(&note).map_err(|error| DataflowError::new("filesystem", ErrorKind::Bug, error))?;
        staging.put_staged(&name(prefix, &note.partition), bytes).await
    });
    futures::stream::iter(puts).buffer_unordered(NOTES).try_collect::<()>().await
}
