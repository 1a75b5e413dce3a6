//! [io] The job of a scenario, as a manifest. The clock is read once: each run of the scenarios has outputs of its own.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::s3::BUCKET;
use crate::shapes::{Settings, Shape};

/// Where the S3 server is, as pods see it.
#[derive(Debug, Clone)]
pub struct Endpoint(pub String);

/// A job.
#[derive(Debug, Clone)]
pub struct JobSpec {
    /// Name of the job.
    pub name: String,
    /// Its folder in the output.
    pub output: String,
    /// What it computes.
    pub shape: &'static Shape,
    /// Events in all: events / pace is the least time that it runs.
    pub events: u64,
    /// Events a second.
    pub pace: u64,
    /// Workers.
    pub parallelism: u32,
    /// Anything else of the spec, merged over the rest.
    pub more: Value,
}

impl JobSpec {
    /// A job of the shape `shape` that runs for at least `seconds`, on two workers.
    ///
    /// # Panics
    /// When there is no such shape.
    pub fn new(name: &str, shape: &str, seconds: u64) -> Self {
        const PACE: u64 = 4_000;
        let shape = Shape::named(shape).expect("a shape");
        Self { name: name.to_owned(), output: name.to_owned(), shape, events: seconds * PACE, pace: PACE, parallelism: 2, more: json!({}) }
    }

    /// Merges more of the spec.
    #[must_use]
    pub fn with(mut self, more: &Value) -> Self {
        merge(&mut self.more, more);
        self
    }

    /// The folder of its output in the bucket.
    pub fn folder(&self, namespace: &str) -> String {
        static RUN: OnceLock<u128> = OnceLock::new();
        let run = RUN.get_or_init(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis()));
        format!("out/{run}/{namespace}/{}", self.output)
    }

    /// The SQL.
    pub fn sql(&self, namespace: &str) -> String {
        let output = format!("s3://{BUCKET}/{}/", self.folder(namespace));
        let settings = Settings { events: self.events, events_per_second: Some(self.pace), output, ..Settings::default() };
        self.shape.sql(&settings)
    }

    /// The manifest.
    pub fn manifest(&self, namespace: &str, endpoint: &Endpoint) -> Value {
        let mut spec = json!({
            "parallelism": self.parallelism,
            "maxParallelism": 64,
            "sql": self.sql(namespace),
            "checkpoint": {
                "interval": "1s", "timeout": "30s",
                "storage": {
                    "uri": format!("s3://{BUCKET}/checkpoints"), "endpoint": endpoint.0, "region": "us-east-1",
                    "credentialsSecretRef": {"name": "s3"},
                },
            },
            "restart": {"maxRestarts": 100, "backoff": {"initial": "100ms", "max": "2s"}},
        });
        merge(&mut spec, &self.more);
        json!({
            "apiVersion": "rheos.dev/v1alpha1", "kind": "StreamJob",
            "metadata": {"name": self.name, "namespace": namespace}, "spec": spec,
        })
    }
}

/// Merges `from` over `into` (RFC 7386: null removes).
pub fn merge(into: &mut Value, from: &Value) {
    let (Value::Object(into), Value::Object(from)) = (&mut *into, from) else {
        *into = from.clone();
        return;
    };
    for (name, value) in from {
        if value.is_null() {
            into.remove(name);
        } else {
            merge(into.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_merged_over_the_manifest() {
        let job = JobSpec::new("a", "tumble", 10).with(&json!({"checkpoint": {"interval": "2s", "timeout": null}}));
        let manifest = job.manifest("n", &Endpoint("http://10.0.0.1:1".into()));
        let checkpoint = &manifest["spec"]["checkpoint"];
        assert_eq!((&checkpoint["interval"], checkpoint.get("timeout")), (&json!("2s"), None));
        assert_eq!(checkpoint["storage"]["endpoint"], "http://10.0.0.1:1");
        assert!(manifest["spec"]["sql"].as_str().unwrap().contains(&format!("s3://rheos/{}/out", job.folder("n"))));
    }
}
