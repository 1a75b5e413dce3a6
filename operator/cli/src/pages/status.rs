//! [pure] The page of one job, for a person on call: where it is, why, its figures, what went wrong, what to do next.

use jiff::Timestamp;
use kube::ResourceExt;
use rheos_api::kube::{Savepoint, StreamJob};
use rheos_api::savepoint::SavepointPhase;
use rheos_api::status::StreamJobStatus;
use rheos_control_api::JobView;
use serde_json::{Value, json};

use super::advice::{self, About};
use super::events::{self, Happening};
use super::paint::{self, Paint, Tone};
use super::table::{Table, cell};
use super::{figures, words};

/// Savepoints on the page, the newest.
const SAVEPOINTS: usize = 3;
/// Events on the page, the newest warnings.
const WARNINGS: usize = 5;

/// A worker pod, as Kubernetes sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodLine {
    /// Its name.
    pub name: String,
    /// The process that it hosts.
    pub index: String,
    /// Where it runs.
    pub node: String,
    /// `Running`, `Pending`, or why its container waits.
    pub state: String,
    /// Whether it is ready.
    pub ready: bool,
    /// Restarts of its container.
    pub restarts: i32,
    /// Its address, by which the coordinator's figures are matched.
    pub address: String,
}

/// All that the page is made of.
#[derive(Debug, Clone)]
pub struct Picture {
    /// The job.
    pub job: StreamJob,
    /// Its pods.
    pub pods: Vec<PodLine>,
    /// Its savepoints.
    pub savepoints: Vec<Savepoint>,
    /// Events about it.
    pub events: Vec<Happening>,
    /// What its coordinator says, or why that is not known.
    pub view: Result<JobView, String>,
    /// Now.
    pub now: Timestamp,
}

/// The page.
pub fn page(picture: &Picture, paint: Paint) -> String {
    let job = &picture.job;
    let status = job.status.clone().unwrap_or_default();
    let mut text = headline(picture, &status, paint);
    let mut line = |label: &str, value: String| text += &format!("{} {value}\n", paint.text(Tone::Strong, &format!("{label:<12}")));
    line("Workers", workers(job, &status, picture.now));
    match &picture.view {
        Ok(view) => {
            let rows = view.rows;
            line(
                "Throughput",
                format!(
                    "{} rows/s read, {} rows/s written ({} and {} in all)",
                    figures::count(rows.read_per_second),
                    figures::count(rows.written_per_second),
                    figures::count(rows.read as f64),
                    figures::count(rows.written as f64),
                ),
            );
            line("Lag", lag(view));
        }
        Err(why) => line("Throughput", format!("not known: {}", paint::clean(why))),
    }
    line("Checkpoints", checkpoints(picture, &status));
    if let Ok(view) = &picture.view
        && let Some(chart) = durations(view)
    {
        line("", chart);
    }
    for (number, savepoint) in newest(&picture.savepoints).enumerate() {
        line(if number == 0 { "Savepoints" } else { "" }, savepoint_line(savepoint, picture.now));
    }
    text += &pods(picture, &status, paint);
    text += &troubles(picture, &status, paint);
    let steps = steps(picture, &status);
    if !steps.is_empty() {
        text += &format!("\n{}\n", paint.text(Tone::Strong, "What to do next"));
        steps.iter().enumerate().for_each(|(number, step)| text += &format!("  {}. {step}\n", number + 1));
    }
    text
}

fn headline(picture: &Picture, status: &StreamJobStatus, paint: Paint) -> String {
    let job = &picture.job;
    let name = paint.text(Tone::Strong, &format!("{}/{}", job.namespace().unwrap_or_default(), job.name_any()));
    let phase = paint.text(paint::phase(status.phase), &format!("{:?}", status.phase));
    let since = words::since(status).and_then(|since| figures::since(since, picture.now));
    let since = since.map_or_else(String::new, |since| format!(" for {since}"));
    let deleting = if job.metadata.deletion_timestamp.is_some() { ", being deleted" } else { "" };
    format!("{name}  {phase}{since}{deleting}\n{}\n\n", paint::clean(&words::why(status)))
}

fn workers(job: &StreamJob, status: &StreamJobStatus, now: Timestamp) -> String {
    let mut text = format!("{} of {}", status.parallelism.running, job.spec.parallelism);
    if let Some(revision) = &status.revision {
        text += &format!(", revision {revision}");
    }
    if let Some(generation) = status.generation {
        text += &format!(", generation {generation}");
    }
    text += &match (status.restarts, &status.last_restart) {
        (0, _) => ", no restarts".to_owned(),
        (restarts, None) => format!(", {restarts} restarts"),
        (restarts, Some(last)) => {
            let ago = figures::since(&last.time, now).unwrap_or_default();
            format!(", {restarts} restarts, the last {ago} ago: {}", paint::clean(&last.reason))
        }
    };
    if let Some(rollout) = &status.rollout {
        let since = figures::since(&rollout.since, now).unwrap_or_default();
        text += &format!("; {:?} to revision {} under way for {since} ({:?})", rollout.kind, rollout.to.revision, rollout.stage);
    }
    text
}

fn lag(view: &JobView) -> String {
    let watermark = match view.watermark_lag_ms {
        Some(lag) => format!("watermark {} behind", figures::millis(lag.max(0) as f64)),
        None => "no watermark yet".to_owned(),
    };
    let epochs = view.workers.iter().map(|worker| worker.epoch_lag).max().unwrap_or(0);
    format!("{watermark}, epoch {} ({epochs} open behind it)", view.epoch)
}

fn checkpoints(picture: &Picture, status: &StreamJobStatus) -> String {
    let checkpoint = &picture.job.spec.checkpoint;
    let every = format!("every {}", checkpoint.interval);
    let ago = |time: Option<Timestamp>| time.map_or_else(|| "-".to_owned(), |time| figures::age(figures::ago(time, picture.now)));
    match (&picture.view, &status.last_checkpoint) {
        (Ok(view), _) if !view.checkpoints.history.is_empty() => {
            let done = &view.checkpoints;
            let last = done.history.last().map_or_else(String::new, |last| {
                let at = Timestamp::from_millisecond(last.completed_at).ok();
                format!("; the last {} ago in {}, {}", ago(at), figures::millis(last.duration_ms), figures::bytes(last.bytes))
            });
            let failed = if done.failed == 0 { "none failed".to_owned() } else { format!("{} failed", done.failed) };
            format!("{every}; {} complete, {failed}{last}", done.completed)
        }
        (_, Some(last)) => {
            let bytes = figures::bytes(u64::try_from(last.bytes).unwrap_or(0));
            format!("{every}; the last known {} ago in {}, {bytes}", ago(last.time.parse().ok()), last.duration)
        }
        (_, None) => format!("{every}; none is complete yet"),
    }
}

/// The newest durations as a chart.
fn durations(view: &JobView) -> Option<String> {
    let values: Vec<f64> = view.checkpoints.history.iter().map(|checkpoint| checkpoint.duration_ms).collect();
    if values.len() < 2 {
        return None;
    }
    let (least, most) = values.iter().fold((f64::MAX, 0.0_f64), |(least, most), value| (least.min(*value), most.max(*value)));
    Some(format!("{}  {} to {}, newest right", figures::chart(&values), figures::millis(least), figures::millis(most)))
}

fn newest(savepoints: &[Savepoint]) -> impl Iterator<Item = &Savepoint> {
    let mut sorted: Vec<&Savepoint> = savepoints.iter().collect();
    sorted.sort_by_key(|savepoint| std::cmp::Reverse(savepoint.metadata.creation_timestamp.clone()));
    sorted.into_iter().take(SAVEPOINTS)
}

fn savepoint_line(savepoint: &Savepoint, now: Timestamp) -> String {
    let status = savepoint.status.clone().unwrap_or_default();
    let time = status.finished_at.as_deref().or(status.started_at.as_deref());
    let ago = time.and_then(|time| figures::since(time, now)).map_or_else(String::new, |ago| format!(" {ago} ago"));
    let rest = match status.phase {
        SavepointPhase::Completed => status.uri.unwrap_or_default(),
        _ => status.message.unwrap_or_default(),
    };
    format!("{} {:?}{ago} {}", savepoint.name_any(), status.phase, paint::clean(&rest)).trim_end().to_owned()
}

fn pods(picture: &Picture, status: &StreamJobStatus, paint: Paint) -> String {
    let coordinator = status.assigned.as_ref().map(|assigned| assigned.coordinator.as_str());
    let mut table = Table::new(&["POD", "NODE", "STATE", ">RESTARTS", ">OPEN EPOCHS", ">IN FLIGHT", ">PEAK MEMORY"]);
    for pod in &picture.pods {
        let leads = if coordinator == Some(pod.name.as_str()) { " *" } else { "" };
        let process = pod.index.parse().ok();
        let view = picture.view.as_ref().ok();
        let worker = view.and_then(|view| view.workers.iter().find(|worker| Some(worker.process) == process));
        let figure = |read: &dyn Fn(&rheos_control_api::WorkerView) -> String| worker.map_or_else(|| "-".to_owned(), read);
        table.row(vec![
            format!("{}{leads}", pod.name).into(),
            pod.node.as_str().into(),
            cell(if pod.ready { Tone::Good } else { Tone::Bad }, paint::clean(&pod.state)),
            pod.restarts.to_string().into(),
            figure(&|worker| worker.epoch_lag.to_string()).into(),
            figure(&|worker| figures::bytes(worker.in_flight_bytes)).into(),
            figure(&|worker| figures::bytes(worker.peak_rss_bytes)).into(),
        ]);
    }
    if table.is_empty() { String::new() } else { format!("\n{}", table.render(paint, "")) }
}

fn troubles(picture: &Picture, status: &StreamJobStatus, paint: Paint) -> String {
    let mut lines = Vec::new();
    if let Some(trouble) = words::trouble(status) {
        lines.push(format!("{}: {}", trouble.reason, trouble.message));
    }
    if let Ok(view) = &picture.view {
        lines.extend(view.failure.as_ref().map(|failure| format!("failure: {failure}")));
        lines.extend(view.checkpoints.last_failure.as_ref().map(|why| format!("last failed checkpoint: {why}")));
        lines.extend(view.restarts.last_cause.as_ref().map(|why| format!("last restart: {why}")));
        let away = view.members.iter().filter(|member| member.away_since.is_some());
        lines.extend(away.map(|member| format!("away: {}: {}", member.pod, member.reason.as_deref().unwrap_or("not known why"))));
    }
    if let Some(last) = &status.last_restart {
        lines.push(format!("last restart seen by the operator: {}: {}", last.reason, last.message));
    }
    if let Some(rejected) = &status.rejected {
        lines.push(format!("taken back: revision {}: {}: {}", rejected.revision, rejected.reason, rejected.message));
    }
    let mut seen = std::collections::BTreeSet::new();
    lines.retain(|line| seen.insert(line.clone()));
    let mut text = String::new();
    if !lines.is_empty() {
        text += &format!("\n{}\n", paint.text(Tone::Strong, "Last errors"));
        lines.iter().for_each(|line| text += &format!("  {}\n", paint::clean(line)));
    }
    let warnings: Vec<Happening> = picture.events.iter().filter(|event| event.warning).cloned().collect();
    if !warnings.is_empty() {
        let newest = &warnings[warnings.len().saturating_sub(WARNINGS)..];
        text += &format!("\n{}\n{}", paint.text(Tone::Strong, "Last warnings"), events::table(newest, picture.now, paint, "  "));
    }
    text
}

fn steps(picture: &Picture, status: &StreamJobStatus) -> Vec<String> {
    let job = &picture.job;
    let (name, namespace) = (job.name_any(), job.namespace().unwrap_or_default());
    let seen = status.observed_generation >= job.metadata.generation;
    advice::next(About { job: &name, namespace: &namespace, seen, status })
}

/// The same for programs.
pub fn value(picture: &Picture) -> Value {
    let job = &picture.job;
    let status = job.status.clone().unwrap_or_default();
    let pod = |pod: &PodLine| json!({"name": pod.name, "index": pod.index, "node": pod.node, "state": pod.state, "ready": pod.ready, "restarts": pod.restarts});
    let savepoint = |savepoint: &Savepoint| json!({"name": savepoint.name_any(), "status": savepoint.status});
    json!({
        "name": job.name_any(),
        "namespace": job.namespace(),
        "well": words::is_well(&status),
        "why": words::why(&status),
        "status": status,
        "pods": picture.pods.iter().map(pod).collect::<Vec<_>>(),
        "savepoints": picture.savepoints.iter().map(savepoint).collect::<Vec<_>>(),
        "live": picture.view.as_ref().ok(),
        "whyNotLive": picture.view.as_ref().err(),
        "events": events::value(&picture.events),
        "next": steps(picture, &status),
    })
}

#[cfg(test)]
mod tests;
