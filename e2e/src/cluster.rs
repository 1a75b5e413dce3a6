//! [io] A real Kubernetes on this machine, without containers around it: etcd, kube-apiserver, controller manager and
//! scheduler, and on each node kubelet, kube-proxy and containerd, as processes in network namespaces of their own.
//!
//! Needs root. One cluster a machine: its name is in every path, namespace and cgroup, so that nothing else is touched
//! and [`down`] finds all of it again, also what an interrupted [`up`] left. Nothing can reach the outside: the default
//! route leads nowhere. Programs that talk to the cluster run in the first node's network namespace ([`enter`]).

pub mod binaries;
pub mod config;
pub mod identity;
pub mod images;
pub mod kind;
pub mod network;
pub mod node;
pub mod processes;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use self::config::Plan;
use self::processes::Processes;
use crate::shell::{output, until};

/// Everything that outlives a restart of a process: data, logs, keys, the kubeconfig.
const STATE: &str = "/var/lib/rheos-cluster";
/// Sockets and mounts.
const RUN: &str = "/run/rheos-cluster";
/// How long one part may take to come up.
const START_LIMIT: Duration = Duration::from_secs(90);
/// Nodes unless told: the least with which a pod can move.
pub const NODES: usize = 2;

/// The plan of this machine's cluster.
pub fn plan(nodes: usize) -> Plan {
    Plan { state: STATE.into(), run: RUN.into(), nodes }
}

/// The administrator's kubeconfig.
pub fn kubeconfig() -> PathBuf {
    plan(1).kubeconfig("admin")
}

/// The apiserver's audit log: every request of a service account.
pub fn audit_log() -> PathBuf {
    plan(1).audit_log()
}

/// Whether a cluster was brought up on this machine and its apiserver answers.
pub fn is_up() -> bool {
    kubeconfig().exists()
        && output(kubectl(&["get", "--raw", "/readyz", "--request-timeout=5s"]).stderr(std::process::Stdio::null())).is_ok()
}

/// The words before a command that run it where the cluster can be reached.
pub fn enter() -> Vec<String> {
    vec!["nsenter".into(), format!("--net={}", network::path(0))]
}

/// `kubectl` as the administrator, in the node's network namespace.
pub fn kubectl(arguments: &[&str]) -> Command {
    let words = enter();
    let mut command = Command::new(&words[0]);
    let program = binaries::folder().map_or_else(|_| "kubectl".into(), |folder| folder.join("kubectl"));
    command.args(&words[1..]).arg(program).args(arguments).env("KUBECONFIG", kubeconfig());
    command
}

/// Brings the cluster up; what an earlier one left is removed first. Images are loaded by [`images::load`].
///
/// # Errors
/// When a part does not come up; its log is named.
pub fn up(nodes: usize, say: &mut dyn FnMut(&str)) -> Result<(), String> {
    root()?;
    let programs = binaries::install(say)?;
    down(say)?;
    let plan = plan(nodes);
    config::write(&plan)?;
    identity::write(&plan)?;
    network::up(nodes)?;
    let mut processes = Processes::open(Path::new(STATE))?;
    say("etcd and kube-apiserver");
    for (name, words) in config::control_plane(&plan, &programs) {
        processes.start(&name, &network::within(0, &words), &plan.log(&name))?;
        if name == "kube-apiserver" {
            ready(&mut processes, &plan)?;
        }
    }
    for index in 0..nodes {
        say(&format!("node{index}"));
        node::up(&plan, index, &programs, &mut processes)?;
    }
    until("all nodes to be ready", START_LIMIT, || {
        processes.all_alive()?;
        let ready = output(&mut kubectl(&["get", "nodes", "-o", "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}"]))?;
        Ok((ready.split_whitespace().filter(|word| *word == "True").count() == nodes).then_some(()))
    })
}

/// Waits for the apiserver, and for what it makes at its first start.
fn ready(processes: &mut Processes, plan: &Plan) -> Result<(), String> {
    let answers = |arguments: &[&str]| output(&mut kubectl(arguments)).is_ok();
    until("kube-apiserver to be ready", START_LIMIT, || {
        processes.all_alive().map_err(|error| format!("{error}; see {}", plan.log("kube-apiserver").display()))?;
        Ok(answers(&["get", "--raw", "/readyz", "--request-timeout=5s"]).then_some(()))
    })?;
    until("the roles of Kubernetes' own parts", START_LIMIT, || Ok(answers(&["get", "clusterrole", "system:node"]).then_some(())))
}

/// Takes everything away: processes by their ids, containers by their cgroups, mounts, network namespaces, folders.
/// Does nothing where nothing is.
///
/// # Errors
/// When something does not go away.
pub fn down(say: &mut dyn FnMut(&str)) -> Result<(), String> {
    root()?;
    let plan = plan(node::count(Path::new(STATE)));
    if Path::new(STATE).exists() || Path::new(RUN).exists() {
        say("removing the cluster that is there");
    }
    Processes::open(Path::new(STATE))?.stop()?;
    processes::stop_all_naming(&[STATE, RUN])?;
    node::kill_containers()?;
    node::unmount(&[STATE, RUN])?;
    network::down()?;
    node::remove_cgroups()?;
    for folder in [&plan.run, &plan.state] {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(format!("{}: {error}", folder.display())),
            _ => {}
        }
    }
    Ok(())
}

/// One line a process, and whether the apiserver answers.
///
/// # Errors
/// When the record cannot be read.
pub fn status() -> Result<String, String> {
    let mut text = Processes::open(Path::new(STATE))?.list();
    let kubeconfig = kubeconfig();
    text.push_str(&if is_up() {
        format!("up: KUBECONFIG={} {} kubectl get pods -A\n", kubeconfig.display(), enter().join(" "))
    } else {
        "not up: cargo xtask cluster up\n".to_owned()
    });
    Ok(text)
}

fn root() -> Result<(), String> {
    if crate::shell::run("id", &["-u"])?.trim() == "0" {
        return Ok(());
    }
    Err("the bare cluster needs root: run the command as root, or use `cargo xtask kind up` with Docker and kind".into())
}
