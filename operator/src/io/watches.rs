//! [io] Watches that cannot wedge each other.
//!
//! Each runs in a task of its own with a backoff of its own, ends after [`WATCH_TIMEOUT`] and begins anew; what it hears goes
//! into a cache and wakes a queue. An error is logged and counted and goes nowhere else. Jobs, ConfigMaps, Services and
//! budgets are watched by metadata alone: they take little memory, and no spec can break a watch.

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
use super::facts;
use super::operator::Caches;
use crate::labels;
use crate::reconcile::SavepointFacts;
use crate::runtime::client::WATCH_TIMEOUT;
use crate::runtime::controllers::Works;
use crate::runtime::metrics::{KindLabels, Metrics};
use crate::runtime::runner::Work;

/// Objects a page of a list.
pub const PAGE: u32 = 500;

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
    pub fn start(client: &Client, scopes: &[String], caches: &Caches, works: &Works, metrics: &Arc<Metrics>) -> Self {
        let (jobs, savepoints) = (&works.jobs, &works.savepoints);
        let mut watches = Self { client: client.clone(), scopes: scopes.to_vec(), metrics: Arc::clone(metrics), tasks: JoinSet::new() };
        let ours = format!("{}={}", labels::MANAGED_BY, labels::OPERATOR_NAME);
        let of_jobs = format!("{ours},{}", labels::JOB);
        let workers = format!("{of_jobs},{}", labels::INDEX);
        let revisions = format!("{of_jobs},{}", labels::REVISION);
        let wake = |work: &Work<Key>| {
            let work = work.clone();
            move |changed: Changed| work.push(changed.owner)
        };
        let disposals = format!("{ours},{}={}", labels::ROLE, labels::DISPOSAL);
        // A Savepoint says so when its job comes or goes.
        let (to_jobs, to_savepoints, known) = (jobs.clone(), savepoints.clone(), caches.savepoints.clone());
        let of_job = move |changed: Changed| {
            for savepoint in known.of(&changed.key) {
                to_savepoints.push(Key::new(changed.key.namespace.clone(), savepoint.name));
            }
            if changed.new { to_jobs.push_first(changed.key) } else { to_jobs.push(changed.key) }
        };
        watches.add::<PartialObjectMeta<StreamJob>, _>("StreamJob", "", sink(|job| facts::job_mark(&job.metadata), &caches.jobs, of_job));
        watches.add::<Pod, _>("Pod", &workers, sink(|pod| facts::pod(&pod), &caches.pods, wake(jobs)));
        let to_disposals = sink(|pod| facts::disposal(&pod), &caches.disposals, wake(savepoints));
        watches.add::<Pod, _>("Pod", &disposals, to_disposals);
        let to_maps = sink(|map: PartialObjectMeta<ConfigMap>| facts::owned(&map.metadata), &caches.config_maps, wake(jobs));
        watches.add("ConfigMap", &revisions, to_maps);
        let to_services = sink(|service: PartialObjectMeta<Service>| facts::owned(&service.metadata), &caches.services, wake(jobs));
        watches.add("Service", &of_jobs, to_services);
        let to_budgets = sink(|budget: PartialObjectMeta<_>| facts::owned(&budget.metadata), &caches.budgets, wake(jobs));
        watches.add::<PartialObjectMeta<PodDisruptionBudget>, _>("PodDisruptionBudget", &of_jobs, to_budgets);
        let (jobs, savepoints) = (jobs.clone(), savepoints.clone());
        let both = move |changed: Changed| {
            jobs.push(changed.owner);
            savepoints.push(changed.key);
        };
        watches.add::<DeserializeGuard<Savepoint>, _>("Savepoint", "", sink(guarded, &caches.savepoints, both));
        watches
    }

    /// Watches one kind. Of `PartialObjectMeta` the apiserver sends metadata only.
    fn add<K, F>(&mut self, kind: &'static str, selector: &str, sink: Sink<K, F>)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + 'static,
        F: Fact + Send + Sync + 'static,
    {
        for scope in self.scopes.clone() {
            let events = watcher(self.api::<K>(&scope), config(selector));
            self.tasks.spawn(listen(kind, scope, events, sink.clone(), Arc::clone(&self.metrics)));
        }
    }

    fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self, scope: &str) -> Api<K> {
        match scope {
            "" => Api::all(self.client.clone()),
            namespace => Api::namespaced(self.client.clone(), namespace),
        }
    }
}

fn config(selector: &str) -> watcher::Config {
    let seconds = u32::try_from(WATCH_TIMEOUT.as_secs()).unwrap_or(u32::MAX);
    let config = watcher::Config::default().timeout(seconds).page_size(PAGE);
    if selector.is_empty() { config } else { config.labels(selector) }
}

/// What becomes of the objects of a watch: what is kept of them, where, and whom a change wakes.
struct Sink<K, F> {
    extract: fn(K) -> Option<Item<F>>,
    cache: Cache<F>,
    wake: Arc<dyn Fn(Changed) + Send + Sync>,
}

impl<K, F> Clone for Sink<K, F> {
    fn clone(&self) -> Self {
        Self { extract: self.extract, cache: self.cache.clone(), wake: Arc::clone(&self.wake) }
    }
}

fn sink<K, F>(extract: fn(K) -> Option<Item<F>>, cache: &Cache<F>, wake: impl Fn(Changed) + Send + Sync + 'static) -> Sink<K, F> {
    Sink { extract, cache: cache.clone(), wake: Arc::new(wake) }
}

/// Listens to one watch until the task is ended.
async fn listen<K, F: Fact>(
    kind: &'static str,
    scope: String,
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send,
    sink: Sink<K, F>,
    metrics: Arc<Metrics>,
) {
    let mut events = std::pin::pin!(events.default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => sink.cache.apply(&scope, map(event, sink.extract)).into_iter().for_each(|changed| (sink.wake)(changed)),
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
