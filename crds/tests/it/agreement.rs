//! [io] The definitions and the validation in Rust say the same: one table of cases, and the corpus of bad manifests.

use std::collections::BTreeMap;
use std::path::Path;

use rheos_api::kube::crds;
use rheos_api::{FieldError, parse_manifest, parse_savepoint, validate, validate_savepoint};
use serde_json::Value;

use crate::apiserver::Server;
use crate::cases::{self, Case};

/// Fewest cases: the table only grows.
const CASES: usize = 100;

/// The model of the apiserver, by kind.
fn servers() -> BTreeMap<String, Server> {
    let schema = |crd: &k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition| {
        serde_json::to_value(crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap()).unwrap()
    };
    crds().iter().map(|crd| (crd.spec.names.kind.clone(), Server::new(schema(crd)))).collect()
}

/// What Rust says: the path of the first error, if any.
fn in_rust(kind: &str, text: &str) -> Result<(), String> {
    let first = |errors: Vec<FieldError>| errors.first().map(|error| error.path.clone()).unwrap_or_default();
    let unread = |error: rheos_api::ManifestError| error.path.unwrap_or_default();
    match kind {
        "Savepoint" => validate_savepoint(&parse_savepoint(text).map_err(unread)?).map(drop).map_err(first),
        _ => validate(&parse_manifest(text).map_err(unread)?).map(drop).map_err(first),
    }
}

#[test]
fn the_rules_in_the_cluster_and_in_rust_agree_on_every_case() {
    let servers = servers();
    let cases = cases::all();
    assert!(cases.len() >= CASES, "only {} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let Case { name, kind, refused, rust_only, .. } = case;
        let manifest = case.manifest();
        let rust = in_rust(kind, &manifest.to_string());
        if rust.as_ref().err() != refused.as_ref() {
            wrong.push(format!("{name}: Rust says {rust:?}, expected {refused:?}"));
        }
        let cluster = servers[kind].admit(&manifest, None);
        if cluster.is_err() != (refused.is_some() && !rust_only) {
            wrong.push(format!("{name}: the schema says {:?}, expected {refused:?}", cluster.map(drop)));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn what_the_cluster_fills_in_is_what_rust_fills_in() {
    let servers = servers();
    for case in cases::all().iter().filter(|case| case.refused.is_none() && case.kind == "StreamJob") {
        let manifest = case.manifest();
        let stored = servers[&case.kind].admit(&manifest, None).unwrap();
        let read = parse_manifest(&manifest.to_string()).unwrap();
        assert_eq!(parse_manifest(&stored.to_string()).unwrap(), read, "{}", case.name);
        // Every default of Rust is in the schema: nothing is left to the reader's version. (A number becomes text in Rust.)
        if case.name != "a quantity as a number" {
            assert_eq!(stored["spec"], serde_json::to_value(&read).unwrap()["spec"], "{}", case.name);
        }
    }
}

#[test]
fn what_never_changes_cannot_be_changed() {
    let servers = servers();
    let job = |change: Value| Case {
        name: String::new(),
        kind: "StreamJob".into(),
        object: "job".into(),
        spec: change,
        refused: None,
        rust_only: false,
    };
    let old = servers["StreamJob"].admit(&job(serde_json::json!({})).manifest(), None).unwrap();
    let update = |spec: Value| servers["StreamJob"].admit(&job(spec).manifest(), Some(&old));
    assert!(update(serde_json::json!({"parallelism": 2, "maxParallelism": 128})).is_ok());
    assert!(update(serde_json::json!({"maxParallelism": 127})).unwrap_err()[0].starts_with("spec.maxParallelism"));
    let savepoint = |job: &str| Case { kind: "Savepoint".into(), spec: serde_json::json!({"job": job}), ..a_savepoint() }.manifest();
    let old = servers["Savepoint"].admit(&savepoint("a"), None).unwrap();
    assert!(servers["Savepoint"].admit(&savepoint("a"), Some(&old)).is_ok());
    assert!(servers["Savepoint"].admit(&savepoint("b"), Some(&old)).is_err());
}

fn a_savepoint() -> Case {
    Case { name: String::new(), kind: "Savepoint".into(), object: "s".into(), spec: Value::Null, refused: None, rust_only: false }
}

/// A manifest is a document of `apiVersion`, `kind`, `metadata` and `spec` before an apiserver looks at it at all.
#[test]
fn the_cluster_refuses_every_bad_manifest_of_the_corpus_that_reaches_it() {
    let servers = servers();
    let folder = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../e2e/corpus/manifests");
    let mut reached = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let Ok(object) = serde_saphyr::from_str::<Value>(&std::fs::read_to_string(&path).unwrap()) else { continue };
        let head = object["apiVersion"] == "rheos.dev/v1alpha1" && object["kind"] == "StreamJob";
        // What Kubernetes itself checks of metadata is not the definition's.
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if !head || name.starts_with("name") || name == "metadata-missing" {
            continue;
        }
        reached += 1;
        assert!(servers["StreamJob"].admit(&object, None).is_err(), "{name} is admitted");
    }
    assert!(reached >= 40, "only {reached} manifests reached the schema");
}

#[test]
fn examples_are_valid_in_both() {
    let servers = servers();
    let folder = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("examples");
    let mut kinds = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for document in text.split("\n---\n") {
            let object: Value = serde_saphyr::from_str(document).unwrap();
            let kind = object["kind"].as_str().unwrap_or_default().to_owned();
            if let Some(server) = servers.get(&kind) {
                assert_eq!(in_rust(&kind, document), Ok(()), "{}", path.display());
                server.admit(&object, None).unwrap_or_else(|errors| panic!("{}: {errors:?}", path.display()));
                *kinds.entry(kind).or_insert(0) += 1;
            }
        }
    }
    assert!(kinds["StreamJob"] >= 3 && kinds["Savepoint"] >= 1, "{kinds:?}");
}
