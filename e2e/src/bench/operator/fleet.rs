//! [io] A fleet of suspended jobs: what the operator holds in memory, how long its start takes, what it writes at rest.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams};
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::figures::Leader;
use super::{Print, row, time};
use crate::bench::table::percentile;
use crate::figures::Figures;
use crate::harness::operator::NoOperator;
use crate::harness::watch::until;
use crate::harness::{JobSpec, Space};

/// A fleet's size, and a small one's.
const FLEET: usize = 1_000;
const FEW: usize = 10;
/// Requests to create or read at the same time.
const AT_ONCE: usize = 16;
/// How long all of a fleet may take to come or go.
const FLEET_LIMIT: Duration = Duration::from_secs(300);
/// Memory is the largest of so many looks, one a second.
const LOOKS: usize = 10;
/// Starts of the operator.
const STARTS: usize = 5;
/// How long writes are counted.
const REST: Duration = Duration::from_secs(600);
/// Running jobs beside the fleet, and how long they run.
const RUNNING: usize = 2;
const RUNNING_SECONDS: u64 = 3_600;
const MIB: f64 = 1_048_576.0;

/// Measures memory, cold start and rest, those that are wanted.
pub(super) async fn measure(space: &Space, [memory, cold, idle]: [bool; 3], print: Print<'_>) {
    let api = space.api("StreamJob");
    let leader = restart().await;
    if memory {
        create(space, &api, 0..FEW).await;
        let held = memory_of(&leader).await;
        row(print, &format!("operator's memory, {FEW} suspended jobs"), mib(held), Some(("40 MiB", held < 40.0 * MIB)));
        create(space, &api, FEW..FLEET).await;
        let held = memory_of(&leader).await;
        let what = format!("the same process after {} more were created, {AT_ONCE} at a time", FLEET - FEW);
        row(print, &what, mib(held), Some(("64 MiB", held < 64.0 * MIB)));
        drop(leader);
        let held = memory_of(&restart().await).await;
        row(print, &format!("operator's memory, started with {FLEET} suspended jobs"), mib(held), Some(("64 MiB", held < 64.0 * MIB)));
    } else {
        create(space, &api, 0..FLEET).await;
        leader.until_quiet().await;
    }
    if cold {
        cold_start(print).await;
    }
    if idle {
        rest(space, &api, print).await;
    }
    gone(&api).await;
}

fn mib(bytes: f64) -> String {
    format!("{:.0} MiB", bytes / MIB)
}

/// Ends all operators and starts them again; the one that leads.
async fn restart() -> Leader {
    drop(NoOperator::new());
    Leader::wait().await
}

/// The most of some looks, after it has come to rest.
async fn memory_of(leader: &Leader) -> f64 {
    leader.until_quiet().await;
    let mut most = 0.0_f64;
    for _ in 0..LOOKS {
        most = most.max(leader.figures().await.memory());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    most
}

/// Creates suspended jobs and waits until all are known to be.
async fn create(space: &Space, api: &Api<DynamicObject>, numbers: std::ops::Range<usize>) {
    let count = numbers.end;
    let jobs = numbers.map(|number| {
        let job = JobSpec::new(&format!("suspended-{number:04}"), "tumble", 60).with(&json!({"state": "Suspended"}));
        let job: DynamicObject = serde_json::from_value(job.manifest(&space.name, &space.endpoint)).expect("a manifest is an object");
        async move { api.create(&PostParams::default(), &job).await.expect("the apiserver takes a suspended job") }
    });
    futures::stream::iter(jobs).buffer_unordered(AT_ONCE).for_each(|_| std::future::ready(())).await;
    until(api.clone(), watcher::Config::default(), &format!("{count} suspended jobs"), FLEET_LIMIT, |jobs| {
        (jobs.values().filter(|job| job["status"]["phase"] == "Suspended").count() >= count).then_some(())
    })
    .await;
}

/// Deletes all jobs and waits until they are gone.
async fn gone(api: &Api<DynamicObject>) {
    api.delete_collection(&DeleteParams::default(), &ListParams::default()).await.expect("the apiserver deletes the jobs");
    until(api.clone(), watcher::Config::default(), "all jobs to go", FLEET_LIMIT, |jobs| jobs.is_empty().then_some(())).await;
}

async fn cold_start(print: Print<'_>) {
    let mut figures = Vec::new();
    for _ in 0..STARTS {
        let leader = restart().await;
        let first = |figures: &Figures| figures.of("rheos_operator_first_reconcile_seconds", "StreamJob");
        figures.push(1e3 * leader.until("the first reconcile", first).await);
    }
    let figure = format!("p50 {}, max {} of {STARTS}", time(percentile(&figures, 0.5)), time(percentile(&figures, 1.0)));
    let what = format!("operator's start to the end of its first reconcile, {FLEET} jobs there, the lease free");
    row(print, &what, figure, Some(("2 s", percentile(&figures, 1.0) < 2_000.0)));
}

/// Counts writes while nothing happens.
async fn rest(space: &Space, api: &Api<DynamicObject>, print: Print<'_>) {
    for number in 0..RUNNING {
        let job = JobSpec::new(&format!("running-{number}"), "tumble", RUNNING_SECONDS);
        space.submit(&job);
        space.until_checkpoint(&job.name, 0).await;
    }
    let leader = Leader::wait().await;
    leader.until_quiet().await;
    let (versions, before) = (versions(api).await, leader.figures().await);
    tokio::time::sleep(REST).await;
    let after = leader.figures().await;
    let changed = self::versions(api).await.into_iter().filter(|(name, version)| versions.get(name) != Some(version)).count();
    let minutes = REST.as_secs() / 60;
    let difference = |of: fn(&Figures) -> BTreeMap<String, u64>| -> BTreeMap<String, u64> {
        let old = of(&before);
        let grown = of(&after).into_iter().map(|(what, count)| (what.clone(), count - old.get(&what).copied().unwrap_or(0)));
        grown.filter(|(_, count)| *count > 0).collect()
    };
    let writes = difference(Figures::writes);
    let reads: u64 = difference(|figures| figures.requests(&["GET", "LIST", "WATCH"])).values().sum();
    let told: Vec<String> = writes.iter().map(|(what, count)| format!("{count} {what}")).collect();
    // Whatever is not a status of a job would be of the fleet: running jobs cause nothing else at rest.
    let of_fleet: u64 = writes.iter().filter(|(what, _)| *what != "PATCH streamjobs/status").map(|(_, count)| count).sum();
    row(
        print,
        &format!("writes in {minutes} minutes, {FLEET} suspended and {RUNNING} running jobs, the lease left out"),
        format!(
            "suspended jobs changed: {changed}; all writes: {}; reads: {reads}",
            if told.is_empty() { "0".into() } else { told.join(", ") }
        ),
        Some(("0 for the suspended", changed == 0 && of_fleet == 0)),
    );
}

/// The resource version of each suspended job: no write leaves it as it is.
async fn versions(api: &Api<DynamicObject>) -> BTreeMap<String, String> {
    let jobs = api.list(&ListParams::default()).await.expect("the apiserver lists the jobs");
    let suspended = jobs.items.into_iter().filter(|job| job.name_any().starts_with("suspended-"));
    suspended.map(|job| (job.name_any(), job.resource_version().unwrap_or_default())).collect()
}
