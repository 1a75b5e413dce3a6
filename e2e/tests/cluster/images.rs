//! The harness itself: our images run, restricted, and faults reach into them.

use rheos_e2e::cluster::images::{SEND, WORKER};
use rheos_e2e::harness::scenario;
use serde_json::json;

#[test]
fn the_workers_image_runs_restricted() {
    scenario("images", async |space| {
        space.apply(&json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "explain", "namespace": space.name},
            "spec": {
                "restartPolicy": "Never",
                "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{
                    "name": "worker", "image": WORKER, "imagePullPolicy": "IfNotPresent", "command": ["rheos-worker", "--help"],
                    "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
                }],
            },
        }));
        space.kubectl(&["wait", "pod/explain", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s"]);
        assert!(space.kubectl(&["logs", "explain"]).contains("explain"), "the worker prints its usage");
        assert!(!SEND.is_empty());
    });
}
