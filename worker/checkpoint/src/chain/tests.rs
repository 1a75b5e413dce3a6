//! [pure] Chains under random changes: bounded files, bounded bytes, bounded rewriting, and nothing is ever lost.

use proptest::prelude::*;

use super::*;

fn block(groups: Range<u32>, length: u64) -> Block {
    Block { first_group: groups.start as u16, last_group: (groups.end - 1) as u16, offset: 12, length, crc: 0, rows: 1 }
}

fn file(name: u64, blocks: Vec<Block>) -> StateFile {
    StateFile { path: format!("g1/e{name}-s0-0.state"), bytes: 1 << 30, blocks }
}

/// A table of which each group's size is known, checkpointed by the rule.
struct Table {
    owned: Range<u32>,
    sizes: Vec<u64>,
    files: Vec<StateFile>,
    whole: Range<u32>,
    added: u64,
    checkpoints: u64,
    written: u64,
    changed: u64,
}

impl Table {
    fn new(groups: u32, size: u64) -> Self {
        let owned = 0..groups;
        let sizes = vec![size; groups as usize];
        Self { owned, sizes, files: Vec::new(), whole: 0..0, added: 0, checkpoints: 0, written: 0, changed: 0 }
    }

    fn chain(&self) -> BTreeMap<String, Vec<StateFile>> {
        BTreeMap::from([("t".to_string(), self.files.clone())])
    }

    /// A checkpoint in which `change(group)` bytes of each group changed.
    fn checkpoint(&mut self, change: impl Fn(u32) -> u64) {
        self.checkpoints += 1;
        self.whole = next_whole(&self.chain(), &self.owned, self.added);
        assert!(self.whole.start >= self.owned.start && self.whole.end <= self.owned.end);
        self.files = drop_groups(&self.files, &self.whole);
        let bytes = |group: u32| {
            let size = self.sizes[group as usize];
            if self.whole.contains(&group) { size } else { change(group).min(size) }
        };
        let blocks: Vec<Block> = self
            .owned
            .clone()
            .map(|group| (group, bytes(group)))
            .filter(|(_, bytes)| *bytes > 0)
            .map(|(group, bytes)| block(group..group + 1, bytes))
            .collect();
        self.added = blocks.iter().map(|block| bytes_outside(&groups_of(block), block.length, &self.whole)).sum();
        self.written += blocks.iter().map(|block| block.length).sum::<u64>();
        self.changed += self.owned.clone().map(|group| change(group).min(self.sizes[group as usize])).sum::<u64>();
        if !blocks.is_empty() {
            self.files.push(file(self.checkpoints, blocks));
        }
    }

    fn layers(&self) -> u32 {
        group_sizes(&self.chain(), &self.owned).iter().map(|size| size.layers).max().unwrap_or(0)
    }

    fn live_bytes(&self) -> u64 {
        self.files.iter().flat_map(|file| &file.blocks).map(|block| block.length).sum()
    }
}

#[test]
fn steady_changes_cost_twice_their_bytes_and_a_restore_reads_twice_the_state() {
    const GROUP: u64 = 8 << 20;
    for percent in [1, 5, 20, 50] {
        let mut table = Table::new(128, GROUP);
        table.checkpoint(|_| GROUP);
        (table.written, table.changed) = (0, 0);
        for _ in 0..400 {
            table.checkpoint(|_| GROUP * percent / 100);
            assert!(table.layers() <= MAX_LAYERS, "{percent} %: {} layers", table.layers());
            assert!(table.live_bytes() <= 5 * 128 * GROUP / 2, "{percent} %: {} of {}", table.live_bytes(), 128 * GROUP);
        }
        let amplification = table.written as f64 / table.changed as f64;
        // Below a 32nd of the state a checkpoint, the bound on files costs more.
        let bound = if percent == 1 { 1.0 + 100.0 / 32.0 + 0.5 } else { 2.5 };
        assert!(amplification < bound, "{percent} %: {amplification}");
    }
}

#[test]
fn small_state_is_one_file_and_an_idle_job_writes_nothing() {
    let mut table = Table::new(128, 1_000);
    for _ in 0..10 {
        table.checkpoint(|group| if group % 7 == 0 { 100 } else { 0 });
    }
    assert_eq!(table.files.len(), 1);
    table.checkpoint(|_| 0);
    let written = table.written;
    for _ in 0..10 {
        table.checkpoint(|_| 0);
    }
    assert_eq!(table.written, written);
}

#[test]
fn a_chain_that_is_too_deep_is_worked_off_even_without_changes() {
    let files =
        |count: u32| BTreeMap::from([("t".to_string(), (0..u64::from(count)).map(|n| file(n, vec![block(0..128, 1 << 30)])).collect())]);
    assert!(next_whole(&files(MAX_LAYERS), &(0..128), 0).is_empty());
    assert_eq!(next_whole(&files(MAX_LAYERS + 1), &(0..128), 0), 0..4);
}

#[test]
fn a_base_of_many_files_is_no_deep_chain() {
    let base: Vec<StateFile> = (0..100).map(|n| file(n, vec![block(n as u32..n as u32 + 1, 32 << 20)])).collect();
    let change = file(100, vec![block(0..100, 1 << 20)]);
    let tables = BTreeMap::from([("t".to_string(), base.into_iter().chain([change]).collect())]);
    assert!(next_whole(&tables, &(0..100), 1 << 20).is_empty());
}

#[test]
fn the_number_of_layers_is_bounded_however_little_changes() {
    for pattern in 0..3 {
        let mut table = Table::new(100, 64 << 20);
        table.checkpoint(|_| u64::MAX);
        let mut deepest = 0;
        for n in 0..1_000 {
            let changes = |group: u32| match pattern {
                0 => group == 50,
                1 => group == n % 100,
                _ => group.is_multiple_of(3),
            };
            table.checkpoint(|group| u64::from(changes(group)));
            deepest = deepest.max(table.layers());
        }
        assert!(deepest <= MAX_LAYERS, "pattern {pattern}: {deepest} layers");
    }
}

#[test]
fn a_first_load_is_not_written_twice() {
    let mut table = Table::new(128, 8 << 20);
    table.checkpoint(|_| u64::MAX);
    let written = table.written;
    table.checkpoint(|_| 400 << 10);
    assert_eq!(table.written - written, 128 * (400 << 10));
}

#[test]
fn rewriting_narrows_cuts_or_drops_older_blocks() {
    let files = [file(1, vec![block(0..4, 8), block(4..8, 8)]), file(2, vec![block(2..3, 8)])];
    let groups = |whole: Range<u32>| -> Vec<(String, Vec<Range<u32>>)> {
        let left = drop_groups(&files, &whole);
        left.into_iter().map(|file| (file.path[4..5].to_string(), file.blocks.iter().map(groups_of).collect())).collect()
    };
    let named = |name: &str, groups: &[Range<u32>]| (name.to_string(), groups.to_vec());
    assert_eq!(groups(0..0), [named("1", &[0..4, 4..8]), named("2", &[2..3])]);
    assert_eq!(groups(3..3), [named("1", &[0..4, 4..8]), named("2", &[2..3])]);
    assert_eq!(groups(1..3), [named("1", &[0..1, 3..4, 4..8])]);
    assert_eq!(groups(3..5), [named("1", &[0..3, 5..8]), named("2", &[2..3])]);
    assert_eq!(groups(0..8), []);
    assert_eq!(trim(&files, &(3..6)).len(), 1);
    assert_eq!(trim(&files, &(3..6))[0].blocks.iter().map(groups_of).collect::<Vec<_>>(), [3..4, 4..6]);
}

proptest! {
    /// Every group can be restored at any time: its newest whole export and all changes since are live, in order.
    #[test]
    fn the_live_blocks_of_a_group_are_its_last_whole_export_and_what_followed(
        groups in 1u32..40,
        size in 1u64..4_000_000,
        changes in prop::collection::vec(prop::collection::vec(any::<bool>(), 40), 1..150),
    ) {
        let mut table = Table::new(groups, size);
        let mut expected: Vec<Vec<u64>> = vec![Vec::new(); groups as usize];
        for change in changes {
            table.checkpoint(|group| if change[group as usize] { size / 10 + 1 } else { 0 });
            for group in 0..groups {
                let versions = &mut expected[group as usize];
                if table.whole.contains(&group) {
                    versions.clear();
                }
                if table.whole.contains(&group) || change[group as usize] {
                    versions.push(table.checkpoints);
                }
            }
            let mut live: Vec<Vec<u64>> = vec![Vec::new(); groups as usize];
            for file in &table.files {
                let name: u64 = file.path[4..].split('-').next().unwrap().parse().unwrap();
                file.blocks.iter().flat_map(groups_of).for_each(|group| live[group as usize].push(name));
            }
            prop_assert_eq!(&live, &expected);
            prop_assert!(table.layers() <= MAX_LAYERS, "{} layers", table.layers());
        }
    }
}
