//! [io] From places in a partition, as options and checkpoints name them, to offsets.

use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::source::Start;
use serde::{Deserialize, Serialize};

use super::client::{Context, TIMEOUT, failed};
use super::config::{Place, SourceConfig};

/// A split's offset in the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Position {
    /// The next message.
    pub(super) next: i64,
    /// Where the table ends, of a bounded one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stop: Option<i64>,
    /// Messages left out because they could not be read.
    #[serde(default)]
    pub(super) skipped: u64,
}

/// Where a reader is to begin; the brokers have not been asked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Begin {
    /// Where the table's options say.
    New { late: bool },
    /// At a checkpoint's offset.
    At(Position),
    /// Behind the newest message.
    Newest(Option<Position>),
}

impl Begin {
    /// What the engine asks for.
    ///
    /// # Errors
    /// When the checkpoint's offset is none of a partition.
    pub(super) fn of(start: Start<'_>, topic: &str, partition: i32) -> Result<Self> {
        let saved = |offset: &serde_json::Value| -> Result<Position> {
            serde_json::from_value(offset.clone()).map_err(|error| {
                let message = format!("{topic}:{partition}: the checkpoint's offset {offset} is none of a partition: {error}");
                DataflowError::new("kafka", ErrorKind::State, message)
            })
        };
        Ok(match start {
            Start::New { late } => Self::New { late },
            Start::At(offset) => Self::At(saved(offset)?),
            Start::Newest(offset) => Self::Newest(offset.map(saved).transpose()?),
        })
    }

    /// The offset to put into a checkpoint until the brokers have answered.
    pub(super) fn known(&self) -> Option<Position> {
        match self {
            Self::New { .. } => None,
            Self::At(position) => Some(position.clone()),
            Self::Newest(position) => position.clone(),
        }
    }
}

/// A partition's messages that are there: the first, and the number behind the last (of committed ones, unless
/// uncommitted ones are wanted).
pub(super) struct Bounds {
    pub(super) low: i64,
    pub(super) high: i64,
}

pub(super) fn bounds(consumer: &BaseConsumer<Context>, topic: &str, partition: i32) -> Result<Bounds> {
    let (low, high) = consumer
        .fetch_watermarks(topic, partition, TIMEOUT)
        .map_err(|error| failed(&format!("asking for the offsets of {topic}:{partition}"), &error))?;
    Ok(Bounds { low, high })
}

/// Where a reader of `topic:partition` begins.
///
/// Also where the partition ended then.
///
/// # Errors
/// When the brokers do not answer, or the wanted message is gone.
pub(super) fn position(
    consumer: &BaseConsumer<Context>,
    config: &SourceConfig,
    topic: &str,
    partition: i32,
    begin: &Begin,
) -> Result<(Position, i64)> {
    let bounds = bounds(consumer, topic, partition)?;
    let resolve = |place: &Place| resolved(consumer, place, topic, partition, &bounds);
    let stop = || config.bounded.as_ref().map(resolve).transpose();
    let begun = match begin {
        Begin::At(position) => {
            check(topic, partition, position.next, &bounds)?;
            position.clone()
        }
        Begin::Newest(saved) => {
            let stop = saved.as_ref().map_or_else(stop, |saved| Ok(saved.stop))?;
            Position { next: bounds.high, stop, skipped: saved.as_ref().map_or(0, |saved| saved.skipped) }
        }
        // What came into a partition after the job began is all for the job.
        Begin::New { late: true } if !matches!(config.startup, Place::Offsets(_) | Place::Group(_)) => {
            Position { next: bounds.low, stop: stop()?, skipped: 0 }
        }
        Begin::New { .. } => {
            let next = resolve(&config.startup)?;
            check(topic, partition, next, &bounds)?;
            Position { next, stop: stop()?, skipped: 0 }
        }
    };
    Ok((begun, bounds.high))
}

/// Refuses to begin where messages are missing.
fn check(topic: &str, partition: i32, next: i64, bounds: &Bounds) -> Result<()> {
    if (bounds.low..=bounds.high).contains(&next) {
        return Ok(());
    }
    Err(gone(topic, partition, next, bounds))
}

/// The error of a reader whose messages are not there.
pub(super) fn gone(topic: &str, partition: i32, next: i64, bounds: &Bounds) -> DataflowError {
    let Bounds { low, high } = bounds;
    let why = if next < *low {
        format!("{} messages were deleted before they were read (retention.ms, retention.bytes)", low - next)
    } else {
        "the topic was made anew or lost messages".to_owned()
    };
    let message = format!(
        "{topic}:{partition}: the job goes on at offset {next}, and the topic has {low} to {high}: {why}. To go on without \
         them, start the job anew from where the topic begins ('scan.startup.mode' = 'earliest-offset', upgrade mode Stateless)"
    );
    DataflowError::new("kafka", ErrorKind::State, message)
}

fn resolved(consumer: &BaseConsumer<Context>, place: &Place, topic: &str, partition: i32, bounds: &Bounds) -> Result<i64> {
    let list = |offset: Offset| -> Result<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, offset).map_err(|error| failed("naming a partition", &error))?;
        Ok(list)
    };
    let first = |list: &TopicPartitionList| match list.elements().first().map(|element| element.offset()) {
        Some(Offset::Offset(offset)) => Some(offset),
        _ => None,
    };
    match place {
        Place::Earliest => Ok(bounds.low),
        Place::Latest => Ok(bounds.high),
        Place::Offsets(offsets) => Ok(offsets.get(&partition).copied().unwrap_or(bounds.low)),
        Place::Timestamp(time) => {
            let found = consumer.offsets_for_times(list(Offset::Offset(*time))?, TIMEOUT);
            let found = found.map_err(|error| failed(&format!("asking {topic}:{partition} for a time"), &error))?;
            Ok(first(&found).unwrap_or(bounds.high))
        }
        Place::Group(otherwise) => {
            let found = consumer.committed_offsets(list(Offset::Invalid)?, TIMEOUT);
            let found = found.and_then(|found| found.elements().iter().try_for_each(|element| element.error()).map(|()| found));
            let found = found.map_err(|error| failed("asking for the group's offsets", &error))?;
            match (first(&found), otherwise) {
                (Some(offset), _) => Ok(offset),
                (None, Some(place)) => resolved(consumer, place, topic, partition, bounds),
                (None, None) => {
                    let message = format!(
                        "the group has no offset of {topic}:{partition}: give 'properties.auto.offset.reset' = 'earliest' or 'latest'"
                    );
                    Err(DataflowError::new("kafka", ErrorKind::User, message))
                }
            }
        }
    }
}
