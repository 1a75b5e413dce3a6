//! [io] Leader election on the model of the API server.

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, Patch, PatchParams};
use rheos_operator::runtime::leader::{Candidate, Leadership};
use serde_json::json;

use crate::apiserver::{ApiServer, Position};

fn candidate(server: &ApiServer, me: &str) -> (Candidate, Leadership) {
    let leadership = Leadership::none();
    (Candidate::new(server.client(), "rheos-system", "rheos-operator", me.into(), leadership.clone()), leadership)
}

#[tokio::test]
async fn one_leads_and_gives_the_lease_back_to_the_next() {
    let server = ApiServer::default();
    let (mut a, leads_a) = candidate(&server, "a");
    let (mut b, leads_b) = candidate(&server, "b");
    assert!(leads_a.check().is_err());
    assert!(a.attempt().await.unwrap());
    assert!(!b.attempt().await.unwrap());
    assert!(leads_a.check().is_ok() && leads_b.check().is_err());
    assert!(a.attempt().await.unwrap(), "its own lease is renewed");
    a.release().await;
    assert!(leads_a.check().is_err(), "who gave it back does not act");
    assert!(b.attempt().await.unwrap());
    assert!(leads_b.check().is_ok());
    assert!(!a.attempt().await.unwrap());
    let leases: Api<Lease> = Api::namespaced(server.client(), "rheos-system");
    let spec = leases.get("rheos-operator").await.unwrap().spec.unwrap();
    assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("b"), Some(1)));
}

#[tokio::test]
async fn who_loses_the_race_for_a_free_lease_does_not_lead() {
    let server = ApiServer::default();
    let (mut a, leads_a) = candidate(&server, "a");
    // The reply is lost: the lease is written, but the candidate does not know it.
    server.faults.plan(0, Position::ReplyLost);
    assert!(a.attempt().await.is_err());
    assert!(leads_a.check().is_err());
    assert!(a.attempt().await.unwrap(), "the next look shows that it was written");
    assert!(leads_a.check().is_ok());
}

#[tokio::test]
async fn a_leader_whose_lease_was_taken_ends() {
    let server = ApiServer::default();
    let (mut a, leads_a) = candidate(&server, "a");
    assert!(a.attempt().await.unwrap());
    let leases: Api<Lease> = Api::namespaced(server.client(), "rheos-system");
    let taken = json!({"spec": {"holderIdentity": "b"}});
    leases.patch("rheos-operator", &PatchParams::default(), &Patch::Merge(&taken)).await.unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(9), a.hold()).await.unwrap();
    assert!(leads_a.check().is_err());
}
