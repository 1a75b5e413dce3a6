//! [pure] What `kubectl get` shows: the first questions of a person on call. Columns of priority 1 need `-o wide`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceColumnDefinition;

/// Columns of `kubectl get streamjobs`.
pub(super) fn stream_job() -> Vec<CustomResourceColumnDefinition> {
    vec![
        column("Phase", "string", ".status.phase", "Where the job is in its life", false),
        column("Ready", "integer", ".status.parallelism.running", "Workers that run", false),
        column("Desired", "integer", ".spec.parallelism", "Workers that are wanted", false),
        column("Checkpoint", "date", ".status.lastCheckpoint.time", "Age of the latest checkpoint", false),
        column("Bytes", "integer", ".status.lastCheckpoint.bytes", "Bytes that the latest checkpoint wrote", false),
        column("Restarts", "integer", ".status.restarts", "Restarts since the job was created", false),
        column("Age", "date", ".metadata.creationTimestamp", "Age of the job", false),
        column("Delivery", "string", ".spec.delivery", "What is promised of every row", true),
        column("Epoch", "integer", ".status.lastCheckpoint.epoch", "Epoch that the latest checkpoint closes", true),
        column("Duration", "string", ".status.lastCheckpoint.duration", "Time that the latest checkpoint took", true),
        column("Savepoint", "date", ".status.lastSavepoint.time", "Age of the latest savepoint", true),
        column("Generation", "integer", ".status.generation", "Starts of the job in its checkpoint store", true),
        column("Revision", "string", ".status.revision", "Hash of what the pods were built from", true),
        column("Last-Restart", "string", ".status.lastRestart.reason", "Why the job last restarted", true),
        column("Message", "string", ".status.conditions[?(@.type==\"Ready\")].message", "Why the job is ready or not", true),
    ]
}

/// Columns of `kubectl get savepoints`.
pub(super) fn savepoint() -> Vec<CustomResourceColumnDefinition> {
    vec![
        column("Job", "string", ".spec.job", "The job that is saved", false),
        column("Phase", "string", ".status.phase", "Where the savepoint is in its life", false),
        column("Bytes", "integer", ".status.bytes", "Its size", false),
        column("Finished", "date", ".status.finishedAt", "Time since it was complete or given up", false),
        column("Age", "date", ".metadata.creationTimestamp", "Age of the resource", false),
        column("Disposal", "string", ".spec.disposal", "What happens to the data when the resource is deleted", true),
        column("Epoch", "integer", ".status.epoch", "Epoch that it closes", true),
        column("Attempts", "integer", ".status.attempts", "Times that the job was asked", true),
        column("URI", "string", ".status.uri", "Where it is", true),
        column("Message", "string", ".status.message", "What it waits for, or why it failed", true),
    ]
}

fn column(name: &str, kind: &str, path: &str, description: &str, wide: bool) -> CustomResourceColumnDefinition {
    CustomResourceColumnDefinition {
        name: name.to_owned(),
        type_: kind.to_owned(),
        json_path: path.to_owned(),
        description: Some(description.to_owned()),
        priority: wide.then_some(1),
        format: None,
    }
}
