//! [pure] Binds names and types: syntax trees to the relational plan.

pub(crate) mod aggregate;
pub(crate) mod call;
pub(crate) mod expr;
pub(crate) mod join;
pub(crate) mod literal;
pub(crate) mod operator;
pub(crate) mod query;
pub(crate) mod scope;
pub(crate) mod script;
pub(crate) mod select;
pub(crate) mod window;
