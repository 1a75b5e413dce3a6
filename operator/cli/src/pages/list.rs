//! [pure] All jobs, a line each.

use jiff::Timestamp;
use kube::ResourceExt;
use rheos_api::kube::StreamJob;
use serde_json::{Value, json};

use super::paint::{self, Paint, Tone};
use super::table::{Table, cell};
use super::{figures, words};

/// Longest reason in the table, characters.
const WHY_LIMIT: usize = 60;

/// The table; `wide` tells the namespace as well.
pub fn table(jobs: &[StreamJob], wide: bool, now: Timestamp, paint: Paint) -> String {
    let mut headers = vec!["NAME", "PHASE", ">WORKERS", ">CHECKPOINT", ">TOOK", ">BYTES", ">RESTARTS", ">AGE", "TROUBLE"];
    if wide {
        headers.insert(0, "NAMESPACE");
    }
    let mut table = Table::new(&headers);
    for job in jobs {
        let status = job.status.clone().unwrap_or_default();
        let checkpoint = status.last_checkpoint.as_ref();
        let created = job.metadata.creation_timestamp.as_ref().map(|time| figures::age(figures::ago(time.0, now)));
        let workers = format!("{}/{}", status.parallelism.running, status.parallelism.desired.max(job.spec.parallelism));
        let trouble = words::trouble(&status).map(|condition| paint::clean(&format!("{}: {}", condition.reason, condition.message)));
        let phase = match job.metadata.deletion_timestamp {
            Some(_) => cell(Tone::Watch, "Deleting"),
            None => cell(paint::phase(status.phase), format!("{:?}", status.phase)),
        };
        let mut row = vec![
            cell(Tone::Strong, job.name_any()),
            phase,
            workers.into(),
            checkpoint.and_then(|last| figures::since(&last.time, now)).unwrap_or_else(|| "-".into()).into(),
            checkpoint.map_or_else(|| "-".into(), |last| last.duration.clone()).into(),
            checkpoint.map_or_else(|| "-".into(), |last| figures::bytes(u64::try_from(last.bytes).unwrap_or(0))).into(),
            status.restarts.to_string().into(),
            created.unwrap_or_else(|| "-".into()).into(),
            cell(Tone::Bad, cut(trouble.unwrap_or_default())),
        ];
        if wide {
            row.insert(0, job.namespace().unwrap_or_default().into());
        }
        table.row(row);
    }
    table.render(paint, "")
}

/// The same for programs: what the table shows, and no more.
pub fn value(jobs: &[StreamJob]) -> Value {
    let one = |job: &StreamJob| {
        let status = job.status.clone().unwrap_or_default();
        json!({
            "name": job.name_any(),
            "namespace": job.namespace(),
            "phase": status.phase,
            "why": words::why(&status),
            "well": words::is_well(&status),
            "parallelism": {"desired": job.spec.parallelism, "running": status.parallelism.running},
            "lastCheckpoint": status.last_checkpoint,
            "restarts": status.restarts,
            "created": job.metadata.creation_timestamp,
            "trouble": words::trouble(&status).map(|condition| json!({"reason": condition.reason, "message": condition.message})),
        })
    };
    Value::Array(jobs.iter().map(one).collect())
}

fn cut(text: String) -> String {
    match text.char_indices().nth(WHY_LIMIT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
