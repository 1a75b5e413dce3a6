//! [pure] Rows as the bytes of an object: an Arrow IPC stream.

use std::io::Cursor;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};

/// Rows on their way to be a segment.
#[derive(Default)]
pub(crate) struct Builder {
    writer: Option<StreamWriter<Vec<u8>>>,
    rows: u64,
}

impl Builder {
    /// Appends rows; all of a segment have the same columns.
    pub(crate) fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => self.writer.insert(StreamWriter::try_new(Vec::new(), &batch.schema())?),
        };
        writer.write(batch)?;
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// Bytes so far.
    pub(crate) fn size(&self) -> usize {
        self.writer.as_ref().map_or(0, |writer| writer.get_ref().len())
    }

    /// The object and its rows; nothing when there are none. What follows is another segment.
    pub(crate) fn take(&mut self) -> Result<Option<(Vec<u8>, u64)>> {
        let rows = std::mem::take(&mut self.rows);
        let bytes = self.writer.take().map(StreamWriter::into_inner).transpose()?;
        Ok(bytes.map(|bytes| (bytes, rows)))
    }
}

/// One object of these rows.
pub(super) fn encode(batch: &RecordBatch) -> Result<Vec<u8>> {
    let mut builder = Builder::default();
    builder.push(batch)?;
    Ok(builder.take()?.map(|(bytes, _)| bytes).unwrap_or_default())
}

/// The rows of an object, as one batch.
///
/// # Errors
/// `State`: it is not what was written.
pub(crate) fn decode(place: &str, bytes: &[u8]) -> Result<RecordBatch> {
    let bad = |error: &dyn std::fmt::Display| DataflowError::new("results", ErrorKind::State, format!("{place}: {error}"));
    let reader = StreamReader::try_new(Cursor::new(bytes), None).map_err(|error| bad(&error))?;
    let schema: SchemaRef = reader.schema();
    let batches = reader.collect::<std::result::Result<Vec<_>, _>>().map_err(|error| bad(&error))?;
    concat_batches(&schema, &batches).map_err(|error| bad(&error))
}

/// What every stream of such rows begins with.
///
/// # Errors
/// A type that has no form in Arrow IPC.
pub(super) fn header(schema: &Schema) -> Result<Vec<u8>> {
    let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
    writer.flush()?;
    Ok(writer.get_ref().clone())
}

/// What follows in such a stream for these rows.
///
/// # Errors
/// As [`header`].
pub(super) fn message(batch: &RecordBatch) -> Result<Vec<u8>> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
    let header = writer.get_ref().len();
    writer.write(batch)?;
    Ok(writer.get_ref()[header..].to_vec())
}

/// The mark at the end of such a stream: whoever meets it has everything.
pub(super) const END: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    fn batch(numbers: &[i64]) -> RecordBatch {
        let texts: StringArray = numbers.iter().map(|number| (number % 2 == 0).then(|| format!("t{number}"))).collect();
        RecordBatch::try_from_iter_with_nullable([
            ("n", Arc::new(Int64Array::from(numbers.to_vec())) as ArrayRef, true),
            ("t", Arc::new(texts) as ArrayRef, true),
        ])
        .unwrap()
    }

    #[test]
    fn rows_are_read_back_in_order() {
        let mut builder = Builder::default();
        assert!(builder.take().unwrap().is_none());
        builder.push(&batch(&[1, 2])).unwrap();
        builder.push(&batch(&[3]).slice(0, 1)).unwrap();
        assert!(builder.size() > 100);
        let (bytes, rows) = builder.take().unwrap().unwrap();
        assert_eq!(rows, 3);
        assert_eq!(decode("p", &bytes).unwrap(), batch(&[1, 2, 3]));
        assert_eq!(builder.size(), 0);
    }

    #[test]
    fn a_torn_object_is_an_error_that_names_it() {
        let bytes = encode(&batch(&[1, 2, 3])).unwrap();
        for end in [0, 5, bytes.len() / 2, bytes.len() - 60] {
            let error = decode("a/b", &bytes[..end]).unwrap_err();
            assert!(error.message.starts_with("a/b: ") && error.kind == ErrorKind::State, "{end}: {error}");
        }
    }

    #[test]
    fn a_stream_can_be_put_together_from_its_parts() {
        let (first, second) = (batch(&[1, 2]), batch(&[3]));
        let parts = [header(&first.schema()).unwrap(), message(&first).unwrap(), message(&second).unwrap(), END.to_vec()];
        assert_eq!(decode("p", &parts.concat()).unwrap(), batch(&[1, 2, 3]));
    }
}
