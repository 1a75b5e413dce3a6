//! [pure] The encoding of exported rows: dirty rows and tombstones as batches sorted by key group.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt16Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::Slot;
use super::rows::{Bits, CHUNK_ROWS, Chunk, Layout, Rows, ones, place};
use crate::error::Result;
use crate::key_group::group_of;
use crate::snapshot::{DELETED_COLUMN, GROUP_COLUMN, TableExport};

/// Rows of a state batch, at most.
pub(crate) const EXPORT_BATCH_ROWS: usize = 65_536;

struct SharedChunk {
    rows: Arc<Rows>,
    live: Bits,
    dirty: Bits,
}

/// What a table was when it was exported; the table has moved on since.
pub(crate) struct TableSnapshot {
    layout: Arc<Layout>,
    /// Key groups of the job.
    groups: u32,
    whole: Range<u32>,
    /// `None`: nothing of it is exported.
    chunks: Vec<Option<SharedChunk>>,
    /// The table whose slots are the first key column; its keys and groups stand in for that column.
    parent: Option<(Arc<Layout>, Vec<Arc<Rows>>)>,
}

impl TableSnapshot {
    pub(super) fn new(layout: Arc<Layout>, groups: u32, whole: &Range<u32>, chunks: &mut [Chunk]) -> Self {
        let share = |chunk: &mut Chunk| {
            let dirty = std::mem::take(&mut chunk.dirty);
            chunk.fresh = Bits::default();
            let wanted = !whole.is_empty() || dirty.iter().any(|bits| *bits != 0);
            wanted.then(|| SharedChunk { rows: chunk.share(), live: chunk.live, dirty })
        };
        let chunks = chunks.iter_mut().map(share).collect();
        Self { layout, groups, whole: whole.clone(), chunks, parent: None }
    }

    /// Names the table whose slots are the first key column.
    pub(crate) fn with_parent(mut self, layout: &Arc<Layout>, chunks: Vec<Arc<Rows>>) -> Self {
        self.parent = Some((Arc::clone(layout), chunks));
        self
    }

    fn header(&self, rows: &Rows, base: usize) -> u64 {
        match &self.parent {
            None => rows.words[base],
            Some((layout, chunks)) => {
                let (chunk, row) = place(rows.words[base + 1] as Slot);
                chunks[chunk].words[row * layout.stride]
            }
        }
    }

    /// Rows to export: key group, whether it is live, place. Sorted by group, removals first: the same key may have
    /// come back in another slot.
    fn rows(&self) -> Vec<(u16, bool, Slot)> {
        let mut found = Vec::new();
        for (number, chunk) in self.chunks.iter().enumerate() {
            let Some(chunk) = chunk else { continue };
            let mut wanted = chunk.dirty;
            if !self.whole.is_empty() {
                wanted.iter_mut().zip(&chunk.live).for_each(|(wanted, live)| *wanted |= live);
            }
            for row in ones(&wanted) {
                let group = group_of(self.header(&chunk.rows, row * self.layout.stride), self.groups);
                if super::rows::get(&chunk.dirty, row) || self.whole.contains(&u32::from(group)) {
                    found.push((group, super::rows::get(&chunk.live, row), (number * CHUNK_ROWS + row) as Slot));
                }
            }
        }
        found.sort_unstable();
        found
    }

    /// Schema of the batches: group, deleted, keys, persisted values.
    fn schema(&self) -> SchemaRef {
        let mut fields = vec![Field::new(GROUP_COLUMN, DataType::UInt16, false), Field::new(DELETED_COLUMN, DataType::Boolean, false)];
        if let Some((parent, _)) = &self.parent {
            fields.extend(parent.keys.iter().map(|key| Field::new(&key.name, key.data_type.clone(), true)));
        }
        let parent_keys = self.parent.as_ref().map_or(0, |(parent, _)| parent.keys.len());
        let own = self.layout.keys.iter().skip(usize::from(self.parent.is_some())).enumerate();
        fields.extend(own.map(|(i, key)| Field::new(format!("k{}", parent_keys + i), key.data_type.clone(), true)));
        let values = &self.layout.values[..self.layout.persisted];
        fields.extend(values.iter().map(|value| Field::new(&value.name, value.data_type.clone(), false)));
        Arc::new(Schema::new(fields))
    }

    fn batch(&self, schema: &SchemaRef, rows: &[(u16, bool, Slot)]) -> Result<RecordBatch> {
        let mut block = Rows::default();
        let mut parent_block = Rows::default();
        for (_, _, slot) in rows {
            let (chunk, row) = place(*slot);
            let Some(chunk) = &self.chunks[chunk] else { continue };
            let base = row * self.layout.stride;
            block.push_copy(&self.layout, &chunk.rows, base, 0);
            if let Some((layout, chunks)) = &self.parent {
                let (chunk, row) = place(chunk.rows.words[base + 1] as Slot);
                parent_block.push_copy(layout, &chunks[chunk], row * layout.stride, 0);
            }
        }
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(rows.iter().map(|(group, ..)| *group).collect::<UInt16Array>()),
            Arc::new(BooleanArray::from_iter(rows.iter().map(|(_, live, _)| Some(!live)))),
        ];
        if let Some((layout, _)) = &self.parent {
            columns.extend(layout.arrays(&layout.keys, &parent_block)?);
        }
        let own = self.layout.arrays(&self.layout.keys, &block)?;
        columns.extend(own.into_iter().skip(usize::from(self.parent.is_some())));
        columns.extend(self.layout.arrays(&self.layout.values[..self.layout.persisted], &block)?);
        debug_assert!(columns.iter().all(|column| column.len() == rows.len()));
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    }
}

impl TableExport for TableSnapshot {
    fn encode(self: Box<Self>) -> Result<Vec<RecordBatch>> {
        let rows = self.rows();
        let schema = self.schema();
        rows.chunks(EXPORT_BATCH_ROWS).map(|rows| self.batch(&schema, rows)).collect()
    }
}
