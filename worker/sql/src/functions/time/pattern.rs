//! [pure] Date patterns in the notation of Java's `SimpleDateFormat`, compiled once.

use std::fmt::Write;

use crate::functions::time::{DAY_MS, civil};

/// Longest pattern, in characters.
const MAX_PATTERN_CHARS: usize = 128;
const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// One piece of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Literal(String),
    /// A number of at least so many digits.
    Number(Field, usize),
    /// The last two digits of the year.
    ShortYear,
    /// Digits after the decimal point of a second.
    Fraction(usize),
    MonthName(bool),
    DayName(bool),
    HalfDay,
}

/// A numeric field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Year,
    Month,
    Day,
    Hour,
    /// 1 to 12.
    HourOfHalf,
    Minute,
    Second,
}

/// A compiled pattern.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pattern(pub(crate) Vec<Item>);

impl Pattern {
    /// Reads a pattern; the error says which letter is unknown.
    pub(crate) fn compile(pattern: &str) -> Result<Self, String> {
        let chars: Vec<char> = pattern.chars().collect();
        if chars.len() > MAX_PATTERN_CHARS {
            return Err(format!("a date pattern has at most {MAX_PATTERN_CHARS} characters"));
        }
        let mut items = Vec::new();
        let mut i = 0;
        while let Some(&letter) = chars.get(i) {
            if letter == '\'' {
                i = quoted(&chars, i + 1, &mut items)?;
                continue;
            }
            let count = chars[i..].iter().take_while(|c| **c == letter).count();
            i += count;
            if letter.is_ascii_alphabetic() {
                items.push(field(letter, count)?);
            } else {
                literal(&mut items, letter, count);
            }
        }
        Ok(Self(items))
    }

    /// The finest unit of time that the text depends on.
    pub(crate) fn granularity_micros(&self) -> i64 {
        let finest = self.0.iter().map(|item| match item {
            Item::Fraction(digits) if *digits > 3 => 1,
            Item::Fraction(_) => 1_000,
            Item::Number(Field::Second, _) => 1_000_000,
            Item::Number(Field::Minute, _) => 60_000_000,
            Item::Number(Field::Hour | Field::HourOfHalf, _) | Item::HalfDay => 3_600_000_000,
            _ => DAY_MS * 1_000,
        });
        finest.min().unwrap_or(DAY_MS * 1_000)
    }

    /// Characters of a typical text.
    pub(crate) fn width(&self) -> usize {
        let widths = self.0.iter().map(|item| match item {
            Item::Literal(text) => text.len(),
            Item::Number(_, digits) | Item::Fraction(digits) => (*digits).max(2),
            Item::ShortYear | Item::HalfDay => 2,
            Item::MonthName(_) | Item::DayName(_) => 9,
        });
        widths.sum()
    }

    /// Appends the text of an instant.
    pub(crate) fn format(&self, micros: i64, out: &mut String) {
        let seconds = micros.div_euclid(1_000_000);
        let day = seconds.div_euclid(86_400);
        let of_day = seconds.rem_euclid(86_400);
        let (year, month, day_of_month) = civil(day);
        for item in &self.0 {
            match item {
                Item::Literal(text) => out.push_str(text),
                Item::ShortYear => number(out, year.rem_euclid(100), 2),
                Item::Fraction(digits) => fraction(out, micros.rem_euclid(1_000_000), *digits),
                Item::MonthName(short) => name(out, MONTHS.get((month - 1) as usize), *short),
                Item::DayName(short) => name(out, WEEKDAYS.get((day + 4).rem_euclid(7) as usize), *short),
                Item::HalfDay => out.push_str(if of_day < 43_200 { "AM" } else { "PM" }),
                Item::Number(field, digits) => {
                    let value = match field {
                        Field::Year => year,
                        Field::Month => month,
                        Field::Day => day_of_month,
                        Field::Hour => of_day / 3_600,
                        Field::HourOfHalf => (of_day / 3_600 + 11) % 12 + 1,
                        Field::Minute => of_day / 60 % 60,
                        Field::Second => of_day % 60,
                    };
                    number(out, value, *digits);
                }
            }
        }
    }
}

/// Text between quotes; two quotes are one.
fn quoted(chars: &[char], mut i: usize, items: &mut Vec<Item>) -> Result<usize, String> {
    if chars.get(i) == Some(&'\'') {
        literal(items, '\'', 1);
        return Ok(i + 1);
    }
    loop {
        match (chars.get(i), chars.get(i + 1)) {
            (Some('\''), Some('\'')) => {
                literal(items, '\'', 1);
                i += 2;
            }
            (Some('\''), _) => return Ok(i + 1),
            (Some(c), _) => {
                literal(items, *c, 1);
                i += 1;
            }
            (None, _) => return Err("a quote in the date pattern is not closed".into()),
        }
    }
}

fn literal(items: &mut Vec<Item>, c: char, count: usize) {
    let text = std::iter::repeat_n(c, count);
    match items.last_mut() {
        Some(Item::Literal(last)) => last.extend(text),
        _ => items.push(Item::Literal(text.collect())),
    }
}

fn field(letter: char, count: usize) -> Result<Item, String> {
    Ok(match letter {
        'y' | 'u' if count == 2 => Item::ShortYear,
        'y' | 'u' => Item::Number(Field::Year, count),
        'M' | 'L' if count >= 3 => Item::MonthName(count == 3),
        'M' | 'L' => Item::Number(Field::Month, count),
        'd' => Item::Number(Field::Day, count),
        'H' => Item::Number(Field::Hour, count),
        'h' => Item::Number(Field::HourOfHalf, count),
        'm' => Item::Number(Field::Minute, count),
        's' => Item::Number(Field::Second, count),
        'S' => Item::Fraction(count),
        'E' => Item::DayName(count <= 3),
        'a' => Item::HalfDay,
        _ => {
            return Err(format!(
                "the date pattern letter '{letter}' is not supported; the letters are y M d H h m s S E a, and text goes between quotes"
            ));
        }
    })
}

fn number(out: &mut String, value: i64, digits: usize) {
    let result = write!(out, "{value:0digits$}");
    debug_assert!(result.is_ok(), "writing to a string does not fail");
}

fn fraction(out: &mut String, micros: i64, digits: usize) {
    let mut text = [b'0'; 6];
    let mut rest = micros;
    for place in text.iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    for i in 0..digits {
        out.push(char::from(*text.get(i).unwrap_or(&b'0')));
    }
}

fn name(out: &mut String, name: Option<&&str>, short: bool) {
    let name = name.copied().unwrap_or_default();
    out.push_str(if short { &name[..3.min(name.len())] } else { name });
}

/// The number of the month or weekday that `text` begins with, and the length of its name.
pub(crate) fn find_name(text: &str, months: bool, short: bool) -> Option<(usize, usize)> {
    let names: &[&str] = if months { &MONTHS } else { &WEEKDAYS };
    names.iter().enumerate().find_map(|(index, name)| {
        let name = if short { &name[..3] } else { name };
        text.get(..name.len()).filter(|start| start.eq_ignore_ascii_case(name)).map(|_| (index, name.len()))
    })
}
