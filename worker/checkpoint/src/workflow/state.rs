//! [io] State files: written once, read by range, checked before anything decodes them.

use bytes::Bytes;

use super::{Protocol, ProtocolResult};
use crate::codec::{ReadError, Reason};
use crate::manifest::{Block, StateFile};
use crate::paths;
use crate::state_file::{self, StateFileWriter};
use crate::store::{Action, StoreError};

/// Neighbouring blocks are read together up to this size, bytes.
const READ_BYTES: u64 = 16 * 1024 * 1024;

impl Protocol {
    /// Puts a state file. `index` counts the files of this subtask in this checkpoint. Durable when it returns.
    pub async fn put_state(
        &self,
        generation: u64,
        epoch: u64,
        subtask: u32,
        index: u32,
        writer: StateFileWriter,
    ) -> ProtocolResult<StateFile> {
        let path = paths::state_file(generation, epoch, subtask, index);
        let (bytes, blocks) = writer.finish();
        let file = StateFile { path: path.as_str().to_string(), bytes: bytes.len() as u64, blocks };
        self.put_once(&self.job.root().join(&path), bytes).await?;
        Ok(file)
    }

    /// Reads the live blocks of a state file, in the manifest's order, and checks each one.
    ///
    /// # Errors
    /// `Unusable` names the file and what is wrong with it: missing, truncated, corrupted.
    pub async fn read_state(&self, file: &StateFile) -> ProtocolResult<Vec<Bytes>> {
        state_file::check_file(file)?;
        let path = self.job.resolve(&file.path)?;
        let mut blocks = Vec::with_capacity(file.blocks.len());
        for run in runs(&file.blocks) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            let bytes = match self.store.get_range(&path, first.offset..last.offset + last.length).await {
                Ok(bytes) => bytes,
                Err(StoreError::NotFound { .. }) => return Err(ReadError::new(&file.path, Reason::Missing).into()),
                Err(StoreError::Determinate { action: Action::Read, message, transient: false, .. }) => {
                    return Err(ReadError::new(&file.path, Reason::Truncated(message)).into());
                }
                Err(error) => return Err(error.into()),
            };
            for block in run {
                let from = ((block.offset - first.offset) as usize).min(bytes.len());
                let to = (from + block.length as usize).min(bytes.len());
                let bytes = bytes.slice(from..to);
                state_file::check_block(&file.path, block, &bytes)?;
                blocks.push(bytes);
            }
        }
        Ok(blocks)
    }
}

/// Cuts blocks into runs of neighbours.
fn runs(blocks: &[Block]) -> impl Iterator<Item = &[Block]> {
    let mut rest = blocks;
    std::iter::from_fn(move || {
        let first = rest.first()?;
        let mut end = first.offset + first.length;
        let mut count = 1;
        while let Some(next) = rest.get(count).filter(|next| next.offset == end && end + next.length - first.offset <= READ_BYTES) {
            end += next.length;
            count += 1;
        }
        let (run, after) = rest.split_at(count);
        rest = after;
        Some(run)
    })
}
