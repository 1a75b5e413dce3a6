//! [pure] Keyed state against a map, and what snapshots promise.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray, UInt16Array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, UInt16Type};
use proptest::prelude::*;

use super::index::Index;
use super::*;
use crate::hash::hash_columns;
use crate::key_group::Subtask;

const GROUPS: u32 = 4;

type Key = (Option<i64>, Option<String>);
type Map = BTreeMap<Key, (i64, String)>;

fn subtask(index: u32, workers: u32) -> Subtask {
    Subtask { index, workers, groups: GROUPS }
}

fn table(subtask: Subtask) -> KeyedTable {
    let values = [Field::new("n", DataType::Int64, false), Field::new("s", DataType::Utf8, false)];
    KeyedTable::new(&[DataType::Int64, DataType::Utf8], &values, subtask).unwrap()
}

fn key_columns(keys: &[Key]) -> Vec<ArrayRef> {
    vec![
        Arc::new(keys.iter().map(|key| key.0).collect::<Int64Array>()),
        Arc::new(keys.iter().map(|key| key.1.clone()).collect::<StringArray>()),
    ]
}

fn slots(table: &mut KeyedTable, keys: &[Key]) -> Vec<Slot> {
    let columns = key_columns(keys);
    let (mut hashes, mut slots) = (Vec::new(), Vec::new());
    hash_columns(&columns, keys.len(), &mut hashes).unwrap();
    table.slots(&columns, &hashes, &mut slots).unwrap();
    slots
}

fn put(table: &mut KeyedTable, rows: &[(Key, i64, String)]) {
    let keys: Vec<Key> = rows.iter().map(|row| row.0.clone()).collect();
    let slots = slots(table, &keys);
    let numbers: ArrayRef = Arc::new(rows.iter().map(|row| Some(row.1)).collect::<Int64Array>());
    let strings: ArrayRef = Arc::new(rows.iter().map(|row| Some(row.2.clone())).collect::<StringArray>());
    table.set_values(0, &slots, &numbers).unwrap();
    table.set_values(1, &slots, &strings).unwrap();
}

fn remove(table: &mut KeyedTable, key: &Key) {
    let columns = key_columns(std::slice::from_ref(key));
    let (mut hashes, mut slots) = (Vec::new(), Vec::new());
    hash_columns(&columns, 1, &mut hashes).unwrap();
    table.find(&columns, &hashes, &mut slots).unwrap();
    if slots[0] != NO_SLOT {
        table.remove(slots[0]);
    }
}

fn rows_of(keys: &[ArrayRef], values: &[ArrayRef]) -> Map {
    let text = |array: &ArrayRef, i: usize| {
        let strings = array.as_string::<i32>();
        strings.is_valid(i).then(|| strings.value(i).to_owned())
    };
    let number = |array: &ArrayRef, i: usize| {
        let numbers = array.as_primitive::<Int64Type>();
        numbers.is_valid(i).then(|| numbers.value(i))
    };
    (0..keys[0].len())
        .map(|i| {
            let key = (number(&keys[0], i), text(&keys[1], i));
            (key, (number(&values[0], i).unwrap(), text(&values[1], i).unwrap()))
        })
        .collect()
}

fn contents(table: &KeyedTable) -> Map {
    let slots = table.live();
    assert_eq!(slots.len(), table.len());
    let values = [table.values(0, &slots).unwrap(), table.values(1, &slots).unwrap()];
    let map = rows_of(&table.keys(&slots).unwrap(), &values);
    assert_eq!(map.len(), table.len(), "no key twice");
    map
}

/// The map that a chain of exported batches stands for.
fn replay(batches: &[RecordBatch]) -> Map {
    let mut map = Map::new();
    for batch in batches {
        let columns = batch.columns();
        assert!(batch.column(0).as_primitive::<UInt16Type>().values().is_sorted());
        for i in 0..batch.num_rows() {
            let row: Vec<ArrayRef> = columns.iter().map(|column| column.slice(i, 1)).collect();
            for (key, value) in rows_of(&row[2..4], &row[4..6]) {
                if row[1].as_boolean().value(0) {
                    map.remove(&key);
                } else {
                    map.insert(key, value);
                }
            }
        }
    }
    map
}

#[derive(Debug, Clone)]
enum Act {
    Put(Vec<(Key, i64, String)>),
    Remove(Key),
    /// Incremental, with these groups whole.
    Export(u32, u32),
    Restore(u32),
}

fn key() -> impl Strategy<Value = Key> {
    (prop::option::weighted(0.9, -2i64..12), prop::option::weighted(0.8, "[ab]{0,2}(a-longer-string)?"))
}

fn act() -> impl Strategy<Value = Act> {
    let put = prop::collection::vec((key(), any::<i64>(), "[x-z]{0,12}"), 0..20);
    prop_oneof![
        4 => put.prop_map(Act::Put),
        4 => key().prop_map(Act::Remove),
        2 => (0..GROUPS, 0u32..GROUPS).prop_map(|(from, len)| Act::Export(from, len)),
        1 => (1u32..4).prop_map(Act::Restore),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// A table is a map; a chain of exports stands for it, at any number of workers, whole groups replacing theirs.
    #[test]
    fn behaves_like_a_map(acts in prop::collection::vec(act(), 1..40)) {
        let mut map = Map::new();
        let mut workers = vec![table(subtask(0, 1))];
        let mut stored: Vec<RecordBatch> = Vec::new();
        for act in acts {
            match act {
                Act::Put(rows) => {
                    for (key, number, text) in &rows {
                        map.insert(key.clone(), (*number, text.clone()));
                    }
                    put_routed(&mut workers, &rows);
                }
                Act::Remove(key) => {
                    map.remove(&key);
                    workers.iter_mut().for_each(|table| remove(table, &key));
                }
                Act::Export(from, len) => export(&mut workers, &mut stored, from..(from + len).min(GROUPS)),
                Act::Restore(count) => {
                    export(&mut workers, &mut stored, 0..0);
                    prop_assert_eq!(replay(&stored), map.clone());
                    workers = (0..count).map(|index| table(subtask(index, count))).collect();
                    workers.iter_mut().for_each(|table| table.import(stored.clone().into()).unwrap());
                    // Nothing is dirty after a restore.
                    let exported: usize = workers.iter_mut().map(|table| table.export(&(0..0)).encode().unwrap().len()).sum();
                    prop_assert_eq!(exported, 0);
                }
            }
            let mut there = Map::new();
            workers.iter().for_each(|table| there.extend(contents(table)));
            prop_assert_eq!(&there, &map);
        }
    }

    /// The index finds what a list would, through growth and removals.
    #[test]
    fn index_behaves_like_a_list(acts in prop::collection::vec((any::<bool>(), 0u64..24, any::<prop::sample::Index>()), 1..300)) {
        let mut index = Index::new();
        let mut list: Vec<(u64, Slot)> = Vec::new();
        for (next, (insert, hash, pick)) in acts.into_iter().enumerate() {
            // Hashes that meet in few places, wrap around the end and agree in their low half.
            let hash = hash.wrapping_sub(12) | 7 << 40;
            if insert || list.is_empty() {
                index.insert(hash, next as Slot);
                list.push((hash, next as Slot));
            } else {
                let (hash, slot) = list.swap_remove(pick.index(list.len()));
                prop_assert!(index.remove(hash, slot));
                prop_assert!(!index.remove(hash, slot));
            }
            for (hash, slot) in &list {
                prop_assert_eq!(index.find(*hash, |found| found == *slot), Some(*slot));
            }
        }
    }
}

fn put_routed(workers: &mut [KeyedTable], rows: &[(Key, i64, String)]) {
    for table in workers {
        let groups = table.subtask.key_groups();
        let mine = |row: &&(Key, i64, String)| {
            let mut hashes = Vec::new();
            hash_columns(&key_columns(std::slice::from_ref(&row.0)), 1, &mut hashes).unwrap();
            groups.contains(&u32::from(crate::key_group::group_of(hashes[0], GROUPS)))
        };
        put(table, &rows.iter().filter(mine).cloned().collect::<Vec<_>>());
    }
}

fn export(workers: &mut [KeyedTable], stored: &mut Vec<RecordBatch>, whole: std::ops::Range<u32>) {
    for batch in stored.iter_mut() {
        let groups: &UInt16Array = batch.column(0).as_primitive::<UInt16Type>();
        let kept: BooleanArray = groups.values().iter().map(|group| Some(!whole.contains(&u32::from(*group)))).collect();
        *batch = filter_record_batch(batch, &kept).unwrap();
    }
    workers.iter_mut().for_each(|table| stored.extend(table.export(&whole).encode().unwrap()));
}

fn one(key: i64, number: i64, text: &str) -> (Key, i64, String) {
    ((Some(key), None), number, text.into())
}

#[test]
fn an_export_shows_the_rows_of_its_moment() {
    let mut table = table(subtask(0, 1));
    put(&mut table, &[one(1, 10, "old"), one(2, 20, "gone later")]);
    let export = table.export(&(0..0));
    put(&mut table, &[one(1, 11, "new, and longer"), one(3, 30, "later")]);
    remove(&mut table, &(Some(2), None));
    let exported = replay(&export.encode().unwrap());
    let expected = Map::from([((Some(1), None), (10, "old".into())), ((Some(2), None), (20, "gone later".into()))]);
    assert_eq!(exported, expected);
    let next = table.export(&(0..0)).encode().unwrap();
    assert_eq!(next.iter().map(RecordBatch::num_rows).sum::<usize>(), 3, "one changed, one new, one gone");
}

#[test]
fn only_dirty_rows_are_exported() {
    let mut table = table(subtask(0, 1));
    let rows: Vec<_> = (0..5_000).map(|key| one(key, key, "")).collect();
    put(&mut table, &rows);
    let count = |table: &mut KeyedTable| {
        let batches = table.export(&(0..0)).encode().unwrap();
        batches.iter().map(RecordBatch::num_rows).sum::<usize>()
    };
    assert_eq!(count(&mut table), 5_000);
    assert_eq!(count(&mut table), 0);
    put(&mut table, &[one(4_999, 0, ""), one(0, 1, "")]);
    assert_eq!(count(&mut table), 2);
}

#[test]
fn a_row_that_no_export_saw_leaves_no_trace() {
    let mut table = table(subtask(0, 1));
    put(&mut table, &[one(1, 1, "")]);
    remove(&mut table, &(Some(1), None));
    assert!(table.export(&(0..0)).encode().unwrap().is_empty());
    put(&mut table, &[one(2, 1, "")]);
    assert_eq!(table.live(), [0], "its slot is used again");
}

#[test]
fn a_key_that_went_and_came_back_is_there() {
    let mut before = table(subtask(0, 1));
    put(&mut before, &[one(1, 1, "first")]);
    let mut stored = before.export(&(0..0)).encode().unwrap();
    remove(&mut before, &(Some(1), None));
    put(&mut before, &[one(1, 2, "second")]);
    stored.extend(before.export(&(0..0)).encode().unwrap());
    let mut after = table(subtask(0, 1));
    after.import(stored.clone().into()).unwrap();
    assert_eq!(contents(&after), contents(&before));
}

#[test]
fn order_depends_on_keys_only() {
    // So many that some have the same header, which is half of their hash: then the keys decide.
    let keys: Vec<Key> = (0..150_000).map(|key| (Some(key), None)).collect();
    let mut reversed = keys.clone();
    reversed.reverse();
    let order = |keys: &[Key]| {
        let mut table = table(subtask(0, 1));
        let mut slots = slots(&mut table, keys);
        table.sort(&mut slots);
        let headers: std::collections::BTreeSet<u64> = slots.iter().map(|slot| table.word(*slot, 0)).collect();
        assert!(headers.len() < keys.len(), "no two keys share their header");
        table.keys(&slots).unwrap()
    };
    assert_eq!(order(&keys), order(&reversed));
}

#[test]
fn slots_of_removed_rows_are_used_again_after_the_next_export() {
    let mut table = table(subtask(0, 1));
    for key in 0..100 {
        put(&mut table, &[one(key, key, "")]);
        table.export(&(0..0));
        remove(&mut table, &(Some(key), None));
        table.export(&(0..0));
    }
    put(&mut table, &[one(100, 1, "")]);
    assert_eq!(table.live(), [0]);
}

#[test]
fn a_cleared_table_gives_out_every_slot_once() {
    let mut table = table(subtask(0, 1));
    let rows: Vec<_> = (0..10).map(|key| one(key, key, "before")).collect();
    put(&mut table, &rows);
    remove(&mut table, &(Some(3), None));
    table.clear();
    let rows: Vec<_> = (0..10).map(|key| one(key, -key, "after")).collect();
    put(&mut table, &rows);
    assert_eq!(contents(&table), rows.into_iter().map(|(key, number, text)| (key, (number, text))).collect());
}

#[test]
fn whole_groups_are_exported_and_no_clean_row_of_others() {
    let mut table = table(subtask(0, 1));
    let rows: Vec<_> = (0..100).map(|key| one(key, key, "")).collect();
    put(&mut table, &rows);
    let groups = |batches: &[RecordBatch]| -> Vec<u16> {
        batches.iter().flat_map(|batch| batch.column(0).as_primitive::<UInt16Type>().values().to_vec()).collect()
    };
    let all = groups(&table.export(&(0..0)).encode().unwrap());
    let second = groups(&table.export(&(1..2)).encode().unwrap());
    assert_eq!(second, all.into_iter().filter(|group| *group == 1).collect::<Vec<_>>());
    assert!(second.len() > 5);
}

#[test]
fn strings_survive_the_compaction_of_their_heap() {
    let mut table = table(subtask(0, 1));
    for round in 1..60 {
        // Longer each time, so that every old value becomes garbage.
        let row = |n: i64| ((Some(n), Some(format!("key {n}"))), n, format!("{n} ").repeat(round * 5));
        let rows: Vec<_> = (0..50).map(row).collect();
        put(&mut table, &rows);
        assert_eq!(contents(&table), rows.into_iter().map(|(key, number, text)| (key, (number, text))).collect());
    }
    assert!(table.bytes() < 200_000, "garbage was kept: {} bytes", table.bytes());
}

#[test]
fn limits_are_errors() {
    let types = vec![DataType::Int64; MAX_KEY_COLUMNS + 1];
    let columns: Vec<ArrayRef> = types.iter().map(|_| Arc::new(Int64Array::from(vec![1])) as ArrayRef).collect();
    let mut wide = KeyedTable::new(&types[1..], &[], subtask(0, 1)).unwrap();
    let mut found = Vec::new();
    let mut hashes = Vec::new();
    hash_columns(&columns[1..], 1, &mut hashes).unwrap();
    wide.slots(&columns[1..], &hashes, &mut found).unwrap();
    assert!(hash_columns(&columns, 1, &mut hashes).is_err());
    let mut table = table(subtask(0, 1));
    let fits = "x".repeat(rows::MAX_VALUE_BYTES);
    put(&mut table, &[one(1, 1, &fits)]);
    let slots = table.live();
    let too_long: ArrayRef = Arc::new(StringArray::from(vec![format!("{fits}x")]));
    assert!(table.set_values(1, &slots, &too_long).is_err());
}

#[test]
fn batches_of_another_plan_are_refused() {
    let mut source = table(subtask(0, 1));
    put(&mut source, &[one(1, 1, "")]);
    let stored = source.export(&(0..0)).encode().unwrap();
    let mut other = KeyedTable::new(&[DataType::Int64, DataType::Utf8], &[], subtask(0, 1)).unwrap();
    assert!(other.import(stored.clone().into()).is_err());
    let numbers = [Field::new("n", DataType::Int32, false), Field::new("s", DataType::Utf8, false)];
    let mut other = KeyedTable::new(&[DataType::Int64, DataType::Utf8], &numbers, subtask(0, 1)).unwrap();
    assert!(other.import(stored.into()).unwrap_err().message.contains("value column 0 is Int64, the plan has Int32"));
}

#[test]
fn batches_that_are_not_sorted_by_group_are_refused() {
    let mut source = table(subtask(0, 1));
    let rows: Vec<_> = (0..50).map(|key| one(key, key, "")).collect();
    put(&mut source, &rows);
    let stored = source.export(&(0..0)).encode().unwrap();
    let last = stored[0].num_rows() as u32 - 1;
    let reversed = arrow::compute::take_record_batch(&stored[0], &arrow::array::UInt32Array::from_iter_values((0..=last).rev())).unwrap();
    assert!(table(subtask(0, 1)).import(vec![reversed].into()).unwrap_err().message.contains("not sorted by key group"));
}
