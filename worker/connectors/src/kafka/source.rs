//! [io] The reading half: partitions as splits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::source::{Source, SplitId, SplitReader, Start, Waker};

use super::client::{self, Context, HEAR, TIMEOUT, failed};
use super::config::{SourceConfig, Topics};
use super::fetcher::{Fetcher, Handle};
use super::reader::Reader;
use super::start::{Begin, Position};
use crate::environment::Environment;

/// Between a topic's name and a partition's number in the id of a split; no topic's name holds it.
const PARTITION_MARK: char = ':';
/// What the client's queue holds at most, KiB; the default of 64 MiB would stand beside the job's own budget.
const QUEUED_KIB: &str = "16384";

/// See [`crate::kafka`].
pub struct KafkaSource {
    config: Arc<SourceConfig>,
    client: ClientConfig,
    /// By topic.
    fetchers: Mutex<BTreeMap<String, Arc<Handle>>>,
}

impl KafkaSource {
    /// A source with these options; nothing is connected yet.
    ///
    /// # Errors
    /// When a Secret is not there.
    pub fn new(config: SourceConfig, environment: &Environment) -> Result<Self> {
        let mut client = client::config(&config.properties, &environment.secrets)?;
        client.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        // A message that is gone is an error: which, and what to do, is ours to say.
        client.set("auto.offset.reset", "error");
        client.set("enable.partition.eof", if config.bounded.is_some() { "true" } else { "false" });
        for (name, value) in [("group.id", "rheos"), ("queued.max.messages.kbytes", QUEUED_KIB)] {
            if client.get(name).is_none() {
                client.set(name, value);
            }
        }
        Ok(Self { config: Arc::new(config), client, fetchers: Mutex::default() })
    }

    fn consumer(&self) -> Result<BaseConsumer<Context>> {
        self.client.create_with_context(Context::default()).map_err(|error| failed("making a consumer", &error))
    }

    /// One client a topic: the client tells the end of a partition without its topic.
    fn fetcher(&self, topic: &str) -> Result<Arc<Handle>> {
        let mut fetchers = self.fetchers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fetcher) = fetchers.get(topic) {
            return Ok(Arc::clone(fetcher));
        }
        let fetcher = Arc::new(Fetcher::start(topic, self.consumer()?, &self.config));
        fetchers.insert(topic.to_owned(), Arc::clone(&fetcher));
        Ok(fetcher)
    }
}

impl Source for KafkaSource {
    fn discover(&self) -> Result<Vec<SplitId>> {
        let consumer = self.consumer()?;
        let hear = || while consumer.poll(HEAR).is_some() {};
        let ask = |topic: Option<&str>| {
            consumer.context().patiently("asking for the topics", TIMEOUT, |time| consumer.fetch_metadata(topic, time), hear)
        };
        let mut splits = Vec::new();
        let mut add = |topic: &rdkafka::metadata::MetadataTopic| {
            splits.extend((0..topic.partitions().len()).map(|partition| format!("{}{PARTITION_MARK}{partition}", topic.name())));
        };
        match &self.config.topics {
            Topics::Named(names) => {
                for name in names {
                    let metadata = ask(Some(name))?;
                    let found = metadata.topics().iter().find(|topic| topic.name() == name).filter(|topic| !topic.partitions().is_empty());
                    let found = found.ok_or_else(|| {
                        DataflowError::new("kafka", ErrorKind::User, format!("there is no topic '{name}': create it, or correct 'topic'"))
                    })?;
                    add(found);
                }
            }
            Topics::Matching(pattern) => {
                let metadata = ask(None)?;
                metadata.topics().iter().filter(|topic| pattern.is_match(topic.name())).for_each(&mut add);
            }
        }
        splits.sort();
        Ok(splits)
    }

    fn discovery_interval(&self) -> Option<Duration> {
        self.config.discovery
    }

    fn open(&self, split: &SplitId, at: Start<'_>, waker: Waker) -> Result<Box<dyn SplitReader>> {
        let (topic, partition) = parts(split)?;
        let fetcher = self.fetcher(topic)?;
        let begin = Begin::of(at, topic, partition)?;
        let reader = Reader::new(Arc::clone(&self.config), Arc::clone(&fetcher), topic, partition, &begin);
        fetcher.want(partition, begin, waker);
        Ok(Box::new(reader))
    }

    fn checkpointed(&self, offsets: &[(&SplitId, &serde_json::Value)]) {
        if self.config.group.is_none() {
            return;
        }
        let mut by_topic: BTreeMap<&str, Vec<(i32, i64)>> = BTreeMap::new();
        for (split, offset) in offsets {
            if let (Ok((topic, partition)), Ok(position)) = (parts(split), serde_json::from_value::<Position>((*offset).clone())) {
                by_topic.entry(topic).or_default().push((partition, position.next));
            }
        }
        let fetchers = self.fetchers.lock().unwrap_or_else(PoisonError::into_inner);
        for (topic, offsets) in by_topic {
            if let Some(fetcher) = fetchers.get(topic) {
                fetcher.commit(&offsets);
            }
        }
    }
}

fn parts(split: &str) -> Result<(&str, i32)> {
    let parts = split.rsplit_once(PARTITION_MARK).and_then(|(topic, partition)| Some((topic, partition.parse().ok()?)));
    parts.ok_or_else(|| {
        let message = format!("the checkpoint holds split '{split}', which is no partition of a topic; was 'connector' changed?");
        DataflowError::new("kafka", ErrorKind::State, message)
    })
}
