//! [pure] Function calls: the table of scalar functions, and what is refused by name.

use datafusion_common::ScalarValue;
use datafusion_expr::sqlparser::{
    ast::{DuplicateTreatment, Expr as Ast, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Spanned},
    tokenizer::Span,
};

use crate::bind::aggregate;
use crate::bind::expr::{Binder, unit};
use crate::coerce::Typed;
use crate::error::{Fault, Faults, Result, did_you_mean, fail, fail_hint};
use crate::functions::{number, text, time};

/// Functions whose value is not a function of the row.
const CLOCKS: [&str; 12] = [
    "PROCTIME",
    "NOW",
    "CURRENT_TIMESTAMP",
    "CURRENT_TIME",
    "CURRENT_DATE",
    "LOCALTIME",
    "LOCALTIMESTAMP",
    "CURRENT_ROW_TIMESTAMP",
    "RAND",
    "RAND_INTEGER",
    "UUID",
    "CURRENT_WATERMARK",
];

/// The arguments of a call that has only plain ones.
pub(crate) fn plain_args(function: &Function) -> Result<Vec<&Ast>> {
    let list = match &function.args {
        FunctionArguments::None => return Ok(Vec::new()),
        FunctionArguments::List(list) => list,
        FunctionArguments::Subquery(_) => return fail(function.name.span(), "a subquery as an argument is not supported"),
    };
    let args = list.args.iter().map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    });
    match args.collect() {
        Some(args) if list.clauses.is_empty() => Ok(args),
        _ => fail(function.name.span(), format!("{} takes plain arguments", function.name)),
    }
}

/// Name of a function that has one part.
pub(crate) fn simple_name(function: &Function) -> String {
    match function.name.0.as_slice() {
        [part] => part.as_ident().map(|ident| ident.value.to_uppercase()).unwrap_or_default(),
        _ => function.name.to_string(),
    }
}

/// Refuses what reads a clock or draws a random number.
pub(crate) fn refuse_clock(name: &str, span: Span) -> Option<Faults> {
    let name = name.to_uppercase();
    CLOCKS.contains(&name.as_str()).then(|| {
        let hint = match name.as_str() {
            "RAND" | "RAND_INTEGER" | "UUID" => "its value would change when rows are replayed; compute it from columns",
            "CURRENT_WATERMARK" => "windows follow the watermark by themselves",
            "PROCTIME" => "only as a column, proc AS PROCTIME(), for lookup joins: JOIN t FOR SYSTEM_TIME AS OF proc",
            _ => "processing time is not supported yet; use an event-time column with WATERMARK FOR",
        };
        let here = if name == "PROCTIME" { " here" } else { "" };
        Fault::new(span, format!("{name} is not supported{here}")).hint(hint).into()
    })
}

/// Binds a call: an aggregate, or a scalar function.
pub(crate) fn bind(binder: &mut Binder<'_>, function: &Function) -> Result<Typed> {
    let span = function.name.span();
    let name = simple_name(function);
    if name == "PROCTIME" && binder.takes_processing_time() && plain_args(function)?.is_empty() {
        return Ok(Typed::literal(ScalarValue::Time32Second(None)));
    }
    if let Some(refused) = refuse_clock(&name, span) {
        return Err(refused);
    }
    if function.over.is_some() {
        return fail_hint(span, format!("{name} OVER (…) is not supported"), "OVER windows and Top-N are not supported yet");
    }
    if aggregate::is_aggregate(&name) {
        return aggregate::bind(binder, &name, function);
    }
    if let Some(bound) = crate::bind::window::auxiliary(binder, &name, function)? {
        return Ok(bound);
    }
    let distinct = match &function.args {
        FunctionArguments::List(list) => list.duplicate_treatment == Some(DuplicateTreatment::Distinct),
        _ => false,
    };
    if distinct || function.filter.is_some() || !function.within_group.is_empty() {
        return fail(span, format!("{name} is not an aggregate function: DISTINCT and FILTER do not apply"));
    }
    let args = plain_args(function)?;
    if let ("TIMESTAMPADD" | "TIMESTAMPDIFF", [Ast::Identifier(first), rest @ ..]) = (name.as_str(), args.as_slice()) {
        let unit = unit(&first.value, first.span)?;
        let rest = binder.all(rest.iter().copied())?;
        let Ok([a, b]) = <[Typed; 2]>::try_from(rest) else { return fail(span, format!("{name} takes a unit and two values")) };
        let result = if name == "TIMESTAMPADD" { time::add(unit, a, b) } else { time::difference(unit, a, b) };
        return result.map_err(|message| Fault::new(span, message).into());
    }
    let args = binder.all(args)?;
    builtin(&name, args, span)
}

/// A scalar function by its upper-case name.
pub(crate) fn builtin(name: &str, args: Vec<Typed>, span: Span) -> Result<Typed> {
    let wrong = |message: String| Faults::from(Fault::new(span, message));
    for table in [text::lookup, number::lookup, time::lookup] {
        if let Some(result) = table(name, &args) {
            return result.map_err(wrong);
        }
    }
    let names = text::NAMES.iter().chain(number::NAMES).chain(time::NAMES).copied().chain(aggregate::NAMES.iter().copied());
    Fault::new(span, format!("unknown function {name}")).maybe_hint(did_you_mean(name, names)).into()
}
