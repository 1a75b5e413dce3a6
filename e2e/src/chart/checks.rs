//! [pure] What must hold of the rendered chart, whatever its values.

use std::collections::BTreeSet;

use serde_json::Value;

/// The definitions that the chart installs, as the repository has them.
pub const DEFINITIONS: &[(&str, &str)] = &[
    ("streamjobs.rheos.dev", include_str!("../../../crds/generated/rheos.dev_streamjobs.yaml")),
    ("savepoints.rheos.dev", include_str!("../../../crds/generated/rheos.dev_savepoints.yaml")),
];
/// Where the operator is.
const OWN: &str = "rheos-system";
/// The one Secret that may be read.
const KEY: &str = "rheos-operator-key";
/// Kinds without a namespace.
const CLUSTER_WIDE: &[&str] = &["ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"];
/// Verbs that let somebody become more than he is.
const RISING: &[&str] = &["*", "escalate", "bind", "impersonate"];
/// Resources through which one gets into containers or around admission.
const RISKY: &[&str] = &["*", "pods/exec", "pods/attach", "pods/portforward", "pods/ephemeralcontainers", "serviceaccounts/token", "nodes"];

/// What a set of values must give.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// The namespaces that are looked after; all of them when empty.
    pub namespaces: &'static [&'static str],
    /// Whether the definitions are there.
    pub crds: bool,
    /// Network policies.
    pub policies: usize,
    /// Whether the operator gets its rights.
    pub rbac: bool,
}

/// One rendered object.
#[derive(Debug, Clone)]
pub struct Rendered(pub Value);

impl Rendered {
    fn kind(&self) -> &str {
        self.0["kind"].as_str().unwrap_or_default()
    }

    fn name(&self) -> &str {
        self.0["metadata"]["name"].as_str().unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        self.0["metadata"]["namespace"].as_str().unwrap_or_default()
    }

    fn title(&self) -> String {
        format!("{} {}/{}", self.kind(), self.namespace(), self.name())
    }

    fn rules(&self) -> impl Iterator<Item = &Value> {
        self.0["rules"].as_array().into_iter().flatten()
    }

    /// A role for people: kubectl's view and edit take it in.
    fn is_for_people(&self) -> bool {
        self.0["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-admin"] == "true"
    }
}

/// Everything that is wrong.
pub fn all(text: &str, objects: &[Rendered], expected: &Expected) -> Vec<String> {
    let mut findings = Vec::new();
    identities(objects, expected, &mut findings);
    definitions(objects, expected, &mut findings);
    pods(objects, &mut findings);
    rights(objects, expected, &mut findings);
    reasons(text, &mut findings);
    selectors(objects, &mut findings);
    let policies = of_kind(objects, "NetworkPolicy").count();
    if policies != expected.policies {
        findings.push(format!("{policies} network policies instead of {}", expected.policies));
    }
    findings
}

fn of_kind<'a>(objects: &'a [Rendered], kind: &'a str) -> impl Iterator<Item = &'a Rendered> {
    objects.iter().filter(move |object| object.kind() == kind)
}

fn texts(value: &Value) -> BTreeSet<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn identities(objects: &[Rendered], expected: &Expected, findings: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for object in objects {
        let title = object.title();
        if object.0["apiVersion"].as_str().is_none() || object.name().is_empty() || object.name().len() > 63 {
            findings.push(format!("{title} has no good identity"));
        }
        let wide = CLUSTER_WIDE.contains(&object.kind());
        let policy = object.kind() == "NetworkPolicy" && object.name().ends_with("-workers");
        let known = object.namespace() == OWN || expected.namespaces.contains(&object.namespace()) || policy;
        if wide != object.namespace().is_empty() || (!wide && !known) {
            findings.push(format!("{title} is in a wrong namespace"));
        }
        if object.kind() != "CustomResourceDefinition" && object.0["metadata"]["labels"]["app.kubernetes.io/managed-by"] != "Helm" {
            findings.push(format!("{title} lacks the labels"));
        }
        if !seen.insert(title.clone()) {
            findings.push(format!("{title} is there twice"));
        }
    }
    for kind in ["Deployment", "PodDisruptionBudget", "ServiceAccount"] {
        let count = of_kind(objects, kind).count();
        if count > 1 || (kind == "Deployment" && count == 0) {
            findings.push(format!("{count} objects of kind {kind}"));
        }
    }
}

/// The definitions are those of the repository, but for the annotation.
fn definitions(objects: &[Rendered], expected: &Expected, findings: &mut Vec<String>) {
    let found: Vec<&Rendered> = of_kind(objects, "CustomResourceDefinition").collect();
    if found.len() != if expected.crds { DEFINITIONS.len() } else { 0 } {
        findings.push(format!("{} definitions", found.len()));
    }
    for object in found {
        let mut bare = object.0.clone();
        if let Some(metadata) = bare["metadata"].as_object_mut() {
            metadata.remove("annotations");
        }
        let current = DEFINITIONS.iter().find(|(name, _)| *name == object.name());
        let current = current.and_then(|(_, text)| serde_saphyr::from_str::<Value>(text).ok());
        if current.as_ref() != Some(&bare) {
            findings.push(format!("{} is not what crds/generated has", object.title()));
        }
    }
}

/// The profile *restricted* of Pod Security, and a root that nobody writes to.
fn pods(objects: &[Rendered], findings: &mut Vec<String>) {
    for object in of_kind(objects, "Deployment") {
        let pod = &object.0["spec"]["template"]["spec"];
        let title = object.title();
        for shared in ["hostNetwork", "hostPID", "hostIPC"] {
            if !pod[shared].is_null() {
                findings.push(format!("{title} uses {shared}"));
            }
        }
        if pod["volumes"].as_array().into_iter().flatten().any(|volume| !volume["hostPath"].is_null()) {
            findings.push(format!("{title} mounts the host"));
        }
        if pod["securityContext"]["runAsUser"].as_u64().is_none_or(|user| user == 0) {
            findings.push(format!("{title} runs as root"));
        }
        let lists = ["containers", "initContainers"].map(|list| pod[list].as_array().cloned().unwrap_or_default());
        for container in lists.iter().flatten() {
            let security = &container["securityContext"];
            let restricted = security["allowPrivilegeEscalation"] == false
                && security["privileged"].is_null()
                && security["readOnlyRootFilesystem"] == true
                && security["runAsNonRoot"] == true
                && security["seccompProfile"]["type"] == "RuntimeDefault"
                && texts(&security["capabilities"]["drop"]).contains("ALL")
                && security["capabilities"]["add"].is_null();
            if !restricted {
                findings.push(format!("{title}: container {} is not restricted: {security}", container["name"]));
            }
            let bounded = ["cpu", "memory"].iter().all(|name| !container["resources"]["requests"][name].is_null())
                && !container["resources"]["limits"]["memory"].is_null();
            if !bounded {
                findings.push(format!("{title}: container {} has no bounds", container["name"]));
            }
            for probe in ["livenessProbe", "readinessProbe"] {
                if container[probe].is_null() {
                    findings.push(format!("{title}: container {} has no {probe}", container["name"]));
                }
            }
        }
    }
}

fn rights(objects: &[Rendered], expected: &Expected, findings: &mut Vec<String>) {
    let roles = objects.iter().filter(|object| matches!(object.kind(), "Role" | "ClusterRole"));
    for role in roles.clone() {
        for rule in role.rules() {
            rule_is_small(role, rule, findings);
        }
    }
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    if expected.rbac {
        wanted.insert(format!("Role {OWN}/rheos-operator-own"));
        match expected.namespaces {
            [] => wanted.insert("ClusterRole /rheos-operator".into()),
            names => {
                wanted.extend(names.iter().map(|name| format!("Role {name}/rheos-operator")));
                true
            }
        };
    }
    let found: BTreeSet<String> = roles.filter(|role| !role.is_for_people()).map(Rendered::title).collect();
    if found != wanted {
        findings.push(format!("the operator's roles are {found:?} instead of {wanted:?}"));
    }
    let bound: BTreeSet<String> = (objects.iter())
        .filter(|object| matches!(object.kind(), "RoleBinding" | "ClusterRoleBinding"))
        .map(|binding| binding.title().replacen("Binding", "", 1))
        .collect();
    if bound != wanted {
        findings.push(format!("bound are {bound:?} instead of {wanted:?}"));
    }
    let account = of_kind(objects, "Deployment").next().map(|object| &object.0["spec"]["template"]["spec"]["serviceAccountName"]);
    for binding in objects.iter().filter(|object| matches!(object.kind(), "RoleBinding" | "ClusterRoleBinding")) {
        let subject = &binding.0["subjects"][0];
        if Some(&subject["name"]) != account || subject["namespace"] != OWN || binding.0["roleRef"]["name"] != binding.name() {
            findings.push(format!("{} binds something else", binding.title()));
        }
    }
}

fn rule_is_small(role: &Rendered, rule: &Value, findings: &mut Vec<String>) {
    let title = role.title();
    let (groups, resources, verbs) = (texts(&rule["apiGroups"]), texts(&rule["resources"]), texts(&rule["verbs"]));
    if groups.is_empty() || resources.is_empty() || verbs.is_empty() || !rule["nonResourceURLs"].is_null() {
        findings.push(format!("{title} has a rule of another form: {rule}"));
    }
    if groups.contains("*") || resources.iter().any(|name| RISKY.contains(name)) || verbs.iter().any(|verb| RISING.contains(verb)) {
        findings.push(format!("{title} has a rule that is too wide: {rule}"));
    }
    if resources.contains("secrets") {
        let named = texts(&rule["resourceNames"]);
        let own = role.kind() == "Role" && role.namespace() == OWN && named == BTreeSet::from([KEY]) && verbs == BTreeSet::from(["get"]);
        if resources.len() != 1 || (verbs != BTreeSet::from(["create"]) && !own) {
            findings.push(format!("{title} reaches Secrets: {rule}"));
        }
    }
    if role.is_for_people()
        && (groups != BTreeSet::from(["rheos.dev"]) || (resources.iter().any(|name| name.ends_with("/status")) && verbs.contains("patch")))
    {
        findings.push(format!("{title} gives people too much: {rule}"));
    }
}

/// Every rule stands under a comment that says what it is for.
fn reasons(text: &str, findings: &mut Vec<String>) {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for (number, pair) in lines.windows(2).enumerate() {
        if pair[1].starts_with("- apiGroups:") && !pair[0].starts_with("# ") {
            findings.push(format!("line {}: a rule without a reason: {}", number + 2, lines.get(number + 2).unwrap_or(&"")));
        }
    }
}

/// What selects the operator's pods selects them.
fn selectors(objects: &[Rendered], findings: &mut Vec<String>) {
    let Some(labels) = of_kind(objects, "Deployment").next().map(|object| object.0["spec"]["template"]["metadata"]["labels"].clone())
    else {
        return;
    };
    for object in objects {
        let spec = &object.0["spec"];
        let selector = match object.kind() {
            "Deployment" | "PodDisruptionBudget" => &spec["selector"]["matchLabels"],
            "Service" => &spec["selector"],
            "NetworkPolicy" if !object.name().ends_with("-workers") => &spec["podSelector"]["matchLabels"],
            _ => continue,
        };
        let selected =
            selector.as_object().is_some_and(|wanted| !wanted.is_empty() && wanted.iter().all(|(name, value)| labels[name] == *value));
        if !selected {
            findings.push(format!("{} selects {selector}, the pods are {labels}", object.title()));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ALL: Expected = Expected { namespaces: &[], crds: false, policies: 0, rbac: true };

    fn role(rule: Value) -> Vec<String> {
        let role = json!({"kind": "ClusterRole", "metadata": {"name": "rheos-operator"}, "rules": [rule]});
        let mut findings = Vec::new();
        rights(&[Rendered(role)], &ALL, &mut findings);
        findings.retain(|finding| finding.starts_with("ClusterRole"));
        findings
    }

    #[test]
    fn wide_rules_are_found() {
        let rule = |resource: &str, verb: &str| role(json!({"apiGroups": [""], "resources": [resource], "verbs": [verb]}));
        assert!(rule("pods", "get").is_empty() && rule("secrets", "create").is_empty());
        for (resource, verb) in
            [("secrets", "get"), ("secrets", "list"), ("pods", "*"), ("*", "get"), ("pods/exec", "create"), ("pods", "impersonate")]
        {
            assert_eq!(rule(resource, verb).len(), 1, "{verb} {resource}");
        }
        assert_eq!(role(json!({"apiGroups": ["*"], "resources": ["pods"], "verbs": ["get"]})).len(), 1);
        let named = json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": [KEY], "verbs": ["get"]});
        assert_eq!(role(named).len(), 1, "in the whole cluster the name is anybody's");
    }

    #[test]
    fn a_container_that_is_not_restricted_is_found() {
        let pod = |security: Value| {
            let probe = json!({"httpGet": {"path": "/"}});
            let resources = json!({"requests": {"cpu": 1, "memory": 1}, "limits": {"memory": 1}});
            let container = json!({"securityContext": security, "resources": resources, "livenessProbe": probe, "readinessProbe": probe});
            let spec = json!({"securityContext": {"runAsUser": 65532}, "containers": [container]});
            let mut findings = Vec::new();
            pods(&[Rendered(json!({"kind": "Deployment", "spec": {"template": {"spec": spec}}}))], &mut findings);
            findings.len()
        };
        let good = json!({
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true,
            "seccompProfile": {"type": "RuntimeDefault"}, "capabilities": {"drop": ["ALL"]},
        });
        assert_eq!(pod(good.clone()), 0);
        for field in ["allowPrivilegeEscalation", "readOnlyRootFilesystem", "runAsNonRoot", "seccompProfile", "capabilities"] {
            let mut bad = good.clone();
            bad[field] = Value::Null;
            assert_eq!(pod(bad), 1, "{field}");
        }
    }

    #[test]
    fn a_rule_without_a_reason_is_found() {
        let mut findings = Vec::new();
        reasons("rules:\n  # why\n  - apiGroups: [a]\n  - apiGroups: [b]\n", &mut findings);
        assert_eq!(findings.len(), 1);
    }
}
