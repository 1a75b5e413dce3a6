//! [pure] The columns that names can stand for in one SELECT.

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
    /// Alias or name of the relation, as in `alias.column`.
    pub(crate) qualifier: Option<String>,
    /// Visible name of each column of `rel`.
    pub(crate) names: Vec<String>,
}

impl Scope {
    pub(crate) fn new(rel: Arc<Rel>, qualifier: Option<String>) -> Self {
        let names = rel.columns.iter().map(|column| column.name.clone()).collect();
        Self { rel, qualifier, names }
    }

    /// Resolves `a`, `alias.a`, `a.field` or `alias.a.field.field`.
    pub(crate) fn resolve(&self, path: &[Ident]) -> Result<Typed> {
        let [first, rest @ ..] = path else { return Err(Fault::new(Span::empty(), "an empty name").into()) };
        if let [column, fields @ ..] = rest
            && self.qualifier.as_ref() == Some(&first.value)
            && let Some(found) = self.find(&column.value)
        {
            return access(named(found, column.span), fields);
        }
        if let Some(found) = self.find(&first.value) {
            return access(named(found, first.span), rest);
        }
        let (unknown, kind) = match rest {
            [column, ..] if self.qualifier.as_ref() == Some(&first.value) => (column, "column"),
            [_, ..] => (first, "table or column"),
            [] => (first, "column"),
        };
        Fault::new(unknown.span, format!("unknown {kind} \"{}\"", unknown.value)).maybe_hint(self.suggest(&unknown.value)).into()
    }

    fn find(&self, name: &str) -> Option<&Column> {
        self.names.iter().position(|other| other == name).and_then(|index| self.rel.columns.get(index))
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
