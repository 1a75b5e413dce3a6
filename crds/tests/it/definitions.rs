//! [io] The definitions: current in the repository, small, structural, with everything that people and programs use.

use std::path::Path;

use expect_test::expect_file;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use rheos_api::kube::{crds, files};
use serde_json::Value;

/// Longest definition as compact JSON, bytes. `kubectl apply` keeps a copy in an annotation of at most 256 KiB.
const SIZE_LIMIT: usize = 48 * 1024;

#[test]
fn the_files_in_the_repository_are_current() {
    for (name, text) in files().unwrap() {
        expect_file![format!("{}/generated/{name}", std::env::var("CARGO_MANIFEST_DIR").unwrap())].assert_eq(&text);
        expect_file![format!("{}/../charts/rheos/files/crds/{name}", std::env::var("CARGO_MANIFEST_DIR").unwrap())].assert_eq(&text);
    }
    let folder = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("generated");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), crds().len(), "a file of a resource that is no more");
}

#[test]
fn the_files_read_back_are_the_definitions() {
    for ((_, text), crd) in files().unwrap().iter().zip(crds()) {
        let read: Value = serde_saphyr::from_str(text).unwrap();
        assert_eq!(serde_json::from_value::<CustomResourceDefinition>(read).unwrap(), crd);
    }
}

#[test]
fn definitions_are_small() {
    for crd in crds() {
        let bytes = serde_json::to_string(&crd).unwrap().len();
        assert!(bytes < SIZE_LIMIT, "{}: {bytes} bytes", crd.spec.names.kind);
    }
}

/// Every field has a type, a description, and no form that Kubernetes refuses in a structural schema.
#[test]
fn schemas_are_structural_and_described() {
    fn walk(path: &str, node: &Value) {
        let typed = node["type"].is_string() || node["x-kubernetes-int-or-string"] == true;
        assert!(typed, "{path} has no type");
        for refused in ["$ref", "oneOf", "allOf", "not", "nullable", "uniqueItems"] {
            assert!(node.get(refused).is_none(), "{path} has {refused}");
        }
        assert!(node["properties"].is_null() || node["additionalProperties"].is_null(), "{path} is a map and an object");
        for (name, field) in node["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            assert!(path == ".metadata" || field["description"].is_string(), "{path} has no description");
            walk(&path, field);
        }
        if let Some(values) = node.get("additionalProperties") {
            walk(&format!("{path}.*"), values);
        }
        if let Some(items) = node.get("items") {
            walk(&format!("{path}[]"), items);
        }
    }
    for crd in crds() {
        let version = &crd.spec.versions[0];
        let mut root = serde_json::to_value(version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap()).unwrap();
        for absent in ["apiVersion", "kind", "metadata"] {
            assert!(root["properties"][absent].is_null(), "{absent} is the apiserver's");
        }
        root["description"] = Value::Null;
        walk("", &root);
        assert!(version.served && version.storage && version.subresources.as_ref().unwrap().status.is_some());
        assert!(root["properties"]["status"].to_string().find("\"default\"").is_none(), "a status has defaults");
    }
}

#[test]
fn people_and_scalers_find_what_they_look_for() {
    let [job, savepoint] = crds().try_into().unwrap();
    let names = |crd: &CustomResourceDefinition| (crd.spec.names.short_names.clone().unwrap(), crd.spec.names.categories.clone().unwrap());
    assert_eq!(names(&job), (vec!["sj".into()], vec!["rheos".into()]));
    assert_eq!(names(&savepoint), (vec!["sp".into()], vec!["rheos".into()]));
    let scale = job.spec.versions[0].subresources.as_ref().unwrap().scale.as_ref().unwrap();
    assert_eq!(scale.spec_replicas_path, ".spec.parallelism");
    assert_eq!(scale.status_replicas_path, ".status.parallelism.running");
    assert_eq!(scale.label_selector_path.as_deref(), Some(".status.selector"));
    // Every path of a column, of a selectable field and of the scale subresource is a field of the schema.
    for crd in [&job, &savepoint] {
        let version = &crd.spec.versions[0];
        let root = serde_json::to_value(version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap()).unwrap();
        let mut paths: Vec<String> = version.additional_printer_columns.iter().flatten().map(|column| column.json_path.clone()).collect();
        paths.extend(version.selectable_fields.iter().flatten().map(|field| field.json_path.clone()));
        assert!(paths.contains(&".status.phase".to_owned()));
        for path in paths.iter().filter(|path| !path.starts_with(".metadata.")) {
            let mut node = &root;
            for part in path.trim_start_matches('.').split('.') {
                node = match part.split_once("[?(@") {
                    Some((list, _)) => &node["properties"][list]["items"],
                    None if part.starts_with("type==") => node,
                    None => &node["properties"][part],
                };
            }
            assert!(node["type"].is_string(), "{path} is no field of {}", crd.spec.names.kind);
        }
    }
}
