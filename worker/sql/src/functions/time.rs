//! [pure] Functions of dates and timestamps. The session's time zone is UTC.
//!
//! Calendar arithmetic follows Howard Hinnant's `civil_from_days`; formatting keeps the text of the last unit of time
//! that its pattern can tell apart, so that the rows of one day cost one formatting of `yyyy-MM-dd`.

mod parse;
mod pattern;

use std::sync::Arc;

use arrow::array::{ArrayRef, StringBuilder};
use arrow::datatypes::{DataType, Date32Type, Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType};
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::{ColumnarValue, Expr};

use crate::coerce::Typed;
use crate::functions::text::Args;
use crate::functions::{Text, Values, call, values};
use crate::types;
pub(crate) use pattern::Pattern;

/// Name of `time + interval`.
pub(crate) const SHIFT: &str = "shift";
/// Months that a time is shifted by, at most: a billion years.
const MAX_MONTHS: i64 = 12_000_000_000;
/// Milliseconds of a day.
pub(crate) const DAY_MS: i64 = 86_400_000;

/// Milliseconds since the epoch of a date or timestamp argument.
enum Instants<'a> {
    Millis(Values<'a, TimestampMillisecondType>),
    Micros(Values<'a, TimestampMicrosecondType>),
    Days(Values<'a, Date32Type>),
}

impl<'a> Instants<'a> {
    fn of(value: &'a ColumnarValue) -> Result<Self> {
        Ok(match value.data_type() {
            DataType::Timestamp(TimeUnit::Microsecond, _) => Self::Micros(Values::of(value)?),
            DataType::Date32 => Self::Days(Values::of(value)?),
            _ => Self::Millis(Values::of(value)?),
        })
    }

    #[inline]
    fn millis(&self, row: usize) -> Option<i64> {
        match self {
            Self::Millis(values) => values.get(row),
            Self::Micros(values) => values.get(row).map(|micros| micros.div_euclid(1_000)),
            Self::Days(values) => values.get(row).map(|days| i64::from(days) * DAY_MS),
        }
    }

    #[inline]
    fn micros(&self, row: usize) -> Option<i64> {
        match self {
            Self::Micros(values) => values.get(row),
            _ => self.millis(row).map(|millis| millis.wrapping_mul(1_000)),
        }
    }
}

/// Year, month and day of a day since the epoch.
pub(crate) fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

/// The day since the epoch of a date.
pub(crate) fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + (153 * shifted + 2) / 5 + day - 1;
    era * 146_097 + day_of_era - 719_468
}

fn days_of_month(year: i64, month: i64) -> i64 {
    let next = if month == 12 { days(year + 1, 1, 1) } else { days(year, month + 1, 1) };
    next - days(year, month, 1)
}

/// A unit of EXTRACT, FLOOR, TIMESTAMPADD and TIMESTAMPDIFF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Year,
    Quarter,
    Month,
    Week,
    Day,
    DayOfWeek,
    DayOfYear,
    Hour,
    Minute,
    Second,
    Millisecond,
    Epoch,
}

impl Unit {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text.trim_start_matches("SQL_TSI_") {
            "YEAR" | "YEARS" => Self::Year,
            "QUARTER" => Self::Quarter,
            "MONTH" | "MONTHS" => Self::Month,
            "WEEK" => Self::Week,
            "DAY" | "DAYS" => Self::Day,
            "DOW" => Self::DayOfWeek,
            "DOY" => Self::DayOfYear,
            "HOUR" | "HOURS" => Self::Hour,
            "MINUTE" | "MINUTES" => Self::Minute,
            "SECOND" | "SECONDS" => Self::Second,
            "MILLISECOND" => Self::Millisecond,
            "EPOCH" => Self::Epoch,
            _ => return None,
        })
    }

    /// Length of the units that have one.
    pub(crate) fn millis(self) -> Option<i64> {
        Some(match self {
            Self::Week => 7 * DAY_MS,
            Self::Day => DAY_MS,
            Self::Hour => 3_600_000,
            Self::Minute => 60_000,
            Self::Second => 1_000,
            Self::Millisecond => 1,
            _ => return None,
        })
    }

    /// Months of the units that are made of them.
    pub(crate) fn months(self) -> Option<i64> {
        Some(match self {
            Self::Year => 12,
            Self::Quarter => 3,
            Self::Month => 1,
            _ => return None,
        })
    }

    #[inline]
    fn extract(self, millis: i64) -> i64 {
        let day = || millis.div_euclid(DAY_MS);
        let of_day = millis.rem_euclid(DAY_MS);
        match self {
            Self::Hour => of_day / 3_600_000,
            Self::Minute => of_day / 60_000 % 60,
            Self::Second => of_day / 1_000 % 60,
            Self::Millisecond => of_day % 1_000,
            Self::Epoch => millis.div_euclid(1_000),
            Self::Year => civil(day()).0,
            Self::Quarter => (civil(day()).1 + 2) / 3,
            Self::Month => civil(day()).1,
            Self::Day => civil(day()).2,
            // 1970-01-01 was a Thursday; Sunday is 1.
            Self::DayOfWeek => (day() + 4).rem_euclid(7) + 1,
            Self::DayOfYear => day() - days(civil(day()).0, 1, 1) + 1,
            Self::Week => iso_week(day()),
        }
    }

    /// The start of the unit that holds `millis`.
    #[inline]
    fn floor(self, millis: i64) -> i64 {
        let day = millis.div_euclid(DAY_MS);
        match self {
            Self::Week => (day - (day + 4).rem_euclid(7)).wrapping_mul(DAY_MS),
            Self::Year => days(civil(day).0, 1, 1).wrapping_mul(DAY_MS),
            Self::Quarter => {
                let (year, month, _) = civil(day);
                days(year, (month - 1) / 3 * 3 + 1, 1).wrapping_mul(DAY_MS)
            }
            Self::Month => {
                let (year, month, _) = civil(day);
                days(year, month, 1).wrapping_mul(DAY_MS)
            }
            _ => self.millis().map_or(millis, |unit| millis.wrapping_sub(millis.rem_euclid(unit))),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Year => "YEAR",
            Self::Quarter => "QUARTER",
            Self::Month => "MONTH",
            Self::Week => "WEEK",
            Self::Day => "DAY",
            Self::DayOfWeek => "DOW",
            Self::DayOfYear => "DOY",
            Self::Hour => "HOUR",
            Self::Minute => "MINUTE",
            Self::Second => "SECOND",
            Self::Millisecond => "MILLISECOND",
            Self::Epoch => "EPOCH",
        }
    }
}

/// Week of the year, ISO 8601: the week of its Thursday.
fn iso_week(day: i64) -> i64 {
    let thursday = day - (day + 3).rem_euclid(7) + 3;
    (thursday - days(civil(thursday).0, 1, 1)) / 7 + 1
}

fn is_time(ty: &DataType) -> bool {
    matches!(ty, DataType::Timestamp(..) | DataType::Date32)
}

fn literal(text: &str) -> Expr {
    Expr::Literal(ScalarValue::from(text), None)
}

/// `EXTRACT(unit FROM time)`.
pub(crate) fn extract(unit: Unit, time: Typed) -> Result<Typed, String> {
    if !is_time(&time.ty) {
        return Err(format!("EXTRACT needs a DATE or TIMESTAMP, not {}", types::name(&time.ty)));
    }
    let name = format!("extract_{}", unit.name().to_lowercase());
    Ok(call(&name, vec![time.expr], DataType::Int64, move |args, rows| {
        Ok(Arc::new(match Instants::of(&args[0])? {
            Instants::Millis(time) => time.map::<Int64Type>(rows, |millis| unit.extract(millis)),
            time => values(rows, |row| time.millis(row).map(|millis| unit.extract(millis))),
        }))
    }))
}

/// `FLOOR(time TO unit)` and `CEIL(time TO unit)`.
pub(crate) fn round(time: Typed, unit: Unit, up: bool) -> Result<Typed, String> {
    if !is_time(&time.ty) || matches!(unit, Unit::DayOfWeek | Unit::DayOfYear | Unit::Epoch) {
        return Err(format!("cannot round {} to {}", types::name(&time.ty), unit.name()));
    }
    let name = format!("{}_{}", if up { "ceil" } else { "floor" }, unit.name().to_lowercase());
    let ty = time.ty.clone();
    Ok(map_millis(&name, vec![time.expr], ty, move |millis| {
        let floor = unit.floor(millis);
        if !up || floor == millis {
            return floor;
        }
        match unit.months() {
            Some(months) => add_months(floor, months),
            None => floor.wrapping_add(unit.millis().unwrap_or(0)),
        }
    }))
}

/// Applies `f` to the milliseconds of the first argument; finer digits are kept when `f` shifts whole milliseconds.
fn map_millis(name: &str, args: Vec<Expr>, ty: DataType, f: impl Fn(i64) -> i64 + Send + Sync + 'static) -> Typed {
    let result = ty.clone();
    call(name, args, ty, move |args, rows| {
        let time = Instants::of(&args[0])?;
        if let (DataType::Timestamp(TimeUnit::Millisecond, zone), Instants::Millis(time)) = (&result, &time) {
            return Ok(Arc::new(time.map::<TimestampMillisecondType>(rows, &f).with_timezone_opt(zone.clone())));
        }
        Ok(match &result {
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                let array = values::<TimestampMicrosecondType>(rows, |row| {
                    time.micros(row).map(|micros| f(micros.div_euclid(1_000)).wrapping_mul(1_000))
                });
                Arc::new(array.with_timezone_opt(zone.clone()))
            }
            DataType::Date32 => {
                Arc::new(values::<Date32Type>(rows, |row| time.millis(row).map(|millis| f(millis).div_euclid(DAY_MS) as i32)))
            }
            DataType::Timestamp(_, zone) => {
                let array = values::<TimestampMillisecondType>(rows, |row| time.millis(row).map(&f));
                Arc::new(array.with_timezone_opt(zone.clone()))
            }
            _ => Arc::new(values::<Int64Type>(rows, |row| time.millis(row).map(&f))),
        })
    })
}

fn add_months(millis: i64, months: i64) -> i64 {
    let (year, month, day) = civil(millis.div_euclid(DAY_MS));
    let total = year * 12 + month - 1 + months.clamp(-MAX_MONTHS, MAX_MONTHS);
    let (year, month) = (total.div_euclid(12), total.rem_euclid(12) + 1);
    days(year, month, day.min(days_of_month(year, month))).wrapping_mul(DAY_MS).wrapping_add(millis.rem_euclid(DAY_MS))
}

/// `time + INTERVAL`, with the interval's milliseconds or months constant; the interval is an argument, so that two
/// different calls are not equal.
pub(crate) fn shift(time: Typed, millis: i64, months: i64) -> Typed {
    let shift = match months {
        0 => Expr::Literal(ScalarValue::DurationMillisecond(Some(millis)), None),
        _ => Expr::Literal(ScalarValue::IntervalYearMonth(i32::try_from(months).ok()), None),
    };
    let ty = time.ty.clone();
    if let DataType::Timestamp(TimeUnit::Microsecond, zone) = &ty
        && months == 0
    {
        let zone = zone.clone();
        return call(SHIFT, vec![time.expr, shift], ty, move |args, rows| {
            let time = Instants::of(&args[0])?;
            let array = values::<TimestampMicrosecondType>(rows, |row| {
                time.micros(row).map(|micros| micros.wrapping_add(millis.wrapping_mul(1_000)))
            });
            Ok(Arc::new(array.with_timezone_opt(zone.clone())))
        });
    }
    match months {
        0 => map_millis(SHIFT, vec![time.expr, shift], ty, move |value| value.wrapping_add(millis)),
        _ => map_millis(SHIFT, vec![time.expr, shift], ty, move |value| add_months(value, months)),
    }
}

/// `TIMESTAMPADD(unit, count, time)` with a column as the count.
pub(crate) fn add(unit: Unit, count: Typed, time: Typed) -> Result<Typed, String> {
    if !is_time(&time.ty) || !count.ty.is_integer() {
        return Err(format!("TIMESTAMPADD needs an integer and a TIMESTAMP, not {} and {}", types::name(&count.ty), types::name(&time.ty)));
    }
    let (length, months) = (unit.millis(), unit.months());
    if length.is_none() && months.is_none() {
        return Err(format!("TIMESTAMPADD does not know the unit {}", unit.name()));
    }
    let ty = match (&time.ty, length) {
        (DataType::Date32, Some(length)) if length < DAY_MS => DataType::Timestamp(TimeUnit::Millisecond, None),
        (ty, _) => ty.clone(),
    };
    let time = time.into_type(&ty);
    let count = count.into_type(&DataType::Int64);
    if let Some(ScalarValue::Int64(Some(count))) = count.value() {
        return Ok(shift(time, length.unwrap_or(0).wrapping_mul(*count), months.unwrap_or(0).wrapping_mul(*count)));
    }
    let name = format!("timestampadd_{}", unit.name().to_lowercase());
    let result = ty.clone();
    Ok(call(&name, vec![time.expr, count.expr], ty, move |args, rows| {
        let (time, count) = (Instants::of(&args[0])?, Values::<Int64Type>::of(&args[1])?);
        let at = |row| {
            let (millis, count) = (time.millis(row)?, count.get(row)?);
            Some(match (length, months) {
                (Some(length), _) => millis.wrapping_add(length.wrapping_mul(count)),
                (_, months) => add_months(millis, months.unwrap_or(0).wrapping_mul(count)),
            })
        };
        Ok(millis_column(rows, &result, at))
    }))
}

/// Milliseconds as a column of a date or timestamp type.
fn millis_column(rows: usize, ty: &DataType, millis: impl Fn(usize) -> Option<i64>) -> ArrayRef {
    match ty {
        DataType::Date32 => Arc::new(values::<Date32Type>(rows, |row| millis(row).map(|millis| millis.div_euclid(DAY_MS) as i32))),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let array = values::<TimestampMicrosecondType>(rows, |row| millis(row).map(|millis| millis.wrapping_mul(1_000)));
            Arc::new(array.with_timezone_opt(zone.clone()))
        }
        DataType::Timestamp(_, zone) => Arc::new(values::<TimestampMillisecondType>(rows, millis).with_timezone_opt(zone.clone())),
        _ => Arc::new(values::<Int64Type>(rows, millis)),
    }
}

/// `TIMESTAMPDIFF(unit, from, to)`: whole units between them.
pub(crate) fn difference(unit: Unit, from: Typed, to: Typed) -> Result<Typed, String> {
    if !is_time(&from.ty) || !is_time(&to.ty) {
        return Err(format!("TIMESTAMPDIFF needs two TIMESTAMPs, not {} and {}", types::name(&from.ty), types::name(&to.ty)));
    }
    let (length, months) = (unit.millis(), unit.months());
    if length.is_none() && months.is_none() {
        return Err(format!("TIMESTAMPDIFF does not know the unit {}", unit.name()));
    }
    let name = format!("timestampdiff_{}", unit.name().to_lowercase());
    Ok(call(&name, vec![from.expr, to.expr], DataType::Int32, move |args, rows| {
        let (from, to) = (Instants::of(&args[0])?, Instants::of(&args[1])?);
        let between = |row| {
            let (from, to) = (from.millis(row)?, to.millis(row)?);
            Some(match (length, months) {
                (Some(length), _) => to.wrapping_sub(from) / length,
                (_, months) => months_between(from, to) / months.unwrap_or(1),
            } as i32)
        };
        Ok(Arc::new(values::<arrow::datatypes::Int32Type>(rows, between)))
    }))
}

fn months_between(from: i64, to: i64) -> i64 {
    if to < from {
        return -months_between(to, from);
    }
    let ((y1, m1, _), (y2, m2, _)) = (civil(from.div_euclid(DAY_MS)), civil(to.div_euclid(DAY_MS)));
    let months = (y2 - y1) * 12 + m2 - m1;
    months - i64::from(add_months(from, months) > to)
}

/// `DATE_FORMAT(time, pattern)`.
pub(crate) fn format(time: Typed, pattern: &str) -> Result<Typed, String> {
    if !is_time(&time.ty) {
        return Err(format!("DATE_FORMAT needs a TIMESTAMP, not {}", types::name(&time.ty)));
    }
    let compiled = Pattern::compile(pattern)?;
    Ok(call("date_format", vec![time.expr, literal(pattern)], DataType::Utf8, move |args, rows| {
        let time = Instants::of(&args[0])?;
        Ok(format_all(&compiled, rows, |row| time.micros(row)))
    }))
}

/// The text that a CAST of a timestamp gives: `2020-01-31 10:00:00.000`.
pub(crate) fn timestamp_to_text(time: Typed) -> Typed {
    let digits = match &time.ty {
        DataType::Timestamp(TimeUnit::Microsecond, _) => "SSSSSS",
        _ => "SSS",
    };
    let pattern = Pattern::compile(&format!("yyyy-MM-dd HH:mm:ss.{digits}")).unwrap_or_default();
    call("timestamp_to_text", vec![time.expr], DataType::Utf8, move |args, rows| {
        let time = Instants::of(&args[0])?;
        Ok(format_all(&pattern, rows, |row| time.micros(row)))
    })
}

fn format_all(pattern: &Pattern, rows: usize, micros: impl Fn(usize) -> Option<i64>) -> ArrayRef {
    let mut builder = StringBuilder::with_capacity(rows, rows * pattern.width());
    let unit = pattern.granularity_micros();
    let (mut last, mut text) = (None, String::new());
    for row in 0..rows {
        let Some(micros) = micros(row) else {
            builder.append_null();
            continue;
        };
        let bucket = micros.div_euclid(unit);
        if last != Some(bucket) {
            last = Some(bucket);
            text.clear();
            pattern.format(micros, &mut text);
        }
        builder.append_value(&text);
    }
    Arc::new(builder.finish())
}

/// `TO_TIMESTAMP(text, pattern)` and its relatives: null where the text does not fit.
pub(crate) fn parse(name: &str, text: Typed, pattern: &str, result: DataType) -> Result<Typed, String> {
    if text.ty != DataType::Utf8 {
        return Err(format!("{name} needs a STRING, not {}", types::name(&text.ty)));
    }
    let compiled = Pattern::compile(pattern)?;
    let ty = result.clone();
    let seconds = result == DataType::Int64;
    Ok(call(&name.to_lowercase(), vec![text.expr, literal(pattern)], result, move |args, rows| {
        let text = Text::of(&args[0])?;
        let millis = |row| text.get(row).and_then(|text| parse::parse(&compiled, text));
        Ok(match seconds {
            true => Arc::new(values::<Int64Type>(rows, |row| millis(row).map(|millis| millis.div_euclid(1_000)))),
            false => millis_column(rows, &ty, millis),
        })
    }))
}

/// `TO_TIMESTAMP_LTZ(number, precision)`: precision 0 counts seconds, 3 milliseconds.
pub(crate) fn from_number(number: Typed, precision: i64) -> Result<Typed, String> {
    let scale = match precision {
        0 => 1_000,
        3 => 1,
        _ => return Err(format!("the precision of TO_TIMESTAMP_LTZ is 0 (seconds) or 3 (milliseconds), not {precision}")),
    };
    if !number.ty.is_integer() {
        return Err(format!("TO_TIMESTAMP_LTZ needs an integer, not {}", types::name(&number.ty)));
    }
    let ty = DataType::Timestamp(TimeUnit::Millisecond, Some(types::UTC.into()));
    let result = ty.clone();
    let args = vec![number.into_type(&DataType::Int64).expr, Expr::Literal(ScalarValue::Int64(Some(precision)), None)];
    Ok(call("to_timestamp_ltz", args, ty, move |args, rows| {
        let number = Values::<Int64Type>::of(&args[0])?;
        Ok(millis_column(rows, &result, |row| number.get(row).map(|number| number.wrapping_mul(scale))))
    }))
}

/// The start of a CUMULATE window that ends at `end`: the multiple of `max` below it.
pub(crate) fn cumulate_start(end: Typed, max: i64, offset: i64) -> Typed {
    let ty = end.ty.clone();
    let shape = literal(&format!("{max} ms, {offset} ms"));
    map_millis("cumulate_start", vec![end.expr, shape], ty, move |end| {
        let last = end - 1 - offset;
        last - last.rem_euclid(max) + offset
    })
}

/// The functions of this table, for suggestions.
pub(crate) const NAMES: &[&str] = &[
    "DATE_FORMAT",
    "YEAR",
    "QUARTER",
    "MONTH",
    "WEEK",
    "DAYOFYEAR",
    "DAYOFMONTH",
    "DAYOFWEEK",
    "HOUR",
    "MINUTE",
    "SECOND",
    "TO_DATE",
    "TO_TIMESTAMP",
    "TO_TIMESTAMP_LTZ",
    "UNIX_TIMESTAMP",
    "FROM_UNIXTIME",
    "TIMESTAMPADD",
    "TIMESTAMPDIFF",
];

const DEFAULT_PATTERN: &str = "yyyy-MM-dd HH:mm:ss";

/// Finds and applies a function; `None` when it is not one of this table.
pub(crate) fn lookup(name: &str, args: &[Typed]) -> Option<Result<Typed, String>> {
    let part = |unit| Args { name, args }.all(1, 1).and_then(|args| extract(unit, args.args[0].clone()));
    let args = || Args { name, args };
    Some(match name {
        "YEAR" => part(Unit::Year),
        "QUARTER" => part(Unit::Quarter),
        "MONTH" => part(Unit::Month),
        "WEEK" => part(Unit::Week),
        "DAYOFYEAR" => part(Unit::DayOfYear),
        "DAYOFMONTH" => part(Unit::Day),
        "DAYOFWEEK" => part(Unit::DayOfWeek),
        "HOUR" => part(Unit::Hour),
        "MINUTE" => part(Unit::Minute),
        "SECOND" => part(Unit::Second),
        "DATE_FORMAT" => args().all(2, 2).and_then(|args| format(readable(&args)?, &args.constant(1)?)),
        "TO_TIMESTAMP" => parsed(args(), DEFAULT_PATTERN, DataType::Timestamp(TimeUnit::Millisecond, None)),
        "TO_DATE" => parsed(args(), "yyyy-MM-dd", DataType::Date32),
        "UNIX_TIMESTAMP" => parsed(args(), DEFAULT_PATTERN, DataType::Int64),
        "TO_TIMESTAMP_LTZ" => args().all(1, 3).and_then(to_timestamp_ltz),
        "FROM_UNIXTIME" => args().all(1, 2).and_then(from_unixtime),
        _ => return None,
    })
}

/// DATE_FORMAT takes texts of timestamps too.
fn readable(args: &Args<'_>) -> Result<Typed, String> {
    let value = args.args[0].clone();
    match value.ty {
        DataType::Utf8 => parse("to_timestamp", value, DEFAULT_PATTERN, DataType::Timestamp(TimeUnit::Millisecond, None)),
        _ => Ok(value),
    }
}

fn parsed(args: Args<'_>, pattern: &str, result: DataType) -> Result<Typed, String> {
    if args.name == "UNIX_TIMESTAMP" && args.args.is_empty() {
        return Err("UNIX_TIMESTAMP() reads the clock, which is not supported; give it a text".into());
    }
    let args = args.all(1, 2)?;
    let pattern = if args.args.len() == 2 { args.constant(1)? } else { pattern.into() };
    parse(args.name, args.text(0)?, &pattern, result)
}

fn to_timestamp_ltz(args: Args<'_>) -> Result<Typed, String> {
    let local = DataType::Timestamp(TimeUnit::Millisecond, Some(types::UTC.into()));
    if args.args[0].ty == DataType::Utf8 {
        let pattern = if args.args.len() >= 2 { args.constant(1)? } else { DEFAULT_PATTERN.into() };
        if args.args.len() == 3 && args.constant(2)? != "UTC" {
            return Err("TO_TIMESTAMP_LTZ knows the zone 'UTC' only".into());
        }
        return parse(args.name, args.text(0)?, &pattern, local);
    }
    let args = args.all(1, 2)?;
    let precision = match args.args.get(1) {
        None => 3,
        Some(_) => match args.integer(1)?.value() {
            Some(ScalarValue::Int64(Some(precision))) => *precision,
            _ => return Err("the precision of TO_TIMESTAMP_LTZ must be a literal".into()),
        },
    };
    from_number(args.integer(0)?, precision)
}

fn from_unixtime(args: Args<'_>) -> Result<Typed, String> {
    let pattern = if args.args.len() == 2 { args.constant(1)? } else { DEFAULT_PATTERN.into() };
    format(from_number(args.integer(0)?, 0)?, &pattern)
}
