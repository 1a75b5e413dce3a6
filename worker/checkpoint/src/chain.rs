//! [pure] Chains of state files: how much a restore has to read for a key group, and what it costs to keep that little.
//!
//! A checkpoint writes the rows that changed. So a key group comes to lie in several layers: the block of its base, and
//! on top a block of each checkpoint in which some of its rows changed. A checkpoint also **rolls**: it rewrites a few
//! key groups whole, going on where the base is oldest. What older files hold of those groups is dead from then on, and
//! a file without live groups is dropped from the manifest. So no checkpoint ever pays for all groups at once.
//!
//! How much: **as many bytes as the last changes had** ([`next_whole`]). With state of S bytes and changes of d bytes a
//! checkpoint, one round over all groups takes S/d checkpoints, and the changes on top of S come to S/2 on average: write
//! amplification (2) and the bytes that a restore reads (1.5 S) do not depend on d. Rolling begins when the changes on
//! top exceed a [`OVERLAY_PART`]th of what is below them, so that a first load is not written twice. Where d is so small
//! that [`ROUND_CHECKPOINTS`] layers come together first, the groups are divided evenly over that many checkpoints, so
//! that there are never more than [`MAX_LAYERS`]. A checkpoint without changes rewrites nothing.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::manifest::{Block, StateFile};

/// Rolling begins when changes on top of a base exceed this part of it.
pub const OVERLAY_PART: u64 = 4;
/// Layers of a key group at which rolling begins whatever their size, and checkpoints in which it then rewrites every
/// key group.
pub const ROUND_CHECKPOINTS: u32 = 32;
/// Blocks of one table that hold rows of one key group, at most; more only right after a restore of older state.
pub const MAX_LAYERS: u32 = 2 * ROUND_CHECKPOINTS;
/// State of this size is rewritten whole at each checkpoint with changes, bytes: one small file beats a chain.
pub const SMALL_BYTES: u64 = 256 * 1024;

/// The key groups that an operator should export whole at the next checkpoint: a range inside `owned`, maybe empty.
///
/// `tables`: its live files by table, oldest first. `added`: bytes of changed rows in the last checkpoint, those of
/// groups that it rewrote not counted (see [`bytes_outside`]).
pub fn next_whole(tables: &BTreeMap<String, Vec<StateFile>>, owned: &Range<u32>, added: u64) -> Range<u32> {
    let nothing = owned.start..owned.start;
    let sizes = group_sizes(tables, owned);
    let base: u64 = sizes.iter().map(|size| size.base).sum();
    let overlay: u64 = sizes.iter().map(|size| size.overlay).sum();
    let layers = sizes.iter().map(|size| size.layers).max().unwrap_or(0);
    if added == 0 && layers <= MAX_LAYERS {
        return nothing;
    }
    if base + overlay <= SMALL_BYTES {
        return owned.clone();
    }
    let deep = layers >= ROUND_CHECKPOINTS;
    let Some(first) = oldest_group(tables, owned, &sizes).filter(|_| deep || overlay >= base / OVERLAY_PART) else { return nothing };
    let least = if deep { (owned.end - owned.start).div_ceil(ROUND_CHECKPOINTS) } else { 1 };
    let (mut end, mut rewritten) = (first, 0);
    while end < owned.end && (rewritten < added || end - first < least) {
        rewritten += sizes[(end - owned.start) as usize].base;
        end += 1;
    }
    first..end
}

/// The part of `bytes`, which belong evenly to `groups`, that lies outside of `whole`.
pub fn bytes_outside(groups: &Range<u32>, bytes: u64, whole: &Range<u32>) -> u64 {
    let all = u64::from(groups.end.saturating_sub(groups.start)).max(1);
    let inside = u64::from(groups.end.min(whole.end).saturating_sub(groups.start.max(whole.start)));
    bytes * (all - inside) / all
}

/// What the files hold of one key group.
#[derive(Clone, Copy, Default)]
struct GroupSize {
    /// Bytes of the oldest block of each table: about what rewriting it costs.
    base: u64,
    /// Bytes of the blocks on top.
    overlay: u64,
    /// Blocks of the table that has most.
    layers: u32,
}

/// Sizes of the owned groups; a block counts evenly for its groups.
fn group_sizes(tables: &BTreeMap<String, Vec<StateFile>>, owned: &Range<u32>) -> Vec<GroupSize> {
    let mut sizes = vec![GroupSize::default(); owned.end.saturating_sub(owned.start) as usize];
    for files in tables.values() {
        let mut layers = vec![0; sizes.len()];
        for block in files.iter().flat_map(|file| &file.blocks) {
            let groups = groups_of(block);
            let each = block.length / u64::from(groups.end - groups.start);
            for group in groups.start.max(owned.start)..groups.end.min(owned.end) {
                let at = (group - owned.start) as usize;
                layers[at] += 1;
                sizes[at].layers = sizes[at].layers.max(layers[at]);
                if layers[at] == 1 {
                    sizes[at].base += each;
                } else {
                    sizes[at].overlay += each;
                }
            }
        }
    }
    sizes
}

/// Of the groups with layers on top of a base, the lowest one whose base is in the oldest file.
fn oldest_group(tables: &BTreeMap<String, Vec<StateFile>>, owned: &Range<u32>, sizes: &[GroupSize]) -> Option<u32> {
    let oldest = |files: &Vec<StateFile>| {
        files.iter().enumerate().find_map(|(age, file)| {
            let mut groups = file.blocks.iter().flat_map(groups_of).filter(|group| owned.contains(group));
            groups.find(|group| sizes[(group - owned.start) as usize].layers > 1).map(|group| (age, group))
        })
    };
    // The table with the longest chain knows best what is old.
    tables.values().filter_map(|files| Some((files.len(), oldest(files)?.1))).max_by_key(|(files, _)| *files).map(|(_, group)| group)
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
    let block = block.clone();
    subtract(&groups_of(&block), dead).map(move |groups| narrow(&block, &groups))
}

/// `groups` without `dead`: none, one or two ranges.
pub fn subtract(groups: &Range<u32>, dead: &Range<u32>) -> impl Iterator<Item = Range<u32>> + use<> {
    // An empty range kills nothing, wherever it lies.
    let dead = if dead.is_empty() { groups.end..groups.end } else { dead.clone() };
    let parts = [groups.start..groups.end.min(dead.start), groups.start.max(dead.end)..groups.end];
    parts.into_iter().filter(|part| !part.is_empty())
}

/// The block, as far as it holds rows of these key groups, which are among its own.
pub fn narrow(block: &Block, groups: &Range<u32>) -> Block {
    // Within the block's own groups, which are 16 bits wide.
    Block { first_group: groups.start as u16, last_group: (groups.end.max(1) - 1) as u16, ..block.clone() }
}

fn groups_of(block: &Block) -> Range<u32> {
    u32::from(block.first_group)..u32::from(block.last_group.max(block.first_group)) + 1
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "key groups that happen to be one range")]
mod tests;
