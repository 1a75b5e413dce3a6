//! [pure] Windows: table functions, group windows and their auxiliary functions.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion_expr::Expr;
use datafusion_expr::sqlparser::{
    ast::{Expr as Ast, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Spanned},
    tokenizer::Span,
};
use rheos_dataflow::graph::Window;

use crate::bind::aggregate::PLACEHOLDER;
use crate::bind::call;
use crate::bind::expr::Binder;
use crate::bind::literal;
use crate::bind::scope::Scope;
use crate::coerce::Typed;
use crate::error::{Fault, Result, fail, fail_hint};
use crate::rel::{self, Op, Rel, Role};
use crate::show::duration;
use crate::types;

/// A window's result is final, and a change would come to one that is out already.
pub(crate) const OVER_CHANGES: &str = "windows over rows that change are not supported";
pub(crate) const OVER_CHANGES_HINT: &str = "group by the window first, or read a table that only gets new rows";

/// A call of a window table function: the table is still a name.
#[derive(Debug)]
pub(crate) struct TableFunction<'a> {
    pub(crate) kind: Kind,
    pub(crate) table: &'a Ident,
    pub(crate) time: &'a Ident,
    lengths: Vec<&'a Ast>,
    span: Span,
}

/// The kinds of windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Tumble,
    Hop,
    Cumulate,
}

/// What a function's name is among windows.
fn kind(name: &str, span: Span) -> Result<Option<Kind>> {
    Ok(Some(match name {
        "TUMBLE" => Kind::Tumble,
        "HOP" => Kind::Hop,
        "CUMULATE" => Kind::Cumulate,
        "SESSION" => return fail_hint(span, "SESSION windows are not supported yet", "there are TUMBLE, HOP and CUMULATE"),
        _ => return Ok(None),
    }))
}

/// Reads `TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL …)` and its relatives, by position or by name.
pub(crate) fn table_function<'a>(name: &str, args: &'a [FunctionArg], span: Span) -> Result<TableFunction<'a>> {
    let Some(kind) = kind(name, span)? else {
        return fail_hint(span, format!("table function {name} is not supported"), "there are TUMBLE, HOP and CUMULATE");
    };
    let named: &[&str] = match kind {
        Kind::Tumble => &["DATA", "TIMECOL", "SIZE", "OFFSET"],
        Kind::Hop => &["DATA", "TIMECOL", "SLIDE", "SIZE", "OFFSET"],
        Kind::Cumulate => &["DATA", "TIMECOL", "STEP", "SIZE", "OFFSET"],
    };
    let mut ordered: Vec<Option<&Ast>> = vec![None; named.len()];
    for (index, arg) in args.iter().enumerate() {
        let (place, value) = match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => (index, value),
            FunctionArg::Named { name: argument, arg: FunctionArgExpr::Expr(value), .. } => {
                match named.iter().position(|known| argument.value.eq_ignore_ascii_case(known)) {
                    Some(place) => (place, value),
                    None => {
                        return fail_hint(
                            argument.span,
                            format!("unknown argument {}", argument.value),
                            format!("{name} takes {}", named.join(", ")),
                        );
                    }
                }
            }
            _ => return fail(span, format!("{name} takes {}", named.join(", "))),
        };
        match ordered.get_mut(place) {
            Some(slot) => *slot = Some(value),
            None => return fail_hint(value.span(), format!("{name} takes at most {} arguments", named.len()), named.join(", ")),
        }
    }
    let table = match ordered[0] {
        Some(Ast::Identifier(table)) => table,
        Some(Ast::CompoundIdentifier(path)) if path.len() == 1 => &path[0],
        _ => return fail_hint(span, format!("the first argument of {name} is a table"), "write TABLE name"),
    };
    let time = match ordered[1] {
        Some(Ast::Function(function)) if call::simple_name(function) == "DESCRIPTOR" => match call::plain_args(function)?.as_slice() {
            [Ast::Identifier(time)] => time,
            _ => return fail(function.name.span(), "DESCRIPTOR takes one column"),
        },
        _ => return fail_hint(span, format!("the second argument of {name} is the event-time column"), "write DESCRIPTOR(column)"),
    };
    let least = named.len() - 3;
    let lengths: Vec<&Ast> = ordered.iter().skip(2).map_while(|length| *length).collect();
    if lengths.len() < least || lengths.len() != ordered.iter().skip(2).flatten().count() {
        return fail_hint(span, format!("{name} misses an interval"), format!("it takes {}", named.join(", ")));
    }
    Ok(TableFunction { kind, table, time, lengths, span })
}

impl TableFunction<'_> {
    /// Applies the function to its table.
    pub(crate) fn apply(&self, input: Arc<Rel>) -> Result<Arc<Rel>> {
        let scope = Scope::new(input, None);
        let mut binder = Binder::new(&scope, "a window function");
        let lengths = self.lengths.iter().map(|length| millis(&mut binder, length)).collect::<Result<Vec<_>>>()?;
        let window = shape(self.kind, &lengths, self.span)?;
        // Flink asks this of the table function only, not of the group window.
        if let Window::Hop { size, slide, .. } = window
            && size % slide != 0
        {
            let message = format!("the size of HOP, {}, is not a multiple of its slide, {}", duration(size), duration(slide));
            return fail_hint(self.span, message, "choose a size that is");
        }
        let time = binder.bind(&Ast::Identifier(self.time.clone()))?;
        let name = event_time(&scope.rel, &time, self.time.span)?;
        if scope.rel.changelog {
            return fail_hint(self.span, OVER_CHANGES, OVER_CHANGES_HINT);
        }
        Ok(Rel::assign(scope.rel, window, name))
    }
}

fn millis(binder: &mut Binder<'_>, ast: &Ast) -> Result<i64> {
    let value = binder.bind(ast)?;
    literal::duration(&value).ok_or_else(|| {
        let hint = "write INTERVAL '10' SECOND (months and years have no fixed length)";
        Fault::new(ast.span(), "a window's length is a constant interval of days or less").hint(hint).into()
    })
}

/// The window of these lengths, in the order of Flink's arguments.
fn shape(kind: Kind, lengths: &[i64], span: Span) -> Result<Window> {
    let window = match (kind, lengths) {
        (Kind::Tumble, [size]) => Window::Tumble { size: *size, offset: 0 },
        (Kind::Tumble, [size, offset]) => Window::Tumble { size: *size, offset: *offset },
        (Kind::Hop, [slide, size]) => Window::Hop { size: *size, slide: *slide, offset: 0 },
        (Kind::Hop, [slide, size, offset]) => Window::Hop { size: *size, slide: *slide, offset: *offset },
        (Kind::Cumulate, [step, max]) => Window::Cumulate { max: *max, step: *step, offset: 0 },
        (Kind::Cumulate, [step, max, offset]) => Window::Cumulate { max: *max, step: *step, offset: *offset },
        _ => return fail(span, "a window function got the wrong number of intervals"),
    };
    window.validate().map_err(|message| Fault::new(span, message))?;
    Ok(window)
}

/// The event-time column behind `time`.
fn event_time(rel: &Rel, time: &Typed, span: Span) -> Result<String> {
    let name = match &time.expr {
        Expr::Column(column) => column.name.clone(),
        _ => return fail_hint(span, "a window needs a column, not an expression", "compute the column in the table or a view"),
    };
    let is_time = rel.column(&name).is_some_and(|column| {
        matches!(column.role, Role::EventTime | Role::Window(rel::Bound::Time, _)) && types::is_event_time(&column.ty)
    });
    if is_time {
        return Ok(name);
    }
    if time.ty == types::PROCTIME {
        return fail_hint(span, "windows of processing time are not supported", "use an event-time column with WATERMARK FOR");
    }
    let known = rel.columns.iter().find(|column| column.role == Role::EventTime).map(|column| column.name.as_str());
    let (message, hint) = match known {
        Some(known) => (format!("column \"{name}\" has no watermark; the event time is \"{known}\""), format!("use DESCRIPTOR({known})")),
        None => {
            (format!("column \"{name}\" has no watermark"), "declare WATERMARK FOR in its table, and select the column unchanged".into())
        }
    };
    fail_hint(span, message, hint)
}

/// Binds `GROUP BY TUMBLE(ts, INTERVAL …)`; `None` when the expression is no group window.
pub(crate) fn group_window(binder: &mut Binder<'_>, ast: &Ast) -> Result<Option<(Window, String)>> {
    let Ast::Function(function) = ast else { return Ok(None) };
    let span = function.name.span();
    let Some(kind) = kind(&call::simple_name(function), span)? else { return Ok(None) };
    group_shape(binder, kind, function, span).map(Some)
}

fn group_shape(binder: &mut Binder<'_>, kind: Kind, function: &Function, span: Span) -> Result<(Window, String)> {
    if kind == Kind::Cumulate {
        return fail_hint(span, "CUMULATE is a table function", "write FROM TABLE(CUMULATE(TABLE t, DESCRIPTOR(ts), step, size))");
    }
    let args = call::plain_args(function)?;
    let [time, lengths @ ..] = args.as_slice() else { return fail(span, "a group window needs a column and an interval") };
    let lengths = lengths.iter().map(|length| millis(binder, length)).collect::<Result<Vec<_>>>()?;
    let window = shape(kind, &lengths, span)?;
    let bound = binder.bind(time)?;
    let name = event_time(&binder.scope.rel, &bound, time.span())?;
    Ok((window, name))
}

/// `TUMBLE_START(ts, INTERVAL …)` and its relatives become placeholders that grouping replaces.
pub(crate) fn auxiliary(binder: &mut Binder<'_>, name: &str, function: &Function) -> Result<Option<Typed>> {
    let span = function.name.span();
    let Some((base, part)) = name.rsplit_once('_') else {
        if kind(name, span)?.is_some() {
            return fail_hint(
                span,
                format!("{name} is a window, not a value"),
                format!("use it in GROUP BY, and {name}_START or {name}_END in SELECT"),
            );
        }
        return Ok(None);
    };
    let part = match part {
        "START" => "start",
        "END" => "end",
        "ROWTIME" => "time",
        "PROCTIME" if kind(base, span)?.is_some() => {
            return fail_hint(span, format!("{name} is not supported"), "processing time is not supported yet");
        }
        _ => return Ok(None),
    };
    let Some(kind) = kind(base, span)? else { return Ok(None) };
    if binder.aggregates.is_none() {
        return fail(span, format!("{name} is not allowed in {}", binder.clause));
    }
    let (window, time) = group_shape(binder, kind, function, span)?;
    let ty = match part {
        "time" => binder.scope.rel.column(&time).map_or(DataType::Null, |column| column.ty.clone()),
        _ => DataType::Timestamp(TimeUnit::Millisecond, None),
    };
    if let Some(aggregates) = binder.aggregates.as_deref_mut() {
        aggregates.windows.push((window, time, span));
    }
    Ok(Some(Typed::new(rel::column(format!("{PLACEHOLDER}{part}")), ty)))
}

/// The windows by which rows of `window` meet again, by their `window_end` - 1 ms.
pub(crate) fn attached(window: Window) -> Window {
    match window {
        Window::Tumble { .. } => window,
        Window::Hop { size, slide, offset } => Window::Tumble { size: slide, offset: (offset + size).rem_euclid(slide) },
        Window::Cumulate { step, offset, .. } => Window::Tumble { size: step, offset },
    }
}

/// The relation below a window table function, with the columns of `rel` that are not bounds, and the event time.
pub(crate) fn without_assign(rel: &Arc<Rel>) -> Option<(Arc<Rel>, String)> {
    match &rel.op {
        Op::WindowAssign { input, time, .. } => Some((Arc::clone(input), time.clone())),
        Op::Calc { input, filter, project } => {
            let is_bound = |expr: &Expr| {
                let mut used = Vec::new();
                rel::used_columns(expr, &mut used);
                used.iter().any(|name| input.column(name).is_some_and(|column| matches!(column.role, Role::Window(..))))
            };
            if filter.as_ref().is_some_and(is_bound) {
                return None;
            }
            let (below, time) = without_assign(input)?;
            let mut kept: Vec<(Expr, rel::Column)> = project
                .iter()
                .zip(&rel.columns)
                .filter(|(expr, _)| !is_bound(expr))
                .map(|(expr, column)| (expr.clone(), column.clone()))
                .collect();
            let passed = kept.iter().find(|(expr, _)| matches!(expr, Expr::Column(column) if column.name == time));
            let name = match passed {
                Some((_, column)) => column.name.clone(),
                None => {
                    let taken: Vec<String> = kept.iter().map(|(_, column)| column.name.clone()).collect();
                    let name = rel::unique(&time, &taken);
                    let column = rel::Column { name: name.clone(), ..below.column(&time)?.clone() };
                    kept.push((rel::column(&time), column));
                    name
                }
            };
            let (project, columns) = kept.into_iter().unzip();
            Some((Rel::new(Op::Calc { input: below, filter: filter.clone(), project }, columns), name))
        }
        _ => None,
    }
}

/// The arguments of `TABLE(function(…))`.
pub(crate) fn function_args(function: &Function) -> &[FunctionArg] {
    match &function.args {
        FunctionArguments::List(list) => &list.args,
        _ => &[],
    }
}
