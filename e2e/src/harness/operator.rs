//! [io] The operator as what is disturbed: taken away, made such that it can be stopped, and who of it leads.

use serde_json::{Value, json};

use super::install::NAMESPACE;
use super::kubectl::{kubectl, must};

/// The operator's Deployment, `deployment.apps/name`: the only one of its namespace.
fn deployment() -> Result<String, String> {
    kubectl(&["get", "deployments", "-n", NAMESPACE, "-o", "name"]).map(|name| name.trim().to_owned())
}

/// The operator has no pods until this goes, however what it is for ends.
#[derive(Debug)]
pub struct NoOperator(String);

impl NoOperator {
    /// Takes them away.
    ///
    /// # Panics
    /// When they do not go.
    #[allow(clippy::new_without_default, reason = "it acts on a cluster")]
    pub fn new() -> Self {
        let none = Self(must(&["get", "deployments", "-n", NAMESPACE, "-o", "jsonpath={.items[0].spec.replicas}"]));
        must(&["scale", "deployments", "-n", NAMESPACE, "--all", "--replicas=0"]);
        must(&["wait", "pods", "--all", "-n", NAMESPACE, "--for=delete", "--timeout=60s"]);
        none
    }
}

impl Drop for NoOperator {
    fn drop(&mut self) {
        let _ = kubectl(&["scale", "deployments", "-n", NAMESPACE, "--all", &format!("--replicas={}", self.0)]);
    }
}

/// The operator's process can be stopped and killed from within its container until this goes: it is not the first one.
#[derive(Debug)]
pub struct Stoppable;

impl Stoppable {
    /// Starts the operator's pods anew.
    ///
    /// # Panics
    /// When they do not come up.
    #[allow(clippy::new_without_default, reason = "it acts on a cluster")]
    pub fn new() -> Self {
        let stoppable = Self;
        share(&json!(true)).unwrap_or_else(|error| panic!("{error}"));
        stoppable
    }
}

impl Drop for Stoppable {
    fn drop(&mut self) {
        let _ = share(&Value::Null);
    }
}

fn share(shared: &Value) -> Result<String, String> {
    let patch = json!({"spec": {"template": {"spec": {"shareProcessNamespace": shared}}}}).to_string();
    kubectl(&["patch", &deployment()?, "-n", NAMESPACE, "-p", &patch]).and_then(|_| rolled_out())
}

/// Waits until all its pods are there.
///
/// # Errors
/// When they do not come up in time.
pub fn rolled_out() -> Result<String, String> {
    kubectl(&["rollout", "status", &deployment()?, "-n", NAMESPACE, "--timeout=90s"])
}

/// The pod that holds the lease, as the lease says: it may be gone.
///
/// # Errors
/// When there is no lease or nobody holds it.
pub fn leader() -> Result<String, String> {
    let holder = kubectl(&["get", "leases", "-n", NAMESPACE, "-o", "jsonpath={.items[0].spec.holderIdentity}"])?;
    // The pod's name, a dash, the process.
    holder.rsplit_once('-').map(|(pod, _)| pod.to_owned()).ok_or_else(|| "nobody holds the lease".to_owned())
}
