//! [pure] The columns that names can stand for in one SELECT.

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion_expr::sqlparser::{
    ast::Ident,
    tokenizer::{Location, Span},
};

use crate::coerce::Typed;
use crate::error::{Fault, Result, did_you_mean};
use crate::functions::row;
use crate::rel::{Column, Rel};

/// The input of a SELECT and how its columns are called.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    pub(crate) rel: Arc<Rel>,
    /// Alias or name of each joined relation, as in `alias.column`, and how many columns it has.
    pub(crate) parts: Vec<(Option<String>, usize)>,
    /// Visible name of each column of `rel`.
    pub(crate) names: Vec<String>,
}

impl Scope {
    pub(crate) fn new(rel: Arc<Rel>, qualifier: Option<String>) -> Self {
        let names: Vec<String> = rel.columns.iter().map(|column| column.name.clone()).collect();
        Self { parts: vec![(qualifier, names.len())], rel, names }
    }

    /// The columns of the relation of this alias or name.
    pub(crate) fn part(&self, qualifier: &str) -> Option<Range<usize>> {
        let mut from = 0;
        self.parts.iter().find_map(|(name, columns)| {
            from += columns;
            (name.as_deref() == Some(qualifier)).then_some(from - columns..from)
        })
    }

    /// Resolves `a`, `alias.a`, `a.field` or `alias.a.field.field`.
    pub(crate) fn resolve(&self, path: &[Ident]) -> Result<Typed> {
        let [first, rest @ ..] = path else { return Err(Fault::new(Span::empty(), "an empty name").into()) };
        let part = self.part(&first.value);
        if let ([column, fields @ ..], Some(part)) = (rest, part.clone())
            && let Some(index) = self.names[part.clone()].iter().position(|name| *name == column.value)
        {
            return access(named(&self.rel.columns[part.start + index], column.span), fields);
        }
        if let Some(found) = self.find(first)? {
            return access(named(found, first.span), rest);
        }
        let (unknown, kind) = match rest {
            [column, ..] if part.is_some() => (column, "column"),
            [_, ..] => (first, "table or column"),
            [] => (first, "column"),
        };
        Fault::new(unknown.span, format!("unknown {kind} \"{}\"", unknown.value)).maybe_hint(self.suggest(&unknown.value)).into()
    }

    /// The column of this name, without the name of a relation: only one may have it.
    fn find(&self, name: &Ident) -> Result<Option<&Column>> {
        let mut from = 0;
        let found = self.parts.iter().filter_map(|(qualifier, columns)| {
            from += columns;
            let index = self.names[from - columns..from].iter().position(|other| *other == name.value)?;
            Some((qualifier.as_deref().unwrap_or_default(), &self.rel.columns[from - columns + index]))
        });
        let found: Vec<_> = found.collect();
        if let [(one, _), (other, _), ..] = found.as_slice() {
            let message = format!("column \"{}\" is in {one} and in {other}", name.value);
            return Fault::new(name.span, message).hint(format!("write {one}.{} or {other}.{}", name.value, name.value)).into();
        }
        Ok(found.first().map(|(_, column)| *column))
    }

    fn suggest(&self, name: &str) -> Option<String> {
        let names = || self.names.iter().map(String::as_str);
        did_you_mean(name, names()).or_else(|| {
            let shown: Vec<&str> = names().take(12).collect();
            (!shown.is_empty()).then(|| format!("there is {}{}", shown.join(", "), if self.names.len() > 12 { ", …" } else { "" }))
        })
    }
}

/// A reference that remembers where it stands in the text.
fn named(column: &Column, span: Span) -> Typed {
    let mut reference = datafusion_common::Column::new_unqualified(&column.name);
    let location = |at: Location| datafusion_common::Location { line: at.line, column: at.column };
    reference.spans.add_span(datafusion_common::Span { start: location(span.start), end: location(span.end) });
    Typed::new(datafusion_expr::Expr::Column(reference), column.ty.clone())
}

/// Fields of a row, one inside the other.
pub(crate) fn access(root: Typed, fields: &[Ident]) -> Result<Typed> {
    let mut ty = root.ty.clone();
    for name in fields {
        let DataType::Struct(children) = &ty else {
            let message = format!("\"{}\" is not a field: {} has no fields", name.value, crate::types::name(&ty));
            return Fault::new(name.span, message).into();
        };
        let Some(child) = children.iter().find(|child| *child.name() == name.value) else {
            let hint = did_you_mean(&name.value, children.iter().map(|child| child.name().as_str()));
            return Fault::new(name.span, format!("unknown field \"{}\"", name.value)).maybe_hint(hint).into();
        };
        ty = child.data_type().clone();
    }
    if fields.is_empty() {
        return Ok(root);
    }
    // A path through a path is one path: pruning looks for the longest.
    let mut path: Vec<String> = Vec::new();
    let mut base = root.expr;
    if let Some((inner, names)) = row::as_field(&base) {
        path.extend(names.iter().map(ToString::to_string));
        base = inner.clone();
    }
    path.extend(fields.iter().map(|name| name.value.clone()));
    Ok(row::field(base, &path, ty))
}
