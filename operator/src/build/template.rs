//! [pure] Merging a person's pod template under what the operator builds.
//!
//! Objects merge field by field, lists of named things by their names, other lists one behind the other; where both say
//! something, the operator's word counts. Lists in [`DEFAULTS`] are only proposals: the template's replaces them.

use serde_json::{Map, Value};

/// Lists of which the template's replaces ours.
const DEFAULTS: [&str; 1] = ["topologySpreadConstraints"];

/// What identifies an item of a list.
fn key_of(list: &str) -> Option<&'static str> {
    match list {
        "containers" | "initContainers" | "env" | "volumes" | "ports" | "imagePullSecrets" => Some("name"),
        "volumeMounts" => Some("mountPath"),
        "tolerations" => Some("key"),
        _ => None,
    }
}

/// `ours` over `theirs`.
pub(super) fn merge(theirs: &Value, ours: &Value) -> Value {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            let mut merged = theirs.clone();
            for (name, our) in ours {
                let value = match (theirs.get(name), our) {
                    (None | Some(Value::Null), our) => our.clone(),
                    (Some(Value::Array(their)), Value::Array(our)) => Value::Array(lists(name, their, our)),
                    (Some(their), our) => merge(their, our),
                };
                merged.insert(name.clone(), value);
            }
            Value::Object(merged)
        }
        (_, ours) => ours.clone(),
    }
}

fn lists(name: &str, theirs: &[Value], ours: &[Value]) -> Vec<Value> {
    if DEFAULTS.contains(&name) {
        return theirs.to_vec();
    }
    let Some(key) = key_of(name) else {
        return ours.iter().chain(theirs.iter().filter(|their| !ours.contains(their))).cloned().collect();
    };
    let find = |list: &[Value], item: &Value| list.iter().find(|other| item.get(key).is_some() && other.get(key) == item.get(key)).cloned();
    let ours_merged = ours.iter().map(|our| find(theirs, our).map_or_else(|| our.clone(), |their| merge(&their, our)));
    let theirs_alone = theirs.iter().filter(|their| find(ours, their).is_none()).cloned();
    ours_merged.chain(theirs_alone).collect()
}

/// Takes away from every container of a pod spec, and from the spec, what would lift it above Pod Security *restricted*.
pub(super) fn floor(spec: &mut Value) {
    let Some(fields) = spec.as_object_mut() else { return };
    for forbidden in ["hostNetwork", "hostPID", "hostIPC", "ephemeralContainers"] {
        fields.remove(forbidden);
    }
    for list in ["containers", "initContainers"] {
        for container in fields.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(container) = container.as_object_mut() else { continue };
            let context = container.entry("securityContext").or_insert_with(|| Value::Object(Map::new()));
            let Some(context) = context.as_object_mut() else { continue };
            context.remove("privileged");
            context.remove("procMount");
            context.insert("allowPrivilegeEscalation".to_owned(), false.into());
            context.insert("capabilities".to_owned(), serde_json::json!({"drop": ["ALL"]}));
            context.insert("runAsNonRoot".to_owned(), true.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ours_counts_and_theirs_stays_beside_it() {
        let theirs = json!({"a": 1, "b": {"x": 1, "y": 2}, "c": null, "d": 4, "args": ["x", "z"]});
        let ours = json!({"a": 9, "b": {"x": 9}, "c": 9, "args": ["x", "y"]});
        assert_eq!(merge(&theirs, &ours), json!({"a": 9, "b": {"x": 9, "y": 2}, "c": 9, "d": 4, "args": ["x", "y", "z"]}));
    }

    #[test]
    fn named_things_merge_by_name() {
        let theirs = json!({"containers": [{"name": "side", "image": "s"}, {"name": "worker", "image": "w", "tty": true,
            "env": [{"name": "A", "value": "theirs"}, {"name": "B", "value": "theirs"}]}]});
        let ours = json!({"containers": [{"name": "worker", "image": "o", "env": [{"name": "A", "value": "ours"}]}]});
        let merged = json!({"containers": [
            {"name": "worker", "image": "o", "tty": true, "env": [{"name": "A", "value": "ours"}, {"name": "B", "value": "theirs"}]},
            {"name": "side", "image": "s"}]});
        assert_eq!(merge(&theirs, &ours), merged);
    }

    #[test]
    fn a_proposal_gives_way() {
        let theirs = json!({"topologySpreadConstraints": [{"topologyKey": "zone"}]});
        assert_eq!(merge(&theirs, &json!({"topologySpreadConstraints": [{"topologyKey": "host"}]})), theirs);
    }

    #[test]
    fn no_container_rises_above_the_floor() {
        let mut spec = json!({"hostNetwork": true, "hostPID": true, "containers": [{"name": "side", "securityContext":
            {"privileged": true, "runAsUser": 7, "capabilities": {"add": ["SYS_ADMIN"]}}}], "initContainers": [{"name": "i"}]});
        floor(&mut spec);
        let safe = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true});
        assert_eq!(spec["initContainers"][0]["securityContext"], safe);
        assert_eq!(spec["containers"][0]["securityContext"], merge(&json!({"runAsUser": 7}), &safe));
        assert!(spec.get("hostNetwork").is_none() && spec.get("hostPID").is_none());
    }
}
