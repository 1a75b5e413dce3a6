//! [pure] What happened, oldest first: events about a job, its pods and its savepoints.

use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use rheos_api::{KIND, SAVEPOINT_KIND};
use serde_json::{Value, json};

use super::figures;
use super::paint::{self, Paint, Tone};
use super::table::{Table, cell};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happening {
    /// When it was last seen.
    pub time: Option<Timestamp>,
    /// Whether it is a warning.
    pub warning: bool,
    /// `Kind/name`.
    pub about: String,
    /// One word.
    pub reason: String,
    /// One sentence.
    pub note: String,
    /// How often it was seen.
    pub times: i32,
}

/// The events that concern a job, oldest first. Pods that are gone are known by their names; savepoints by `savepoints`.
pub fn concerning(job: &str, savepoints: &[String], events: &[Event]) -> Vec<Happening> {
    let concerns = |event: &&Event| {
        let Some(about) = &event.regarding else { return false };
        let (kind, name) = (about.kind.as_deref().unwrap_or_default(), about.name.as_deref().unwrap_or_default());
        match kind {
            KIND => name == job,
            SAVEPOINT_KIND => savepoints.iter().any(|savepoint| savepoint == name),
            "Pod" => is_pod_of(job, name),
            _ => false,
        }
    };
    let mut found: Vec<Happening> = events.iter().filter(concerns).map(happening).collect();
    found.sort_by_key(|happening| happening.time);
    found
}

/// Whether a name is one that the operator gives to worker pods of a job: `job-revision-index-incarnation`.
fn is_pod_of(job: &str, name: &str) -> bool {
    let Some(rest) = name.strip_prefix(job).and_then(|rest| rest.strip_prefix('-')) else { return false };
    let parts: Vec<&str> = rest.split('-').collect();
    let number = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    matches!(parts.as_slice(), [revision, index, incarnation] if revision.len() == 8 && number(index) && number(incarnation))
}

fn happening(event: &Event) -> Happening {
    let about = event.regarding.clone().unwrap_or_default();
    let series = event.series.as_ref();
    let time = series.map(|series| series.last_observed_time.0);
    let time = time.or_else(|| event.event_time.as_ref().map(|time| time.0));
    let time = time.or_else(|| event.deprecated_last_timestamp.as_ref().map(|time| time.0));
    Happening {
        time: time.or_else(|| event.metadata.creation_timestamp.as_ref().map(|time| time.0)),
        warning: event.type_.as_deref() == Some("Warning"),
        about: format!("{}/{}", about.kind.unwrap_or_default(), about.name.unwrap_or_default()),
        reason: event.reason.clone().unwrap_or_default(),
        note: event.note.clone().unwrap_or_default(),
        times: series.map(|series| series.count).or(event.deprecated_count).unwrap_or(1).max(1),
    }
}

/// The table.
pub fn table(events: &[Happening], now: Timestamp, paint: Paint, indent: &str) -> String {
    let mut table = Table::new(&[">AGO", "REASON", "ABOUT", "NOTE"]);
    for event in events {
        let ago = event.time.map_or_else(|| "-".into(), |time| figures::age(figures::ago(time, now)));
        let times = if event.times > 1 { format!(" (x{})", event.times) } else { String::new() };
        let tone = if event.warning { Tone::Bad } else { Tone::Plain };
        table.row(vec![
            ago.into(),
            cell(tone, paint::clean(&event.reason)),
            cell(Tone::Faint, paint::clean(&event.about)),
            format!("{}{times}", paint::clean(&event.note)).into(),
        ]);
    }
    table.render(paint, indent)
}

/// The same for programs.
pub fn value(events: &[Happening]) -> Value {
    let one = |event: &Happening| {
        json!({
            "time": event.time.map(|time| time.to_string()), "warning": event.warning, "about": event.about,
            "reason": event.reason, "note": event.note, "times": event.times,
        })
    };
    Value::Array(events.iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn event(kind: &str, name: &str, second: i64, kind_of: &str, note: &str) -> Event {
        serde_json::from_value(json!({
            "metadata": {"name": "x"}, "regarding": {"kind": kind, "name": name}, "reason": "Because", "note": note,
            "type": kind_of, "eventTime": format!("1970-01-01T00:00:{second:02}.000000Z"),
        }))
        .unwrap()
    }

    #[test]
    fn only_what_concerns_the_job_is_told_and_in_order() {
        let mut repeated = event("Pod", "bids-0123abcd-0-1", 20, "Warning", "back-off\u{1b}[31m");
        repeated.deprecated_count = Some(7);
        let events = [
            event("StreamJob", "bids", 30, "Normal", "stable"),
            repeated,
            event("Pod", "bids-per-auction-0123abcd-0-1", 5, "Normal", "another job's"),
            event("StreamJob", "bids-per-auction", 5, "Normal", "another job's"),
            event("Savepoint", "nightly", 10, "Normal", "complete"),
            event("Savepoint", "others", 10, "Normal", "another job's"),
            event("Node", "bids", 10, "Normal", "a node"),
        ];
        let found = concerning("bids", &["nightly".into()], &events);
        let now = Timestamp::from_second(60).unwrap();
        expect![[r#"
            AGO   REASON    ABOUT                   NOTE
            50s   Because   Savepoint/nightly       complete
            40s   Because   Pod/bids-0123abcd-0-1   back-off[31m (x7)
            30s   Because   StreamJob/bids          stable
        "#]]
        .assert_eq(&table(&found, now, Paint::Plain, ""));
        assert_eq!(value(&found)[1]["times"], 7);
    }
}
