//! [pure] Chains of state files: how many files of a table a restore has to read, and what it costs to keep them few.
//!
//! A checkpoint writes the rows that changed, and **rolls**: it also rewrites some key groups whole, always going on at
//! the lowest group of the oldest file. What older files hold of those groups is dead from then on, and a file without
//! live groups is dropped from the manifest. So no checkpoint ever pays for a compaction of everything at once.
//!
//! How much: **as many bytes as the last changes had** ([`next_whole`]). With state of S bytes and changes of d bytes a
//! checkpoint, one round over all groups takes S/d checkpoints, and the changes on top of S come to S/2 on average: write
//! amplification (2) and the bytes that a restore reads (1.5 S) do not depend on d. Rolling begins when the changes on
//! top exceed a [`OVERLAY_PART`]th of what is below them, so that a first load is not written twice. Where d is so small
//! that [`ROUND_CHECKPOINTS`] files come together first, the groups are divided evenly over that many checkpoints, so
//! that there are never more than [`MAX_CHAIN_FILES`]. A checkpoint without changes rewrites nothing.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::manifest::{Block, StateFile};

/// Rolling begins when changes on top of a base exceed this part of it.
pub const OVERLAY_PART: u64 = 4;
/// Files at which rolling begins whatever their size, and checkpoints in which it then rewrites every key group.
pub const ROUND_CHECKPOINTS: u32 = 32;
/// Live files of one table on one subtask, at most; more only right after a rescale that merged subtasks.
pub const MAX_CHAIN_FILES: usize = 2 * ROUND_CHECKPOINTS as usize;
/// State of this size is rewritten whole at each checkpoint with changes, bytes: one small file beats a chain.
pub const SMALL_BYTES: u64 = 256 * 1024;

/// The key groups that an operator should export whole at the next checkpoint: a range inside `owned`, maybe empty.
///
/// `tables`: its live files by table, oldest first. `added`: bytes of changed rows in the last checkpoint, those of
/// groups that it rewrote not counted (see [`bytes_outside`]).
pub fn next_whole(tables: &BTreeMap<String, Vec<StateFile>>, owned: &Range<u32>, added: u64) -> Range<u32> {
    let longest = tables.values().map(Vec::len).max().unwrap_or(0);
    let nothing = owned.start..owned.start;
    if owned.is_empty() || longest == 0 || (added == 0 && longest <= MAX_CHAIN_FILES) {
        return nothing;
    }
    let Some(first) = oldest_group(tables, owned) else { return nothing };
    let sizes = group_sizes(tables, owned);
    let base: u64 = sizes.iter().map(|size| size.base).sum();
    let overlay: u64 = sizes.iter().map(|size| size.overlay).sum();
    if base + overlay <= SMALL_BYTES {
        return owned.clone();
    }
    let long = longest >= ROUND_CHECKPOINTS as usize;
    if !long && overlay < base / OVERLAY_PART {
        return nothing;
    }
    let least = if long { (owned.end - owned.start).div_ceil(ROUND_CHECKPOINTS) } else { 1 };
    let (mut end, mut rewritten) = (first, 0);
    while end < owned.end && (rewritten < added || end - first < least) {
        rewritten += sizes[(end - owned.start) as usize].base;
        end += 1;
    }
    first..end
}

/// Bytes of these blocks, as far as their key groups lie outside of `whole`.
pub fn bytes_outside<'a>(blocks: impl IntoIterator<Item = &'a Block>, whole: &Range<u32>) -> u64 {
    let outside = |block: &Block| {
        let groups = groups_of(block);
        let inside = groups.end.min(whole.end).saturating_sub(groups.start.max(whole.start));
        let all = u64::from(groups.end - groups.start);
        block.length * (all - u64::from(inside)) / all
    };
    blocks.into_iter().map(outside).sum()
}

/// The lowest owned group of the table whose chain is longest, in its oldest file.
fn oldest_group(tables: &BTreeMap<String, Vec<StateFile>>, owned: &Range<u32>) -> Option<u32> {
    let files = tables.values().max_by_key(|files| files.len())?;
    let live =
        files.iter().flat_map(|file| &file.blocks).map(groups_of).find(|groups| groups.start < owned.end && groups.end > owned.start);
    live.map(|groups| groups.start.max(owned.start))
}

/// What the files hold of one key group.
#[derive(Clone, Copy, Default)]
struct GroupSize {
    /// Bytes of the oldest block of each table: about what rewriting it costs.
    base: u64,
    /// Bytes of the blocks on top.
    overlay: u64,
}

/// Sizes of the owned groups; a block counts evenly for its groups.
fn group_sizes(tables: &BTreeMap<String, Vec<StateFile>>, owned: &Range<u32>) -> Vec<GroupSize> {
    let mut sizes = vec![GroupSize::default(); (owned.end - owned.start) as usize];
    for files in tables.values() {
        let mut based = vec![false; sizes.len()];
        for block in files.iter().flat_map(|file| &file.blocks) {
            let groups = groups_of(block);
            let each = block.length / u64::from(groups.end - groups.start);
            for group in groups.start.max(owned.start)..groups.end.min(owned.end) {
                let at = (group - owned.start) as usize;
                if based[at] {
                    sizes[at].overlay += each;
                } else {
                    (based[at], sizes[at].base) = (true, sizes[at].base + each);
                }
            }
        }
    }
    sizes
}

/// Cuts files to what they hold of these key groups: after a rescale, or for a subtask's part of a restore. A block that
/// is narrowed keeps its bytes; its reader skips the rows of other groups.
pub fn trim(files: &[StateFile], owned: &Range<u32>) -> Vec<StateFile> {
    drop_groups(&drop_groups(files, &(0..owned.start)), &(owned.end..u32::MAX))
}

/// What is left of older files when `whole` has been written anew. A block is narrowed, cut in two, or dropped.
pub fn drop_groups(files: &[StateFile], whole: &Range<u32>) -> Vec<StateFile> {
    let cut = |file: &StateFile| {
        let blocks: Vec<Block> = file.blocks.iter().flat_map(|block| without(block, whole)).collect();
        (!blocks.is_empty()).then(|| StateFile { path: file.path.clone(), bytes: file.bytes, blocks })
    };
    files.iter().filter_map(cut).collect()
}

fn without(block: &Block, dead: &Range<u32>) -> impl Iterator<Item = Block> + use<> {
    let groups = groups_of(block);
    // An empty range kills nothing, wherever it lies.
    let dead = if dead.is_empty() { groups.end..groups.end } else { dead.clone() };
    let parts = [groups.start..groups.end.min(dead.start), groups.start.max(dead.end)..groups.end];
    let block = block.clone();
    parts.into_iter().filter(|part| !part.is_empty()).map(move |part| Block {
        // Both are within the block's own groups, which are 16 bits wide.
        first_group: part.start as u16,
        last_group: (part.end - 1) as u16,
        ..block.clone()
    })
}

fn groups_of(block: &Block) -> Range<u32> {
    u32::from(block.first_group)..u32::from(block.last_group.max(block.first_group)) + 1
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "key groups that happen to be one range")]
mod tests;
