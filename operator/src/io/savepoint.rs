//! [io] One reconcile of a Savepoint: its finalizer and the deletion of its data. How it is taken is its job's matter.

use k8s_openapi::api::core::v1::Pod;
use kube::core::error_boundary::DeserializeGuard;
use kube::{Api, Resource, ResourceExt};
use rheos_api::kube::{Savepoint, StreamJob};
use rheos_api::savepoint::Disposal;

use super::cache::Key;
use super::error::Error;
use super::facts;
use super::objects::{self, Done};
use super::operator::Operator;
use super::status::Read;
use super::stream_job::{REFUSED_PAUSE, RESYNC};
use crate::lifecycle::disposal::{self, SavepointAction, SavepointObserved};
use crate::reconcile::{Refusal, SavepointFacts};
use crate::runtime::backoff;
use crate::runtime::metrics::ActionLabels;
use crate::runtime::runner::Next;

/// Reconciles one Savepoint.
///
/// # Errors
/// The apiserver did not answer, or something has changed since it was read.
pub async fn reconcile<W>(operator: &Operator<W>, key: &Key) -> Result<Next, Error> {
    operator.leadership.check()?;
    let api: Api<DeserializeGuard<Savepoint>> = Api::namespaced(operator.client.clone(), &key.namespace);
    let read = api.get_opt(&key.name).await.map_err(Error::api(format!("reading Savepoint {key}")))?;
    let Some(DeserializeGuard(Ok(object))) = read else { return Ok(Next::OnChange) };
    let about = object.object_ref(&());
    let mut read = Read {
        uid: object.uid().unwrap_or_default(),
        resource_version: object.resource_version().unwrap_or_default(),
        finalizers: object.finalizers().to_vec(),
    };
    let Some(savepoint) = facts::savepoint(object).map(|item| item.fact) else { return Ok(Next::OnChange) };
    let observed = SavepointObserved {
        namespace: key.namespace.clone(),
        job_exists: operator.caches.jobs.contains(&Key::new(key.namespace.clone(), savepoint.spec.job.clone())),
        referred_to_by: referrers(operator, key, &savepoint).await?,
        pod: operator.caches.disposals.of(key).into_iter().next(),
        refusals: operator.refusals.of(&savepoint.uid),
        default_image: operator.settings.worker_image.clone(),
        savepoint,
    };
    let decision = disposal::decide(&observed, (operator.clock)());
    if decision.status != observed.savepoint.status {
        let written = objects::write_status::<Savepoint>(&operator.client, &key.namespace, &read.target(key), &decision.status).await;
        read.resource_version = written.map_err(Error::api(format!("writing the status of Savepoint {key}")))?;
    }
    let outcome = apply(operator, key, &read, &decision.actions).await;
    operator.events.publish(&about, &decision.events).await;
    let refused = outcome?;
    if let Some(times) = operator.refusals.note(&read.uid, refused) {
        let pause = backoff::delay(&read.uid, times).min(REFUSED_PAUSE);
        return Ok(Next::After(if times == 0 { std::time::Duration::ZERO } else { pause }));
    }
    Ok(Next::After(decision.requeue.unwrap_or(RESYNC)))
}

/// The jobs that would miss the data. Read afresh, and only when the data is to be deleted.
async fn referrers<W>(operator: &Operator<W>, key: &Key, savepoint: &SavepointFacts) -> Result<Vec<String>, Error> {
    let deletes = savepoint.deleting_since.is_some() && savepoint.finalizer && savepoint.spec.disposal == Disposal::Delete;
    if !deletes || savepoint.status.uri.is_none() {
        return Ok(Vec::new());
    }
    let api: Api<DeserializeGuard<StreamJob>> = Api::namespaced(operator.client.clone(), &key.namespace);
    let jobs = api.list(&Default::default()).await;
    let jobs = jobs.map_err(Error::api(format!("listing the StreamJobs that refer to Savepoint {key}")))?;
    let jobs = jobs.items.into_iter().filter_map(|guard| guard.0.ok());
    Ok(jobs.filter(|job| refers(job, savepoint)).map(|job| job.name_any()).collect())
}

fn refers(job: &StreamJob, savepoint: &SavepointFacts) -> bool {
    let from = job.spec.restore.as_ref().map(|restore| &restore.from);
    let by_spec = from
        .is_some_and(|from| from.savepoint.as_ref() == Some(&savepoint.name) || (from.uri.is_some() && from.uri == savepoint.status.uri));
    let rollout = job.status.as_ref().and_then(|status| status.rollout.as_ref());
    by_spec || rollout.and_then(|rollout| rollout.savepoint.as_ref()) == Some(&savepoint.name)
}

async fn apply<W>(operator: &Operator<W>, key: &Key, read: &Read, actions: &[SavepointAction]) -> Result<Vec<Refusal>, Error> {
    let (client, namespace) = (&operator.client, &key.namespace);
    for action in actions {
        let name = action.name();
        let done = match action {
            SavepointAction::AddFinalizer => objects::finalizer::<Savepoint>(client, key, read, name, true).await.map(|(done, _)| done),
            SavepointAction::RemoveFinalizer => objects::finalizer::<Savepoint>(client, key, read, name, false).await.map(|(done, _)| done),
            SavepointAction::CreateConfigMap(map) => objects::create(client, namespace, name, map.as_ref()).await.map(|(done, _)| done),
            SavepointAction::CreateDisposalPod(pod) => objects::create(client, namespace, name, pod.as_ref()).await.map(|(done, _)| done),
            SavepointAction::DeletePod(target) => objects::delete::<Pod>(client, namespace, name, target, None).await,
        };
        operator.metrics.actions.get_or_create(&ActionLabels { action: name, result: objects::word(&done) }).inc();
        if let Done::Refused(refusal) = done? {
            return Ok(vec![refusal]);
        }
    }
    Ok(Vec::new())
}
