//! [io] What each part of the cluster is told: folders, arguments, configuration files.

use std::path::{Path, PathBuf};

use super::binaries::Programs;
use super::network;

/// First address of the Services: kube-apiserver's own.
pub(super) const API_SERVICE: &str = "10.96.0.1";
/// Addresses of Services.
const SERVICES: &str = "10.96.0.0/16";
/// Addresses of all pods.
const PODS: &str = "10.244.0.0/16";
/// The image that holds a pod's namespaces.
pub const PAUSE_IMAGE: &str = "rheos.dev/pause:e2e";
/// Where distributions put the plugins that give pods their network.
const CNI_PLUGINS: &[&str] = &["/usr/lib/cni", "/opt/cni/bin"];

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Data, logs, keys.
    pub state: PathBuf,
    /// Sockets and mounts.
    pub run: PathBuf,
    /// Number of nodes.
    pub nodes: usize,
}

impl Plan {
    /// The log of a part.
    pub fn log(&self, part: &str) -> PathBuf {
        self.state.join("log").join(format!("{part}.log"))
    }

    /// A key, certificate or token file.
    pub fn pki(&self, name: &str) -> PathBuf {
        self.state.join("pki").join(name)
    }

    /// How a user reaches the apiserver.
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        self.state.join("kubeconfig").join(user)
    }

    /// Requests of service accounts.
    pub fn audit_log(&self) -> PathBuf {
        self.state.join("log/audit.log")
    }

    /// A node's data.
    pub fn node(&self, index: usize) -> PathBuf {
        self.state.join(format!("node{index}"))
    }

    /// A node's sockets.
    pub fn node_run(&self, index: usize) -> PathBuf {
        self.run.join(format!("node{index}"))
    }

    /// The socket of a node's containerd.
    pub fn containerd(&self, index: usize) -> PathBuf {
        self.node_run(index).join("containerd.sock")
    }
}

/// A node's cgroup below each hierarchy's root.
pub(super) fn cgroup(index: usize) -> String {
    format!("rheos-node{index}")
}

/// Writes the files that do not hold keys.
///
/// # Errors
/// When one cannot be written.
pub(super) fn write(plan: &Plan) -> Result<(), String> {
    let folders = ["log", "pki", "kubeconfig", "etcd"].map(|name| plan.state.join(name));
    for folder in &folders {
        make(folder)?;
    }
    put(&plan.state.join("audit.yaml"), AUDIT)?;
    for index in 0..plan.nodes {
        let node = plan.node(index);
        for folder in [node.join("cni"), node.join("pods"), plan.node_run(index)] {
            make(&folder)?;
        }
        put(&node.join("containerd.toml"), &containerd(plan, index)?)?;
        put(&node.join("kubelet.yaml"), &kubelet(plan, index))?;
        put(&node.join("cni/10-pods.conflist"), &cni(plan, index))?;
    }
    Ok(())
}

pub(super) fn make(folder: &Path) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))
}

pub(super) fn put(file: &Path, text: &str) -> Result<(), String> {
    std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}

/// etcd and the parts that talk to the apiserver alone, in the order of their start.
pub(super) fn control_plane(plan: &Plan, programs: &Programs) -> Vec<(String, Vec<String>)> {
    let pki = |name: &str| plan.pki(name).display().to_string();
    let kubeconfig = |user: &str| plan.kubeconfig(user).display().to_string();
    let part = |name: &str, arguments: Vec<String>| {
        let program = programs.path(if name == "etcd" { "server" } else { name });
        (name.to_owned(), [vec![program], arguments].concat())
    };
    let etcd = vec![
        "--name=etcd".into(),
        format!("--data-dir={}", plan.state.join("etcd").display()),
        "--listen-client-urls=http://127.0.0.1:2379".into(),
        "--advertise-client-urls=http://127.0.0.1:2379".into(),
        "--listen-peer-urls=http://127.0.0.1:2380".into(),
        "--initial-advertise-peer-urls=http://127.0.0.1:2380".into(),
        "--initial-cluster=etcd=http://127.0.0.1:2380".into(),
        // A machine that loses its power loses the cluster, which is made anew in seconds.
        "--unsafe-no-fsync".into(),
        "--log-level=warn".into(),
    ];
    let apiserver = vec![
        "--etcd-servers=http://127.0.0.1:2379".into(),
        "--secure-port=6443".into(),
        format!("--advertise-address={}", network::address(0)),
        format!("--service-cluster-ip-range={SERVICES}"),
        "--authorization-mode=Node,RBAC".into(),
        "--enable-admission-plugins=NodeRestriction".into(),
        format!("--token-auth-file={}", pki("tokens.csv")),
        format!("--client-ca-file={}", pki("ca.crt")),
        format!("--tls-cert-file={}", pki("apiserver.crt")),
        format!("--tls-private-key-file={}", pki("apiserver.key")),
        format!("--kubelet-client-certificate={}", pki("kubelet-client.crt")),
        format!("--kubelet-client-key={}", pki("kubelet-client.key")),
        // Without it logs and exec look up the nodes' names, which nobody answers.
        "--kubelet-preferred-address-types=InternalIP".into(),
        format!("--service-account-key-file={}", pki("accounts.pub")),
        format!("--service-account-signing-key-file={}", pki("accounts.key")),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        format!("--audit-policy-file={}", plan.state.join("audit.yaml").display()),
        format!("--audit-log-path={}", plan.audit_log().display()),
    ];
    let manager = vec![
        format!("--kubeconfig={}", kubeconfig("controller-manager")),
        "--leader-elect=false".into(),
        "--use-service-account-credentials".into(),
        format!("--root-ca-file={}", pki("ca.crt")),
        format!("--service-account-private-key-file={}", pki("accounts.key")),
        "--bind-address=127.0.0.1".into(),
        // A lost node is seen sooner than after the default 50 s; kubelets report every 10 s.
        "--node-monitor-grace-period=25s".into(),
    ];
    let scheduler =
        vec![format!("--kubeconfig={}", kubeconfig("scheduler")), "--leader-elect=false".into(), "--bind-address=127.0.0.1".into()];
    vec![part("etcd", etcd), part("kube-apiserver", apiserver), part("kube-controller-manager", manager), part("kube-scheduler", scheduler)]
}

/// Containers, pods and Services of a node, in the order of their start.
pub(super) fn node(plan: &Plan, index: usize, programs: &Programs) -> Vec<(String, Vec<String>)> {
    let folder = plan.node(index);
    let name = format!("node{index}");
    let containerd = vec!["containerd".to_owned(), "--config".into(), folder.join("containerd.toml").display().to_string()];
    let kubelet = vec![
        programs.path("kubelet"),
        format!("--config={}", folder.join("kubelet.yaml").display()),
        format!("--kubeconfig={}", plan.kubeconfig(&name).display()),
        format!("--root-dir={}", folder.join("kubelet").display()),
        format!("--cert-dir={}", folder.join("kubelet/pki").display()),
        format!("--hostname-override={name}"),
        format!("--node-ip={}", network::address(index)),
    ];
    let proxy = vec![
        programs.path("kube-proxy"),
        "--proxy-mode=iptables".into(),
        format!("--kubeconfig={}", plan.kubeconfig("kube-proxy").display()),
        format!("--hostname-override={name}"),
        format!("--cluster-cidr={PODS}"),
        // The kernel lets only the first network namespace set the table's size.
        "--conntrack-max-per-core=0".into(),
        "--conntrack-tcp-timeout-established=0".into(),
        "--conntrack-tcp-timeout-close-wait=0".into(),
    ];
    let named = |part: &str| format!("{part}-{name}");
    vec![(named("containerd"), containerd), (named("kubelet"), kubelet), (named("kube-proxy"), proxy)]
}

/// Requests of service accounts, without their bodies, once answered; the rest is not written.
const AUDIT: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- level: None
  userGroups: [\"system:serviceaccounts:kube-system\"]
- level: Metadata
  userGroups: [\"system:serviceaccounts\"]
- level: None
";

fn containerd(plan: &Plan, index: usize) -> Result<String, String> {
    let plugins = CNI_PLUGINS.iter().find(|folder| Path::new(folder).join("bridge").exists());
    let plugins = plugins.ok_or("the CNI plugins are not installed: apt-get install containernetworking-plugins")?;
    let (data, run, socket) = (plan.node(index), plan.node_run(index), plan.containerd(index));
    let (data, run, socket) = (data.display(), run.display(), socket.display());
    Ok(format!(
        r#"version = 2
root = "{data}/containerd"
state = "{run}/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]

[grpc]
  address = "{socket}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  stream_server_address = "127.0.0.1"
  restrict_oom_score_adj = true
  # Below this node's folder, so that an end of the cluster finds them.
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{data}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
"#
    ))
}

fn kubelet(plan: &Plan, index: usize) -> String {
    format!(
        r#"apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {{enabled: false}}
  webhook: {{enabled: true}}
  x509: {{clientCAFile: {ca}}}
authorization: {{mode: Webhook}}
cgroupDriver: cgroupfs
cgroupRoot: /{cgroup}
failSwapOn: false
containerRuntimeEndpoint: unix://{socket}
podLogsDir: {data}/pods
resolvConf: ""
maxPods: 250
# The machine's memory and disk belong to others as well: only a real shortage evicts.
evictionHard: {{memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}}
imageGCHighThresholdPercent: 100
# How often volumes are looked at; what they hold too much of evicts their pod.
volumeStatsAggPeriod: 10s
"#,
        ca = plan.pki("ca.crt").display(),
        cgroup = cgroup(index),
        socket = plan.containerd(index).display(),
        data = plan.node(index).display(),
    )
}

fn cni(plan: &Plan, index: usize) -> String {
    let network = serde_json::json!({
        "cniVersion": "0.4.0",
        "name": format!("rheos-node{index}"),
        "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "ipMasq": false,
                "ipam": {
                    "type": "host-local",
                    "dataDir": plan.node(index).join("addresses"),
                    "ranges": [[{"subnet": network::pods(index)}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    });
    format!("{network:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_lies_below_the_two_folders() {
        let plan = Plan { state: "/state".into(), run: "/run/x".into(), nodes: 2 };
        let programs = Programs::in_folder("/programs".into());
        for (name, words) in control_plane(&plan, &programs).into_iter().chain(node(&plan, 1, &programs)) {
            for word in &words[1..] {
                let path = word.split_once('=').map_or(word.as_str(), |(_, value)| value);
                assert!(!path.starts_with('/') || path.starts_with("/state/"), "{name}: {word}");
            }
        }
    }

    #[test]
    fn nodes_share_no_folder_cgroup_or_address() {
        let plan = Plan { state: "/state".into(), run: "/run/x".into(), nodes: 2 };
        for text in [kubelet(&plan, 1), cni(&plan, 1)] {
            assert!(!text.contains("node0") && !text.contains("10.244.0."), "{text}");
        }
        assert_ne!(network::address(0), network::address(1));
    }
}
