//! [pure] The disruption budget of a job: one pod at a time, so that a drain goes on and never takes all at once.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::names;
use crate::reconcile::Identity;

/// The PodDisruptionBudget. Pods that are not ready do not hold up a drain.
pub fn budget(job: &Identity) -> PodDisruptionBudget {
    let spec = PodDisruptionBudgetSpec {
        max_unavailable: Some(IntOrString::Int(1)),
        selector: Some(LabelSelector { match_labels: Some(super::selector_labels(&job.name)), ..LabelSelector::default() }),
        unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
        ..PodDisruptionBudgetSpec::default()
    };
    PodDisruptionBudget { metadata: super::owned(job, names::budget(&job.name)), spec: Some(spec), ..PodDisruptionBudget::default() }
}
