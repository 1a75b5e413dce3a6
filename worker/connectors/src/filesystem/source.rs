//! [io] The reading half: files and row groups as splits.

use std::time::Duration;

use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::source::{Source, SplitId, SplitReader, Start, Waker};

use super::bytes::FileBytes;
use super::config::SourceConfig;
use super::location::Location;
use super::parquet_reader;
use super::text_reader::{TextOffset, TextReader};
use crate::environment::Environment;
use crate::format::csv::CsvDecoder;
use crate::format::debezium::DebeziumDecoder;
use crate::format::json::JsonDecoder;
use crate::format::{Decoder, Format, OnError};

/// Between a Parquet file's name and the number of a row group in the id of a split.
const GROUP_MARK: &str = "#row-group=";

/// See [`crate::filesystem`].
pub struct FilesystemSource {
    config: SourceConfig,
    location: Location,
}

impl FilesystemSource {
    /// A source with these options.
    ///
    /// # Errors
    /// Bad options of the object store.
    pub fn new(config: SourceConfig, environment: &Environment) -> Result<Self> {
        let location = Location::open(&config.path, environment)?;
        Ok(Self { config, location })
    }

    #[cfg(test)]
    pub(crate) fn at(config: SourceConfig, location: Location) -> Self {
        Self { config, location }
    }

    fn text(&self, file: &str, offset: Option<&serde_json::Value>, waker: Waker) -> Result<Box<dyn SplitReader>> {
        let (wanted, declared) = (&self.config.wanted, &self.config.declared);
        let (decoder, on_error): (Box<dyn Decoder>, OnError) = match &self.config.format {
            Format::Csv(options) => (Box::new(CsvDecoder::new(options, declared, wanted)), options.on_error),
            Format::Json(options) => (Box::new(JsonDecoder::new(wanted)), options.on_error),
            Format::Debezium(options) => (Box::new(DebeziumDecoder::new(options, wanted)), options.json.on_error),
            Format::Parquet(_) => return Err(DataflowError::new("filesystem", ErrorKind::Bug, "Parquet is not text")),
        };
        let position: TextOffset = match offset {
            None => TextOffset::default(),
            Some(offset) => serde_json::from_value(offset.clone()).map_err(|error| self.bad_offset(file, offset, &error))?,
        };
        let shown = self.location.show(file);
        let gzip = self.config.packing.is_gzip(&shown);
        let bytes = FileBytes::open(&self.location, file, gzip, position.bytes, waker)?;
        Ok(Box::new(TextReader::new(bytes, decoder, on_error, shown, position)?))
    }

    fn bad_offset(&self, file: &str, offset: &serde_json::Value, error: &dyn std::fmt::Display) -> DataflowError {
        let message = format!("{}: {offset} is not a position in this file: {error}", self.location.show(file));
        DataflowError::new("filesystem", ErrorKind::State, message)
    }
}

impl Source for FilesystemSource {
    fn discover(&self) -> Result<Vec<SplitId>> {
        let mut files = self.location.list()?;
        if let Some(pattern) = &self.config.pattern {
            files.retain(|file| pattern.is_match(&self.location.show(file)) || pattern.is_match(file));
        }
        if !matches!(self.config.format, Format::Parquet(_)) {
            return Ok(files);
        }
        let mut splits = Vec::with_capacity(files.len());
        for file in files {
            let groups = parquet_reader::row_groups(&self.location, &file)?;
            splits.extend((0..groups).map(|group| format!("{file}{GROUP_MARK}{group}")));
        }
        Ok(splits)
    }

    fn discovery_interval(&self) -> Option<Duration> {
        self.config.monitor
    }

    fn open(&self, split: &SplitId, start: Start<'_>, waker: Waker) -> Result<Box<dyn SplitReader>> {
        let offset = start.offset()?;
        if !matches!(self.config.format, Format::Parquet(_)) {
            return self.text(split, offset, waker);
        }
        let group = split.rsplit_once(GROUP_MARK).and_then(|(file, group)| Some((file, group.parse::<usize>().ok()?)));
        let (file, group) = group.ok_or_else(|| {
            let message = format!("the checkpoint holds split '{split}', which is not a row group; was 'format' changed?");
            DataflowError::new("filesystem", ErrorKind::State, message)
        })?;
        let skip = match offset {
            None => 0,
            Some(offset) => offset.as_u64().ok_or_else(|| self.bad_offset(file, offset, &"expected a number of rows"))?,
        };
        parquet_reader::open(&self.location, file, group, skip, &self.config.wanted, waker)
    }
}
