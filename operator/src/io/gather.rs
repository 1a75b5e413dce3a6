//! [io] Reads what a decision needs: the job afresh, its SQL, its revisions, its pods and what they answer.

use futures::future::join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::error_boundary::DeserializeGuard;
use kube::{Api, Resource, ResourceExt};
use rheos_api::FieldError;
use rheos_api::kube::StreamJob;

use super::cache::Key;
use super::error::Error;
use super::facts;
use super::operator::Operator;
use super::status::Read;
use super::workers::{Target, Workers};
use crate::labels;
use crate::reconcile::{Answer, Identity, Observed, PodFacts, SavepointFacts, Wanted};

/// What reading a job gave.
pub enum Gathered {
    /// There is none of that name.
    Gone,
    /// It breaks the schema: it was written before the schema was installed, or by a newer version.
    Unreadable {
        /// Who it is, for an event.
        about: Box<k8s_openapi::api::core::v1::ObjectReference>,
        /// What is wrong.
        message: String,
    },
    /// It is there.
    Job {
        /// All about it.
        observed: Box<Observed>,
        /// What a write has to name.
        read: Read,
        /// Whether its SQL is in a ConfigMap.
        sql_from: bool,
        /// Who it is, for events.
        about: Box<k8s_openapi::api::core::v1::ObjectReference>,
    },
}

/// Reads a job and all that belongs to it.
///
/// # Errors
/// The apiserver refused or did not answer. That a pod does not answer is an observation.
pub async fn gather<W: Workers>(operator: &Operator<W>, key: &Key) -> Result<Gathered, Error> {
    let api: Api<DeserializeGuard<StreamJob>> = Api::namespaced(operator.client.clone(), &key.namespace);
    let read = api.get_opt(&key.name).await.map_err(Error::api(format!("reading StreamJob {key}")))?;
    let Some(DeserializeGuard(outcome)) = read else { return Ok(Gathered::Gone) };
    let job = match outcome {
        Ok(job) => job,
        Err(invalid) => {
            let about = k8s_openapi::api::core::v1::ObjectReference {
                api_version: Some(rheos_api::API_VERSION.to_owned()),
                kind: Some(rheos_api::KIND.to_owned()),
                name: Some(key.name.clone()),
                namespace: Some(key.namespace.clone()),
                uid: invalid.metadata.uid.clone(),
                ..Default::default()
            };
            return Ok(Gathered::Unreadable { about: Box::new(about), message: invalid.error });
        }
    };
    let identity = identity(key, &job);
    let wanted = wanted(operator, key, &job).await?;
    let maps = operator.caches.config_maps.of(key);
    let snapshots = operator.snapshots.read(&operator.client, key, &maps).await?;
    let pods = operator.caches.pods.of(key);
    let pods = join_all(pods.into_iter().map(|pod| ask(operator, key, &identity.uid, pod))).await;
    let observed = Observed {
        wanted,
        status: job.status.clone().unwrap_or_default(),
        snapshots,
        pods,
        service: operator.caches.services.of(key).iter().any(|owned| !owned.deleting),
        budget: operator.caches.budgets.of(key).iter().any(|owned| !owned.deleting),
        savepoints: savepoints(operator, key, &job),
        refusals: operator.refusals.of(&identity.uid),
        default_image: operator.settings.worker_image.clone(),
        first_look: !operator.phases.contains(key),
        job: identity,
    };
    let read = Read {
        uid: job.uid().unwrap_or_default(),
        resource_version: job.resource_version().unwrap_or_default(),
        finalizers: job.finalizers().to_vec(),
    };
    let (sql_from, about) = (job.spec.sql_from.is_some(), Box::new(job.object_ref(&())));
    Ok(Gathered::Job { observed: Box::new(observed), read, sql_from, about })
}

fn identity(key: &Key, job: &StreamJob) -> Identity {
    Identity {
        name: key.name.clone(),
        namespace: key.namespace.clone(),
        uid: job.uid().unwrap_or_default(),
        spec_generation: job.meta().generation.unwrap_or(0),
        annotations: job.annotations().clone(),
        finalizer: job.finalizers().iter().any(|finalizer| finalizer == labels::FINALIZER),
        deleting_since: facts::time(job.meta().deletion_timestamp.as_ref()),
    }
}

/// The spec with its SQL in place, checked.
async fn wanted<W: Workers>(operator: &Operator<W>, key: &Key, job: &StreamJob) -> Result<Wanted, Error> {
    let mut manifest = rheos_api::StreamJob::from(job);
    let source = job.spec.sql_from.as_ref().map(|from| from.config_map_key_ref.name.as_str());
    operator.sources.note(key, source);
    if let Some(from) = manifest.spec.sql_from.clone().filter(|_| manifest.spec.sql.is_none()) {
        let (name, field) = (&from.config_map_key_ref.name, &from.config_map_key_ref.key);
        let api: Api<ConfigMap> = Api::namespaced(operator.client.clone(), &key.namespace);
        let what = || format!("reading ConfigMap {}/{name} with the SQL of {key}", key.namespace);
        let text = match api.get_opt(name).await.map_err(Error::api(what()))? {
            None => Err(format!("ConfigMap {name:?} does not exist; create it, or correct spec.sqlFrom")),
            Some(map) => map
                .data
                .and_then(|mut data| data.remove(field))
                .ok_or_else(|| format!("ConfigMap {name:?} has no key {field:?}; add it, or correct spec.sqlFrom")),
        };
        match text {
            Ok(text) => {
                manifest.spec.sql = Some(text);
                manifest.spec.sql_from = None;
            }
            Err(message) => return Ok(Wanted::SqlMissing(message)),
        }
    }
    let checkpoint = &mut manifest.spec.checkpoint;
    checkpoint.storage = checkpoint.storage.take().or_else(|| operator.settings.default_storage.clone());
    Ok(match rheos_api::validate(&manifest) {
        Ok(job) if job.checkpoint.storage.is_none() => Wanted::Invalid(vec![no_storage()]),
        Ok(job) => Wanted::Valid { spec: Box::new(manifest.spec), job: Box::new(job) },
        Err(errors) => Wanted::Invalid(errors),
    })
}

/// Without a store that outlives its pods, a job would begin empty after their loss.
fn no_storage() -> FieldError {
    FieldError {
        path: "spec.checkpoint.storage".to_owned(),
        problem: "is missing, and this operator has no default".to_owned(),
        hint: "name a store that all pods reach, such as uri: s3://bucket/prefix, or install the chart with worker.storage".to_owned(),
    }
}

/// What a pod of index 0 says of the job: what its follower last heard, or else an answer of now.
async fn ask<W: Workers>(operator: &Operator<W>, job: &Key, job_uid: &str, mut pod: PodFacts) -> PodFacts {
    let Some(address) = pod.address.filter(|_| pod.index == 0 && pod.phase == "Running") else { return pod };
    if let Some(answer) = operator.views.of(&pod.uid) {
        pod.answer = answer;
        return pod;
    }
    let target = Target { job: job.clone(), job_uid: job_uid.to_owned(), pod: pod.name.clone(), address };
    pod.answer = match operator.workers.job(&target).await {
        Ok(view) => Answer::View(Box::new(view)),
        Err(error) => Answer::Silent(error.message()),
    };
    pod
}

fn savepoints<W: Workers>(operator: &Operator<W>, key: &Key, job: &StreamJob) -> Vec<SavepointFacts> {
    let mut found = operator.caches.savepoints.of(key);
    let named = job.spec.restore.as_ref().and_then(|restore| restore.from.savepoint.clone());
    if let Some(name) = named.filter(|name| !found.iter().any(|savepoint| savepoint.name == *name)) {
        found.extend(operator.caches.savepoints.get(&Key::new(key.namespace.clone(), name)));
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}
