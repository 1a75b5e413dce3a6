//! State through bytes and back; what the ledger keeps live.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt16Array};
use arrow::buffer::Buffer;
use arrow::datatypes::{Int64Type, UInt16Type};
use proptest::prelude::*;
use rheos_checkpoint::manifest::{Block, StateFile};
use rheos_checkpoint::state_file::StateFileWriter;

use super::codec::{self, BLOCK_BYTES};
use super::ledger::StateLedger;
use super::{DELETED_COLUMN, GROUP_COLUMN};
use crate::error::ErrorKind;
use crate::graph::OperatorId;

/// Rows of (group, key, value); `None` removes the key.
type Rows = Vec<(u16, i64, Option<i64>)>;

fn batch(rows: &Rows) -> RecordBatch {
    let groups: UInt16Array = rows.iter().map(|row| Some(row.0)).collect();
    let deleted: BooleanArray = rows.iter().map(|row| Some(row.2.is_none())).collect();
    let keys: Int64Array = rows.iter().map(|row| Some(row.1)).collect();
    let values: Int64Array = rows.iter().map(|row| row.2).collect();
    RecordBatch::try_from_iter_with_nullable([
        (GROUP_COLUMN, Arc::new(groups) as ArrayRef, false),
        (DELETED_COLUMN, Arc::new(deleted) as ArrayRef, false),
        ("k", Arc::new(keys) as ArrayRef, false),
        ("v", Arc::new(values) as ArrayRef, true),
    ])
    .unwrap()
}

fn replay(state: &mut BTreeMap<(u16, i64), i64>, batches: &[RecordBatch]) {
    for batch in batches {
        let groups = batch.column(0).as_primitive::<UInt16Type>();
        let deleted = batch.column(1).as_boolean();
        let (keys, values) = (batch.column(2).as_primitive::<Int64Type>(), batch.column(3).as_primitive::<Int64Type>());
        for row in 0..batch.num_rows() {
            let key = (groups.value(row), keys.value(row));
            if deleted.value(row) {
                state.remove(&key)
            } else {
                state.insert(key, values.value(row))
            };
        }
    }
}

fn placed(encoded: &codec::EncodedBlock) -> Block {
    let mut file = StateFileWriter::new();
    file.push(encoded.first_group, encoded.last_group, encoded.rows, &encoded.bytes).unwrap();
    file.finish().1.remove(0)
}

/// Writes what is not durable yet.
fn write(ledger: &mut StateLedger, checkpoint: i64) -> Vec<(StateFile, Vec<u8>)> {
    let mut written = Vec::new();
    for (number, file) in ledger.files().unwrap().into_iter().enumerate() {
        let (bytes, blocks) = file.finish();
        let file = StateFile { path: format!("f{checkpoint}-{number}"), bytes: bytes.len() as u64, blocks };
        written.push((file, bytes.to_vec()));
    }
    let files: Vec<StateFile> = written.iter().map(|(file, _)| file.clone()).collect();
    ledger.written(&files);
    written
}

#[test]
fn a_block_ends_with_a_key_group_once_it_is_full() {
    let rows: Rows = (0..200_000).map(|i| ((i / 1_000) as u16, i, Some(i))).collect();
    let batches: Vec<_> = rows.chunks(60_000).map(|chunk| batch(&chunk.to_vec())).collect();
    let blocks = codec::encode(&batches).unwrap();
    assert!(blocks.len() > 2 && blocks.iter().all(|block| block.bytes.len() < 2 * BLOCK_BYTES), "{}", blocks.len());
    for pair in blocks.windows(2) {
        assert!(pair[0].last_group < pair[1].first_group);
    }
    let mut state = BTreeMap::new();
    for block in &blocks {
        replay(&mut state, &codec::decode(&placed(block), Buffer::from(block.bytes.clone()), &(50..150)).unwrap());
    }
    assert_eq!(state.len(), 100_000);
    assert!(state.keys().all(|(group, _)| (50..150).contains(group)));
}

#[test]
fn unsorted_rows_are_refused() {
    assert_eq!(codec::encode(&[batch(&vec![(2, 0, None), (1, 0, None)])]).unwrap_err().kind, ErrorKind::Bug);
}

#[test]
fn compaction_lets_every_old_file_go() {
    let operator = OperatorId("op".into());
    let mut ledger = StateLedger::new(0..16, [operator.clone()], None);
    // Above the size that is rewritten whole each time.
    let all = |group: u16| (0..20_000).map(move |key| (group, key, Some(key)));
    ledger.export(&operator, "t", &[batch(&(0..16).flat_map(all).collect())]).unwrap();
    write(&mut ledger, 0);
    for checkpoint in 1..200 {
        let asked = ledger.compaction();
        let mut rows: Rows = vec![(3, checkpoint, Some(0))];
        for (_, whole) in &asked {
            ledger.whole(&operator, whole);
            rows.retain(|(group, ..)| !whole.contains(&u32::from(*group)));
            rows.extend(whole.clone().flat_map(|group| all(group as u16)));
        }
        rows.sort();
        ledger.export(&operator, "t", &[batch(&rows)]).unwrap();
        write(&mut ledger, checkpoint);
        let layers = ledger.live()[&operator]["t"]
            .iter()
            .filter(|file| file.blocks.iter().any(|block| (block.first_group..=block.last_group).contains(&3)));
        assert!(layers.count() <= rheos_checkpoint::chain::MAX_LAYERS as usize);
    }
    assert!(ledger.live()[&operator]["t"].len() < 100);
}

/// One checkpoint of a random history.
#[derive(Debug, Clone)]
struct Step {
    changes: Vec<(u16, i64, Option<i64>)>,
    whole: std::ops::Range<u32>,
    upload_fails: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = (0u16..8, 0i64..4, proptest::option::of(0i64..100));
    let step = (proptest::collection::vec(change, 0..8), 0u32..8, 0u32..9, any::<bool>(), any::<bool>());
    let step = step.prop_map(|(changes, start, length, compacts, upload_fails)| {
        let whole = if compacts { start..(start + length).min(8) } else { 0..0 };
        Step { changes, whole, upload_fails }
    });
    proptest::collection::vec(step, 1..12)
}

proptest! {
    /// Whatever was compacted and whichever uploads failed: after an upload that went well, the live files of a
    /// subtask give its state, and so do those of its successors after a rescale.
    #[test]
    fn live_files_are_the_state(steps in steps(), workers in 1u32..4) {
        let operator = OperatorId("op".into());
        let mut ledger = StateLedger::new(0..8, [operator.clone()], None);
        let mut state: BTreeMap<(u16, i64), i64> = BTreeMap::new();
        let mut store: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for (number, step) in steps.into_iter().enumerate() {
            let mut rows: BTreeMap<(u16, i64), Option<i64>> = BTreeMap::new();
            for (group, key, value) in step.changes {
                rows.insert((group, key), value);
                match value {
                    Some(value) => state.insert((group, key), value),
                    None => state.remove(&(group, key)),
                };
            }
            // A group that is exported whole has all its keys and no tombstone.
            rows.retain(|(group, _), _| !step.whole.contains(&u32::from(*group)));
            rows.extend(state.iter().filter(|(key, _)| step.whole.contains(&u32::from(key.0))).map(|(k, v)| (*k, Some(*v))));
            ledger.whole(&operator, &step.whole);
            let rows: Rows = rows.into_iter().map(|((group, key), value)| (group, key, value)).collect();
            ledger.export(&operator, "t", &[batch(&rows)]).unwrap();
            if step.upload_fails {
                ledger.files().unwrap();
                continue;
            }
            store.extend(write(&mut ledger, number as i64).into_iter().map(|(file, bytes)| (file.path, bytes)));
            for worker in 0..workers {
                let groups = worker * 8 / workers..(worker + 1) * 8 / workers;
                let mut restored = BTreeMap::new();
                for file in ledger.live().get(&operator).and_then(|tables| tables.get("t")).into_iter().flatten() {
                    for block in &file.blocks {
                        let bytes = &store[&file.path][block.offset as usize..][..block.length as usize];
                        replay(&mut restored, &codec::decode(block, Buffer::from(bytes), &groups).unwrap());
                    }
                }
                let expected: BTreeMap<_, _> =
                    state.iter().filter(|(key, _)| groups.contains(&u32::from(key.0))).map(|(k, v)| (*k, *v)).collect();
                prop_assert_eq!(restored, expected);
            }
        }
    }
}
