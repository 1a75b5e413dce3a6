//! [pure] Expressions and plans as a person reads them.

use datafusion_common::ScalarValue;
use datafusion_expr::Expr;
use rheos_dataflow::graph::{AggregateFunction, Window};

use crate::bind::aggregate::Pending;
use crate::functions::choice::CASE;
use crate::functions::row;
use crate::functions::time::{Pattern, SHIFT};
use crate::types;

/// Characters of an expression that a title shows, at most.
const MAX_EXPR_CHARS: usize = 120;

/// An expression in SQL's words.
pub(crate) fn expr(expr: &Expr) -> String {
    let text = full(expr);
    match text.char_indices().nth(MAX_EXPR_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn full(expr: &Expr) -> String {
    let list = |exprs: &[Expr]| exprs.iter().map(full).collect::<Vec<_>>().join(", ");
    match expr {
        Expr::Column(column) => column.name.clone(),
        Expr::Literal(value, _) => literal(value),
        Expr::BinaryExpr(binary) => format!("{} {} {}", operand(&binary.left), binary.op, operand(&binary.right)),
        Expr::Not(inner) => format!("NOT {}", operand(inner)),
        Expr::Negative(inner) => format!("-{}", operand(inner)),
        Expr::IsNull(inner) => format!("{} IS NULL", operand(inner)),
        Expr::IsNotNull(inner) => format!("{} IS NOT NULL", operand(inner)),
        Expr::IsTrue(inner) => format!("{} IS TRUE", operand(inner)),
        Expr::IsNotTrue(inner) => format!("{} IS NOT TRUE", operand(inner)),
        Expr::IsFalse(inner) => format!("{} IS FALSE", operand(inner)),
        Expr::IsNotFalse(inner) => format!("{} IS NOT FALSE", operand(inner)),
        Expr::Like(like) => format!("{}{} LIKE {}", operand(&like.expr), not(like.negated), operand(&like.pattern)),
        Expr::Between(b) => format!("{}{} BETWEEN {} AND {}", operand(&b.expr), not(b.negated), operand(&b.low), operand(&b.high)),
        Expr::InList(list_of) => format!("{}{} IN ({})", operand(&list_of.expr), not(list_of.negated), list(&list_of.list)),
        Expr::Cast(cast) => format!("CAST({} AS {})", full(&cast.expr), types::name(cast.field.data_type())),
        Expr::TryCast(cast) => format!("TRY_CAST({} AS {})", full(&cast.expr), types::name(cast.field.data_type())),
        Expr::Case(case) => {
            let mut text = String::from("CASE");
            for (when, then) in &case.when_then_expr {
                text += &format!(" WHEN {} THEN {}", full(when), full(then));
            }
            if let Some(otherwise) = &case.else_expr {
                text += &format!(" ELSE {}", full(otherwise));
            }
            text + " END"
        }
        Expr::ScalarFunction(function) if function.func.name() == CASE => {
            let (branches, otherwise) = function.args.as_chunks::<2>();
            let branches: String = branches.iter().map(|[when, then]| format!(" WHEN {} THEN {}", full(when), full(then))).collect();
            format!("CASE{branches} ELSE {} END", list(otherwise))
        }
        Expr::ScalarFunction(function) => match (row::as_field(expr), function.args.as_slice()) {
            (Some((root, path)), _) => format!("{}.{}", operand(root), path.join(".")),
            (None, [time, shift]) if function.func.name() == SHIFT => shifted(time, shift),
            _ => format!("{}({})", function.func.name().to_uppercase(), list(&function.args)),
        },
        other => other.to_string(),
    }
}

/// `ts - 5s`.
fn shifted(time: &Expr, shift: &Expr) -> String {
    let (negative, length) = match shift {
        Expr::Literal(ScalarValue::DurationMillisecond(Some(millis)), _) => (*millis < 0, duration(millis.saturating_abs())),
        Expr::Literal(ScalarValue::IntervalYearMonth(Some(months)), _) => (*months < 0, format!("{}months", months.saturating_abs())),
        other => (false, full(other)),
    };
    format!("{} {} {length}", operand(time), if negative { "-" } else { "+" })
}

fn not(negated: bool) -> &'static str {
    if negated { " NOT" } else { "" }
}

fn operand(expr: &Expr) -> String {
    match expr {
        Expr::BinaryExpr(_) | Expr::Between(_) | Expr::Not(_) | Expr::Like(_) | Expr::InList(_) => format!("({})", full(expr)),
        _ => full(expr),
    }
}

fn literal(value: &ScalarValue) -> String {
    use ScalarValue::{Date32, Decimal128, TimestampMicrosecond, TimestampMillisecond, Utf8};
    let instant = |micros: i64, pattern: &str| {
        let mut text = String::new();
        Pattern::compile(pattern).unwrap_or_default().format(micros, &mut text);
        format!("'{text}'")
    };
    match value {
        value if value.is_null() => "NULL".into(),
        Utf8(Some(text)) => format!("'{}'", text.replace('\'', "''")),
        TimestampMillisecond(Some(millis), _) => instant(millis.saturating_mul(1_000), "yyyy-MM-dd HH:mm:ss.SSS"),
        TimestampMicrosecond(Some(micros), _) => instant(*micros, "yyyy-MM-dd HH:mm:ss.SSSSSS"),
        Date32(Some(days)) => instant(i64::from(*days) * 86_400_000_000, "yyyy-MM-dd"),
        Decimal128(Some(_), ..) => match value.cast_to(&arrow::datatypes::DataType::Utf8) {
            Ok(Utf8(Some(text))) => text,
            _ => value.to_string(),
        },
        other => other.to_string(),
    }
}

/// An aggregate call: `COUNT(DISTINCT bidder) FILTER (WHERE price > 10)`.
pub(crate) fn call(call: &Pending) -> String {
    let argument = call.argument.as_ref().map_or_else(|| "*".into(), |(argument, _)| expr(argument));
    let distinct = if call.distinct { "DISTINCT " } else { "" };
    let filter = call.filter.as_ref().map_or_else(String::new, |filter| format!(" FILTER (WHERE {})", expr(filter)));
    format!("{}({distinct}{argument}){filter}", function(call.function))
}

/// Name of an aggregate function.
pub(crate) fn function(function: AggregateFunction) -> &'static str {
    match function {
        AggregateFunction::Count => "COUNT",
        AggregateFunction::Sum => "SUM",
        AggregateFunction::Min => "MIN",
        AggregateFunction::Max => "MAX",
        AggregateFunction::Avg => "AVG",
    }
}

/// A window: `HOP 10s every 2s`.
pub(crate) fn window(window: Window) -> String {
    let (text, offset) = match window {
        Window::Tumble { size, offset } => (format!("TUMBLE {}", duration(size)), offset),
        Window::Hop { size, slide, offset } => (format!("HOP {} every {}", duration(size), duration(slide)), offset),
        Window::Cumulate { max, step, offset } => (format!("CUMULATE {} by {}", duration(max), duration(step)), offset),
    };
    match offset {
        0 => text,
        _ => format!("{text} offset {}", duration(offset)),
    }
}

/// A duration in its largest whole unit.
pub(crate) fn duration(millis: i64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
    match units.iter().find(|(unit, _)| millis != 0 && millis % unit == 0) {
        Some((unit, name)) => format!("{}{name}", millis / unit),
        None => format!("{millis}ms"),
    }
}
