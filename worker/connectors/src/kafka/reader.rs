//! [io] One partition: batches of messages to columns, and the offset between them.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BinaryBuilder, Int32Array, Int64Array, MapBuilder, MapFieldNames, RecordBatch, RecordBatchOptions, StringArray,
    StringBuilder, TimestampMillisecondArray, UInt32Array,
};
use arrow::compute::{cast, take};
use arrow::datatypes::DataType;
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::source::{Read, SplitReader};

use super::config::{Column, Metadata, SourceConfig};
use super::fetcher::{Batch, Handle, Taken};
use super::start::{Begin, Position};
use crate::format::OnError;
use crate::format::message::{MessageDecoder, Rows};

pub(super) struct Reader {
    config: Arc<SourceConfig>,
    fetcher: Arc<Handle>,
    topic: String,
    partition: i32,
    decoder: MessageDecoder,
    /// What was taken, and how many of its messages were given.
    current: Option<(Batch, usize)>,
    /// `None` while the brokers have not told where to begin.
    position: Option<Position>,
}

impl Reader {
    pub(super) fn new(config: Arc<SourceConfig>, fetcher: Arc<Handle>, topic: &str, partition: i32, begin: &Begin) -> Self {
        let decoder = MessageDecoder::new(&config.format, &config.declared, &config.wanted);
        Self { config, fetcher, topic: topic.to_owned(), partition, decoder, current: None, position: begin.known() }
    }

    /// The next messages of the current batch as rows.
    fn decode(&mut self, rows: usize) -> Result<Option<RecordBatch>> {
        let (Some((batch, from)), Some(position)) = (&mut self.current, &mut self.position) else { return Ok(None) };
        let range = *from..batch.values.len().min(*from + rows.max(1));
        let decoded = self.decoder.decode(&batch.values, range.clone()).map_err(|error| {
            let at = batch.offsets.get(range.start).copied().unwrap_or(batch.next);
            DataflowError::new("kafka", error.kind, format!("{}:{}, from offset {at}: {}", self.topic, self.partition, error.message))
        })?;
        if let Some((index, reason)) = &decoded.first
            && self.config.format.on_error() == OnError::Fail
        {
            let offset = batch.offsets[range.start + index];
            let message = format!(
                "{}:{}, offset {offset}: {reason}. To leave such messages out, and count them: 'format.on-error' = 'skip'",
                self.topic, self.partition
            );
            return Err(DataflowError::new("kafka", ErrorKind::Data, message));
        }
        position.skipped += decoded.skipped;
        let columns = columns(&self.config, &self.topic, self.partition, batch, range.clone(), decoded)?;
        *from = range.end;
        position.next = batch.offsets.get(range.end).copied().unwrap_or(batch.next);
        if range.end >= batch.values.len() {
            position.next = batch.next;
            self.current = None;
        }
        Ok(Some(columns))
    }
}

impl SplitReader for Reader {
    fn read(&mut self, rows: usize) -> Result<Read> {
        loop {
            if self.current.is_none() {
                match self.fetcher.take(self.partition)? {
                    Taken::Begin(position) => {
                        self.position = Some(position);
                        continue;
                    }
                    Taken::Batch(batch) => self.current = Some((batch, 0)),
                    Taken::Nothing => return Ok(Read::Pending),
                    Taken::End(next) => {
                        if let Some(position) = &mut self.position {
                            position.next = next;
                        }
                        return Ok(Read::End);
                    }
                }
            }
            if let Some(batch) = self.decode(rows)?.filter(|batch| batch.num_rows() > 0) {
                return Ok(Read::Rows(batch));
            }
        }
    }

    fn offset(&self) -> serde_json::Value {
        serde_json::to_value(&self.position).unwrap_or_default()
    }

    fn skipped(&self) -> u64 {
        self.position.as_ref().map_or(0, |position| position.skipped)
    }
}

/// The table's columns: what the values hold, and what the client knows besides.
fn columns(
    config: &SourceConfig,
    topic: &str,
    partition: i32,
    batch: &Batch,
    range: std::ops::Range<usize>,
    decoded: Rows,
) -> Result<RecordBatch> {
    let rows = decoded.batch.num_rows();
    let kept = decoded.kept.map(|kept| UInt32Array::from_iter_values(kept.into_iter().map(|index| index as u32)));
    let of_kept = |array: ArrayRef| -> Result<ArrayRef> {
        Ok(match &kept {
            Some(kept) => take(array.as_ref(), kept, None)?,
            None => array,
        })
    };
    let metadata = |metadata: Metadata, kind: &DataType| -> Result<ArrayRef> {
        match metadata {
            Metadata::Topic => Ok(Arc::new(StringArray::from_iter_values(std::iter::repeat_n(topic, rows)))),
            Metadata::Partition => Ok(Arc::new(Int32Array::from_value(partition, rows))),
            Metadata::Offset => of_kept(Arc::new(Int64Array::from_iter_values(batch.offsets[range.clone()].iter().copied()))),
            Metadata::Timestamp => {
                let times = TimestampMillisecondArray::from_iter(batch.timestamps[range.clone()].iter().copied());
                Ok(cast(&of_kept(Arc::new(times))?, kind)?)
            }
            Metadata::Key => {
                let keys = BinaryArray::from_iter(batch.keys[range.clone()].iter().map(Option::as_deref));
                Ok(cast(&of_kept(Arc::new(keys))?, kind)?)
            }
            Metadata::Headers => Ok(cast(&of_kept(headers(topic, partition, batch, range.clone())?)?, kind)?),
        }
    };
    let arrays = config.columns.iter().zip(config.output.fields()).map(|(column, field)| match column {
        Column::Value(index) => Ok(Arc::clone(decoded.batch.column(*index))),
        Column::Metadata(kind) => metadata(*kind, field.data_type()),
    });
    let arrays = arrays.collect::<Result<Vec<ArrayRef>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(&config.output), arrays, &options)?)
}

/// The messages' headers as maps.
fn headers(topic: &str, partition: i32, batch: &Batch, range: std::ops::Range<usize>) -> Result<ArrayRef> {
    let names = MapFieldNames { entry: "entries".to_owned(), key: "key".to_owned(), value: "value".to_owned() };
    let mut maps = MapBuilder::new(Some(names), StringBuilder::new(), BinaryBuilder::new());
    for index in range {
        let headers = batch.headers[index].as_ref().map_err(|reason| {
            let message = format!("{topic}:{partition}, offset {}: the name of a header is not UTF-8: {reason}", batch.offsets[index]);
            DataflowError::new("kafka", ErrorKind::Data, message)
        })?;
        for (name, value) in headers {
            maps.keys().append_value(name);
            maps.values().append_option(value.as_deref());
        }
        maps.append(true)?;
    }
    Ok(Arc::new(maps.finish()))
}
