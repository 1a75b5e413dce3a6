//! [io] Executes the actions of a decision in their order, and decides nothing. Objects that do not rely on each other are
//! made at the same time.
//!
//! What the apiserver or a coordinator refuses is an observed fact for the next decision, not an error: repeating it would
//! not help. Before each action the lease is looked at. What was made or changed is known to the caches from
//! the reply on, so that no reconcile is for the sake of our own writes.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::ResourceExt;
use rheos_api::kube::{Savepoint, StreamJob};
use rheos_control_api::JobView;
use tracing::{Instrument, info_span};

use super::cache::{Cache, Fact, Item, Key};
use super::error::Error;
use super::facts;
use super::objects::{self, Done, Object};
use super::operator::Operator;
use super::status::Read;
use super::workers::{Call, CallError, Target, Workers};
use crate::build::secret::TOKEN_KEY;
use crate::reconcile::action;
use crate::reconcile::{Action, Answer, Observed, Refusal};
use crate::runtime::metrics::ActionLabels;

/// Objects made at the same time for one job.
const MADE_AT_ONCE: usize = 8;

/// How a decision was applied.
#[derive(Debug, Default)]
pub struct Applied {
    /// What was refused.
    pub refused: Vec<Refusal>,
    /// Whether somebody else changed meanwhile what we wrote.
    pub disturbed: bool,
}

/// Executes `actions` in their order; the first one that is refused or fails ends it, after those that run with it.
///
/// # Errors
/// The apiserver or a coordinator did not answer, the object has changed since it was read, or the lease is lost.
pub async fn apply<W: Workers>(operator: &Operator<W>, observed: &Observed, read: &Read, actions: &[Action]) -> Result<Applied, Error> {
    let key = Key::new(&observed.job.namespace, &observed.job.name);
    let execute = Execute { operator, observed, key, read, disturbed: AtomicBool::new(false) };
    let independent = |a: &Action, b: &Action| a.makes() && a.rank() == b.rank();
    for group in actions.chunk_by(independent).flat_map(|group| group.chunks(MADE_AT_ONCE)) {
        operator.leadership.check()?;
        let outcomes = join_all(group.iter().map(|action| execute.counted(action))).await;
        for outcome in outcomes {
            if let Done::Refused(refusal) = outcome? {
                return Ok(execute.applied(vec![refusal]));
            }
        }
    }
    Ok(execute.applied(Vec::new()))
}

struct Execute<'a, W> {
    operator: &'a Operator<W>,
    observed: &'a Observed,
    key: Key,
    read: &'a Read,
    disturbed: AtomicBool,
}

impl<W: Workers> Execute<'_, W> {
    fn applied(&self, refused: Vec<Refusal>) -> Applied {
        Applied { refused, disturbed: self.disturbed.load(Ordering::Relaxed) }
    }

    async fn counted(&self, action: &Action) -> Result<Done, Error> {
        let outcome = self.one(action).instrument(info_span!("action", action = action.name())).await;
        let result = objects::word(&outcome);
        self.operator.metrics.actions.get_or_create(&ActionLabels { action: action.name(), result }).inc();
        tracing::debug!(job = %self.key, action = action.name(), result, "action");
        outcome
    }

    async fn one(&self, action: &Action) -> Result<Done, Error> {
        let (name, caches) = (action.name(), &self.operator.caches);
        match action {
            Action::AddFinalizer => self.finalizer(name, true).await,
            Action::RemoveFinalizer => self.finalizer(name, false).await,
            Action::CreateConfigMap(object) => {
                let made = |map: &ConfigMap| {
                    self.operator.snapshots.learn(&self.key, map);
                    facts::owned(&map.metadata)
                };
                self.make(name, object.as_ref(), &caches.config_maps, made).await
            }
            Action::CreateToken(secret) => self.token(name, secret).await,
            Action::CreateService(object) => self.make(name, object.as_ref(), &caches.services, |it| facts::owned(&it.metadata)).await,
            Action::CreatePdb(object) => self.make(name, object.as_ref(), &caches.budgets, |it| facts::owned(&it.metadata)).await,
            Action::CreatePod(object) => self.make(name, object.as_ref(), &caches.pods, facts::pod).await,
            Action::DeletePod { target, grace_seconds } => self.delete::<Pod>(name, target, *grace_seconds).await,
            Action::DeleteConfigMap(target) => self.delete::<ConfigMap>(name, target, None).await,
            Action::DeleteSavepoint(target) => self.delete::<Savepoint>(name, target, None).await,
            Action::Assign { pod, address, assignment } => {
                let target = self.target(pod, *address);
                let outcome = self.operator.workers.assign(&target, assignment).await;
                self.called(name, &target, outcome)
            }
            Action::Stop { pod, address } => {
                let target = self.target(pod, *address);
                let outcome = self.operator.workers.stop(&target).await;
                self.called(name, &target, outcome)
            }
            Action::Savepoint { pod, address, id } => {
                let target = self.target(pod, *address);
                match self.operator.workers.savepoint(&target, id).await {
                    Ok(()) => Ok(Done::Yes),
                    Err(error) => refused_call(name, &target, error),
                }
            }
            Action::CreateSavepoint { object, .. } => {
                let object: Savepoint =
                    serde_json::from_value((**object).clone()).map_err(|source| Error::Encode { what: "the Savepoint", source })?;
                Ok(self.create(name, &object).await?.0)
            }
            Action::WriteSavepoint { target, status } => {
                let namespace = &self.key.namespace;
                let written = objects::write_status::<Savepoint>(&self.operator.client, namespace, target, status).await;
                let what = format!("writing the status of Savepoint {namespace}/{}", target.name);
                objects::judge(name, &target.name, objects::gone_is_fine(written.map(drop)), what)
            }
        }
    }

    async fn finalizer(&self, name: &'static str, wanted: bool) -> Result<Done, Error> {
        let writing = self.operator.caches.jobs.writing(self.key.clone());
        let (done, written) = objects::finalizer::<StreamJob>(&self.operator.client, &self.key, self.read, name, wanted).await?;
        self.note(writing.end(written.as_ref().and_then(facts::job_mark)));
        Ok(done)
    }

    fn note(&self, disturbed: bool) {
        self.disturbed.fetch_or(disturbed, Ordering::Relaxed);
    }

    /// Creates an object that a cache knows; that it exists is success.
    async fn make<K: Object, F: Fact>(
        &self,
        name: &'static str,
        object: &K,
        cache: &Cache<F>,
        item: impl FnOnce(&K) -> Option<Item<F>>,
    ) -> Result<Done, Error> {
        let writing = cache.writing(Key::new(&self.key.namespace, object.name_any()));
        let (done, made) = self.create(name, object).await?;
        self.note(writing.end(made.as_ref().and_then(item)));
        Ok(done)
    }

    async fn create<K: Object>(&self, name: &'static str, object: &K) -> Result<(Done, Option<K>), Error> {
        objects::create(&self.operator.client, &self.key.namespace, name, object).await
    }

    async fn delete<K: Object>(&self, name: &'static str, target: &action::Target, grace: Option<u32>) -> Result<Done, Error> {
        objects::delete::<K>(&self.operator.client, &self.key.namespace, name, target, grace).await
    }

    async fn token(&self, name: &'static str, secret: &Secret) -> Result<Done, Error> {
        let job = &self.observed.job;
        let text = self.operator.key.token_text(&job.namespace, &job.name, &job.uid);
        let data = [(TOKEN_KEY.to_owned(), ByteString(text.into_bytes()))].into();
        Ok(self.create(name, &Secret { data: Some(data), ..secret.clone() }).await?.0)
    }

    fn target(&self, pod: &str, address: std::net::IpAddr) -> Target {
        Target { job: self.key.clone(), job_uid: self.observed.job.uid.clone(), pod: pod.to_owned(), address }
    }

    fn called(&self, name: &'static str, target: &Target, outcome: Call<JobView>) -> Result<Done, Error> {
        match outcome {
            Ok(view) => {
                if let Some(pod) = self.observed.pods.iter().find(|pod| pod.name == target.pod) {
                    self.operator.views.refresh(&pod.uid, Answer::View(Box::new(view)));
                }
                Ok(Done::Yes)
            }
            Err(error) => refused_call(name, target, error),
        }
    }
}

fn refused_call(action: &'static str, target: &Target, error: CallError) -> Result<Done, Error> {
    match error {
        CallError::Refused { status, message } => Ok(Done::Refused(Refusal {
            action,
            object: target.pod.clone(),
            code: status,
            reason: "Refused".to_owned(),
            message: facts::cut(message),
        })),
        CallError::Silent(message) => Err(Error::Worker { what: format!("{action} of pod {}", target.pod), message }),
    }
}
