//! [pure] What a change of a spec means: every field has a class, the strongest of all changed fields wins.
//!
//! The revision of a job is the hash of its [`Class::Redeploy`] fields, from the same table: what asks for new pods and
//! what the pods are built from cannot drift apart.

use rheos_api::StreamJobSpec;
use serde_json::{Map, Value};

use crate::hash;

/// Hex digits of a revision.
const REVISION_DIGITS: usize = 8;

/// What a change of a field asks for, from least to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Nothing now.
    Ignore,
    /// Told to the running coordinator.
    InPlace,
    /// The job runs or stops.
    Lifecycle,
    /// Another number of workers.
    Rescale,
    /// New pods.
    Redeploy,
    /// It cannot be done; the job goes on as it is.
    Refused,
}

/// The class of every field of a spec; the longest path that fits decides.
const CLASSES: &[(&str, Class)] = &[
    ("sql", Class::Redeploy),
    // Its text is put into `sql` before specs are compared: where it stands does not matter.
    ("sqlFrom", Class::Ignore),
    ("state", Class::Lifecycle),
    ("parallelism", Class::Rescale),
    ("maxParallelism", Class::Refused),
    ("delivery", Class::Redeploy),
    ("checkpoint.interval", Class::InPlace),
    ("checkpoint.timeout", Class::InPlace),
    ("checkpoint.retain", Class::InPlace),
    ("checkpoint.storage", Class::Redeploy),
    ("upgrade", Class::Ignore),
    ("savepoints", Class::Ignore),
    ("ttlAfterFinished", Class::Ignore),
    ("restore", Class::Ignore),
    // Only a rise counts, see `effective`.
    ("restore.nonce", Class::Redeploy),
    ("restart", Class::InPlace),
    ("replication", Class::Redeploy),
    ("autoscaling", Class::Ignore),
    ("worker", Class::Redeploy),
];

/// One changed field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The field, from the root of the spec: `checkpoint.interval`.
    pub path: String,
    /// What it asks for.
    pub class: Class,
}

/// The class of a field. One that is not in the table asks for new pods: that is always safe.
pub fn class_of(path: &str) -> Class {
    let fits = |known: &str| path == known || path.strip_prefix(known).is_some_and(|rest| rest.starts_with('.'));
    CLASSES.iter().filter(|(known, _)| fits(known)).max_by_key(|(known, _)| known.len()).map_or(Class::Redeploy, |(_, class)| *class)
}

/// All changed fields, by path. `acted_nonce` is the highest `restore.nonce` that was acted on.
pub fn diff(old: &StreamJobSpec, new: &StreamJobSpec, acted_nonce: i64) -> Vec<Change> {
    let mut changes = Vec::new();
    compare("", &effective(old, acted_nonce), &effective(new, acted_nonce), &mut changes);
    changes
}

/// The strongest class among changes.
pub fn strongest(changes: &[Change]) -> Class {
    changes.iter().map(|change| change.class).max().unwrap_or(Class::Ignore)
}

/// The revision of a spec whose SQL is in place: a hash of all that its pods are built from. What has its default value
/// is left out, so that an operator that knows more fields gives the same revision.
pub fn revision(spec: &StreamJobSpec, acted_nonce: i64) -> String {
    let default = effective(&StreamJobSpec::default(), 0);
    hash::of_json(&keep("", &effective(spec, acted_nonce), &default, Class::Redeploy), REVISION_DIGITS)
}

/// A spec as JSON, with the nonce that counts: one that is not above `acted_nonce` asks for nothing.
fn effective(spec: &StreamJobSpec, acted_nonce: i64) -> Value {
    let mut value = serde_json::to_value(spec).unwrap_or_default();
    let nonce = spec.restore.as_ref().map_or(0, |restore| restore.nonce).max(acted_nonce);
    if let Some(fields) = value.as_object_mut() {
        fields.remove("sqlFrom");
        let restore = fields.entry("restore").or_insert_with(|| Value::Object(Map::new()));
        if let Some(restore) = restore.as_object_mut() {
            restore.insert("nonce".to_owned(), nonce.into());
        }
    }
    value
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn compare(path: &str, old: &Value, new: &Value, changes: &mut Vec<Change>) {
    match (old, new) {
        (Value::Object(before), Value::Object(after)) => {
            let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let (old, new) = (before.get(name).unwrap_or(&Value::Null), after.get(name).unwrap_or(&Value::Null));
                compare(&join(path, name), old, new, changes);
            }
        }
        // A whole group came or went: its fields are compared with nothing, one by one.
        (Value::Object(_), Value::Null) => compare(path, old, &Value::Object(Map::new()), changes),
        (Value::Null, Value::Object(_)) => compare(path, &Value::Object(Map::new()), new, changes),
        _ if old == new => {}
        _ => changes.push(Change { path: path.to_owned(), class: class_of(path) }),
    }
}

/// The part of a spec that is of one class and not as by default.
fn keep(path: &str, value: &Value, default: &Value, class: Class) -> Value {
    let Value::Object(fields) = value else { return value.clone() };
    let mut kept = Map::new();
    for (name, field) in fields {
        let path = join(path, name);
        let default = default.get(name).unwrap_or(&Value::Null);
        let below = CLASSES.iter().any(|(known, of)| *of == class && known.starts_with(&format!("{path}.")));
        if field != default && (class_of(&path) == class || below) {
            let field = keep(&path, field, default, class);
            // An empty group says the same as an absent one.
            if field.as_object().is_none_or(|fields| !fields.is_empty()) {
                kept.insert(name.clone(), field);
            }
        }
    }
    Value::Object(kept)
}

#[cfg(test)]
mod tests;
