//! [io] The data directory of local runs: who the job is, and where it keeps its state.
//!
//! ```text
//! <data-dir>/lock                          held by the run that uses the directory
//! <data-dir>/admin.addr                    where that run serves its admin API
//! <data-dir>/jobs/<namespace>/<name>.json  the job's unique id
//! <data-dir>/checkpoints/…                 the checkpoint store, unless the manifest names one
//! ```
//!
//! A job's id is drawn once and kept: output that a run left in other places is never taken for that of another job,
//! even when the directory was removed between the two. `--fresh` draws a new one; nothing is deleted or moved.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::supervise::mint::random;

/// Version of the job file's form.
const JOB_FILE_VERSION: u32 = 1;

/// A data directory that this process alone uses.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    /// The lock ends with the descriptor, so a killed run leaves none behind.
    _lock: File,
}

/// What is remembered of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct JobFile {
    version: u32,
    uid: String,
    /// Ids that `--fresh` has left behind, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    earlier: Vec<String>,
}

/// A job's id, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The id.
    pub uid: String,
    /// The id that was left behind just now.
    pub left: Option<String>,
}

impl DataDir {
    /// Opens and locks a directory; makes it if need be.
    ///
    /// # Errors
    /// It cannot be made, or another run uses it.
    pub fn open(path: &Path) -> Result<Self, String> {
        let describe = |error: io::Error| format!("data directory {}: {error}", path.display());
        fs::create_dir_all(path).map_err(describe)?;
        let root = path.canonicalize().map_err(describe)?;
        let lock = File::options().create(true).truncate(false).write(true).read(true).open(root.join("lock")).map_err(describe)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let holder = fs::read_to_string(root.join("lock")).unwrap_or_default();
                return Err(format!(
                    "data directory {} is in use by another run (process {}); stop it, or give this one its own --data-dir",
                    path.display(),
                    holder.trim(),
                ));
            }
            Err(error) => return Err(describe(error.into())),
        }
        lock.set_len(0).and_then(|()| (&lock).write_all(format!("{}\n", std::process::id()).as_bytes())).map_err(describe)?;
        Ok(Self { root, _lock: lock })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The job's id: as remembered, or drawn and remembered now. `fresh` draws a new one.
    ///
    /// # Errors
    /// The job file cannot be read, is not one, or cannot be written.
    pub fn identity(&self, namespace: &str, name: &str, fresh: bool) -> Result<Identity, String> {
        let folder = self.root.join("jobs").join(namespace);
        let path = folder.join(format!("{name}.json"));
        let describe = |problem: String| format!("job file {}: {problem}", path.display());
        let known = match fs::read(&path) {
            Ok(bytes) => {
                let file: JobFile = serde_json::from_slice(&bytes).map_err(|error| {
                    describe(format!(
                        "{error}; without it the job's state cannot be found: restore it, or use --fresh with another --data-dir"
                    ))
                })?;
                if file.version != JOB_FILE_VERSION {
                    return Err(describe(format!("version {} is not known to this release", file.version)));
                }
                Some(file)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(describe(error.to_string())),
        };
        let uid = || format!("{:016x}", random());
        let (file, left) = match known {
            Some(file) if !fresh => return Ok(Identity { uid: file.uid, left: None }),
            Some(mut file) => {
                let left = std::mem::replace(&mut file.uid, uid());
                file.earlier.push(left.clone());
                (file, Some(left))
            }
            None => (JobFile { version: JOB_FILE_VERSION, uid: uid(), earlier: Vec::new() }, None),
        };
        fs::create_dir_all(&folder).map_err(|error| describe(error.to_string()))?;
        let text = serde_json::to_vec_pretty(&file).map_err(|error| describe(error.to_string()))?;
        replace(&path, &text).map_err(|error| describe(error.to_string()))?;
        Ok(Identity { uid: file.uid, left })
    }

    /// Where checkpoints are kept when the manifest names no store.
    pub fn storage_uri(&self) -> String {
        format!("file://{}", self.root.join("checkpoints").display())
    }

    /// Tells where the admin API is served.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn publish_admin(&self, address: std::net::SocketAddr) -> io::Result<()> {
        replace(&self.root.join("admin.addr"), format!("{address}\n").as_bytes())
    }

    /// The admin API is gone.
    pub fn withdraw_admin(&self) {
        let _ = fs::remove_file(self.root.join("admin.addr"));
    }
}

/// Puts a whole file in place of another, durably: readers see the old one or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut file = File::create(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_kept_until_a_fresh_start_draws_another() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(folder.path()).unwrap();
        let first = data.identity("local", "a", false).unwrap();
        assert_eq!(data.identity("local", "a", false).unwrap(), first);
        assert_ne!(data.identity("local", "b", false).unwrap().uid, first.uid);
        let fresh = data.identity("local", "a", true).unwrap();
        assert_ne!(fresh.uid, first.uid);
        assert_eq!(fresh.left, Some(first.uid));
        assert_eq!(data.identity("local", "a", false).unwrap().uid, fresh.uid);
    }

    #[test]
    fn a_second_run_is_refused_and_the_next_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(folder.path()).unwrap();
        let refusal = DataDir::open(folder.path()).unwrap_err();
        assert!(refusal.contains("in use") && refusal.contains(&std::process::id().to_string()), "{refusal}");
        drop(data);
        assert!(DataDir::open(folder.path()).is_ok());
    }

    #[test]
    fn a_broken_job_file_is_no_empty_start() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(folder.path()).unwrap();
        data.identity("local", "a", false).unwrap();
        fs::write(folder.path().join("jobs/local/a.json"), b"{").unwrap();
        assert!(data.identity("local", "a", false).is_err());
        fs::write(folder.path().join("jobs/local/a.json"), br#"{"version":9,"uid":"x"}"#).unwrap();
        assert!(data.identity("local", "a", false).unwrap_err().contains("version 9"));
    }
}
