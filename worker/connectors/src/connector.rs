//! [pure] What a connector is: a name, and how a table that names it becomes a source, a lookup or a sink.
//!
//! Each connector of this crate is a constant of its module; [`registry`](crate::registry) lists them. A program that
//! adds its own calls [`install`](crate::registry::install) first: `worker/examples/own_connector.rs` shows all of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rheos_dataflow::error::Result;
use rheos_dataflow::graph::{LookupSpec, OperatorId, SinkSpec, SourceSpec};
use rheos_dataflow::lookup::Lookup;
use rheos_dataflow::sink::{Delivery, Sink};
use rheos_dataflow::source::Source;

use crate::environment::Environment;
use crate::options::Problems;

/// The options of a table by name.
type Given = BTreeMap<String, String>;

/// Checks a table that is read, and says all that is wrong with it.
pub type CheckSource = fn(&SourceSpec) -> Result<Box<dyn SourceTable>, Problems>;
/// Checks a table that is written, and says all that is wrong with it.
pub type CheckSink = fn(&SinkSpec) -> Result<Box<dyn SinkTable>, Problems>;

/// Checks a table that is asked for rows by key, and says all that is wrong with it.
pub type CheckLookup = fn(&LookupSpec) -> Result<Box<dyn LookedUpTable>, Problems>;

/// Ways in, a way out, or both.
#[derive(Debug, Clone, Copy)]
pub struct Connector {
    /// The value of option `connector`.
    pub name: &'static str,
    /// `None`: no table of it can be read.
    pub source: Option<CheckSource>,
    /// `None`: no table of it can be written.
    pub sink: Option<CheckSink>,
    /// `None`: no table of it can be on the right of a lookup join.
    pub lookup: Option<CheckLookup>,
    /// Whether a table with these options takes rows that update earlier rows.
    pub accepts_changelog: fn(&Given) -> bool,
    /// Whether a table with these options gives such rows. Its columns then end in the kind.
    pub emits_changelog: fn(&Given) -> bool,
    /// Whether METADATA columns have a meaning; the checks above say which.
    pub has_metadata: bool,
}

impl Connector {
    /// A connector that can do nothing yet, to fill in: `Connector { sink: Some(…), ..Connector::named("x") }`.
    pub const fn named(name: &'static str) -> Self {
        Self { name, source: None, sink: None, lookup: None, accepts_changelog: |_| false, emits_changelog: |_| false, has_metadata: false }
    }
}

/// A table to read, its options and columns checked.
pub trait SourceTable {
    /// Whether a reader can begin at [`Start::Newest`](rheos_dataflow::source::Start::Newest), which `AtMostOnce` needs.
    fn begins_at_newest(&self) -> bool {
        false
    }

    /// The source itself.
    ///
    /// # Errors
    /// What an external system or a file said.
    fn build(self: Box<Self>, environment: &Environment) -> Result<Arc<dyn Source>>;
}

/// A table to ask for rows by key, its options and columns checked.
pub trait LookedUpTable {
    /// The lookup itself.
    ///
    /// # Errors
    /// What an external system or a file said.
    fn build(self: Box<Self>, environment: &Environment) -> Result<Arc<dyn Lookup>>;
}

/// A table to write, its options and columns checked.
pub trait SinkTable {
    /// Why the table cannot keep what the job promises, and what to do; `None`: it can.
    fn cannot_promise(&self, _delivery: Delivery) -> Option<String> {
        None
    }

    /// The sink itself, for the sink node `id`.
    ///
    /// # Errors
    /// What an external system or a file said.
    fn build(self: Box<Self>, id: &OperatorId, environment: &Environment) -> Result<Arc<dyn Sink>>;
}
