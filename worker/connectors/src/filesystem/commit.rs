//! [pure] When a partition is whole: options `sink.partition-commit.*`, and the time that a partition's name tells.

use std::collections::BTreeMap;
use std::time::Duration;

use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::time::Millis;

use super::columns::unescape;
use crate::options::Options;

/// How a time may stand in a partition's name, UTC.
const TIMES: [&str; 4] = ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"];

/// How a partition is made known to be whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionCommit {
    trigger: Trigger,
    delay: Duration,
    /// Name of the empty file that says so.
    pub(crate) success_file: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Trigger {
    /// So long after its first rows were committed.
    ProcessTime,
    /// When the watermark has passed the time that its name tells; `$column` stands for a value.
    PartitionTime { pattern: String },
}

impl PartitionCommit {
    /// Reads the options; none without `sink.partition-commit.policy.kind`.
    pub(crate) fn parse(options: &mut Options<'_>, partition_by: &[String]) -> Option<Self> {
        let by_time = options.choice("sink.partition-commit.trigger", &[("process-time", false), ("partition-time", true)], false);
        let delay = options.duration("sink.partition-commit.delay").unwrap_or_default();
        let success_file = options.text("sink.partition-commit.success-file.name").unwrap_or("_SUCCESS").to_owned();
        let pattern = options.text("partition.time-extractor.timestamp-pattern").map(str::to_owned);
        options.choice("partition.time-extractor.kind", &[("default", ())], ());
        options.choice("sink.partition-commit.watermark-time-zone", &[("UTC", ())], ());
        options.text("sink.partition-commit.policy.kind")?;
        options.choice("sink.partition-commit.policy.kind", &[("success-file", ())], ());
        if !success_file.starts_with(['.', '_']) || success_file.contains('/') {
            options.bad_value(
                "sink.partition-commit.success-file.name",
                "a name that begins with '_' or '.', so that no reader takes it for data",
            );
        }
        let Some(first) = partition_by.first() else {
            options.problem("option 'sink.partition-commit.policy.kind' needs a table that is PARTITIONED BY columns");
            return None;
        };
        let pattern = pattern.unwrap_or_else(|| format!("${first}"));
        if by_time && !partition_by.iter().any(|column| pattern.contains(&format!("${column}"))) {
            let columns: Vec<String> = partition_by.iter().map(|column| format!("${column}")).collect();
            options.bad_value("partition.time-extractor.timestamp-pattern", format!("a time made of {}", columns.join(", ")));
        }
        let trigger = if by_time { Trigger::PartitionTime { pattern } } else { Trigger::ProcessTime };
        Some(Self { trigger, delay, success_file })
    }

    /// Sees that a partition can ever be whole.
    ///
    /// # Errors
    /// When its name tells no time, and the time decides.
    pub(crate) fn check(&self, partition: &str) -> Result<()> {
        match &self.trigger {
            Trigger::ProcessTime => Ok(()),
            Trigger::PartitionTime { pattern } => time_of(pattern, partition).map(drop),
        }
    }

    /// Whether a partition whose first rows were committed at `since` is whole at `now`, when nothing below `watermark`
    /// will follow.
    ///
    /// # Errors
    /// As for [`Self::check`].
    pub(crate) fn is_whole(&self, partition: &str, since: Millis, now: Millis, watermark: Option<Millis>) -> Result<bool> {
        let delay = self.delay.as_millis() as Millis;
        Ok(match &self.trigger {
            Trigger::ProcessTime => now >= since.saturating_add(delay),
            Trigger::PartitionTime { pattern } => {
                let end = time_of(pattern, partition)?.saturating_add(delay);
                watermark.is_some_and(|watermark| watermark > end)
            }
        })
    }
}

/// The time that the name of a partition (`day=2013-01-01/hour=07/`) tells, ms since 1970.
fn time_of(pattern: &str, partition: &str) -> Result<Millis> {
    let pairs = partition.split('/').filter_map(|folder| folder.split_once('='));
    let mut values: Vec<(String, String)> = pairs.map(|(name, value)| (unescape(name), unescape(value))).collect();
    // `$hours` is not `$hour` and an s.
    values.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    let text = values.iter().fold(pattern.to_owned(), |text, (name, value)| text.replace(&format!("${name}"), value));
    let time = TIMES.iter().find_map(|form| chrono::NaiveDateTime::parse_from_str(&text, form).ok());
    let day = || chrono::NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
    time.or_else(day).map(|time| time.and_utc().timestamp_millis()).ok_or_else(|| {
        let message = format!(
            "partition {partition}: '{text}' (option 'partition.time-extractor.timestamp-pattern' = '{pattern}') is no time such as \
             2013-01-31 10:00:00 or 2013-01-31, so it is never known to be whole"
        );
        DataflowError::new("filesystem", ErrorKind::Data, message)
    })
}

/// What the subtasks of a sink said of their event time; the newest word of each counts.
#[derive(Debug, Default)]
pub(crate) struct Said(BTreeMap<u32, Word>);

#[derive(Debug, Clone, Copy)]
struct Word {
    epoch: u64,
    /// The largest watermark so far.
    clock: Millis,
    idle: bool,
}

impl Said {
    /// `subtask` said this at the close of `epoch`.
    pub(crate) fn add(&mut self, subtask: u32, epoch: u64, clock: Millis, idle: bool) {
        let newest = self.0.get(&subtask).is_none_or(|word| word.epoch <= epoch);
        if newest {
            self.0.insert(subtask, Word { epoch, clock, idle });
        }
    }

    /// What none of `subtasks` will write below, as of `epoch`; none before each has said something of it. Idle ones hold
    /// nobody back; where all are, the furthest has been there while the others were.
    pub(crate) fn watermark(&self, subtasks: u32, epoch: u64) -> Option<Millis> {
        let now = || self.0.values().filter(|word| word.epoch == epoch);
        if now().count() < subtasks as usize {
            return None;
        }
        let active = now().filter(|word| !word.idle).map(|word| word.clock).min();
        active.or_else(|| now().map(|word| word.clock).max())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::options as to_options;

    fn parsed(given: &[(&str, &str)], columns: &[&str]) -> std::result::Result<Option<PartitionCommit>, String> {
        let given = to_options(given);
        let mut options = Options::new("t", &given);
        let columns: Vec<String> = columns.iter().map(ToString::to_string).collect();
        let commit = PartitionCommit::parse(&mut options, &columns);
        options.finish().map(|()| commit).map_err(|problems| problems[0].message.clone())
    }

    const BY_TIME: [(&str, &str); 4] = [
        ("sink.partition-commit.policy.kind", "success-file"),
        ("sink.partition-commit.trigger", "partition-time"),
        ("sink.partition-commit.delay", "1 h"),
        ("partition.time-extractor.timestamp-pattern", "$day $hour:00:00"),
    ];

    #[test]
    fn a_partition_is_whole_when_the_watermark_has_passed_its_hour() {
        let commit = parsed(&BY_TIME, &["day", "hour"]).unwrap().unwrap();
        let eleven = 1_357_038_000_000;
        let whole = |watermark| commit.is_whole("day=2013-01-01/hour=10/", 0, i64::MAX, watermark).unwrap();
        assert_eq!([None, Some(eleven - 1), Some(eleven), Some(eleven + 1), Some(i64::MAX)].map(whole), [false, false, false, true, true]);
        let error = commit.check("day=__DEFAULT_PARTITION__/hour=10/").unwrap_err();
        assert!(error.message.contains("'__DEFAULT_PARTITION__ 10:00:00'") && error.message.contains("is no time"), "{error}");
    }

    #[test]
    fn a_partition_is_whole_so_long_after_its_first_rows() {
        let given = [("sink.partition-commit.policy.kind", "success-file"), ("sink.partition-commit.delay", "5 s")];
        let commit = parsed(&given, &["day"]).unwrap().unwrap();
        let whole = |now| commit.is_whole("day=soon/", 1_000, now, None).unwrap();
        assert_eq!([5_999, 6_000].map(whole), [false, true]);
        commit.check("day=soon/").unwrap();
    }

    #[test]
    fn a_pattern_is_filled_in_with_the_longest_names_first() {
        let filled = time_of("$d $d2:00:00", "d=2013-01-01/d2=07/").unwrap();
        assert_eq!(filled, 1_357_023_600_000);
        assert_eq!(time_of("$at", "at=2013-01-01T07%3A00/").unwrap(), filled);
    }

    #[test]
    fn the_least_word_of_all_subtasks_counts() {
        let mut said = Said::default();
        said.add(0, 7, 100, false);
        assert_eq!(said.watermark(2, 7), None, "the other has not spoken");
        said.add(1, 6, 90, false);
        assert_eq!(said.watermark(2, 7), None, "or of an earlier epoch");
        said.add(1, 7, 80, false);
        said.add(1, 6, 0, false);
        assert_eq!(said.watermark(2, 7), Some(80));
        said.add(1, 7, 80, true);
        assert_eq!(said.watermark(2, 7), Some(100));
        said.add(0, 7, 100, true);
        assert_eq!(said.watermark(2, 7), Some(100), "all are idle");
    }

    #[test]
    fn wrong_options_are_refused_by_name() {
        assert_eq!(parsed(&[], &["day"]), Ok(None));
        let policy = ("sink.partition-commit.policy.kind", "success-file");
        for (given, columns, expected) in [
            (vec![("sink.partition-commit.policy.kind", "metastore")], vec!["day"], "expected 'success-file'"),
            (vec![policy], vec![], "needs a table that is PARTITIONED BY"),
            (vec![policy, ("sink.partition-commit.success-file.name", "DONE")], vec!["day"], "begins with '_' or '.'"),
            (vec![BY_TIME[0], BY_TIME[1], ("partition.time-extractor.timestamp-pattern", "now")], vec!["day"], "a time made of $day"),
        ] {
            let error = parsed(&given, &columns).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
