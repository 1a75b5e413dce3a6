//! [io] The reading half: files and row groups as splits; folders that grow; files that must not change.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::snapshot::SplitState;
use rheos_dataflow::source::{Read, Source, SplitId, SplitReader, Start, Waker};

use super::bytes::FileBytes;
use super::columns::KnownColumns;
use super::config::SourceConfig;
use super::location::{Listing, Location};
use super::parquet_reader;
use super::split::{FileSplit, Version, changed};
use super::text_reader::{TextOffset, TextReader};
use crate::environment::Environment;
use crate::format::csv::CsvDecoder;
use crate::format::debezium::DebeziumDecoder;
use crate::format::json::JsonDecoder;
use crate::format::{Decoder, Format, OnError};

/// Most splits of a table over a job's life: each stays in every checkpoint, about 150 bytes and the length of its path.
pub(crate) const MAX_SPLITS: usize = 100_000;
/// Files that one subtask reads side by side; each may hold a download and its queue.
const OPEN_FILES: usize = 16;

/// See [`crate::filesystem`].
pub struct FilesystemSource {
    config: SourceConfig,
    location: Location,
    taken: Mutex<Taken>,
}

/// What has been found already: by this process in a folder that grows, or before the checkpoint it goes on from.
#[derive(Default)]
struct Taken {
    /// By path; none where an older checkpoint does not tell.
    files: BTreeMap<String, Option<Version>>,
    splits: usize,
}

impl FilesystemSource {
    /// A source with these options.
    ///
    /// # Errors
    /// Bad options of the object store.
    pub fn new(config: SourceConfig, environment: &Environment) -> Result<Self> {
        let location = Location::open(&config.path, environment)?;
        Ok(Self::at(config, location))
    }

    pub(crate) fn at(config: SourceConfig, location: Location) -> Self {
        Self { config, location, taken: Mutex::default() }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Files that were not there before.
    ///
    /// # Errors
    /// One that was there and is no longer what it was.
    fn new_files(&self, taken: &Taken) -> Result<Vec<FileSplit>> {
        let listing = Listing { pattern: self.config.pattern.clone(), most: MAX_SPLITS };
        let mut new = Vec::new();
        for (file, version) in self.location.list(&listing)? {
            match taken.files.get(&file) {
                Some(Some(found)) if !found.is_same(&version) => return Err(changed(&self.location.show(&file), found, &version)),
                Some(_) => {}
                None => new.push(FileSplit { file, version: Some(version), group: None }),
            }
        }
        Ok(new)
    }

    fn text(&self, split: &FileSplit, offset: Option<&serde_json::Value>, waker: Waker) -> Result<Box<dyn SplitReader>> {
        let (wanted, declared) = (&self.config.wanted, &self.config.declared);
        let (decoder, on_error): (Box<dyn Decoder>, OnError) = match &self.config.format {
            Format::Csv(options) => (Box::new(CsvDecoder::new(options, declared, wanted)), options.on_error),
            Format::Json(options) => (Box::new(JsonDecoder::new(wanted)), options.on_error),
            Format::Debezium(options) => (Box::new(DebeziumDecoder::new(options, wanted)), options.json.on_error),
            Format::Parquet(_) => return Err(DataflowError::new("filesystem", ErrorKind::Bug, "Parquet is not text")),
        };
        let shown = self.location.show(&split.file);
        let position: TextOffset = match offset {
            None => TextOffset::default(),
            Some(offset) => serde_json::from_value(offset.clone()).map_err(|error| bad_offset(&shown, offset, &error))?,
        };
        let gzip = self.config.packing.is_gzip(&shown);
        let bytes = FileBytes::open(&self.location, split, gzip, position.bytes, waker)?;
        Ok(Box::new(TextReader::new(bytes, decoder, on_error, shown, position)?))
    }

    fn parquet(&self, split: &FileSplit, offset: Option<&serde_json::Value>, waker: Waker) -> Result<Box<dyn SplitReader>> {
        let shown = self.location.show(&split.file);
        let group = split.group.ok_or_else(|| {
            let message = format!("the checkpoint holds split '{split}', which is not a row group; was 'format' changed?");
            DataflowError::new("filesystem", ErrorKind::State, message)
        })?;
        let skip = match offset {
            None => 0,
            Some(offset) => offset.as_u64().ok_or_else(|| bad_offset(&shown, offset, &"expected a number of rows"))?,
        };
        parquet_reader::open(&self.location, split, group, skip, &self.config.wanted, waker)
    }
}

fn bad_offset(shown: &str, offset: &serde_json::Value, error: &dyn std::fmt::Display) -> DataflowError {
    DataflowError::new("filesystem", ErrorKind::State, format!("{shown}: {offset} is not a position in this file: {error}"))
}

impl Source for FilesystemSource {
    fn discover(&self) -> Result<Vec<SplitId>> {
        let mut taken = self.taken();
        let new = self.new_files(&taken)?;
        let mut splits = Vec::with_capacity(new.len());
        for split in &new {
            match &self.config.format {
                Format::Parquet(_) => {
                    let groups = parquet_reader::row_groups(&self.location, split, &self.config.pruning)?;
                    splits.extend(groups.into_iter().map(|group| FileSplit { group: Some(group), ..split.clone() }.to_string()));
                }
                _ => splits.push(split.to_string()),
            }
            if taken.splits + splits.len() > MAX_SPLITS {
                return Err(too_many(&self.location));
            }
        }
        if self.config.monitor.is_some() {
            taken.splits += splits.len();
            taken.files.extend(new.into_iter().map(|split| (split.file, split.version)));
        }
        Ok(splits)
    }

    fn restored(&self, splits: &[&SplitState]) {
        let mut taken = self.taken();
        taken.splits = splits.len();
        let files = splits.iter().map(|state| FileSplit::parse(&state.assignment.split));
        taken.files = files.map(|split| (split.file, split.version)).collect();
    }

    fn discovery_interval(&self) -> Option<Duration> {
        self.config.monitor
    }

    fn open_limit(&self) -> usize {
        OPEN_FILES
    }

    fn open(&self, split: &SplitId, start: Start<'_>, waker: Waker) -> Result<Box<dyn SplitReader>> {
        let (offset, split) = (start.offset()?, FileSplit::parse(split));
        let known = self.config.columns.of(&split, &self.location.show(&split.file))?;
        self.location.verify(&split, true)?;
        let reader = match &self.config.format {
            Format::Parquet(_) => self.parquet(&split, offset, waker)?,
            _ => self.text(&split, offset, waker)?,
        };
        Ok(Box::new(FileReader { reader, known, location: self.location.clone(), split }))
    }
}

fn too_many(location: &Location) -> DataflowError {
    let message = format!(
        "{}: more than {MAX_SPLITS} files (or row groups of Parquet), which all stay in the job's checkpoints; read a part of it \
         ('source.path.regex-pattern'), write fewer and larger files, or begin a new job with a folder of its own",
        location.show("")
    );
    DataflowError::new("filesystem", ErrorKind::User, message)
}

/// Completes rows by what follows from the file, and sees that a local file stays what it was (of an object each answer
/// tells).
struct FileReader {
    reader: Box<dyn SplitReader>,
    known: KnownColumns,
    location: Location,
    split: FileSplit,
}

impl SplitReader for FileReader {
    fn read(&mut self, rows: usize) -> Result<Read> {
        Ok(match self.reader.read(rows)? {
            Read::Rows(batch) => Read::Rows(self.known.complete(batch)?),
            Read::Pending => Read::Pending,
            Read::End => {
                self.location.verify(&self.split, false)?;
                Read::End
            }
        })
    }

    fn offset(&self) -> serde_json::Value {
        self.reader.offset()
    }

    fn skipped(&self) -> u64 {
        self.reader.skipped()
    }
}
