//! [pure] Flink's SQL types and their Arrow form.
//!
//! Strings are Utf8, timestamps of up to 3 digits are milliseconds (finer ones microseconds), TIMESTAMP_LTZ carries the
//! zone `UTC`, ROW is a struct. Nullability is not part of a type here: every column of a dataflow is nullable, and
//! NOT NULL is checked where a row enters a table.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use datafusion_expr::sqlparser::ast::{CharacterLength, DataType as Ast, ExactNumberInfo, TimezoneInfo};

/// Zone of TIMESTAMP_LTZ; the session's zone is always UTC.
pub(crate) const UTC: &str = "UTC";
/// Digits of the widest DECIMAL.
pub(crate) const MAX_DECIMAL_PRECISION: u8 = 38;

/// What `PROCTIME()` gives. No column can be declared so, and no value of it is ever computed: it says at which time a
/// lookup join looks.
pub(crate) const PROCTIME: DataType = DataType::Time32(TimeUnit::Second);

/// TIMESTAMP(precision) or TIMESTAMP_LTZ(precision).
pub(crate) fn timestamp(precision: u64, local: bool) -> Result<DataType, String> {
    let unit = match precision {
        0..=3 => TimeUnit::Millisecond,
        4..=6 => TimeUnit::Microsecond,
        _ => return Err(format!("timestamps hold up to 6 digits of a second, not {precision}")),
    };
    Ok(DataType::Timestamp(unit, local.then(|| UTC.into())))
}

/// Event time: what windows work on.
pub(crate) fn is_event_time(ty: &DataType) -> bool {
    matches!(ty, DataType::Timestamp(TimeUnit::Millisecond, _))
}

/// DECIMAL(precision, scale).
pub(crate) fn decimal(precision: u64, scale: u64) -> Result<DataType, String> {
    if !(1..=u64::from(MAX_DECIMAL_PRECISION)).contains(&precision) || scale > precision {
        return Err(format!("DECIMAL({precision}, {scale}): the precision is 1 to 38 and the scale at most that"));
    }
    Ok(DataType::Decimal128(precision as u8, scale as i8))
}

/// A column as this crate makes them.
pub(crate) fn field(name: impl Into<String>, ty: DataType) -> Field {
    Field::new(name, ty, true)
}

/// ROW of these fields.
pub(crate) fn row(fields: impl IntoIterator<Item = (String, DataType)>) -> DataType {
    DataType::Struct(fields.into_iter().map(|(name, ty)| Arc::new(field(name, ty))).collect::<Fields>())
}

/// ARRAY of this type.
pub(crate) fn array(element: DataType) -> DataType {
    DataType::List(Arc::new(field("item", element)))
}

/// MAP of texts to this type.
pub(crate) fn map(value: DataType) -> DataType {
    let entry = vec![field("key", DataType::Utf8).with_nullable(false), field("value", value)];
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry.into()), false)), false)
}

/// What a MAP of texts leads to.
pub(crate) fn map_value(ty: &DataType) -> Option<&DataType> {
    match ty {
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(entry) => entry.get(1).map(|value| value.data_type()),
            _ => None,
        },
        _ => None,
    }
}

/// The target type of a CAST, with the length of CHAR or VARCHAR when it has one.
pub(crate) fn from_ast(ty: &Ast) -> Result<(DataType, Option<u64>), String> {
    let plain = match ty {
        Ast::Boolean | Ast::Bool => DataType::Boolean,
        Ast::TinyInt(None) => DataType::Int8,
        Ast::SmallInt(None) => DataType::Int16,
        Ast::Int(None) | Ast::Integer(None) => DataType::Int32,
        Ast::BigInt(None) => DataType::Int64,
        Ast::Float(ExactNumberInfo::None) => DataType::Float32,
        Ast::Double(ExactNumberInfo::None) | Ast::DoublePrecision => DataType::Float64,
        Ast::Decimal(info) | Ast::Dec(info) | Ast::Numeric(info) => match info {
            ExactNumberInfo::None => decimal(10, 0)?,
            ExactNumberInfo::Precision(precision) => decimal(*precision, 0)?,
            ExactNumberInfo::PrecisionAndScale(precision, scale) => decimal(*precision, u64::try_from(*scale).unwrap_or(u64::MAX))?,
        },
        Ast::String(None) => DataType::Utf8,
        Ast::Varchar(length) | Ast::CharacterVarying(length) => return Ok((DataType::Utf8, char_length(length)?)),
        Ast::Char(length) | Ast::Character(length) => return Ok((DataType::Utf8, Some(char_length(length)?.unwrap_or(1)))),
        Ast::Bytes(None) | Ast::Varbinary(None) => DataType::Binary,
        Ast::Date => DataType::Date32,
        Ast::Timestamp(precision, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => timestamp(precision.unwrap_or(6), false)?,
        Ast::Custom(name, arguments) if name.to_string().eq_ignore_ascii_case("TIMESTAMP_LTZ") => {
            let precision = match arguments.as_slice() {
                [] => 6,
                [one] => one.parse().map_err(|_| format!("TIMESTAMP_LTZ({one}) is no type"))?,
                _ => return Err("TIMESTAMP_LTZ takes one number".into()),
            };
            timestamp(precision, true)?
        }
        other => return Err(format!("type {other} is not supported here")),
    };
    Ok((plain, None))
}

fn char_length(length: &Option<CharacterLength>) -> Result<Option<u64>, String> {
    match length {
        None | Some(CharacterLength::Max) => Ok(None),
        Some(CharacterLength::IntegerLength { length: 0, .. }) => Err("the length of a string type is at least 1".into()),
        Some(CharacterLength::IntegerLength { length, .. }) => Ok(Some(*length)),
    }
}

/// The type as a person writes it.
pub(crate) fn name(ty: &DataType) -> String {
    match ty {
        DataType::Null => "NULL".into(),
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INT".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::Float32 => "FLOAT".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Utf8 => "STRING".into(),
        DataType::Binary => "BYTES".into(),
        DataType::Date32 => "DATE".into(),
        DataType::Timestamp(unit, zone) => {
            let digits = if *unit == TimeUnit::Microsecond { 6 } else { 3 };
            format!("TIMESTAMP{}({digits})", if zone.is_some() { "_LTZ" } else { "" })
        }
        DataType::Time32(_) => "PROCTIME()".into(),
        DataType::Duration(_) => "INTERVAL DAY TO SECOND".into(),
        DataType::Interval(_) => "INTERVAL YEAR TO MONTH".into(),
        DataType::List(element) => format!("ARRAY<{}>", name(element.data_type())),
        DataType::Struct(fields) => {
            let fields: Vec<_> = fields.iter().map(|f| format!("{} {}", f.name(), name(f.data_type()))).collect();
            format!("ROW<{}>", fields.join(", "))
        }
        DataType::Map(..) => format!("MAP<STRING, {}>", map_value(ty).map(name).unwrap_or_default()),
        other => other.to_string(),
    }
}

/// How many columns a type counts for: fields of rows count by themselves.
pub(crate) fn width(ty: &DataType) -> usize {
    match ty {
        DataType::Struct(fields) => 1 + fields.iter().map(|field| width(field.data_type())).sum::<usize>(),
        DataType::List(element) => width(element.data_type()),
        DataType::Map(entries, _) => width(entries.data_type()),
        _ => 1,
    }
}

/// Whether values can be compared for equality and grouped by.
pub(crate) fn is_groupable(ty: &DataType) -> bool {
    use DataType::{Duration, Interval, List, Map, Struct, Time32};
    !matches!(ty, Struct(_) | List(_) | Map(..) | Duration(_) | Interval(_) | Time32(_))
}

/// Whether the type is one of the numbers.
pub(crate) fn is_number(ty: &DataType) -> bool {
    ty.is_integer() || ty.is_floating() || matches!(ty, DataType::Decimal128(..))
}
