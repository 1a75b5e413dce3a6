//! [pure] The custom resources as the apiserver sees them: the types for a Kubernetes client, and their definitions.
//!
//! The same `spec` and `status` types as everywhere else, under Kubernetes' own object metadata. [`crds`] gives the
//! definitions that belong into a cluster; the derived `crd()` of a type alone lacks the rules and the printer columns.

mod columns;
mod rules;
mod schema;

use ::kube::CustomResourceExt;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::metadata::Metadata;
use crate::{API_VERSION, KIND, SAVEPOINT_KIND};

pub use crate::savepoint::SavepointResource as Savepoint;
pub use crate::stream_job::StreamJobResource as StreamJob;

impl From<&StreamJob> for crate::StreamJob {
    fn from(job: &StreamJob) -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            metadata: metadata(&job.metadata),
            spec: job.spec.clone(),
            status: job.status.clone(),
        }
    }
}

impl From<&Savepoint> for crate::Savepoint {
    fn from(savepoint: &Savepoint) -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: SAVEPOINT_KIND.to_owned(),
            metadata: metadata(&savepoint.metadata),
            spec: savepoint.spec.clone(),
            status: savepoint.status.clone(),
        }
    }
}

fn metadata(metadata: &ObjectMeta) -> Metadata {
    Metadata {
        name: metadata.name.clone().unwrap_or_default(),
        namespace: metadata.namespace.clone(),
        labels: metadata.labels.clone().unwrap_or_default(),
        annotations: metadata.annotations.clone().unwrap_or_default(),
    }
}

/// The definitions of all resources, complete.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut job = StreamJob::crd();
    schema::complete(&mut job, columns::stream_job(), rules::stream_job);
    let mut savepoint = Savepoint::crd();
    schema::complete(&mut savepoint, columns::savepoint(), rules::savepoint);
    vec![job, savepoint]
}

/// The definitions as `kubectl apply` takes them: file name and text.
///
/// # Errors
/// The writer's, which no definition causes.
pub fn files() -> Result<Vec<(String, String)>, serde_saphyr::SerializeError> {
    crds()
        .iter()
        .map(|crd| {
            let text = serde_saphyr::to_string(crd)?;
            let head = "# Written by the tests of rheos-api from its types; UPDATE_EXPECT=1 cargo test -p rheos-api writes it anew.\n";
            Ok((format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural), format!("{head}{text}")))
        })
        .collect()
}

/// An object whose fields the apiserver keeps as they are: a pod template is checked when pods are made of it, and its
/// full schema would be twenty times as long as all others.
pub(crate) fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}
