//! [pure] The headless Service of a job: gives its pods names, and Prometheus a place to look.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::names;
use crate::reconcile::Identity;

/// The Service.
pub fn service(job: &Identity) -> Service {
    let port = ServicePort {
        name: Some("admin".to_owned()),
        port: super::ADMIN_PORT,
        target_port: Some(IntOrString::String("admin".to_owned())),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    };
    let spec = ServiceSpec {
        cluster_ip: Some("None".to_owned()),
        selector: Some(super::selector_labels(&job.name)),
        ports: Some(vec![port]),
        publish_not_ready_addresses: Some(true),
        ..ServiceSpec::default()
    };
    Service { metadata: super::owned(job, names::service(&job.name)), spec: Some(spec), ..Service::default() }
}
