//! [pure] The rest of the world around the operator: kubelets that give pods phases and addresses, the supervisors in
//! worker pods, and the stores that jobs keep their state in.
//!
//! It moves in steps and only when it is told to. The one thing it watches over: **no two generations at once on one
//! state**. A supervisor that mints a generation while an engine of another still runs on the same state is a violation.

mod supervisor;
mod workers;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::apiserver::{ApiServer, Key};

pub(crate) use supervisor::{Store, Supervisor};
pub(crate) use workers::ModelWorkers;

/// An image that no kubelet can pull.
pub(crate) const BAD_IMAGE: &str = "registry.test/missing:1";

/// Everything outside the operator and the apiserver.
#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    /// The supervisor of each pod that runs, by the pod's uid.
    pub(crate) supervisors: BTreeMap<String, Supervisor>,
    /// Stores, by state id.
    pub(crate) stores: BTreeMap<String, Store>,
    /// What must never happen and did.
    pub(crate) violations: Vec<String>,
}

/// The world, shared with the operator's calls to pods.
pub(crate) type Shared = Arc<Mutex<World>>;

impl World {
    /// One step of everything. Whether anything moved.
    pub(crate) fn step(&mut self, server: &ApiServer) -> bool {
        let kubelet = self.kubelet(server);
        self.supervisors_step() || kubelet
    }

    fn kubelet(&mut self, server: &ApiServer) -> bool {
        let mut moved = false;
        let pods: Vec<(Key, Value)> = server.state().list("pods").map(|(key, object)| (key.clone(), object.clone())).collect();
        for (key, pod) in &pods {
            let uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            if pod["metadata"].get("deletionTimestamp").is_some() {
                moved = true;
                // SIGTERM: the supervisor takes a last checkpoint, its engine ends; a step later the pod is gone.
                match self.supervisors.get_mut(&uid) {
                    Some(supervisor) if supervisor.runs() => supervisor.leave(&mut self.stores),
                    _ => {
                        self.supervisors.remove(&uid);
                        server.state().remove(key);
                    }
                }
                continue;
            }
            if pod["status"]["phase"] == "Pending" {
                moved |= self.start(server, key, pod, &uid);
            }
        }
        let alive: Vec<&str> = pods.iter().filter_map(|(_, pod)| pod["metadata"]["uid"].as_str()).collect();
        let before = self.supervisors.len();
        self.supervisors.retain(|uid, _| alive.contains(&uid.as_str()));
        moved || before != self.supervisors.len()
    }

    fn start(&mut self, server: &ApiServer, key: &Key, pod: &Value, uid: &str) -> bool {
        let container = &pod["spec"]["containers"][0];
        let name = container["name"].clone();
        let status = if pod["metadata"]["labels"]["rheos.dev/role"] == "disposal" {
            json!({"phase": "Succeeded"})
        } else if container["image"] == BAD_IMAGE {
            let waiting = json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}});
            let container = json!({"name": name, "restartCount": 0, "ready": false, "image": "", "imageID": "", "state": waiting});
            json!({"phase": "Pending", "containerStatuses": [container]})
        } else {
            let running = json!({"running": {}});
            let container = json!({"name": name, "restartCount": 0, "ready": true, "image": "", "imageID": "", "state": running});
            self.supervisors.insert(uid.to_owned(), Supervisor::new(&key.name));
            json!({
                "phase": "Running", "podIP": address(uid), "containerStatuses": [container],
                "conditions": [{"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}],
            })
        };
        if pod["status"] == status {
            return false;
        }
        server.state().set_status(key, &status);
        true
    }

    fn supervisors_step(&mut self) -> bool {
        let mut moved = false;
        let pods: Vec<String> = self.supervisors.values().map(|supervisor| supervisor.pod.clone()).collect();
        let uids: Vec<String> = self.supervisors.keys().cloned().collect();
        for uid in uids {
            let Some(mut supervisor) = self.supervisors.remove(&uid) else { continue };
            let others: Vec<(String, String)> = self
                .supervisors
                .values()
                .filter_map(|other| other.running.clone().map(|(state_id, _)| (other.pod.clone(), state_id)))
                .collect();
            moved |= supervisor.step(&mut self.stores, &pods, &others, &mut self.violations);
            self.supervisors.insert(uid, supervisor);
        }
        moved
    }

    /// The pod of an address.
    pub(crate) fn at(&mut self, target: &std::net::IpAddr) -> Option<&mut Supervisor> {
        self.supervisors.iter_mut().find(|(uid, _)| address(uid) == target.to_string()).map(|(_, supervisor)| supervisor)
    }
}

/// The address of a pod, from its uid.
fn address(uid: &str) -> String {
    let number: u32 = uid.rsplit('-').next().and_then(|text| text.parse().ok()).unwrap_or(0);
    format!("10.1.{}.{}", number / 250, number % 250 + 1)
}
