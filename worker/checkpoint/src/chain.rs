//! [pure] Chains of state files: how many files of one table a restore has to read, and what it costs to keep that few.

use std::ops::Range;

use crate::manifest::{Block, StateFile};

/// Cuts files to the blocks that hold rows of these key groups; files without any are left out. A block at the edge may
/// hold rows of other groups as well: the operator skips them.
pub fn trim(files: &[StateFile], groups: &Range<u32>) -> Vec<StateFile> {
    keep_blocks(files, |block| u32::from(block.first_group) < groups.end && u32::from(block.last_group) >= groups.start)
}

/// What is left of older files when `whole` has been written anew: blocks that lie wholly inside it are superseded.
pub fn supersede(files: &[StateFile], whole: &Range<u32>) -> Vec<StateFile> {
    keep_blocks(files, |block| u32::from(block.first_group) < whole.start || u32::from(block.last_group) >= whole.end)
}

fn keep_blocks(files: &[StateFile], keep: impl Fn(&Block) -> bool) -> Vec<StateFile> {
    files
        .iter()
        .filter_map(|file| {
            let blocks: Vec<Block> = file.blocks.iter().filter(|block| keep(block)).cloned().collect();
            (!blocks.is_empty()).then(|| StateFile { path: file.path.clone(), bytes: file.bytes, blocks })
        })
        .collect()
}
