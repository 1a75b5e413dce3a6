//! [io] From the reply to a job's creation to its first pod.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::task::JoinSet;

use super::{Print, row, time};
use crate::bench::table::percentile;
use crate::harness::{JobSpec, Space};

/// Jobs that are created.
const JOBS: usize = 300;
/// A second.
const PACE: u32 = 100;
/// How long the last of them may take to get its pod.
const LIMIT: Duration = Duration::from_secs(120);
/// Between two looks whether all have one.
const LOOK: Duration = Duration::from_millis(100);

/// When the first pod of each job was heard of.
type Heard = Arc<Mutex<BTreeMap<String, Instant>>>;

/// Creates jobs whose pods no node takes, at a steady pace.
pub(super) async fn measure(space: &Space, print: Print<'_>) {
    let client = Client::try_default().await.expect("a client of the cluster");
    let heard = listen(Api::namespaced(client, &space.name)).await;
    let api = space.api("StreamJob");
    let mut creations = JoinSet::new();
    let mut pace = tokio::time::interval(Duration::from_secs(1) / PACE);
    let began = Instant::now();
    for number in 0..JOBS {
        let nowhere = json!({"worker": {"podTemplate": {"spec": {"nodeSelector": {"rheos.dev/nowhere": "true"}}}}});
        let job = JobSpec { parallelism: 1, ..JobSpec::new(&format!("created-{number:03}"), "tumble", 60) }.with(&nowhere);
        let job: DynamicObject = serde_json::from_value(job.manifest(&space.name, &space.endpoint)).expect("a manifest is an object");
        let api = api.clone();
        pace.tick().await;
        creations.spawn(async move {
            let made = api.create(&PostParams::default(), &job).await.expect("the apiserver takes the job");
            (made.name_any(), Instant::now())
        });
    }
    let replies = creations.join_all().await;
    let took = began.elapsed().as_secs_f64();
    let deadline = Instant::now() + LIMIT;
    while heard.lock().unwrap_or_else(PoisonError::into_inner).len() < JOBS {
        assert!(Instant::now() < deadline, "not every job has a pod after {LIMIT:?}");
        tokio::time::sleep(LOOK).await;
    }
    let heard = heard.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let waits: Vec<f64> = replies.iter().map(|(name, reply)| heard[name].saturating_duration_since(*reply).as_secs_f64() * 1e3).collect();
    let [p50, p99, most] = [0.5, 0.99, 1.0].map(|share| percentile(&waits, share));
    row(
        print,
        &format!("a job created to its pod created, {JOBS} jobs of one worker at {:.0} a second", JOBS as f64 / took),
        format!("p50 {}, p99 {}, max {}", time(p50), time(p99), time(most)),
        Some(("p99 1 s", p99 < 1_000.0)),
    );
}

/// Notes the first pod of each job, once the watch has begun.
async fn listen(pods: Api<PartialObjectMeta<Pod>>) -> Heard {
    let heard = Heard::default();
    let (begun, begin) = tokio::sync::oneshot::channel();
    let notes = Arc::clone(&heard);
    tokio::spawn(async move {
        let mut begun = Some(begun);
        let mut events = std::pin::pin!(watcher(pods, watcher::Config::default()).default_backoff());
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::InitDone) => drop(begun.take().map(|begun| begun.send(()))),
                Ok(Event::InitApply(pod) | Event::Apply(pod)) => {
                    if let Some(job) = pod.labels().get("rheos.dev/job") {
                        notes.lock().unwrap_or_else(PoisonError::into_inner).entry(job.clone()).or_insert_with(Instant::now);
                    }
                }
                _ => {}
            }
        }
    });
    begin.await.expect("the watch of pods begins");
    heard
}
