//! [pure] Reads the `WITH` options of one table, and finds everything that is wrong with them at once.
//!
//! A connector reads each option that it knows through [`Options`]; reading makes the name known. What is left over at
//! [`Options::finish`] is unknown, and the message offers the closest known name.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use rheos_api::suggest::nearest;
use rheos_dataflow::error::{DataflowError, ErrorKind};

/// Everything wrong with a table: never empty.
pub type Problems = Vec<DataflowError>;

/// Options that belong to the planner or the engine, whatever the connector.
const COMMON: [&str; 2] = ["connector", "scan.watermark.idle-timeout"];

/// An option's value is cut to this many characters in messages.
const SHOWN_VALUE: usize = 80;

/// The options of one table, being read.
#[derive(Debug)]
pub struct Options<'a> {
    table: &'a str,
    connector: &'a str,
    given: &'a BTreeMap<String, String>,
    known: Vec<String>,
    /// Given, and refused by name.
    refused: Vec<String>,
    problems: Problems,
}

impl<'a> Options<'a> {
    /// The options `given` to `table`.
    pub fn new(table: &'a str, given: &'a BTreeMap<String, String>) -> Self {
        let connector = given.get("connector").map_or("", String::as_str);
        let known = COMMON.iter().map(ToString::to_string).collect();
        Self { table, connector, given, known, refused: Vec::new(), problems: Vec::new() }
    }

    /// Notes a problem of the table.
    pub fn problem(&mut self, message: impl Display) {
        let connector = if self.connector.is_empty() { String::new() } else { format!(" ({})", self.connector) };
        self.problems.push(DataflowError::new(format!("table {}{connector}", self.table), ErrorKind::User, message));
    }

    /// Notes that the value of option `name` is wrong: `expected` says what would be right.
    pub fn bad_value(&mut self, name: &str, expected: impl Display) {
        let value: String = self.given.get(name).map_or("", String::as_str).chars().take(SHOWN_VALUE).collect();
        self.problem(format!("option '{name}' = '{value}': expected {expected}"));
    }

    /// The value as it stands.
    pub fn text(&mut self, name: &str) -> Option<&'a str> {
        if !self.known.iter().any(|known| known == name) {
            self.known.push(name.to_owned());
        }
        self.given.get(name).map(String::as_str)
    }

    /// All options whose names begin with `prefix`, without it.
    pub fn prefixed(&mut self, prefix: &str) -> Vec<(&'a str, &'a str)> {
        let given = self.given;
        let found: Vec<_> = given.iter().filter_map(|(name, value)| Some((name.strip_prefix(prefix)?, value.as_str()))).collect();
        self.known.extend(found.iter().map(|(name, _)| format!("{prefix}{name}")));
        found
    }

    /// Like [`Options::text`], and a problem when it is missing; `example` shows a right value.
    pub fn required(&mut self, name: &str, example: &str) -> Option<&'a str> {
        let value = self.text(name);
        if value.is_none() {
            self.problem(format!("option '{name}' is missing; for example '{name}' = '{example}'"));
        }
        value
    }

    /// A value that `parse` understands; `expected` says what that is.
    pub fn parsed<T>(&mut self, name: &str, expected: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let value = self.text(name)?;
        let parsed = parse(value.trim());
        if parsed.is_none() {
            self.bad_value(name, expected);
        }
        parsed
    }

    /// A whole number within `range`.
    pub fn integer(&mut self, name: &str, default: i64, range: RangeInclusive<i64>) -> i64 {
        let expected = match (*range.start(), *range.end()) {
            (low, i64::MAX) => format!("a whole number, at least {low}"),
            (low, high) => format!("a whole number from {low} to {high}"),
        };
        self.parsed(name, &expected, |text| text.parse().ok().filter(|n| range.contains(n))).unwrap_or(default)
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, name: &str, default: bool) -> bool {
        self.parsed(name, "'true' or 'false'", |text| match text.to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        })
        .unwrap_or(default)
    }

    /// One of `choices`, whatever the case of its letters.
    pub fn choice<T: Copy>(&mut self, name: &str, choices: &[(&str, T)], default: T) -> T {
        let names: Vec<String> = choices.iter().map(|(name, _)| format!("'{name}'")).collect();
        let find = |text: &str| choices.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, value)| *value);
        self.parsed(name, &names.join(" or "), find).unwrap_or(default)
    }

    /// A span of time in Flink's form: `10 s`, `500ms`, `1 min`.
    pub fn duration(&mut self, name: &str) -> Option<Duration> {
        self.parsed(name, "a duration such as '10 s', '500 ms' or '1 min'", parse_duration)
    }

    /// A point in time, UTC, as ms since 1970: `2015-07-15 00:00:00`.
    pub fn time(&mut self, name: &str, default: i64) -> i64 {
        self.parsed(name, "a time such as '2015-07-15 00:00:00'", parse_time).unwrap_or(default)
    }

    /// A number of bytes in Flink's form: `128mb`, `64 kb`, `200b`.
    pub fn bytes(&mut self, name: &str, default: u64) -> u64 {
        self.parsed(name, "a size such as '128mb', '64 kb' or '200b'", parse_bytes).unwrap_or(default)
    }

    /// Options of Flink's that change nothing here, and why that is right.
    pub fn without_effect(&mut self, names: &[&str]) {
        for name in names {
            self.text(name);
        }
    }

    /// Options of Flink's that are not supported: refused by name when given.
    pub fn unsupported(&mut self, names: &[&str]) {
        for name in names {
            if self.given.contains_key(*name) {
                self.refused.push((*name).to_owned());
                self.problem(format!("option '{name}' is not supported; remove it"));
            }
        }
    }

    /// Makes every given option known: for checks beside the reading of options.
    pub fn known_all(&mut self) {
        self.known.extend(self.given.keys().cloned());
    }

    /// Reports what was found, options that nobody asked for among it.
    pub fn finish(mut self) -> Result<(), Problems> {
        let unknown: Vec<&String> = self.given.keys().filter(|name| !self.known.contains(name) && !self.refused.contains(name)).collect();
        for name in unknown {
            let hint = did_you_mean(name, &self.known);
            let mut known = self.known.clone();
            known.sort();
            self.problem(format!("unknown option '{name}'{hint} Known options: {}", known.join(", ")));
        }
        if self.problems.is_empty() { Ok(()) } else { Err(self.problems) }
    }
}

/// The end of a sentence about an unknown name, with the closest known one: `; did you mean 'path'?` or a full stop.
pub fn did_you_mean<S: AsRef<str>>(name: &str, names: &[S]) -> String {
    nearest(name, names.iter().map(AsRef::as_ref)).map_or_else(|| ".".to_owned(), |known| format!("; did you mean '{known}'?"))
}

/// A number and a unit; the unit in lower case, empty when there is none.
fn number_and_unit(text: &str) -> Option<(u64, String)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..digits].parse().ok()?, text[digits..].trim().to_ascii_lowercase()))
}

fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    let nanos: u64 = match unit.as_str() {
        "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => 1,
        "us" | "µs" | "micro" | "micros" | "microsecond" | "microseconds" => 1_000,
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1_000_000,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000_000_000,
        "m" | "min" | "minute" | "minutes" => 60_000_000_000,
        "h" | "hour" | "hours" => 3_600_000_000_000,
        "d" | "day" | "days" => 86_400_000_000_000,
        _ => return None,
    };
    number.checked_mul(nanos).map(Duration::from_nanos)
}

fn parse_time(text: &str) -> Option<i64> {
    let formats = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.fZ", "%Y-%m-%dT%H:%M:%S%.f"];
    let time = formats.iter().find_map(|format| chrono::NaiveDateTime::parse_from_str(text, format).ok())?;
    Some(time.and_utc().timestamp_millis())
}

fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let shift = match unit.as_str() {
        "" | "b" | "bytes" => 0,
        "k" | "kb" | "kibibytes" => 10,
        "m" | "mb" | "mebibytes" => 20,
        "g" | "gb" | "gibibytes" => 30,
        "t" | "tb" | "tebibytes" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(options: &[(&str, &str)]) -> BTreeMap<String, String> {
        options.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn unknown_option_is_refused_with_the_closest_known_name() {
        let given = given(&[("connector", "x"), ("rows-per-secnd", "5")]);
        let mut options = Options::new("t", &given);
        options.integer("rows-per-second", 1, 1..=10);
        let problems = options.finish().unwrap_err();
        assert_eq!(
            problems[0].to_string(),
            "table t (x): invalid job: unknown option 'rows-per-secnd'; did you mean 'rows-per-second'? \
             Known options: connector, rows-per-second, scan.watermark.idle-timeout"
        );
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let given = given(&[("a", "11"), ("b", "maybe"), ("c", "soon"), ("d", "1 pound"), ("e", "z")]);
        let mut options = Options::new("t", &given);
        assert_eq!(options.integer("a", 7, 1..=10), 7);
        assert!(options.boolean("b", true));
        assert_eq!(options.duration("c"), None);
        assert_eq!(options.bytes("d", 5), 5);
        assert_eq!(options.choice("e", &[("x", 1), ("y", 2)], 2), 2);
        assert_eq!(options.required("f", "data/"), None);
        let messages: Vec<String> = options.finish().unwrap_err().iter().map(|p| p.message.clone()).collect();
        assert_eq!(messages.len(), 6, "{messages:#?}");
        assert_eq!(messages[0], "option 'a' = '11': expected a whole number from 1 to 10");
        assert_eq!(messages[4], "option 'e' = 'z': expected 'x' or 'y'");
        assert_eq!(messages[5], "option 'f' is missing; for example 'f' = 'data/'");
    }

    #[test]
    fn integers_hold_at_their_limits_and_not_beyond() {
        for (text, good) in [("1", true), ("0", false), ("10", true), ("11", false), ("", false), ("99999999999999999999", false)] {
            let given = given(&[("a", text)]);
            let mut options = Options::new("t", &given);
            options.integer("a", 7, 1..=10);
            assert_eq!(options.finish().is_ok(), good, "{text}");
        }
    }

    #[test]
    fn durations_and_sizes_are_read_as_flink_reads_them() {
        assert_eq!(parse_duration("10 s"), Some(Duration::from_secs(10)));
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("7"), Some(Duration::from_millis(7)));
        assert_eq!(parse_duration("1 MIN"), Some(Duration::from_secs(60)));
        assert_eq!(parse_duration("2 h"), Some(Duration::from_secs(7_200)));
        assert_eq!(parse_duration("1d"), Some(Duration::from_secs(86_400)));
        assert_eq!(parse_duration("-1 s"), None);
        assert_eq!(parse_duration("99999999999999 d"), None);
        assert_eq!(parse_bytes("128MB"), Some(128 << 20));
        assert_eq!(parse_bytes("200b"), Some(200));
        assert_eq!(parse_bytes("64 kb"), Some(64 << 10));
        assert_eq!(parse_bytes("2g"), Some(2 << 30));
        assert_eq!(parse_bytes("1.5 kb"), None);
    }
}
