//! [pure] Scalar expressions.
//!
//! Recursion is bounded by the height of the tree, which was checked on the tokens.

use arrow::datatypes::DataType;
use datafusion_common::ScalarValue;
use datafusion_expr::expr::{Case, InList, Like};
use datafusion_expr::sqlparser::{
    ast::{self, AccessExpr, CastKind, CeilFloorKind, Expr as Ast, Ident, Spanned, Subscript, Value, ValueWithSpan},
    tokenizer::Span,
};
use datafusion_expr::{Expr, Operator};

use crate::bind::aggregate::Aggregates;
use crate::bind::scope::{self, Scope};
use crate::bind::{call, literal, operator};
use crate::coerce::{self, Typed};
use crate::error::{Fault, Result, collect, fail, fail_hint};
use crate::functions::{choice, map, number, text, time};
use crate::types;

/// Binds expressions over one scope.
pub(crate) struct Binder<'a> {
    pub(crate) scope: &'a Scope,
    /// Takes aggregate calls where they are allowed.
    pub(crate) aggregates: Option<&'a mut Aggregates>,
    /// What is being bound, for messages: `WHERE`.
    pub(crate) clause: &'static str,
}

impl<'a> Binder<'a> {
    pub(crate) fn new(scope: &'a Scope, clause: &'static str) -> Self {
        Self { scope, aggregates: None, clause }
    }

    /// Whether `PROCTIME()` may stand here: as a column, by itself.
    pub(crate) fn takes_processing_time(&self) -> bool {
        matches!(self.clause, "SELECT" | "a computed column")
    }

    /// Binds a condition.
    pub(crate) fn condition(&mut self, ast: &Ast) -> Result<Expr> {
        let bound = self.bind(ast)?;
        Ok(operator::boolean(bound, ast.span(), self.clause)?.expr)
    }

    pub(crate) fn all<'b>(&mut self, asts: impl IntoIterator<Item = &'b Ast>) -> Result<Vec<Typed>> {
        collect(asts.into_iter().map(|ast| self.bind(ast)))
    }

    pub(crate) fn bind(&mut self, ast: &Ast) -> Result<Typed> {
        let span = ast.span();
        match ast {
            Ast::Identifier(ident) => self.name(std::slice::from_ref(ident)),
            Ast::CompoundIdentifier(path) => self.name(path),
            Ast::CompoundFieldAccess { root, access_chain } => self.access(root, access_chain),
            Ast::Nested(inner) => self.bind(inner),
            Ast::Value(value) => literal::value(&value.value, value.span),
            Ast::TypedString(typed) => literal::typed_string(typed),
            Ast::Interval(interval) => literal::interval(interval),
            Ast::BinaryOp { .. } => self.binary(ast),
            Ast::UnaryOp { op, expr } => {
                let value = self.bind(expr)?;
                operator::unary(op, value, expr.span())
            }
            Ast::IsNull(inner) => Ok(Typed::bool(Expr::IsNull(Box::new(self.bind(inner)?.expr)))),
            Ast::IsNotNull(inner) => Ok(Typed::bool(Expr::IsNotNull(Box::new(self.bind(inner)?.expr)))),
            Ast::IsTrue(inner) => self.truth(inner, Expr::IsTrue),
            Ast::IsNotTrue(inner) => self.truth(inner, Expr::IsNotTrue),
            Ast::IsFalse(inner) => self.truth(inner, Expr::IsFalse),
            Ast::IsNotFalse(inner) => self.truth(inner, Expr::IsNotFalse),
            Ast::IsUnknown(inner) => self.truth(inner, Expr::IsUnknown),
            Ast::IsNotUnknown(inner) => self.truth(inner, Expr::IsNotUnknown),
            Ast::IsDistinctFrom(left, right) => self.distinct(left, right, Operator::IsDistinctFrom),
            Ast::IsNotDistinctFrom(left, right) => self.distinct(left, right, Operator::IsNotDistinctFrom),
            Ast::Between { expr, negated, low, high } => self.between(expr, *negated, low, high),
            Ast::InList { expr, list, negated } => self.in_list(expr, list, *negated),
            Ast::Like { negated, any: false, expr, pattern, escape_char } => self.like(*negated, expr, pattern, escape_char.as_ref()),
            Ast::SimilarTo { .. } => fail_hint(span, "SIMILAR TO is not supported", "use REGEXP(text, pattern)"),
            Ast::Case { operand, conditions, else_result, .. } => self.case(operand.as_deref(), conditions, else_result.as_deref()),
            Ast::Cast { kind, expr, data_type, format: None, array: false } => self.cast(kind, expr, data_type),
            Ast::Extract { field, expr, .. } => {
                let unit = unit(&field.to_string(), span)?;
                let value = self.bind(expr)?;
                time::extract(unit, value).map_err(|message| Fault::new(expr.span(), message).into())
            }
            Ast::Floor { expr, field } => self.round(expr, field, false),
            Ast::Ceil { expr, field } => self.round(expr, field, true),
            Ast::Position { expr, r#in } => self.builtin("POSITION", &[expr, r#in], span),
            Ast::Substring { expr, substring_from, substring_for, .. } => {
                let parts = [Some(expr), substring_from.as_ref(), substring_for.as_ref()];
                self.builtin("SUBSTRING", &parts.into_iter().flatten().map(Box::as_ref).collect::<Vec<_>>(), span)
            }
            Ast::Trim { trim_where, trim_what, expr, trim_characters: None } => self.trim(trim_where.as_ref(), trim_what.as_deref(), expr),
            Ast::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
                let parts = [Some(expr), Some(overlay_what), Some(overlay_from), overlay_for.as_ref()];
                self.builtin("OVERLAY", &parts.into_iter().flatten().map(Box::as_ref).collect::<Vec<_>>(), span)
            }
            Ast::Function(function) => call::bind(self, function),
            Ast::Subquery(_) | Ast::InSubquery { .. } | Ast::Exists { .. } => {
                fail_hint(span, "subqueries inside expressions are not supported", "use a view in FROM")
            }
            other => fail(span, format!("this expression is not supported: {}", shorten(&other.to_string()))),
        }
    }

    fn name(&mut self, path: &[Ident]) -> Result<Typed> {
        if let [ident] = path
            && ident.quote_style.is_none()
            && let Some(refused) = call::refuse_clock(&ident.value, ident.span)
        {
            return Err(refused);
        }
        self.scope.resolve(path)
    }

    fn access(&mut self, root: &Ast, chain: &[AccessExpr]) -> Result<Typed> {
        let (mut value, mut fields) = (self.bind(root)?, Vec::new());
        for access in chain {
            match access {
                AccessExpr::Dot(Ast::Identifier(name)) => fields.push(name.clone()),
                AccessExpr::Subscript(Subscript::Index { index }) => {
                    value = scope::access(value, &std::mem::take(&mut fields))?;
                    value = self.element(value, index, root.span())?;
                }
                _ => return fail(root.span(), "access to elements of arrays is not supported"),
            }
        }
        scope::access(value, &fields)
    }

    /// `map['key']`.
    fn element(&mut self, map: Typed, index: &Ast, span: Span) -> Result<Typed> {
        let Some(ty) = types::map_value(&map.ty).cloned() else {
            return fail(span, "access to elements of arrays is not supported");
        };
        match self.bind(index)?.value() {
            Some(ScalarValue::Utf8(Some(key))) => Ok(map::element(map.expr, key, ty)),
            _ => fail_hint(span, "the key of a map is not a constant text", "write map['key']"),
        }
    }

    /// The left spine of a chain of operators is walked in a loop.
    fn binary(&mut self, ast: &Ast) -> Result<Typed> {
        let mut spine = Vec::new();
        let mut leftmost = ast;
        while let Ast::BinaryOp { left, op, right } = leftmost {
            spine.push((leftmost.span(), op, right.as_ref()));
            leftmost = left;
        }
        let mut bound = self.bind(leftmost);
        for (span, op, right) in spine.into_iter().rev() {
            // Both sides are bound even when one is faulty: their faults are independent.
            let right = self.bind(right);
            bound = match collect([bound, right]) {
                Ok(sides) => match <[Typed; 2]>::try_from(sides) {
                    Ok([left, right]) => operator::binary(left, op, right, span),
                    Err(_) => fail(span, "an operator with one side"),
                },
                Err(faults) => Err(faults),
            };
        }
        bound
    }

    fn truth(&mut self, inner: &Ast, test: fn(Box<Expr>) -> Expr) -> Result<Typed> {
        let value = self.bind(inner)?;
        Ok(Typed::bool(test(Box::new(operator::boolean(value, inner.span(), "this test")?.expr))))
    }

    fn distinct(&mut self, left: &Ast, right: &Ast, op: Operator) -> Result<Typed> {
        let span = left.span();
        let (left, right) = (self.bind(left)?, self.bind(right)?);
        operator::compare(left, op, right, span)
    }

    fn between(&mut self, value: &Ast, negated: bool, low: &Ast, high: &Ast) -> Result<Typed> {
        let span = value.span();
        let (value, low, high) = (self.bind(value)?, self.bind(low)?, self.bind(high)?);
        let above = operator::compare(value.clone(), Operator::GtEq, low, span)?;
        let below = operator::compare(value, Operator::LtEq, high, span)?;
        let both = above.expr.and(below.expr);
        Ok(Typed::bool(if negated { Expr::Not(Box::new(both)) } else { both }))
    }

    fn in_list(&mut self, value: &Ast, list: &[Ast], negated: bool) -> Result<Typed> {
        let span = value.span();
        let value = self.bind(value)?;
        let list = self.all(list)?;
        let list: Vec<Typed> = collect(list.into_iter().map(|item| match (item.text(), &value.ty) {
            (Some(text), DataType::Timestamp(..) | DataType::Date32) => match ScalarValue::from(text).cast_to(&value.ty) {
                Ok(literal) => Ok(Typed::literal(literal)),
                Err(_) => fail(span, format!("'{text}' is no {}", types::name(&value.ty))),
            },
            _ => Ok(item),
        }))?;
        let all = std::iter::once(&value).chain(&list).map(|item| &item.ty);
        let Some(ty) = coerce::common_of(all).filter(types::is_groupable) else {
            return fail_hint(span, "the values of IN have different types", "CAST them");
        };
        let list = list.into_iter().map(|item| item.into_type(&ty).expr).collect();
        Ok(Typed::bool(Expr::InList(InList::new(Box::new(value.into_type(&ty).expr), list, negated))))
    }

    fn like(&mut self, negated: bool, value: &Ast, pattern: &Ast, escape: Option<&ValueWithSpan>) -> Result<Typed> {
        let span = value.span();
        let (value, pattern) = (self.bind(value)?, self.bind(pattern)?);
        if value.ty != DataType::Utf8 || pattern.ty != DataType::Utf8 {
            return fail(span, format!("LIKE needs strings, not {} and {}", types::name(&value.ty), types::name(&pattern.ty)));
        }
        match escape.map(|escape| &escape.value) {
            None => {
                let like = Like::new(negated, Box::new(value.expr), Box::new(pattern.expr), None, false);
                Ok(Typed::bool(Expr::Like(like)))
            }
            Some(Value::SingleQuotedString(escape)) if escape.chars().count() == 1 => {
                let Some(pattern) = pattern.text() else { return fail(span, "LIKE … ESCAPE needs a literal pattern") };
                let matched = text::like(value, pattern, escape.chars().next()).map_err(|message| Fault::new(span, message))?;
                Ok(if negated { Typed::bool(Expr::Not(Box::new(matched.expr))) } else { matched })
            }
            Some(_) => fail(span, "ESCAPE takes one character"),
        }
    }

    fn case(&mut self, operand: Option<&Ast>, conditions: &[ast::CaseWhen], otherwise: Option<&Ast>) -> Result<Typed> {
        let operand = operand.map(|operand| Ok::<_, crate::error::Faults>((self.bind(operand)?, operand.span()))).transpose()?;
        let mut branches = Vec::new();
        for when in conditions {
            let condition = self.bind(&when.condition)?;
            let condition = match &operand {
                Some((operand, span)) => operator::compare(operand.clone(), Operator::Eq, condition, *span)?,
                None => operator::boolean(condition, when.condition.span(), "WHEN")?,
            };
            branches.push((condition, self.bind(&when.result)?));
        }
        let otherwise = otherwise.map(|otherwise| self.bind(otherwise)).transpose()?;
        let results = branches.iter().map(|(_, result)| result).chain(&otherwise);
        let Some(ty) = coerce::common_of(results.clone().map(|result| &result.ty)) else {
            let names: Vec<String> = results.map(|result| types::name(&result.ty)).collect();
            let span = conditions.first().map_or(Span::empty(), |when| when.result.span());
            return fail_hint(span, format!("the branches of CASE have different types: {}", names.join(", ")), "CAST them");
        };
        let ty = if ty == DataType::Null { DataType::Utf8 } else { ty };
        let branches: Vec<(Expr, Expr)> =
            branches.into_iter().map(|(condition, result)| (condition.expr, result.into_type(&ty).expr)).collect();
        let otherwise = otherwise.map(|otherwise| otherwise.into_type(&ty).expr);
        if let Some(cheap) = choice::case(&branches, otherwise.as_ref(), &ty) {
            return Ok(cheap);
        }
        let branches = branches.into_iter().map(|(condition, result)| (Box::new(condition), Box::new(result))).collect();
        Ok(Typed::new(Expr::Case(Case::new(None, branches, otherwise.map(Box::new))), ty))
    }

    fn cast(&mut self, kind: &CastKind, value: &Ast, target: &ast::DataType) -> Result<Typed> {
        let span = value.span();
        let value = self.bind(value)?;
        let (ty, length) = types::from_ast(target).map_err(|message| Fault::new(span, message))?;
        let from = types::name(&value.ty);
        let lenient = match kind {
            CastKind::Cast => false,
            CastKind::TryCast => true,
            _ => return fail_hint(span, "this form of CAST is not supported", "write CAST(value AS type)"),
        };
        let constant = value.value().is_some();
        let Some(cast) = coerce::cast(value, &ty, lenient) else {
            let hint = match (&ty, from.starts_with("TIMESTAMP")) {
                (DataType::Timestamp(..), _) => "use TO_TIMESTAMP_LTZ(milliseconds, 3)",
                (_, true) => "use UNIX_TIMESTAMP, EXTRACT or DATE_FORMAT",
                _ => "there is no such cast",
            };
            return fail_hint(span, format!("cannot CAST {from} to {}", types::name(&ty)), hint);
        };
        // A constant that cannot be cast fails here and not in the job.
        if constant
            && let Expr::Cast(inner) = &cast.expr
            && let Expr::Literal(literal, _) = inner.expr.as_ref()
        {
            return match literal.cast_to(&ty) {
                Ok(literal) => Ok(Typed::literal(literal)),
                Err(_) => fail_hint(span, format!("{literal} cannot be CAST to {}", types::name(&ty)), "TRY_CAST gives NULL"),
            };
        }
        Ok(match length {
            Some(length) => text::truncate(cast, length),
            None => cast,
        })
    }

    fn round(&mut self, value: &Ast, field: &CeilFloorKind, up: bool) -> Result<Typed> {
        let span = value.span();
        let value = self.bind(value)?;
        let result = match field {
            CeilFloorKind::DateTimeField(ast::DateTimeField::NoDateTime) => number::round_to_integer(value, up),
            CeilFloorKind::DateTimeField(field) => time::round(value, unit(&field.to_string(), span)?, up),
            CeilFloorKind::Scale(_) => Err("FLOOR and CEIL take one number".into()),
        };
        result.map_err(|message| Fault::new(span, message).into())
    }

    fn trim(&mut self, side: Option<&ast::TrimWhereField>, what: Option<&Ast>, value: &Ast) -> Result<Typed> {
        let span = value.span();
        let value = self.bind(value)?;
        let what = what.map(|what| self.bind(what)).transpose()?;
        let (left, right) = match side {
            Some(ast::TrimWhereField::Leading) => (true, false),
            Some(ast::TrimWhereField::Trailing) => (false, true),
            _ => (true, true),
        };
        text::trim(value, what, left, right).map_err(|message| Fault::new(span, message).into())
    }

    fn builtin(&mut self, name: &str, args: &[&Ast], span: Span) -> Result<Typed> {
        let bound = self.all(args.iter().copied())?;
        call::builtin(name, bound, span)
    }
}

/// A unit of time by name.
pub(crate) fn unit(name: &str, span: Span) -> Result<time::Unit> {
    match time::Unit::parse(&name.to_uppercase()) {
        Some(unit) => Ok(unit),
        None => fail(span, format!("{name} is no unit of time")),
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}
