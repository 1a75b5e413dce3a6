//! [io] `kafka`: topics as streams, through librdkafka.
//!
//! **Reading.** Each partition is a split. Its offset is the number of the next message, resolved when the job first
//! opens the partition and kept in the checkpoint from then on; so a restart goes on exactly there, also when it started
//! at `latest-offset`. Where the wanted message is gone (retention, a topic made anew) the job fails and says so: never a
//! silent gap. Partitions that appear later are read from their beginning. After a checkpoint the offsets are also
//! committed to the group `properties.group.id`, for tools that watch lag; the job itself never reads them again (except
//! to begin with, in mode `group-offsets`).
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `topic` | | one topic, or several with `;` between them (a sink has one) |
//! | `topic-pattern` | | instead: a regular expression for whole names |
//! | `properties.bootstrap.servers` | | brokers, `host:port,…` |
//! | `properties.*` | | anything that librdkafka knows; values may hold `${secret:name/key}`. `sasl.jaas.config` of a Java client is understood (PLAIN, SCRAM) |
//! | `properties.group.id` | none | group that offsets are committed to; needed for `group-offsets` |
//! | `scan.startup.mode` | `group-offsets` | `earliest-offset`, `latest-offset`, `group-offsets`, `timestamp`, `specific-offsets` |
//! | `scan.startup.timestamp-millis` | | for `timestamp`: the first message that is not older |
//! | `scan.startup.specific-offsets` | | for `specific-offsets`: `partition:0,offset:42;partition:1,offset:300`; others from the beginning |
//! | `properties.auto.offset.reset` | `none` | where `group-offsets` begins in a partition without one: `earliest`, `latest`, or an error |
//! | `scan.bounded.mode` | `unbounded` | where the table ends: `latest-offset` (as of the job's first look), `group-offsets`, `timestamp`, `specific-offsets`, with `scan.bounded.timestamp-millis` and `scan.bounded.specific-offsets` |
//! | `scan.topic-partition-discovery.interval` | `5 min` | how often to look for new partitions (`0`: never; a bounded table never does) |
//! | `scan.watermark.idle-timeout` | | a partition that is silent this long does not hold the watermark back |
//! | `format`, `value.format` | | `json`, `csv`, `avro`, `raw` (one column STRING or BYTES), `debezium-json` (a change-log); see [`crate::format`] |
//! | `key.format`, `key.fields` | none | sink: columns that make the message's key, `a;b`, and their format |
//! | `value.fields-include` | `ALL` | sink: `EXCEPT_KEY` leaves the key's columns out of the value |
//! | `sink.partitioner` | `default` | `default`: by key as Java clients do (murmur2), without one at random; `round-robin`: at random |
//! | `sink.delivery-guarantee` | the job's | `exactly-once`, `at-least-once`, `none`: has to say what `spec.delivery` says |
//! | `sink.transactional-id-prefix` | `rheos` | begins the transactional ids and marker groups; brokers with ACLs must allow it |
//! | `sink.marker-retention` | `6 d` | how long the brokers remember a marker at least (their `offsets.retention.minutes`, 7 days) |
//! | `sink.expired-commits` | an error | what a job does that comes back later than that to messages of which nobody knows whether they were sent: `send`, `drop` |
//! | `scan.parallelism`, `sink.parallelism` | | of Flink's connector; taken, and without effect: the job has one parallelism |
//!
//! Messages without a value are passed over. Only committed transactions are read, unless
//! `'properties.isolation.level' = 'read_uncommitted'`. Metadata columns: `topic`, `partition`, `offset`, `timestamp`,
//! `key`, `headers` (`name TYPE METADATA [FROM 'key'] [VIRTUAL]`); a sink can write `timestamp`.
//!
//! **Writing.** `ExactlyOnce` is described, with its proof, in `commit`. Otherwise messages go out at once through an
//! idempotent producer, and a checkpoint waits until the brokers have acknowledged all that came before it.
//!
//! `upsert-kafka` (written only) keeps the newest row of each key for a compacted topic: the key is the table's `PRIMARY KEY`
//! in `key.format`, a row that is gone is a message without a value. Changes of a key keep their order when the query is
//! grouped by that key.
//!
//! `AtMostOnce`: after a restart each partition goes on behind the newest message that is there then. What comes from state
//! is written as with `ExactlyOnce` (`rheos_dataflow::sink::Delivery::of_sink` says why).

mod client;
mod commit;
mod config;
mod direct;
mod fetcher;
mod frames;
mod marker;
mod quiet;
mod reader;
mod sink;
mod source;
mod start;

use std::collections::BTreeMap;
use std::sync::Arc;

use rheos_dataflow::error::Result;
use rheos_dataflow::graph::OperatorId;
use rheos_dataflow::sink::{Delivery, Sink};
use rheos_dataflow::source::Source;

use crate::connector::{Connector, SinkTable, SourceTable};
use crate::environment::Environment;

pub use config::{SinkConfig, SourceConfig};
pub use sink::KafkaSink;
pub use source::KafkaSource;

/// `kafka`.
pub const CONNECTOR: Connector = Connector {
    source: Some(|spec| Ok(Box::new(SourceConfig::parse(spec)?))),
    sink: Some(|spec| Ok(Box::new(SinkConfig::parse(spec)?))),
    accepts_changelog: carries_changes,
    emits_changelog: carries_changes,
    has_metadata: true,
    ..Connector::named("kafka")
};

/// `upsert-kafka`.
pub const UPSERT_CONNECTOR: Connector = Connector {
    sink: Some(|spec| Ok(Box::new(SinkConfig::parse(spec)?))),
    accepts_changelog: |_| true,
    has_metadata: true,
    ..Connector::named("upsert-kafka")
};

fn carries_changes(given: &BTreeMap<String, String>) -> bool {
    given.get("value.format").or_else(|| given.get("format")).is_some_and(|format| format == "debezium-json")
}

impl SourceTable for SourceConfig {
    fn begins_at_newest(&self) -> bool {
        true
    }

    fn build(self: Box<Self>, environment: &Environment) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(KafkaSource::new(*self, environment)?))
    }
}

impl SinkTable for SinkConfig {
    fn cannot_promise(&self, delivery: Delivery) -> Option<String> {
        let guarantee = self.guarantee.filter(|guarantee| *guarantee != delivery)?;
        Some(format!(
            "option 'sink.delivery-guarantee' is {guarantee:?} in a job that promises {delivery:?}, and a promise is of all sinks: remove the \
             option, or set spec.delivery: {guarantee:?}"
        ))
    }

    fn build(self: Box<Self>, id: &OperatorId, environment: &Environment) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(KafkaSink::new(*self, id, environment)?))
    }
}
