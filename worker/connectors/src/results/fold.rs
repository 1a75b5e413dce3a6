//! [io] A view that follows the kept results of a change-log.

use arrow::array::RecordBatch;
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::time::Epoch;

use super::config::Config;
use super::index::{Chain, Entry};
use super::store::TableStore;
use super::view::View;

/// A view, and up to where it holds the change-log.
#[derive(Debug)]
pub struct Fold {
    view: View,
    line: u32,
    /// Rows of the change-log that it holds.
    pub position: u64,
    /// The epoch of the last of them.
    pub epoch: Epoch,
}

/// What came of following.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folded {
    /// It is as new as what is kept.
    Whole,
    /// It has more rows than it may.
    Over,
    /// What it would need is not kept any more: begin anew.
    Gone,
}

impl Fold {
    /// The view that is kept; nothing when there is none (any more).
    ///
    /// # Errors
    /// The storage does not answer, or holds something else.
    pub async fn begin(store: &TableStore, config: &Config, line: u32, chain: &Chain) -> Result<Option<Self>> {
        let mut fold = Self { view: View::new(&config.schema)?, line, position: 0, epoch: 0 };
        let Some(at) = chain.view.filter(|at| at.size.is_some()) else { return Ok(None) };
        let Some(rows) = store.view(line, &at).await? else { return Ok(None) };
        (fold.position, fold.epoch) = (at.position, at.epoch);
        fold.change(move |view| view.load(&rows)).await?;
        Ok(Some(fold))
    }

    /// Applies what has come since.
    ///
    /// # Errors
    /// The storage does not answer, or holds something else.
    pub async fn follow(&mut self, store: &TableStore, config: &Config, chain: &Chain) -> Result<Folded> {
        if self.position < chain.start() {
            return Ok(Folded::Gone);
        }
        let entries: Vec<Entry> = chain.from(self.position).collect();
        for entry in entries {
            let Some(index) = store.index(self.line, &entry).await? else { return Ok(Folded::Gone) };
            for segment in index.segments {
                let Some(bytes) = store.segment(&segment).await? else { return Ok(Folded::Gone) };
                self.change(move |view| view.apply(&TableStore::decode(&segment, &bytes)?)).await?;
            }
            (self.position, self.epoch) = (entry.end(), entry.epoch);
            if self.view.len() as u64 > config.limits.view_rows {
                return Ok(Folded::Over);
            }
        }
        Ok(Folded::Whole)
    }

    /// The line of the change-log.
    pub fn line(&self) -> u32 {
        self.line
    }

    /// The rows, each as often as it is there.
    ///
    /// # Errors
    /// `Bug` only.
    pub fn whole(&self) -> Result<RecordBatch> {
        self.view.whole()
    }

    /// As it is kept.
    pub(super) fn batch(&self) -> Result<RecordBatch> {
        self.view.batch()
    }

    /// Works on the view where it keeps nobody waiting.
    async fn change(&mut self, change: impl FnOnce(&mut View) -> Result<()> + Send + 'static) -> Result<()> {
        let empty = View::new(&self.view.schema())?;
        let mut view = std::mem::replace(&mut self.view, empty);
        let changed = tokio::task::spawn_blocking(move || change(&mut view).map(|()| view)).await;
        self.view = changed.map_err(|error| DataflowError::new("results", ErrorKind::Bug, error))??;
        Ok(())
    }
}
