//! [io] The writes to the apiserver that both controllers make, and what their answers mean.
//!
//! Creating what exists and deleting what is gone are successes. What would be refused again, however often it is asked, is
//! no error but a fact for the next decision. Deletes and writes carry the uid and resource version that were seen.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::cache::Key;
use super::error::Error;
use super::facts;
use super::status::Read;
use crate::labels::{FIELD_MANAGER, FINALIZER};
use crate::reconcile::Refusal;
use crate::reconcile::action::Target;

/// A kind of object in a namespace.
pub(super) trait Object:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Serialize + DeserializeOwned + Debug
{
}

impl<K> Object for K where K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Serialize + DeserializeOwned + Debug {}

/// How a write ended that did not fail.
pub(super) enum Done {
    /// It is as it was asked for.
    Yes,
    /// It was refused.
    Refused(Refusal),
}

/// The outcome of an action in one word, for the metrics.
pub(super) fn word(outcome: &Result<Done, Error>) -> &'static str {
    match outcome {
        Ok(Done::Yes) => "ok",
        Ok(Done::Refused(_)) => "refused",
        Err(_) => "error",
    }
}

/// Creates an object; that it exists is success. As it is now, if it was made.
pub(super) async fn create<K: Object>(
    client: &Client,
    namespace: &str,
    action: &'static str,
    object: &K,
) -> Result<(Done, Option<K>), Error> {
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let named = object.name_any();
    let (made, written) = apart(Api::<K>::namespaced(client.clone(), namespace).create(&params, object).await);
    let written = match written {
        Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => Ok(()),
        other => other,
    };
    Ok((judge(action, &named, written, format!("creating {} {namespace}/{named}", K::kind(&())))?, made))
}

/// Deletes an object, if it is still the one that was seen; with less than its own time to end, where `grace` says so.
pub(super) async fn delete<K: Object>(
    client: &Client,
    namespace: &str,
    action: &'static str,
    target: &Target,
    grace: Option<u32>,
) -> Result<Done, Error> {
    let preconditions = Preconditions { uid: Some(target.uid.clone()), resource_version: Some(target.resource_version.clone()) };
    let params = DeleteParams { grace_period_seconds: grace, ..DeleteParams::background() };
    let deleted = Api::<K>::namespaced(client.clone(), namespace).delete(&target.name, &params.preconditions(preconditions)).await;
    let what = format!("deleting {} {namespace}/{}", K::kind(&()), target.name);
    judge(action, &target.name, gone_is_fine(deleted.map(drop)), what)
}

/// Puts our finalizer on an object that was read, or takes it away; those of others stay. The object's metadata after it,
/// if it is there.
pub(super) async fn finalizer<K: Object>(
    client: &Client,
    key: &Key,
    read: &Read,
    action: &'static str,
    wanted: bool,
) -> Result<(Done, Option<ObjectMeta>), Error> {
    let mut finalizers = read.finalizers.clone();
    finalizers.retain(|finalizer| finalizer != FINALIZER);
    if wanted {
        finalizers.push(FINALIZER.to_owned());
    }
    let patch = json!({"metadata": {
        "uid": read.uid,
        "resourceVersion": read.resource_version,
        "finalizers": finalizers,
    }});
    let api = Api::<K>::namespaced(client.clone(), &key.namespace);
    let (object, written) = apart(api.patch_metadata(&key.name, &PatchParams::default(), &Patch::Merge(&patch)).await);
    let written = if wanted { written } else { gone_is_fine(written) };
    let done = judge(action, &key.name, written, format!("changing the finalizers of {} {key}", K::kind(&())))?;
    Ok((done, object.map(|object| object.metadata)))
}

/// Writes a status whole, by server-side apply on its subresource, if the object is still the one that was read. Its
/// resource version after it.
pub(super) async fn write_status<K: Object>(
    client: &Client,
    namespace: &str,
    target: &Target,
    status: &impl Serialize,
) -> Result<String, kube::Error> {
    let body = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"name": target.name, "uid": target.uid, "resourceVersion": target.resource_version},
        "status": status,
    });
    let api: Api<PartialObjectMeta<K>> = Api::namespaced(client.clone(), namespace);
    let written = api.patch_status(&target.name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&body)).await?;
    Ok(written.metadata.resource_version.unwrap_or_default())
}

/// What came back, and whether it did.
fn apart<T>(outcome: Result<T, kube::Error>) -> (Option<T>, Result<(), kube::Error>) {
    match outcome {
        Ok(value) => (Some(value), Ok(())),
        Err(error) => (None, Err(error)),
    }
}

pub(super) fn gone_is_fine(outcome: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match outcome {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other,
    }
}

/// What the apiserver will refuse again, however often it is asked: quota and policies (403), rules of the schema (400,
/// 422). All else is worth a retry.
pub(super) fn judge(action: &'static str, object: &str, written: Result<(), kube::Error>, what: String) -> Result<Done, Error> {
    match written {
        Ok(()) => Ok(Done::Yes),
        Err(kube::Error::Api(status)) if matches!(status.code, 400 | 403 | 422) => Ok(Done::Refused(Refusal {
            action,
            object: object.to_owned(),
            code: status.code,
            reason: status.reason.clone(),
            message: facts::cut(status.message.clone()),
        })),
        Err(error) => Err(Error::api(what)(error)),
    }
}
