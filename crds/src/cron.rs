//! [pure] Times of periodic savepoints as people write them in a crontab: `30 3 * * MON-FRI`, in UTC.
//!
//! Five fields (minute, hour, day of month, month, day of week) with one space between them; a field is a list of `*`,
//! numbers, names and ranges, `*` and ranges with an optional step. No seconds, no `@daily`, no `L` or `#`: what is
//! accepted here means the same to every reader of crontabs. When it is due is the operator's to compute.

use serde::{Deserialize, Serialize};

/// Longest text, characters.
pub const CRON_LIMIT: usize = 128;

const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// A field: what it is called, its least and greatest number, and the names of numbers from the least on.
type Field = (&'static str, u32, u32, &'static [&'static str]);

const FIELDS: [Field; 5] =
    [("minute", 0, 59, &[]), ("hour", 0, 23, &[]), ("day of month", 1, 31, &[]), ("month", 1, 12, &MONTHS), ("day of week", 0, 7, &DAYS)];

/// A crontab time, not yet read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "kube", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct CronText(pub String);

impl CronText {
    /// Checks the form.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn check(&self) -> Result<(), String> {
        let text = self.0.as_str();
        if text.chars().count() > CRON_LIMIT {
            return Err(format!("has {} characters", text.chars().count()));
        }
        let parts: Vec<&str> = text.split(' ').collect();
        if parts.len() != FIELDS.len() {
            return Err(format!("{text:?} has {} fields", parts.len()));
        }
        parts.iter().zip(FIELDS).try_for_each(|(part, field)| {
            part.split(',').try_for_each(|item| check_item(item, field)).map_err(|()| format!("{part:?} is no {}", field.0))
        })
    }
}

/// The form as a regular expression. It does not see that a range runs backwards; [`CronText::check`] does.
#[cfg(feature = "kube")]
pub(crate) fn pattern() -> String {
    let fields = FIELDS.map(|(_, least, most, names)| {
        let mut values: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        values.push(numbers(least, most));
        let value = format!("({})", values.join("|"));
        let step = "(/[1-9][0-9]?)?";
        let item = format!("([*]{step}|{value}(-{value}{step})?)");
        format!("{item}(,{item})*")
    });
    format!("^{}$", fields.join(" "))
}

/// One or two digits from `least` to `most`.
#[cfg(feature = "kube")]
fn numbers(least: u32, most: u32) -> String {
    let tens = (0..=most / 10).map(|ten| {
        let first = if ten == 0 { least } else { 0 };
        let last = if ten == most / 10 { most % 10 } else { 9 };
        format!("{}[{first}-{last}]", if ten == 0 { "0?".to_owned() } else { ten.to_string() })
    });
    tens.collect::<Vec<_>>().join("|")
}

fn check_item(item: &str, field: Field) -> Result<(), ()> {
    let (span, step) = item.split_once('/').map_or((item, None), |(span, step)| (span, Some(step)));
    match span.split_once('-') {
        _ if span == "*" => {}
        Some((from, to)) => {
            if value(from, field)? > value(to, field)? {
                return Err(());
            }
        }
        // A step after a single number means something else to every reader.
        None if step.is_some() => return Err(()),
        None => {
            value(span, field)?;
        }
    }
    match step {
        Some(step) if number(step)? == 0 || step.starts_with('0') => Err(()),
        _ => Ok(()),
    }
}

fn value(text: &str, (_, least, most, names): Field) -> Result<u32, ()> {
    if let Some(at) = names.iter().position(|name| *name == text) {
        return u32::try_from(at).map(|at| least + at).map_err(drop);
    }
    number(text).and_then(|number| if (least..=most).contains(&number) { Ok(number) } else { Err(()) })
}

/// One or two digits.
fn number(text: &str) -> Result<u32, ()> {
    let good = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if good { text.parse().map_err(drop) } else { Err(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(text: &str) -> bool {
        CronText(text.to_owned()).check().is_ok()
    }

    #[test]
    fn takes_what_every_crontab_takes() {
        for text in ["* * * * *", "0 3 * * *", "*/15 0-6,22 1,15 JAN-MAR MON-FRI", "59 23 31 12 7", "05 00 01 01 0", "0-30/10 * * * SUN"] {
            assert!(good(text), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest_and_names_the_field() {
        for text in [
            "",
            "* * * *",
            "* * * * * *",
            " * * * * *",
            "*  * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * 32 * *",
            "* * * 13 *",
            "* * * * 8",
            "@daily",
            "5/10 * * * *",
            "*/0 * * * *",
            "5-1 * * * *",
            "* * L * *",
            "* * * * MON#2",
            "* * * jan *",
            ", * * * *",
            "1- * * * *",
            "001 * * * *",
            "٣ * * * *",
        ] {
            assert!(!good(text), "{text}");
        }
        assert!(!good(&format!("{}0 * * * *", "0,".repeat(60))));
        assert_eq!(CronText("* 24 * * *".into()).check(), Err("\"24\" is no hour".to_owned()));
    }
}
