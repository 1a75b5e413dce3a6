//! [io] What every reconcile holds: clients, caches, what was refused, who leads. No decision rests on anything here that
//! a new process would not find again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use kube::Client;
use rheos_api::stream_job::Storage;

use super::cache::{Cache, Key};
use super::events::Events;
use super::facts::{JobMark, OwnedFacts};
use super::snapshots::Snapshots;
use super::sources::Sources;
use crate::lifecycle::disposal::DisposalPod;
use crate::reconcile::{Answer, PodFacts, Refusal, SavepointFacts};
use crate::runtime::leader::Leadership;
use crate::runtime::metrics::{Metrics, PhaseLabels};

/// What the operator was started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Image of workers whose job names none.
    pub worker_image: String,
    /// Checkpoint storage of jobs that name none.
    pub default_storage: Option<Storage>,
}

/// Everything that watches told.
#[derive(Debug, Clone, Default)]
pub struct Caches {
    /// Jobs.
    pub jobs: Cache<JobMark>,
    /// Worker pods, by job.
    pub pods: Cache<PodFacts>,
    /// ConfigMaps of revisions, by job.
    pub config_maps: Cache<OwnedFacts>,
    /// Services, by job.
    pub services: Cache<OwnedFacts>,
    /// Disruption budgets, by job.
    pub budgets: Cache<OwnedFacts>,
    /// Savepoints, by job.
    pub savepoints: Cache<SavepointFacts>,
    /// Pods that delete savepoints, by savepoint.
    pub disposals: Cache<DisposalPod>,
}

impl Caches {
    /// The kinds whose first lists, of all `scopes`, are not complete.
    pub fn missing(&self, scopes: &[String]) -> Vec<&'static str> {
        let ready = [
            ("StreamJob", self.jobs.is_ready(scopes)),
            ("Pod", self.pods.is_ready(scopes) && self.disposals.is_ready(scopes)),
            ("ConfigMap", self.config_maps.is_ready(scopes)),
            ("Service", self.services.is_ready(scopes)),
            ("PodDisruptionBudget", self.budgets.is_ready(scopes)),
            ("Savepoint", self.savepoints.is_ready(scopes)),
        ];
        ready.into_iter().filter(|(_, ready)| !ready).map(|(kind, _)| kind).collect()
    }
}

/// What pods last answered, by the pod's uid. Filled by followers and by the replies to our own calls.
#[derive(Debug, Clone, Default)]
pub struct Views {
    answers: Arc<Mutex<BTreeMap<String, Answer>>>,
}

impl Views {
    /// What a pod last answered, if somebody follows it.
    pub fn of(&self, pod_uid: &str) -> Option<Answer> {
        self.lock().get(pod_uid).cloned()
    }

    /// A follower has heard this.
    pub fn put(&self, pod_uid: &str, answer: Answer) {
        self.lock().insert(pod_uid.to_owned(), answer);
    }

    /// A call was answered with this: newer than what a follower has heard, if somebody follows the pod at all.
    pub fn refresh(&self, pod_uid: &str, answer: Answer) {
        if let Some(slot) = self.lock().get_mut(pod_uid) {
            *slot = answer;
        }
    }

    /// Nobody follows the pod any more.
    pub fn forget(&self, pod_uid: &str) {
        self.lock().remove(pod_uid);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was refused when the last decision on a job was applied, by the job's uid, and how often in a row.
#[derive(Debug, Default)]
pub struct Refusals {
    refused: Mutex<BTreeMap<String, (Vec<Refusal>, u32)>>,
}

impl Refusals {
    /// What was refused last.
    pub fn of(&self, uid: &str) -> Vec<Refusal> {
        self.lock().get(uid).map(|(refused, _)| refused.clone()).unwrap_or_default()
    }

    /// Notes the outcome of a whole decision. `None`: nothing was refused now or before. Otherwise how often in a row
    /// exactly this was refused; 0: this is news.
    pub fn note(&self, uid: &str, refused: Vec<Refusal>) -> Option<u32> {
        let mut all = self.lock();
        if refused.is_empty() {
            return all.remove(uid).map(|_| 0);
        }
        match all.get_mut(uid) {
            Some((old, times)) if *old == refused => {
                *times = times.saturating_add(1);
                Some(*times)
            }
            _ => {
                all.insert(uid.to_owned(), (refused, 0));
                Some(0)
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, (Vec<Refusal>, u32)>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The phase each job is in and since when, as far as this process has looked at it.
#[derive(Debug, Default)]
pub struct Phases {
    known: Mutex<BTreeMap<Key, (String, Timestamp)>>,
}

impl Phases {
    /// Whether a job was looked at before.
    pub fn contains(&self, job: &Key) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).contains_key(job)
    }

    /// A job is in `phase`, or is gone.
    pub fn note(&self, metrics: &Metrics, job: &Key, phase: Option<String>, now: Timestamp) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(job).map(|(phase, _)| phase) == phase.as_ref() {
            return;
        }
        if let Some((phase, since)) = known.remove(job) {
            let labels = PhaseLabels { phase };
            metrics.jobs.get_or_create(&labels).dec();
            let spent = now.duration_since(since).as_secs_f64();
            metrics.phase_seconds.get_or_create(&labels).observe(spent.max(0.0));
        }
        if let Some(phase) = phase {
            metrics.jobs.get_or_create(&PhaseLabels { phase: phase.clone() }).inc();
            known.insert(job.clone(), (phase, now));
        }
    }
}

/// What tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Everything that a reconcile holds.
pub struct Operator<W> {
    /// The apiserver.
    pub client: Client,
    /// The pods of jobs.
    pub workers: Arc<W>,
    /// What watches told.
    pub caches: Caches,
    /// Revisions that were read.
    pub snapshots: Snapshots,
    /// Whose SQL is in which ConfigMap.
    pub sources: Sources,
    /// What pods answered.
    pub views: Views,
    /// What was refused.
    pub refusals: Refusals,
    /// Where events go.
    pub events: Events,
    /// Whether we may act.
    pub leadership: Leadership,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// Phases.
    pub phases: Phases,
    /// What we were started with.
    pub settings: Settings,
    /// The key that tokens follow from.
    pub key: super::token::MasterKey,
    /// The time.
    pub clock: Clock,
}

impl<W> Operator<W> {
    /// An operator that has seen nothing yet. `instance` names this process in events.
    pub fn new(
        client: Client,
        workers: Arc<W>,
        key: super::token::MasterKey,
        settings: Settings,
        leadership: Leadership,
        metrics: Arc<Metrics>,
        instance: String,
    ) -> Self {
        Self {
            events: Events::new(client.clone(), instance),
            client,
            workers,
            caches: Caches::default(),
            snapshots: Snapshots::default(),
            sources: Sources::default(),
            views: Views::default(),
            refusals: Refusals::default(),
            leadership,
            metrics,
            phases: Phases::default(),
            settings,
            key,
            clock: Arc::new(Timestamp::now),
        }
    }
}
