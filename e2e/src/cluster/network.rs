//! [io] The nodes' network namespaces.
//!
//! The first node's has a bridge with the node's address, the others hang on it by veth pairs. Routes lead from node to
//! node and nowhere else.

use crate::shell::run;

/// What the names of the namespaces begin with.
const PREFIX: &str = "rheos-node";

/// Name of a node's namespace.
fn name(node: usize) -> String {
    format!("{PREFIX}{node}")
}

/// File of a node's namespace.
pub fn path(node: usize) -> String {
    format!("/run/netns/{}", name(node))
}

/// A node's address.
pub fn address(node: usize) -> String {
    format!("10.200.0.{}", node + 1)
}

/// The pods' addresses on a node.
pub fn pods(node: usize) -> String {
    format!("10.244.{node}.0/24")
}

/// A command in a node's namespace. Not by `ip netns exec`: that mounts another /sys and hides the cgroups.
pub fn within(node: usize, words: &[String]) -> Vec<String> {
    let mut all = vec!["nsenter".to_owned(), format!("--net={}", path(node)), "--".to_owned()];
    all.extend_from_slice(words);
    all
}

fn inside(node: usize, words: &str) -> Result<(), String> {
    let words: Vec<String> = within(node, &words.split(' ').map(str::to_owned).collect::<Vec<_>>());
    let arguments: Vec<&str> = words[1..].iter().map(String::as_str).collect();
    run(&words[0], &arguments).map(drop)
}

/// Makes the namespaces.
///
/// # Errors
/// When `ip` or the kernel refuses.
pub fn up(nodes: usize) -> Result<(), String> {
    for node in 0..nodes {
        run("ip", &["netns", "add", &name(node)])?;
        inside(node, "ip link set lo up")?;
        if node == 0 {
            inside(0, "ip link add node0 type bridge")?;
        } else {
            inside(0, &format!("ip link add to-node{node} type veth peer name node{node} netns {}", name(node)))?;
            inside(0, &format!("ip link set to-node{node} master node0 up"))?;
        }
        inside(node, &format!("ip addr add {}/24 dev node{node}", address(node)))?;
        inside(node, &format!("ip link set node{node} up"))?;
        // The first node's default route leads nowhere, but a process that looks for the node's address needs one.
        let gateway = if node == 0 { "10.200.0.254".to_owned() } else { address(0) };
        inside(node, &format!("ip route add default via {gateway} dev node{node}"))?;
        if node > 0 {
            inside(0, &format!("ip route add {} via {}", pods(node), address(node)))?;
        }
        inside(node, "sysctl -q -w net.ipv4.ip_forward=1")?;
        // Without it the answers of a pod that was reached by a Service's address do not come back on the same node.
        inside(node, "sysctl -q -w net.bridge.bridge-nf-call-iptables=1")?;
    }
    Ok(())
}

/// Removes the namespaces that are there.
///
/// # Errors
/// When one cannot be removed.
pub fn down() -> Result<(), String> {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return Ok(()) };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(PREFIX) {
            run("ip", &["netns", "delete", &name])?;
        }
    }
    Ok(())
}
