//! [io] One reconcile of a Savepoint: its finalizer and the deletion of its data. How it is taken is its job's matter.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::core::error_boundary::DeserializeGuard;
use kube::{Api, Resource, ResourceExt};
use rheos_api::kube::{Savepoint, StreamJob};
use rheos_api::savepoint::{Disposal, SavepointStatus};
use rheos_api::{API_VERSION, SAVEPOINT_KIND};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::apply::{Done, exists_is_fine, finalizer, gone_is_fine, outcome};
use super::cache::Key;
use super::error::Error;
use super::facts;
use super::operator::Operator;
use super::status::Read;
use super::stream_job::{REFUSED_PAUSE, RESYNC};
use crate::labels::FIELD_MANAGER;
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
        read = write_status(operator, key, &read, &decision.status).await?;
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

async fn write_status<W>(operator: &Operator<W>, key: &Key, read: &Read, status: &SavepointStatus) -> Result<Read, Error> {
    let body = json!({
        "apiVersion": API_VERSION,
        "kind": SAVEPOINT_KIND,
        "metadata": {"name": key.name, "uid": read.uid, "resourceVersion": read.resource_version},
        "status": status,
    });
    let api: Api<PartialObjectMeta<Savepoint>> = Api::namespaced(operator.client.clone(), &key.namespace);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let what = || format!("writing the status of Savepoint {key}");
    let written = api.patch_status(&key.name, &params, &Patch::Apply(&body)).await.map_err(Error::api(what()))?;
    Ok(Read { resource_version: written.metadata.resource_version.unwrap_or_default(), ..read.clone() })
}

async fn apply<W>(operator: &Operator<W>, key: &Key, read: &Read, actions: &[SavepointAction]) -> Result<Vec<Refusal>, Error> {
    for action in actions {
        let savepoints: Api<Savepoint> = Api::namespaced(operator.client.clone(), &key.namespace);
        let (name, done) = match action {
            SavepointAction::AddFinalizer => {
                ("AddFinalizer", finalizer(savepoints, key, read, "AddFinalizer", true).await.map(|(done, _)| done))
            }
            SavepointAction::RemoveFinalizer => {
                ("RemoveFinalizer", finalizer(savepoints, key, read, "RemoveFinalizer", false).await.map(|(done, _)| done))
            }
            SavepointAction::ApplyConfigMap(map) => ("ApplyConfigMap", create::<W, ConfigMap>(operator, key, "ApplyConfigMap", map).await),
            SavepointAction::CreateDisposalPod(pod) => {
                ("CreateDisposalPod", create::<W, Pod>(operator, key, "CreateDisposalPod", pod).await)
            }
            SavepointAction::DeletePod(target) => {
                let api: Api<Pod> = Api::namespaced(operator.client.clone(), &key.namespace);
                let preconditions =
                    Preconditions { uid: Some(target.uid.clone()), resource_version: Some(target.resource_version.clone()) };
                let params = DeleteParams::background().preconditions(preconditions);
                let deleted = gone_is_fine(api.delete(&target.name, &params).await.map(drop));
                ("DeletePod", outcome("DeletePod", &target.name, deleted, format!("deleting pod {}", target.name)))
            }
        };
        let result = match &done {
            Ok(Done::Yes) => "ok",
            Ok(Done::Refused(_)) => "refused",
            Err(_) => "error",
        };
        operator.metrics.actions.get_or_create(&ActionLabels { action: name, result }).inc();
        if let Done::Refused(refusal) = done? {
            return Ok(vec![refusal]);
        }
    }
    Ok(Vec::new())
}

async fn create<W, K>(operator: &Operator<W>, key: &Key, action: &'static str, object: &K) -> Result<Done, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(operator.client.clone(), &key.namespace);
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let named = object.name_any();
    let made = exists_is_fine(api.create(&params, object).await.map(drop));
    outcome(action, &named, made, format!("creating {} {}/{named}", K::kind(&()), key.namespace))
}
