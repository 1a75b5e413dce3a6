//! [pure] Which columns of a target can take which columns of a table, and what would be right where one cannot.

use arrow::datatypes::{DataType, TimeUnit};

/// A column as the server's catalog describes it. Of a domain, the type below it.
#[derive(Debug, Clone)]
pub(super) struct TargetColumn {
    pub(super) name: String,
    /// The type as a person declares it, `numeric(10,2)`.
    pub(super) shown: String,
    /// The type without length and precision, for a cast that cuts nothing off.
    pub(super) cast: String,
    /// The catalog's name of the type, `int4`; of an array with `_` in front.
    pub(super) base: String,
    pub(super) is_enum: bool,
    /// Length or precision in the catalog's form; -1: none.
    pub(super) modifier: i32,
    pub(super) not_null: bool,
    /// It has a value of its own when none is given.
    pub(super) has_default: bool,
    /// The server computes it, always.
    pub(super) generated: bool,
}

/// Texts that the server reads itself.
const FROM_TEXT: [&str; 12] = ["text", "varchar", "bpchar", "citext", "name", "uuid", "json", "jsonb", "xml", "inet", "cidr", "macaddr"];
/// What holds parts.
const JSON: [&str; 2] = ["json", "jsonb"];

/// Whether the column takes values of `ty` as they are: none is rounded or cut off.
pub(super) fn takes(column: &TargetColumn, ty: &DataType) -> bool {
    let base = column.base.as_str();
    match ty {
        DataType::List(item) => JSON.contains(&base) || base.strip_prefix('_').is_some_and(|base| takes_item(base, item.data_type())),
        DataType::Struct(_) => JSON.contains(&base),
        DataType::Utf8 if column.is_enum => true,
        DataType::Decimal128(_, scale) if base == "numeric" => numeric_scale(column.modifier).is_none_or(|of| of >= i32::from(*scale)),
        // The digits of a second; without any it has six.
        DataType::Timestamp(unit, _) if column.modifier >= 0 => {
            fits(base, ty) && column.modifier >= if *unit == TimeUnit::Millisecond { 3 } else { 6 }
        }
        _ => fits(base, ty),
    }
}

fn fits(base: &str, ty: &DataType) -> bool {
    match ty {
        DataType::Boolean => base == "bool",
        DataType::Int8 | DataType::Int16 => matches!(base, "int2" | "int4" | "int8" | "numeric"),
        DataType::Int32 => matches!(base, "int4" | "int8" | "numeric"),
        DataType::Int64 => matches!(base, "int8" | "numeric"),
        DataType::Float32 => matches!(base, "float4" | "float8"),
        DataType::Float64 => base == "float8",
        DataType::Decimal128(..) => base == "numeric",
        DataType::Utf8 => FROM_TEXT.contains(&base),
        DataType::Binary => base == "bytea",
        DataType::Date32 => base == "date",
        DataType::Timestamp(_, None) => base == "timestamp",
        DataType::Timestamp(_, Some(_)) => base == "timestamptz",
        _ => false,
    }
}

/// An array's items go through JSON, which has no bytes and no rows that PostgreSQL would read back.
fn takes_item(base: &str, ty: &DataType) -> bool {
    !matches!(ty, DataType::Binary | DataType::List(_) | DataType::Struct(_)) && fits(base, ty)
}

/// Digits behind the point of `numeric(p, s)`, from the catalog's form of it (`numerictypmodin`).
fn numeric_scale(modifier: i32) -> Option<i32> {
    // Eleven bits, signed.
    (modifier >= 4).then(|| (((modifier - 4) & 0x7ff) ^ 1024) - 1024)
}

/// The type to declare for a column of `ty`.
pub(super) fn declared(ty: &DataType) -> String {
    match ty {
        DataType::Boolean => "boolean".into(),
        DataType::Int8 | DataType::Int16 => "smallint".into(),
        DataType::Int32 => "integer".into(),
        DataType::Int64 => "bigint".into(),
        DataType::Float32 => "real".into(),
        DataType::Float64 => "double precision".into(),
        DataType::Decimal128(precision, scale) => format!("numeric({precision}, {scale})"),
        DataType::Utf8 => "text".into(),
        DataType::Binary => "bytea".into(),
        DataType::Date32 => "date".into(),
        DataType::Timestamp(unit, zone) => {
            let digits = if *unit == TimeUnit::Millisecond { 3 } else { 6 };
            format!("timestamp{}({digits})", if zone.is_some() { "tz" } else { "" })
        }
        DataType::List(item) if !matches!(item.data_type(), DataType::Binary | DataType::List(_) | DataType::Struct(_)) => {
            format!("{}[]", declared(item.data_type()))
        }
        _ => "jsonb".into(),
    }
}

/// A value of the array that carries a column, as the target's column takes it. Casts without a length cut nothing off: what is
/// too long fails when it is stored.
pub(super) fn expression(value: &str, ty: &DataType, column: &TargetColumn) -> String {
    let cast = &column.cast;
    if matches!(ty, DataType::List(_)) && column.base.starts_with('_') {
        return format!("CASE WHEN {value} IS NULL THEN NULL ELSE ARRAY(SELECT jsonb_array_elements_text({value}::jsonb))::{cast} END");
    }
    format!("{value}::{cast}")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn column(name: &str, base: &str, modifier: i32) -> TargetColumn {
        TargetColumn {
            name: name.into(),
            shown: base.into(),
            cast: base.into(),
            base: base.into(),
            is_enum: false,
            modifier,
            not_null: false,
            has_default: false,
            generated: false,
        }
    }

    #[test]
    fn a_column_takes_what_it_can_hold_whole() {
        let milli = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Millisecond, zone.map(Into::into));
        let list = |ty| DataType::new_list(ty, true);
        let numeric = |precision: i32, scale: i32| ((precision << 16) | (scale & 0x7ff)) + 4;
        let cases = [
            (DataType::Int64, "int8", -1, true),
            (DataType::Int64, "int4", -1, false),
            (DataType::Int64, "text", -1, false),
            (DataType::Int32, "numeric", -1, true),
            (DataType::Float64, "float4", -1, false),
            (DataType::Decimal128(10, 2), "numeric", -1, true),
            (DataType::Decimal128(10, 2), "numeric", numeric(10, 2), true),
            (DataType::Decimal128(10, 2), "numeric", numeric(10, 1), false),
            (DataType::Decimal128(10, 2), "numeric", numeric(10, -2), false),
            (DataType::Utf8, "varchar", 14, true),
            (DataType::Utf8, "uuid", -1, true),
            (DataType::Utf8, "int4", -1, false),
            (milli(None), "timestamp", -1, true),
            (milli(None), "timestamp", 3, true),
            (milli(None), "timestamp", 0, false),
            (milli(None), "timestamptz", -1, false),
            (milli(Some("UTC")), "timestamptz", -1, true),
            (list(DataType::Int64), "_int8", -1, true),
            (list(DataType::Int64), "_int4", -1, false),
            (list(DataType::Binary), "_bytea", -1, false),
            (list(DataType::Binary), "jsonb", -1, true),
        ];
        for (ty, base, modifier, expected) in cases {
            assert_eq!(takes(&column("c", base, modifier), &ty), expected, "{ty} into {base} {modifier}");
        }
    }

    #[test]
    fn what_is_advised_is_taken() {
        let types = [
            (DataType::Int8, "int2"),
            (DataType::Decimal128(38, 10), "numeric"),
            (DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), "timestamptz"),
            (DataType::new_list(DataType::Utf8, true), "_text"),
            (DataType::Struct(Vec::<arrow::datatypes::Field>::new().into()), "jsonb"),
        ];
        for (ty, base) in types {
            assert!(takes(&column("c", base, -1), &ty), "{}", declared(&ty));
        }
        assert_eq!(declared(&DataType::new_list(DataType::Int64, true)), "bigint[]");
    }
}
