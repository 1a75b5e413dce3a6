//! [io] The pod's memory over restarts of its container: the last assignment, and whether its run has ended.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rheos_control_api::{Assignment, Failure, Phase};
use serde::{Deserialize, Serialize};

use crate::run::data_dir::replace;

/// Version of the file's form.
const KEPT_VERSION: u32 = 1;
/// Its name.
const KEPT_FILE: &str = "assignment.json";

/// What is remembered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    version: u32,
    /// The newest assignment.
    pub assignment: Assignment,
    /// How its run ended; none: it goes on when the container comes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// Suspended, finished or failed.
    pub state: Phase,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

impl Kept {
    /// Of a run that begins.
    pub fn new(assignment: Assignment) -> Self {
        Self { version: KEPT_VERSION, assignment, end: None }
    }

    /// The same, ended.
    #[must_use]
    pub fn ended(self, state: Phase, failure: Option<Failure>) -> Self {
        Self { end: Some(End { state, failure }), ..self }
    }
}

/// The file.
#[derive(Debug)]
pub struct Keep {
    path: PathBuf,
    kept: Option<Kept>,
}

impl Keep {
    /// Opens the memory in a folder.
    ///
    /// # Errors
    /// The folder cannot be made, or holds a memory that cannot be read: to forget it could run a job twice.
    pub fn open(folder: &Path) -> Result<Self, String> {
        let describe = |problem: String| format!("{}: {problem}", folder.display());
        fs::create_dir_all(folder).map_err(|error| describe(error.to_string()))?;
        let path = folder.join(KEPT_FILE);
        let kept = match fs::read(&path) {
            Ok(bytes) => {
                let kept: Kept = serde_json::from_slice(&bytes).map_err(|error| describe(format!("{KEPT_FILE}: {error}")))?;
                if kept.version != KEPT_VERSION {
                    return Err(describe(format!("{KEPT_FILE}: version {} is not known to this release", kept.version)));
                }
                Some(kept)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(describe(error.to_string())),
        };
        Ok(Self { path, kept })
    }

    /// What is remembered.
    pub fn kept(&self) -> Option<&Kept> {
        self.kept.as_ref()
    }

    /// Remembers, durably.
    ///
    /// # Errors
    /// It cannot be written; what was remembered before still is.
    pub fn keep(&mut self, kept: Kept) -> Result<(), String> {
        let text = serde_json::to_vec_pretty(&kept).map_err(|error| error.to_string())?;
        replace(&self.path, &text).map_err(|error| format!("{}: {error}", self.path.display()))?;
        self.kept = Some(kept);
        Ok(())
    }
}
