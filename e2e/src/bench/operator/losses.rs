//! [io] A worker's pod is lost, a job is rescaled, the leader is lost: how long each lasts, and where the time goes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::DynamicObject;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use serde_json::json;

use super::figures::Leader;
use super::{Print, row, spread, time};
use crate::bench::table::percentile;
use crate::cluster::images::SEND;
use crate::harness::install::NAMESPACE;
use crate::harness::kubectl::{kubectl, must};
use crate::harness::operator::{Stoppable, rolled_out};
use crate::harness::watch::resource;
use crate::harness::{JobSpec, Space};

/// How often each loss is brought about.
const ROUNDS: usize = 10;
/// Rescales from two workers to four.
const RESCALES: usize = 5;
/// Losses of the leader.
const LEADERS: usize = 5;
/// How long a measured job runs: longer than any measurement.
const SECONDS: u64 = 7_200;

/// Something that a watch told, and when, ms since 1970.
#[derive(Debug, Clone)]
struct Seen {
    at: i64,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    /// A pod is there. Its successor may have its name, not its uid.
    Pod { uid: String, index: String, running: bool, ready: bool },
    /// A pod of this uid is gone.
    Gone(String),
    /// The status holds this assignment.
    Assigned(u64),
}

/// All that watches of a namespace's pods and jobs tell.
#[derive(Debug, Clone, Default)]
struct Record {
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Record {
    /// Listens on a thread of its own: `kubectl` holds up the one that measures.
    fn begin(namespace: &str) -> Self {
        let record = Self::default();
        let (notes, namespace) = (record.clone(), namespace.to_owned());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(notes.listen(&namespace));
        });
        record
    }

    async fn listen(&self, namespace: &str) {
        let client = Client::try_default().await.expect("a client of the cluster");
        let pods = watcher(Api::<Pod>::namespaced(client.clone(), namespace), watcher::Config::default()).default_backoff();
        let pods = pods.for_each(|event| {
            match event {
                Ok(Event::InitApply(pod) | Event::Apply(pod)) => self.note(pod_facts(&pod)),
                Ok(Event::Delete(pod)) => self.note(What::Gone(pod.metadata.uid.unwrap_or_default())),
                _ => {}
            }
            std::future::ready(())
        });
        let jobs: Api<DynamicObject> = Api::namespaced_with(client, namespace, &resource("StreamJob"));
        let jobs = watcher(jobs, watcher::Config::default()).default_backoff().for_each(|event| {
            if let Ok(Event::InitApply(job) | Event::Apply(job)) = event {
                self.note(What::Assigned(job.data["status"]["assignment"].as_u64().unwrap_or_default()));
            }
            std::future::ready(())
        });
        tokio::join!(pods, jobs);
    }

    fn note(&self, what: What) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(Seen { at: wall_millis(), what });
    }

    /// When `wanted` was first told, from a moment on.
    fn first(&self, from: i64, wanted: impl Fn(&What) -> bool) -> Option<i64> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().find(|seen| seen.at >= from && wanted(&seen.what)).map(|seen| seen.at)
    }

    fn assignment(&self) -> u64 {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().filter_map(|seen| if let What::Assigned(version) = seen.what { Some(version) } else { None }).max().unwrap_or(0)
    }
}

fn wall_millis() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

fn pod_facts(pod: &Pod) -> What {
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let container = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref()?.first());
    What::Pod {
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        index: labels.get("rheos.dev/index").cloned().unwrap_or_default(),
        running: container.is_some_and(|container| container.state.as_ref().is_some_and(|state| state.running.is_some())),
        ready: container.is_some_and(|container| container.ready),
    }
}

/// The parts of one loss, ms, in the order of [`PARTS`].
type Parts = [f64; 5];
const PARTS: [&str; 5] = ["new pod", "its container runs (kubelet)", "it is ready (probes)", "assignment", "first row"];
/// The kubelet's place among them.
const KUBELET: usize = 1;

/// Pods of workers are deleted at once, as the loss of their machine does.
pub(super) async fn kill(space: &Space, print: Print<'_>) {
    let record = Record::begin(&space.name);
    let job = JobSpec::new("killed", "tumble", SECONDS);
    space.submit(&job);
    let mut generation = space.until_checkpoint(&job.name, 0).await;
    for (index, what) in [(1, "another worker"), (0, "worker 0, which coordinates")] {
        let mut rounds: Vec<Parts> = Vec::new();
        for _ in 0..ROUNDS {
            rounds.push(lose(space, &record, &job, index, generation).await);
            generation = space.until_checkpoint(&job.name, generation + 1).await;
        }
        let sums = |parts: &[usize]| -> Vec<f64> { rounds.iter().map(|round| parts.iter().map(|part| round[*part]).sum()).collect() };
        let all: Vec<usize> = (0..PARTS.len()).collect();
        let ours: Vec<usize> = all.iter().copied().filter(|part| *part != KUBELET).collect();
        let told: Vec<String> =
            PARTS.iter().enumerate().map(|(part, name)| format!("{name} {}", time(percentile(&sums(&[part]), 0.5)))).collect();
        let beyond = sums(&ours);
        row(
            print,
            &format!("pod of {what} deleted at once to the first row, {ROUNDS} times"),
            format!("{}; medians of the parts: {}; beyond the kubelet's part {}", spread(&sums(&all)), told.join(", "), spread(&beyond)),
            Some(("2 s beyond the kubelet's part", percentile(&beyond, 1.0) < 2_000.0)),
        );
    }
}

/// One loss.
async fn lose(space: &Space, record: &Record, job: &JobSpec, index: u32, generation: u64) -> Parts {
    let (pod, assignment, from) = (space.pod(&job.name, index), record.assignment(), wall_millis());
    let old = space.kubectl(&["get", "pod", &pod, "-o", "jsonpath={.metadata.uid}"]);
    space.kill_pod(&pod);
    let flowing = space
        .until_view(&job.name, "rows of the next generation", |view| {
            let next = view["generation"].as_u64()? > generation;
            next.then(|| view["flowingSince"].as_i64()).flatten()
        })
        .await;
    let of_new = |wanted: fn(bool, bool) -> bool| {
        let index = index.to_string();
        let old = old.clone();
        move |what: &What| matches!(what, What::Pod { uid, index: it, running, ready } if *it == index && *uid != old && wanted(*running, *ready))
    };
    let moments = [
        record.first(from, |what| matches!(what, What::Gone(uid) if *uid == old)),
        record.first(from, of_new(|_, _| true)),
        record.first(from, of_new(|running, _| running)),
        record.first(from, of_new(|_, ready| ready)),
        record.first(from, |what| matches!(what, What::Assigned(version) if *version > assignment)),
        Some(flowing),
    ];
    let moments = moments.map(|moment| moment.unwrap_or_else(|| panic!("a moment of the loss of {pod} was not seen: {moments:?}")));
    let mut parts = Parts::default();
    let mut last = moments[0];
    // A part that begins before the last one ended takes the rest; the sum stays what it is.
    for (part, moment) in parts.iter_mut().zip(&moments[1..]) {
        *part = (moment - last).max(0) as f64;
        last = last.max(*moment);
    }
    parts
}

/// A job goes from two workers to four, and back.
pub(super) async fn rescale(space: &Space, print: Print<'_>) {
    let job = JobSpec::new("scaled", "tumble", SECONDS);
    space.submit(&job);
    let mut generation = space.until_checkpoint(&job.name, 0).await;
    let mut pauses = [Vec::new(), Vec::new()];
    let mut asked = Vec::new();
    for _ in 0..RESCALES {
        for (pauses, workers) in pauses.iter_mut().zip([4_u64, 2]) {
            let began = wall_millis();
            space.kubectl(&["scale", "streamjob", &job.name, &format!("--replicas={workers}")]);
            let (pause, flowing) = space
                .until_view(&job.name, &format!("rows of {workers} workers"), |view| {
                    let now = view["generation"].as_u64()?;
                    let timing = view["restarts"]["timings"].as_array()?.last()?.clone();
                    let done =
                        now > generation && view["parallelism"].as_u64() == Some(workers) && timing["generation"] == view["generation"];
                    done.then(|| Some((timing["firstRowMs"].as_f64()?, view["flowingSince"].as_i64()?))).flatten()
                })
                .await;
            pauses.push(pause);
            if workers == 4 {
                asked.push((flowing - began) as f64);
            }
            generation = space.until_checkpoint(&job.name, generation + 1).await;
        }
    }
    let [up, down] = pauses;
    row(
        print,
        &format!("rescale 2 to 4, small state: pause from the drain to the first row, {RESCALES} times"),
        format!("{}; asked for to the first row, the start of two pods within, {}", spread(&up), spread(&asked)),
        Some(("3 s", percentile(&up, 1.0) < 3_000.0)),
    );
    row(print, "the same, 4 to 2", spread(&down), Some(("3 s", percentile(&down, 1.0) < 3_000.0)));
}

/// The leader's process is killed, so that it does not give its lease back, and its pod is taken away.
pub(super) async fn leader(space: &Space, print: Print<'_>) {
    let job = JobSpec::new("edited", "tumble", 60).with(&json!({"state": "Suspended"}));
    space.submit(&job);
    space.until_phase(&job.name, "Suspended").await;
    let _killable = Stoppable::new();
    let mut parallelism = 2;
    let mut figures = Vec::new();
    for _ in 0..LEADERS {
        rolled_out().unwrap_or_else(|error| panic!("{error}"));
        let lost = Leader::wait().await.pod;
        let began = Instant::now();
        must(&["exec", "-n", NAMESPACE, &lost, "-c", "operator", "--", SEND, "9", "rheos-operator run"]);
        let _ = kubectl(&["delete", "pod", &lost, "-n", NAMESPACE, "--force", "--grace-period=0", "--wait=false"]);
        parallelism = 5 - parallelism;
        let patch = json!({"spec": {"parallelism": parallelism}}).to_string();
        space.kubectl(&["patch", "streamjob", &job.name, "--type=merge", "-p", &patch]);
        space
            .until_job(&job.name, "the next operator to see the edit", |job| {
                (job["status"]["observedGeneration"] == job["metadata"]["generation"]).then_some(())
            })
            .await;
        figures.push(began.elapsed().as_secs_f64() * 1e3);
    }
    row(
        print,
        &format!("leader killed, its lease not given back, to the next reconcile, {LEADERS} times"),
        spread(&figures),
        Some(("20 s", percentile(&figures, 1.0) < 20_000.0)),
    );
}
