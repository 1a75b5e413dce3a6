//! [io] Watches that cannot wedge each other.
//!
//! Each runs in a task of its own with a backoff of its own, ends after [`WATCH_TIMEOUT`] and begins anew; what it hears goes
//! into a cache and wakes a queue. An error is logged and counted and goes nowhere else. Jobs, ConfigMaps, Services and
//! budgets are watched by metadata alone: they take little memory, and no spec can break a watch.
//!
//! The ConfigMaps of people are watched too, for the SQL that jobs have there, all in one watch: one for each that a job
//! names would be a connection's stream for each. It costs their metadata once, page by page, and then what changes; the
//! one that every namespace has is left out, and nothing is kept.

use std::fmt::Debug;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::PartialObjectMeta;
use kube::core::error_boundary::DeserializeGuard;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use rheos_api::kube::{Savepoint, StreamJob};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use super::cache::{Cache, Changed, Fact, Item, Key};
use super::facts::{self, OwnedFacts};
use super::operator::Operator;
use super::sources::Sources;
use crate::labels;
use crate::reconcile::SavepointFacts;
use crate::runtime::client::WATCH_TIMEOUT;
use crate::runtime::controllers::Works;
use crate::runtime::metrics::{KindLabels, Metrics};
use crate::runtime::runner::Work;

/// Objects a page of a list.
pub const PAGE: u32 = 500;
/// Leaves out the ConfigMap that Kubernetes puts into every namespace.
const NO_ROOT_CA: &str = "metadata.name!=kube-root-ca.crt";

/// Where watches put what they hear.
pub struct Watches {
    client: Client,
    /// Namespaces; one empty name is all of them.
    scopes: Vec<String>,
    metrics: Arc<Metrics>,
    tasks: JoinSet<()>,
}

impl Watches {
    /// Starts all watches. They end when the value is dropped.
    pub fn start<W>(operator: &Operator<W>, scopes: &[String], works: &Works) -> Self {
        let (caches, jobs, savepoints) = (&operator.caches, &works.jobs, &works.savepoints);
        let (client, metrics) = (operator.client.clone(), Arc::clone(&operator.metrics));
        let mut watches = Self { client, scopes: scopes.to_vec(), metrics, tasks: JoinSet::new() };
        let ours = format!("{}={}", labels::MANAGED_BY, labels::OPERATOR_NAME);
        let of_jobs = format!("{ours},{}", labels::JOB);
        let workers = format!("{of_jobs},{}", labels::INDEX);
        let revisions = format!("{of_jobs},{}", labels::REVISION);
        let disposals = format!("{ours},{}={}", labels::ROLE, labels::DISPOSAL);
        let wake = |work: &Work<Key>| {
            let work = work.clone();
            move |changed: Changed| work.push(changed.owner)
        };
        // A Savepoint says so when its job comes or goes.
        let (to_jobs, to_savepoints, known) = (jobs.clone(), savepoints.clone(), caches.savepoints.clone());
        let of_job = move |changed: Changed| {
            for savepoint in known.of(&changed.key) {
                to_savepoints.push(Key::new(changed.key.namespace.clone(), savepoint.name));
            }
            if changed.new { to_jobs.push_first(changed.key) } else { to_jobs.push(changed.key) }
        };
        let (to_jobs, to_savepoints) = (jobs.clone(), savepoints.clone());
        let both = move |changed: Changed| {
            to_jobs.push(changed.owner);
            to_savepoints.push(changed.key);
        };
        watches.add(
            "StreamJob",
            selected(""),
            hear::<PartialObjectMeta<StreamJob>, _>(|it| facts::job_mark(&it.metadata), &caches.jobs, of_job),
        );
        watches.add("Pod", selected(&workers), hear::<Pod, _>(|pod| facts::pod(&pod), &caches.pods, wake(jobs)));
        watches.add("Pod", selected(&disposals), hear::<Pod, _>(|pod| facts::disposal(&pod), &caches.disposals, wake(savepoints)));
        watches.add("ConfigMap", selected(&revisions), owned::<ConfigMap>(&caches.config_maps, wake(jobs)));
        watches.add("Service", selected(&of_jobs), owned::<Service>(&caches.services, wake(jobs)));
        watches.add("PodDisruptionBudget", selected(&of_jobs), owned::<PodDisruptionBudget>(&caches.budgets, wake(jobs)));
        watches.add("Savepoint", selected(""), hear(guarded, &caches.savepoints, both));
        let of_people = selected(&format!("!{}", labels::REVISION)).fields(NO_ROOT_CA);
        watches.add("ConfigMap", of_people, edited(&operator.sources, jobs));
        watches
    }

    /// Watches one kind. Of `PartialObjectMeta` the apiserver sends metadata only.
    fn add<K>(&mut self, kind: &'static str, config: watcher::Config, hear: Hear<K>)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        for scope in self.scopes.clone() {
            let events = watcher(self.api::<K>(&scope), config.clone());
            self.tasks.spawn(listen(kind, scope, events, Arc::clone(&hear), Arc::clone(&self.metrics)));
        }
    }

    fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self, scope: &str) -> Api<K> {
        match scope {
            "" => Api::all(self.client.clone()),
            namespace => Api::namespaced(self.client.clone(), namespace),
        }
    }
}

fn selected(selector: &str) -> watcher::Config {
    let seconds = u32::try_from(WATCH_TIMEOUT.as_secs()).unwrap_or(u32::MAX);
    let config = watcher::Config::default().timeout(seconds).page_size(PAGE);
    if selector.is_empty() { config } else { config.labels(selector) }
}

/// What becomes of what a watch over a scope tells.
type Hear<K> = Arc<dyn Fn(&str, Event<K>) + Send + Sync>;

/// `extract` of the objects goes into a cache, and what changes there wakes somebody.
fn hear<K, F: Fact + Send + Sync + 'static>(
    extract: fn(K) -> Option<Item<F>>,
    cache: &Cache<F>,
    wake: impl Fn(Changed) + Send + Sync + 'static,
) -> Hear<K>
where
    K: 'static,
{
    let cache = cache.clone();
    Arc::new(move |scope, event| cache.apply(scope, map(event, extract)).into_iter().for_each(&wake))
}

/// The same of the metadata of objects that a job owns.
fn owned<K: 'static>(cache: &Cache<OwnedFacts>, wake: impl Fn(Changed) + Send + Sync + 'static) -> Hear<PartialObjectMeta<K>> {
    hear(|object: PartialObjectMeta<K>| facts::owned(&object.metadata), cache, wake)
}

/// Of the ConfigMaps of people nothing is kept: one that comes, changes or goes wakes the jobs whose SQL is in it.
fn edited(sources: &Sources, jobs: &Work<Key>) -> Hear<PartialObjectMeta<ConfigMap>> {
    let (sources, jobs) = (sources.clone(), jobs.clone());
    Arc::new(move |_, event| {
        if let Event::Apply(map) | Event::InitApply(map) | Event::Delete(map) = event
            && let Some(key) = facts::key(&map.metadata)
        {
            sources.of(&key).into_iter().for_each(|job| jobs.push(job));
        }
    })
}

/// Listens to one watch until the task is ended.
async fn listen<K>(
    kind: &'static str,
    scope: String,
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send,
    hear: Hear<K>,
    metrics: Arc<Metrics>,
) {
    let mut events = std::pin::pin!(events.default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => hear(&scope, event),
            Err(error) => {
                metrics.watch_restarts.get_or_create(&KindLabels { kind }).inc();
                tracing::warn!(kind, scope, "a watch failed and begins anew: {error}");
            }
        }
    }
}

fn guarded(object: DeserializeGuard<Savepoint>) -> Option<Item<SavepointFacts>> {
    match object.0 {
        Ok(savepoint) => facts::savepoint(savepoint),
        Err(invalid) => {
            let name = invalid.metadata.name.as_deref().unwrap_or_default();
            tracing::warn!(savepoint = name, "a Savepoint breaks the schema and is left alone: {}", invalid.error);
            None
        }
    }
}

/// The event over facts.
pub fn map<K, F>(event: Event<K>, extract: impl Fn(K) -> Option<Item<F>>) -> Event<Option<Item<F>>> {
    match event {
        Event::Apply(object) => Event::Apply(extract(object)),
        Event::Delete(object) => Event::Delete(extract(object)),
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(extract(object)),
        Event::InitDone => Event::InitDone,
    }
}
