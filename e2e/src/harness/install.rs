//! [io] What all scenarios share: the S3 server, and the operator by its chart. And what the operator was refused.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::json;

use super::kubectl::{apply, kubectl, must};
use crate::cluster::images;
use crate::shell::output;

/// The operator's namespace.
pub const NAMESPACE: &str = "rheos-system";
/// The S3 server's namespace.
pub const S3_NAMESPACE: &str = "rheos-s3";
/// Its port.
pub const S3_PORT: u16 = 7070;
/// How long a part may take to come up.
const ROLLOUT: &str = "--timeout=120s";
/// The S3 server's objects.
const S3_OBJECTS: &str = include_str!("../../cluster/s3.yaml");
/// What a refused request's audit entry says: not enough rights, and not a quota or an admission rule.
const FORBIDDEN: &str = "\"authorization.k8s.io/decision\":\"forbid\"";

/// Installs both, once a process; what runs already stays.
///
/// # Panics
/// When one does not come up.
pub fn once() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        s3();
        operator(&[]);
    });
}

fn s3() {
    apply(S3_OBJECTS).expect("the S3 server's objects");
    if let Some(built) = images::built() {
        let patch = json!({"spec": {"template": {"metadata": {"annotations": {"images": built}}}}}).to_string();
        must(&["patch", "deployment/s3", "-n", S3_NAMESPACE, "-p", &patch]);
    }
    must(&["rollout", "status", "-n", S3_NAMESPACE, "deployment/s3", ROLLOUT]);
}

/// The chart of this repository.
pub fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/rheos")
}

/// Installs the operator or upgrades it, with these values (`--set`) beside the tests' own.
///
/// # Panics
/// When Helm fails or the operator does not become ready.
pub fn operator(values: &[&str]) {
    let image = |name: &str, image: &str| {
        let (repository, tag) = image.rsplit_once(':').expect("an image has a tag");
        [format!("{name}.repository={repository}"), format!("{name}.tag={tag}")]
    };
    let mut helm = Command::new("helm");
    helm.args(["upgrade", "--install", "rheos"]).arg(chart());
    helm.args(["-n", NAMESPACE, "--create-namespace", "--wait", "--timeout=120s"]);
    for value in image("image", images::OPERATOR).iter().chain(&image("worker.image", images::WORKER)) {
        helm.args(["--set", value]);
    }
    if let Some(built) = images::built() {
        // Other images under the same names: new pods.
        helm.args(["--set-string", &format!("podAnnotations.images={built}")]);
    }
    for value in values {
        helm.args(["--set", value]);
    }
    output(&mut helm).unwrap_or_else(|error| {
        eprintln!("{}", kubectl(&["describe", "pods", "-n", NAMESPACE]).unwrap_or_default());
        panic!("{error}")
    });
}

/// A place in the apiserver's audit log (`RHEOS_AUDIT_LOG`; the bare cluster has one).
#[derive(Debug)]
pub struct Audit {
    file: Option<PathBuf>,
    from: usize,
}

impl Audit {
    /// Its end.
    pub fn now() -> Self {
        let file = std::env::var_os("RHEOS_AUDIT_LOG").map(PathBuf::from);
        let from = file.as_ref().and_then(|file| std::fs::metadata(file).ok()).map_or(0, |data| data.len() as usize);
        Self { file, from }
    }

    /// Requests of the operator's account since then that its roles do not allow.
    ///
    /// # Panics
    /// When the log cannot be read.
    pub fn refused(&self) -> Vec<String> {
        let Some(file) = &self.file else { return Vec::new() };
        let bytes = std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let user = format!("system:serviceaccount:{NAMESPACE}:");
        let new = String::from_utf8_lossy(bytes.get(self.from..).unwrap_or_default()).into_owned();
        new.lines().filter(|line| line.contains(FORBIDDEN) && line.contains(&user)).map(str::to_owned).collect()
    }
}
