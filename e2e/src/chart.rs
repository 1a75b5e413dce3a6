//! [io] The operator's chart, rendered by Helm over a matrix of values, each time checked object by object.

pub mod checks;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use self::checks::{Expected, Rendered};
use crate::shell::output;

/// The namespace that the chart is rendered for.
const NAMESPACE: &str = "rheos-system";

/// The Kubernetes that it is rendered for; a Helm without a cluster would take the version that it was built with.
const KUBERNETES: &str = "1.34.0";

/// A set of values that must render.
struct Render {
    name: &'static str,
    values: &'static [&'static str],
    expected: Expected,
}

const NONE: Expected = Expected { namespaces: &[], crds: true, policies: 0, rbac: true };

const MATRIX: &[Render] = &[
    Render { name: "defaults", values: &[], expected: NONE },
    Render { name: "one process", values: &["replicas=1", "leaderElection.enabled=false"], expected: NONE },
    Render { name: "two namespaces", values: &["watchNamespaces={a,b}"], expected: Expected { namespaces: &["a", "b"], ..NONE } },
    Render {
        name: "two namespaces with policies",
        values: &["watchNamespaces={a,b}", "networkPolicy.enabled=true"],
        expected: Expected { namespaces: &["a", "b"], policies: 3, ..NONE },
    },
    Render {
        name: "everything",
        values: &[
            "networkPolicy.enabled=true",
            "networkPolicy.workerNamespaces={jobs}",
            "networkPolicy.metricsFrom[0].matchLabels.name=monitoring",
            "networkPolicy.resultsFrom[0].matchLabels.name=shops",
            "metrics.serviceMonitor.enabled=true",
            "metrics.serviceMonitor.labels.release=prometheus",
            "metrics.prometheusRule.enabled=true",
            "image.digest=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "imagePullSecrets[0].name=registry",
            "tracing.otlpEndpoint=http://collector.observability:4318",
            "podLabels.team=streams",
            "podAnnotations.note=yes",
            "nodeSelector.pool=system",
            "tolerations[0].operator=Exists",
            "affinity.nodeAffinity.x=y",
            "priorityClassName=system-cluster-critical",
            "serviceAccount.annotations.role=rheos",
        ],
        expected: Expected { policies: 2, ..NONE },
    },
    Render { name: "without definitions", values: &["crds.install=false"], expected: Expected { crds: false, ..NONE } },
    Render { name: "definitions that go", values: &["crds.keep=false"], expected: NONE },
    Render {
        name: "somebody else's rights",
        values: &["rbac.create=false", "serviceAccount.create=false", "serviceAccount.name=mine", "metrics.service.enabled=false"],
        expected: Expected { rbac: false, ..NONE },
    },
];

/// Values that must be refused, and a part of what is said.
const REFUSED: &[(&str, &str)] = &[
    ("replica=2", "replica"),
    ("replicas=0", "replicas"),
    ("replicas=two", "replicas"),
    ("leaderElection.enabled=false", "set replicas to 1"),
    ("watchNamespaces={A}", "watchNamespaces"),
    ("watchNamespaces=a", "watchNamespaces"),
    ("concurrency=1000", "concurrency"),
    ("tracing.otlpEndpoint=http://collector", "otlpEndpoint"),
    ("image.repository=", "repository"),
    ("image.tag=a b", "tag"),
    ("image.digest=latest", "digest"),
    ("image.pullPolicy=Sometimes", "pullPolicy"),
    ("worker.image.name=x", "/worker/image"),
    ("worker.storage.uri=bucket", "/worker/storage/uri"),
    ("worker.resources.limits.cpu=1", "worker"),
    ("serviceAccount.create=false", "serviceAccount.name"),
    ("metrics.serviceMonitor.interval=soon", "interval"),
    ("networkPolicy.apiServerPorts={}", "apiServerPorts"),
    ("networkPolicy.apiServerPorts={70000}", "apiServerPorts"),
    ("podLabels.a.b=c", "podLabels"),
    ("securityContext.runAsUser=0", "securityContext"),
];

/// The chart of this repository.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/rheos")
}

/// Lints the chart, renders it over the matrix and checks what came out.
///
/// # Errors
/// Every finding, with the values that led to it.
pub fn check(helm: &Path, say: &mut dyn FnMut(&str)) -> Result<(), String> {
    output(Command::new(helm).args(["lint", "--strict"]).arg(folder()))?;
    say("the chart lints");
    let mut findings = Vec::new();
    for Render { name, values, expected } in MATRIX {
        let text = render(helm, values)?;
        let rendered = read(&text)?;
        let found = checks::all(&text, &rendered, expected);
        say(&format!("{name}: {} objects, {} findings", rendered.len(), found.len()));
        findings.extend(found.into_iter().map(|finding| format!("{name}: {finding}")));
        // What is kept at an uninstall is said in the definition and nowhere else.
        let kept = text.matches("\n    helm.sh/resource-policy: keep\n").count();
        let wanted = if expected.crds && *name != "definitions that go" { checks::DEFINITIONS.len() } else { 0 };
        if kept != wanted {
            findings.push(format!("{name}: {kept} objects are kept at an uninstall, not {wanted}"));
        }
    }
    for (values, why) in REFUSED {
        match render(helm, &[*values]) {
            Ok(_) => findings.push(format!("{values} is not refused")),
            Err(error) if error.contains(why) => {}
            Err(error) => findings.push(format!("{values} is refused without a word on {why}: {error}")),
        }
    }
    say(&format!("{} wrong values are refused", REFUSED.len()));
    if findings.is_empty() { Ok(()) } else { Err(findings.join("\n")) }
}

fn render(helm: &Path, values: &[&str]) -> Result<String, String> {
    let mut command = Command::new(helm);
    command.args(["template", "rheos"]).arg(folder()).args(["-n", NAMESPACE, "--kube-version", KUBERNETES]);
    for value in values {
        command.args(["--set", value]);
    }
    output(&mut command)
}

fn read(text: &str) -> Result<Vec<Rendered>, String> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| error.to_string())?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).map(Rendered).collect())
}
