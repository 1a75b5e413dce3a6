//! [io] The same cluster by kind, for machines with Docker: two nodes, the same images, the same tests.

use std::path::Path;
use std::process::Command;

use crate::shell::{output, run, show};

/// The cluster's name at kind.
const NAME: &str = "rheos";
/// A control plane that also takes pods, and a second node.
const CONFIG: &str = "\
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes:
- role: control-plane
- role: worker
";

/// Makes the cluster if it is not there; the current context of kubectl then names it.
///
/// # Errors
/// When kind or Docker is missing or fails.
pub fn up() -> Result<(), String> {
    if run("kind", &["get", "clusters"])?.lines().any(|line| line == NAME) {
        return run("kind", &["export", "kubeconfig", "--name", NAME]).map(drop);
    }
    let config = tempfile::NamedTempFile::new().map_err(|error| format!("a temporary file: {error}"))?;
    std::fs::write(config.path(), CONFIG).map_err(|error| format!("{}: {error}", config.path().display()))?;
    show(Command::new("kind").args(["create", "cluster", "--wait", "120s", "--name", NAME, "--config"]).arg(config.path()))?;
    // As on the bare cluster, where the first node takes pods too.
    run("kubectl", &["taint", "nodes", "--all", "node-role.kubernetes.io/control-plane-"]).map(drop).or(Ok(()))
}

/// Loads an archive of images into its nodes.
///
/// # Errors
/// As [`up`].
pub fn load(archive: &Path) -> Result<(), String> {
    output(Command::new("kind").args(["load", "image-archive", "--name", NAME]).arg(archive)).map(drop)
}

/// Removes the cluster.
///
/// # Errors
/// As [`up`].
pub fn down() -> Result<(), String> {
    run("kind", &["delete", "cluster", "--name", NAME]).map(drop)
}
