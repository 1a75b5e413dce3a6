//! [io] The name of a line: see [`super::commit`].

use std::hash::{BuildHasher, RandomState};

use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::graph::OperatorId;
use tokio::sync::OnceCell;

use crate::staged::{StagedStore, plain};

/// Folder of the job's storage.
const FOLDER: &str = "jdbc";

/// Finds the line's name once; the storage keeps what makes it different from all others.
pub(super) struct LineName {
    sink: OperatorId,
    folder: StagedStore,
    name: OnceCell<String>,
}

impl LineName {
    pub(super) fn new(sink: &OperatorId, staged: &StagedStore) -> Result<Self> {
        Ok(Self { sink: sink.clone(), folder: staged.beside(FOLDER)?, name: OnceCell::new() })
    }

    /// The line of this sink of a job.
    pub(super) async fn get(&self, job_uid: &str) -> Result<&str> {
        self.name.get_or_try_init(|| self.find(job_uid)).await.map(String::as_str)
    }

    async fn find(&self, job_uid: &str) -> Result<String> {
        let name = format!("{}.line", plain(&self.sink));
        let place = self.folder.place(&name)?;
        if self.folder.get(&place).await?.is_none() {
            let number = RandomState::new().hash_one(job_uid);
            self.folder.create(&name, format!("{number:016x}").into()).await?;
        }
        // Whoever was first.
        let found = self.folder.get(&place).await?.ok_or_else(|| {
            DataflowError::new("jdbc", ErrorKind::State, format!("{place}: the line's number has gone from the checkpoint storage"))
        })?;
        Ok(format!("{job_uid}/{}/{}", self.sink, String::from_utf8_lossy(&found)))
    }
}
