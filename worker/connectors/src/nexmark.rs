//! [io] The `nexmark` source: the auction site of the Nexmark benchmark, made up at speed.
//!
//! ```sql
//! CREATE TABLE datagen (
//!   event_type INT,
//!   person  ROW<id BIGINT, name VARCHAR, emailAddress VARCHAR, creditCard VARCHAR, city VARCHAR, state VARCHAR,
//!               `dateTime` TIMESTAMP(3), extra VARCHAR>,
//!   auction ROW<id BIGINT, itemName VARCHAR, description VARCHAR, initialBid BIGINT, reserve BIGINT,
//!               `dateTime` TIMESTAMP(3), expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra VARCHAR>,
//!   bid     ROW<auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR,
//!               `dateTime` TIMESTAMP(3), extra VARCHAR>,
//!   `dateTime` AS CASE WHEN event_type = 0 THEN person.`dateTime`
//!                      WHEN event_type = 1 THEN auction.`dateTime` ELSE bid.`dateTime` END,
//!   WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND
//! ) WITH ('connector' = 'nexmark', 'events.num' = '1000000', 'first-event.rate' = '10000');
//! ```
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `events.num` | `0` | events in all; 0: without end |
//! | `stop-at` | `-1` | end after so many events, if that is sooner; -1: do not |
//! | `keep-alive` | `false` | stay after the last event, instead of ending |
//! | `first-event.rate`, `next-event.rate` | `10000` | events for each second of *event time*; as in Flink's generator the first rules, and the second only where the first is not given |
//! | `max-emit-speed` | `true` | `false`: one second of event time takes one second |
//! | `rows-per-second` | none | events for each second of wall time, over all splits |
//! | `person.proportion`, `auction.proportion`, `bid.proportion` | `1`, `3`, `46` | events of each type in a group of their sum |
//! | `person.avg-size`, `auction.avg-size`, `bid.avg-size` | `200b`, `500b`, `100b` | size of an event, filled up by `extra` |
//! | `bid.hot-ratio.auctions` | `2` | one bid in so many goes to an auction that is not hot |
//! | `bid.hot-ratio.bidders` | `4` | one bid in so many comes from a person who is not hot |
//! | `auction.hot-ratio.sellers` | `4` | one auction in so many comes from a person who is not hot |
//! | `base-time` | `2015-07-15 00:00:00` | event time of the first event; fixed, so that a replay is exact |
//! | `seed` | `0` | another seed, other events |
//! | `splits` | `24` | splits, or fewer when there are few events; no more workers than this can read |
//!
//! `rate.shape`, `rate.period` and `rate.limited` are taken and, as in Flink's generator, change nothing.
//!
//! Invariants: event `n` is a function of the options and `n` alone ([`generator`]). Events come in groups of one round
//! of the proportions (50 by default); split `s` holds the groups `g` with `g % splits == s`. A split's offset is the
//! number of its next event.

pub(crate) mod config;
pub(crate) mod generator;
mod numbers;
mod strings;
#[cfg(test)]
mod tests;
mod texts;

use std::sync::Arc;

use rheos_dataflow::error::Result;
use rheos_dataflow::source::{Read, Source, SplitId, SplitReader, Start, Waker};
use tokio::runtime::Handle;

pub use config::Config;

use crate::connector::{Connector, SourceTable};
use crate::environment::Environment;
use crate::sequence::Pace;
use generator::Generator;

/// The connector.
pub const CONNECTOR: Connector = Connector { source: Some(|spec| Ok(Box::new(Config::parse(spec)?))), ..Connector::named("nexmark") };

impl SourceTable for Config {
    fn build(self: Box<Self>, environment: &Environment) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(NexmarkSource::new(*self, environment)))
    }
}

/// See the module's documentation.
pub struct NexmarkSource {
    generator: Arc<Generator>,
    config: Config,
    runtime: Handle,
}

impl NexmarkSource {
    /// A source with these options.
    pub fn new(config: Config, environment: &Environment) -> Self {
        let generator = Arc::new(Generator::new(&config));
        Self { generator, config, runtime: environment.runtime.clone() }
    }
}

impl Source for NexmarkSource {
    fn discover(&self) -> Result<Vec<SplitId>> {
        Ok(self.config.blocks().ids())
    }

    fn open(&self, split: &SplitId, start: Start<'_>, waker: Waker) -> Result<Box<dyn SplitReader>> {
        let blocks = self.config.blocks();
        let next = blocks.open("nexmark", split, start.offset()?)?;
        let pace = self.config.rows_per_second.map(|rate| Pace::new(rate, blocks.round_of(next), self.runtime.clone(), waker));
        Ok(Box::new(Reader { generator: Arc::clone(&self.generator), config: self.config.clone(), next, pace }))
    }
}

struct Reader {
    generator: Arc<Generator>,
    config: Config,
    /// Number of the next event.
    next: u64,
    pace: Option<Pace>,
}

impl SplitReader for Reader {
    fn read(&mut self, rows: usize) -> Result<Read> {
        if self.next >= self.config.events {
            return Ok(if self.config.keep_alive { Read::Pending } else { Read::End });
        }
        let limit = self.config.events.min(self.pace.as_ref().map_or(u64::MAX, Pace::due));
        let (spans, next) = self.config.blocks().spans(self.next, rows.max(1) as u64, limit);
        if spans.is_empty() {
            if let Some(pace) = &self.pace {
                pace.wake_at(self.next);
            }
            return Ok(Read::Pending);
        }
        self.next = next;
        self.generator.batch(&spans).map(Read::Rows)
    }

    fn offset(&self) -> serde_json::Value {
        self.next.into()
    }

    fn backlog(&self) -> Option<u64> {
        (self.config.events != u64::MAX).then(|| self.config.blocks().backlog(self.next, self.config.events))
    }
}
