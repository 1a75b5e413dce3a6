//! [io] The table of cases, `tests/cases.yaml`.

use serde::Deserialize;
use serde_json::{Value, json};

/// A change of a small valid resource, and what is to come of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// What is tried.
    pub(crate) name: String,
    /// `StreamJob` when absent.
    #[serde(default = "stream_job")]
    pub(crate) kind: String,
    /// `metadata.name`, when it matters.
    #[serde(default = "job")]
    pub(crate) object: String,
    /// Merged over the small valid `spec`; null removes a field.
    #[serde(default)]
    pub(crate) spec: Value,
    /// The path of the first error; absent for a valid resource.
    #[serde(default)]
    pub(crate) refused: Option<String>,
    /// A rule that cannot be said in CEL: only Rust refuses it.
    #[serde(default)]
    pub(crate) rust_only: bool,
}

fn stream_job() -> String {
    "StreamJob".into()
}

fn job() -> String {
    "job".into()
}

impl Case {
    /// The resource, as it is applied.
    pub(crate) fn manifest(&self) -> Value {
        let mut spec = match self.kind.as_str() {
            "Savepoint" => json!({"job": "job"}),
            _ => json!({"sql": "INSERT INTO a SELECT * FROM b"}),
        };
        merge(&mut spec, &self.spec);
        json!({"apiVersion": "rheos.dev/v1alpha1", "kind": self.kind, "metadata": {"name": self.object}, "spec": spec})
    }
}

/// A JSON merge patch, where a text that ends in `<<N` gets N times `x` there: limits of lengths stay readable.
fn merge(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (_, Value::Null) => {}
        (Value::Object(target), Value::Object(patch)) => {
            for (name, value) in patch {
                if value.is_null() {
                    target.remove(name);
                } else {
                    merge(target.entry(name.clone()).or_insert(json!({})), value);
                }
            }
        }
        (target, Value::String(text)) => *target = Value::String(repeated(text)),
        (target, value) => *target = value.clone(),
    }
}

fn repeated(text: &str) -> String {
    match text.rsplit_once("<<").and_then(|(head, count)| Some((head, count.parse::<usize>().ok()?))) {
        Some((head, count)) => format!("{head}{}", "x".repeat(count)),
        None => text.to_owned(),
    }
}

/// Every case of the table.
pub(crate) fn all() -> Vec<Case> {
    serde_saphyr::from_str(include_str!("../cases.yaml")).unwrap()
}
