//! [pure] Texts to instants by a date pattern.

use crate::functions::time::pattern::{Field, Item, Pattern, find_name};
use crate::functions::time::{DAY_MS, days, days_of_month};

/// Milliseconds since the epoch, or nothing when the text does not fit the pattern or is no date.
pub(crate) fn parse(pattern: &Pattern, text: &str) -> Option<i64> {
    let mut rest = text;
    let (mut year, mut month, mut day) = (1970, 1, 1);
    let (mut hour, mut minute, mut second, mut millis) = (0, 0, 0, 0);
    let mut afternoon = None;
    for (index, item) in pattern.0.iter().enumerate() {
        match item {
            Item::Literal(literal) => rest = rest.strip_prefix(literal.as_str())?,
            Item::Fraction(digits) => millis = fraction(&mut rest, *digits)?,
            Item::ShortYear => year = 2000 + number(&mut rest, 2)?,
            Item::MonthName(short) => month = 1 + named(&mut rest, true, *short)? as i64,
            Item::DayName(short) => {
                named(&mut rest, false, *short)?;
            }
            Item::HalfDay => {
                afternoon = Some(rest.get(..2)?.eq_ignore_ascii_case("PM"));
                rest = &rest[2..];
            }
            Item::Number(field, digits) => {
                // Digits run on unless the next item is a number too.
                let joined = matches!(pattern.0.get(index + 1), Some(Item::Number(..) | Item::Fraction(_) | Item::ShortYear));
                let most = if joined { *digits } else { (*digits).max(if *field == Field::Year { 9 } else { 2 }) };
                let value = number(&mut rest, most)?;
                match field {
                    Field::Year => year = value,
                    Field::Month => month = value,
                    Field::Day => day = value,
                    Field::Hour | Field::HourOfHalf => hour = value,
                    Field::Minute => minute = value,
                    Field::Second => second = value,
                }
            }
        }
    }
    if let Some(afternoon) = afternoon {
        hour = hour % 12 + if afternoon { 12 } else { 0 };
    }
    let valid = rest.is_empty()
        && (1..=12).contains(&month)
        && (1..=days_of_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    valid.then(|| days(year, month, day).wrapping_mul(DAY_MS) + ((hour * 60 + minute) * 60 + second) * 1_000 + millis)
}

fn number(rest: &mut &str, most: usize) -> Option<i64> {
    let length = rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
    let value = rest.get(..length)?.parse().ok()?;
    *rest = &rest[length..];
    Some(value)
}

/// Milliseconds of up to `digits` digits after the point.
fn fraction(rest: &mut &str, digits: usize) -> Option<i64> {
    let length = rest.bytes().take(digits.max(1)).take_while(u8::is_ascii_digit).count();
    let mut millis = 0;
    for place in 0..3 {
        let digit = rest.as_bytes().get(place).filter(|_| place < length).map_or(0, |digit| i64::from(digit - b'0'));
        millis = millis * 10 + digit;
    }
    *rest = &rest[length..];
    (length > 0).then_some(millis)
}

fn named(rest: &mut &str, months: bool, short: bool) -> Option<usize> {
    let (index, length) = find_name(rest, months, short)?;
    *rest = &rest[length..];
    Some(index)
}
