//! [io] The results of one table in the job's storage.
//!
//! `results/<table>/rows/` holds the segments of all lines, `results/<table>/<line>/` the indexes and the view of one.

use arrow::array::RecordBatch;
use bytes::Bytes;
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};

use super::index::{Chain, Entry, Index, Segment, ViewAt};
use super::segment;
use crate::staged::StagedStore;

/// See the module's documentation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TableStore {
    job: StagedStore,
    folder: String,
}

impl TableStore {
    /// The results of a table of the job that `job` stages for.
    pub fn new(job: &StagedStore, table: &str) -> Self {
        // Names may hold what stores do not take; told apart by a checksum then.
        let plain: String = table.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' }).collect();
        let folder = if plain == table && plain.len() <= 100 {
            format!("results/{plain}")
        } else {
            format!("results/{}.{:08x}", plain.chars().take(100).collect::<String>(), crc32fast::hash(table.as_bytes()))
        };
        Self { job: job.clone(), folder }
    }

    /// Where segments are.
    pub(super) fn rows_folder(&self) -> Result<StagedStore> {
        self.job.beside(&format!("{}/rows", self.folder))
    }

    /// Where indexes and the view of a line are.
    pub(super) fn line_folder(&self, line: u32) -> Result<StagedStore> {
        self.job.beside(&format!("{}/{line:08x}", self.folder))
    }

    /// What is kept.
    ///
    /// # Errors
    /// The storage does not answer.
    pub async fn chain(&self, line: u32) -> Result<Chain> {
        let names = self.line_folder(line)?.names().await?;
        Ok(Chain::of_names(names.iter().map(|(name, _)| name.as_str())))
    }

    /// The index of an epoch; nothing when it is not kept any more.
    ///
    /// # Errors
    /// The storage does not answer, or what is there is no index.
    pub async fn index(&self, line: u32, entry: &Entry) -> Result<Option<Index>> {
        let folder = self.line_folder(line)?;
        let place = folder.place(&entry.name())?;
        let Some(bytes) = folder.get(&place).await? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| bad(format!("{place}: {error}")))
    }

    /// Writes an index.
    pub(super) async fn put_index(&self, line: u32, index: &Index) -> Result<()> {
        let bytes = serde_json::to_vec(index).map_err(|error| DataflowError::new("results", ErrorKind::Bug, error))?;
        self.line_folder(line)?.put(&index.entry().name(), bytes.into()).await.map(drop)
    }

    /// The rows of a segment, its bytes; nothing when it is not kept any more.
    ///
    /// # Errors
    /// The storage does not answer.
    pub async fn segment(&self, segment: &Segment) -> Result<Option<Bytes>> {
        self.job.get(&segment.place).await
    }

    /// The rows of a segment.
    ///
    /// # Errors
    /// They are not what was written.
    pub fn decode(segment: &Segment, bytes: &[u8]) -> Result<RecordBatch> {
        let rows = segment::decode(&segment.place, bytes)?;
        if rows.num_rows() as u64 == segment.rows {
            return Ok(rows);
        }
        Err(bad(format!("{}: {} rows, and not the {} of its index", segment.place, rows.num_rows(), segment.rows)))
    }

    /// A kept view, as [`super::view::View::load`] takes it.
    pub(super) async fn view(&self, line: u32, at: &ViewAt) -> Result<Option<RecordBatch>> {
        let folder = self.line_folder(line)?;
        let place = folder.place(&at.name())?;
        let Some(bytes) = folder.get(&place).await? else { return Ok(None) };
        segment::decode(&place, &bytes).map(Some)
    }
}

fn bad(message: String) -> DataflowError {
    DataflowError::new("results", ErrorKind::State, message)
}
