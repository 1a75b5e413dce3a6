//! [pure] Durations as people write them: `100ms`, `10s`, `5m`, `1h30m`.
//!
//! The loose types keep the text as it was written; [`DurationText::parse`] reads it, so that a bad one is a
//! [`FieldError`](crate::FieldError) beside all others and not the end of reading.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Longest duration that is accepted, days.
pub const MAX_DAYS: u64 = 366;
/// Longest text of a duration, characters.
pub const TEXT_LIMIT: usize = 32;
/// Most digits of a number in it.
pub const DIGITS_LIMIT: usize = 11;

/// A duration, not yet read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct DurationText(pub String);

impl DurationText {
    /// Reads numbers with the units `d`, `h`, `m`, `s`, `ms`, in this order, each at most once, without signs or fractions.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(&self) -> Result<Duration, String> {
        parse(&self.0)
    }
}

impl From<&str> for DurationText {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Units and their milliseconds, in the order in which they stand.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

fn parse(text: &str) -> Result<Duration, String> {
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if text.chars().count() > TEXT_LIMIT {
        return Err(format!("has {} characters", text.chars().count()));
    }
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut millis: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(letters);
        if unit.is_empty() {
            return Err(format!("{text:?} has no unit"));
        }
        // What was passed over stays passed over: units fall, and none stands twice.
        let scale = match units.find(|(name, _)| *name == unit) {
            Some((_, scale)) => *scale,
            None if UNITS.iter().any(|(name, _)| *name == unit) => {
                return Err(format!("{text:?}: {unit:?} is out of order"));
            }
            None => return Err(format!("{text:?}: {unit:?} is no unit")),
        };
        if number.is_empty() {
            return Err(format!("{text:?} is no duration"));
        }
        millis = Some(number)
            .filter(|number| number.len() <= DIGITS_LIMIT)
            .and_then(|number| number.parse::<u64>().ok())
            .and_then(|number| number.checked_mul(scale))
            .and_then(|part| millis.checked_add(part))
            .filter(|sum| *sum <= MAX_DAYS * 86_400_000)
            .ok_or_else(|| format!("{text:?} is longer than {MAX_DAYS} days"))?;
        rest = next;
    }
    Ok(Duration::from_millis(millis))
}

/// Writes a duration in the form that [`DurationText::parse`] reads, in its largest whole unit.
pub fn display(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (scale, unit) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
        if millis != 0 && millis.is_multiple_of(scale) {
            return format!("{}{unit}", millis / scale);
        }
    }
    format!("{millis}ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, millis) in
            [("0s", 0), ("100ms", 100), ("10s", 10_000), ("5m", 300_000), ("1h30m", 5_400_000), ("366d", 366 * 86_400_000)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "10",
            "s",
            "-1s",
            "1.5s",
            "10 s",
            "10x",
            "367d",
            "366d1ms",
            "99999999999999999999s",
            "１s",
            "1s ",
            "0s0s0s0s0s0s0s0s0s0s0s0s0s0s0s0s0s",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for millis in [0, 1, 999, 1_000, 61_000, 3_600_000, 86_400_000, 90_000] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse(&display(duration)), Ok(duration));
        }
    }
}
