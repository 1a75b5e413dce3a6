//! [io] The programs of the cluster, built once a machine from the Go modules that `e2e/cluster/go.mod` pins.

use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::shell::{run, show};

/// What is built: packages, and the names of their programs.
const PACKAGES: &[(&str, &str)] = &[
    ("go.etcd.io/etcd/server/v3", "server"),
    ("k8s.io/kubernetes/cmd/kube-apiserver", "kube-apiserver"),
    ("k8s.io/kubernetes/cmd/kube-controller-manager", "kube-controller-manager"),
    ("k8s.io/kubernetes/cmd/kube-scheduler", "kube-scheduler"),
    ("k8s.io/kubernetes/cmd/kubelet", "kubelet"),
    ("k8s.io/kubernetes/cmd/kube-proxy", "kube-proxy"),
    ("k8s.io/kubernetes/cmd/kubectl", "kubectl"),
];
/// The version that the programs say they are: that of `k8s.io/kubernetes` in go.mod.
const VERSION: &str = "v1.34.4";
/// Installs the charts; a module of its own, since it wants other versions of Kubernetes' modules.
const HELM: &str = "helm.sh/helm/v3/cmd/helm@v3.22.0";
/// What a distribution brings.
const INSTALLED: &[&str] = &["containerd", "ctr", "runc", "ip", "iptables", "conntrack", "openssl", "nsenter", "setsid", "sysctl"];

/// A folder of programs.
#[derive(Debug, Clone)]
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    pub(super) fn in_folder(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The path of a program.
    pub fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

/// What is kept between runs.
///
/// # Errors
/// When there is no home folder.
pub fn cache() -> Result<PathBuf, String> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home).ok_or("HOME is not set")?;
    Ok(cache.join("rheos/cluster"))
}

/// Where this `go.mod`'s programs are kept.
///
/// # Errors
/// When `go.mod` cannot be read.
pub fn folder() -> Result<PathBuf, String> {
    let module = module().join("go.mod");
    let text = std::fs::read(&module).map_err(|error| format!("{}: {error}", module.display()))?;
    let digest: String = Sha256::digest(&text).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    Ok(cache()?.join(digest))
}

fn module() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster")
}

/// Builds what is missing, one after the other: the first takes minutes, later ones come from Go's cache.
///
/// # Errors
/// When Go or a program that the distribution brings is missing, or a build fails.
pub fn install(say: &mut dyn FnMut(&str)) -> Result<Programs, String> {
    let missing: Vec<&str> = INSTALLED.iter().copied().filter(|name| run("which", &[name]).is_err()).collect();
    if !missing.is_empty() {
        return Err(format!(
            "missing: {}; apt-get install containerd runc containernetworking-plugins iptables conntrack iproute2 procps openssl",
            missing.join(", ")
        ));
    }
    let folder = folder()?;
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for (package, name) in PACKAGES {
        if folder.join(name).exists() {
            continue;
        }
        say(&format!("building {package}"));
        let mut go = Command::new("go");
        go.args(["build", "-trimpath", "-ldflags"]);
        go.arg(format!("-s -w -X k8s.io/component-base/version.gitVersion={VERSION}"));
        // Complete or not there: a build may be interrupted.
        let new = folder.join(format!(".{name}"));
        go.arg("-o").arg(&new).arg(package);
        show(go.env("CGO_ENABLED", "0").current_dir(module()))?;
        std::fs::rename(&new, folder.join(name)).map_err(|error| format!("{}: {error}", new.display()))?;
    }
    Ok(Programs::in_folder(folder))
}

/// Builds what the scenarios need beside the cluster if it is not installed: the folder to add to `PATH`.
///
/// # Errors
/// When Go is missing or a build fails.
pub fn tools(say: &mut dyn FnMut(&str)) -> Result<PathBuf, String> {
    let folder = cache()?.join("tools");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    if run("which", &["helm"]).is_err() && !folder.join("helm").exists() {
        say(&format!("building {HELM}"));
        show(Command::new("go").args(["install", HELM]).env("GOBIN", &folder).env("CGO_ENABLED", "0"))?;
    }
    Ok(folder)
}
