//! [io] A node: containerd, kubelet, kube-proxy; and what is left of it when they are gone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::binaries::Programs;
use super::config::{self, Plan};
use super::processes::{self, Processes};
use super::{images, network};
use crate::shell::{run, until};

/// How long containerd may take to answer, or containers to end.
const LIMIT: Duration = Duration::from_secs(30);
/// Control groups of the first version that kubelet and runc use; with the second version there is one hierarchy.
const CONTROLLERS: &[&str] = &["cpu", "cpuset", "memory", "pids"];
/// Where control groups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Starts a node and gives its containerd the image that every pod needs.
///
/// # Errors
/// When a part does not start.
pub(super) fn up(plan: &Plan, index: usize, programs: &Programs, processes: &mut Processes) -> Result<(), String> {
    make_cgroups(index)?;
    for (name, words) in config::node(plan, index, programs) {
        let log = plan.log(&name);
        processes.start(&name, &network::within(index, &words), &log)?;
        if name.starts_with("containerd") {
            let socket = plan.containerd(index).display().to_string();
            until("containerd to answer", LIMIT, || {
                processes.all_alive().map_err(|error| format!("{error}; see {}", log.display()))?;
                Ok(run("ctr", &["-a", &socket, "version"]).is_ok().then_some(()))
            })?;
            images::load_pause(plan, index)?;
        }
    }
    Ok(())
}

/// How many nodes an earlier start made.
pub(super) fn count(state: &Path) -> usize {
    (0..).take_while(|index| state.join(format!("node{index}")).exists()).count()
}

/// The roots of all hierarchies: those of the first version that are mounted, or the one of the second.
fn hierarchies() -> Vec<PathBuf> {
    let root = Path::new(CGROUPS);
    if root.join("cgroup.controllers").exists() {
        return vec![root.to_owned()];
    }
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).filter(|path| path.join("cgroup.procs").exists()).collect()
}

fn make_cgroups(index: usize) -> Result<(), String> {
    let roots = hierarchies();
    if roots.is_empty() {
        return Err(format!("no control groups below {CGROUPS}: the kubelet needs them"));
    }
    for root in roots {
        let folder = root.join(config::cgroup(index));
        config::make(&folder)?;
        if root == Path::new(CGROUPS) {
            let wanted: Vec<String> = CONTROLLERS.iter().map(|name| format!("+{name}")).collect();
            config::put(&root.join("cgroup.subtree_control"), &wanted.join(" "))?;
        }
    }
    Ok(())
}

/// The nodes' cgroups, deepest first.
fn cgroups() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for root in hierarchies() {
        let Ok(entries) = std::fs::read_dir(&root) else { continue };
        let ours = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("rheos-node"));
        found.extend(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir() && ours(path)));
    }
    let mut next = 0;
    while next < found.len() {
        if let Ok(entries) = std::fs::read_dir(&found[next]) {
            found.extend(entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()));
        }
        next += 1;
    }
    found.reverse();
    found
}

/// Kills every process in the nodes' cgroups: what runs there are containers of pods.
pub(super) fn kill_containers() -> Result<(), String> {
    for folder in cgroups() {
        for line in std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default().lines() {
            if let Ok(pid) = line.parse() {
                processes::kill(pid)?;
            }
        }
    }
    Ok(())
}

/// Removes the nodes' cgroups.
pub(super) fn remove_cgroups() -> Result<(), String> {
    until("the nodes' control groups to be empty", LIMIT, || {
        let left: Vec<PathBuf> = cgroups().into_iter().filter(|folder| std::fs::remove_dir(folder).is_err() && folder.exists()).collect();
        Ok(left.is_empty().then_some(()))
    })
}

/// Unmounts everything below these folders, deepest first.
pub(super) fn unmount(folders: &[&str]) -> Result<(), String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").map_err(|error| format!("/proc/self/mountinfo: {error}"))?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let mut points: Vec<&str> = points.filter(|point| folders.iter().any(|folder| Path::new(point).starts_with(folder))).collect();
    points.sort_by_key(|point| std::cmp::Reverse(point.len()));
    for point in points {
        run("umount", &["--lazy", point])?;
    }
    Ok(())
}
