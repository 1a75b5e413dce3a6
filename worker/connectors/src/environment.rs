//! [io] What the process gives to its connectors.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::results::Announce;
use crate::secret::Secrets;
use crate::staged::StagedStore;

/// Where a `print` sink writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrintStream {
    /// Standard output of the job.
    Output,
    /// Standard error of the job (`'standard-error' = 'true'`).
    Error,
}

/// Takes whole lines of `print` sinks, from any worker thread. It may block: that is the sink's back-pressure.
pub type PrintTarget = Arc<dyn Fn(PrintStream, &[u8]) + Send + Sync>;

/// The surroundings of a job's connectors in this process.
#[derive(Clone)]
pub struct Environment {
    /// Folder that relative paths in options start from: the manifest's.
    pub base_dir: PathBuf,
    /// Runtime for timers, uploads and downloads; never for a worker's own thread.
    pub runtime: Handle,
    /// Options of the object store (endpoint, region, credentials) by the names of `object_store`; never logged.
    pub storage_options: BTreeMap<String, String>,
    /// Where `print` sinks write to.
    pub print: PrintTarget,
    /// What `${secret:name/key}` stands for.
    pub secrets: Secrets,
    /// Room for output that waits for its commit; none where a graph is only looked at.
    pub staged: Option<StagedStore>,
    /// Hears of new results.
    pub announce: Announce,
}

impl Environment {
    /// Surroundings with nothing in them: no credentials, no Secrets, nobody who reads what is printed.
    pub fn new(base_dir: impl Into<PathBuf>, runtime: Handle) -> Self {
        Self {
            base_dir: base_dir.into(),
            runtime,
            storage_options: BTreeMap::new(),
            print: Arc::new(|_, _| {}),
            secrets: Secrets::default(),
            staged: None,
            announce: Arc::new(|_| {}),
        }
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The storage options hold credentials.
        f.debug_struct("Environment").field("base_dir", &self.base_dir).finish_non_exhaustive()
    }
}
