//! The definitions in a real apiserver: it takes them, and says of every case of the table what the validation in Rust says.

#[path = "../../../crds/tests/it/cases.rs"]
mod cases;

use std::fs;

use rheos_e2e::harness::kubectl::kubectl;
use rheos_e2e::harness::scenario;
use serde_json::json;

#[test]
fn an_apiserver_refuses_what_the_table_says_and_nothing_else() {
    scenario("definitions", async |space| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("case.json");
        let mut wrong = Vec::new();
        for case in cases::all() {
            let mut manifest = case.manifest();
            manifest["metadata"]["namespace"] = json!(space.name);
            fs::write(&file, manifest.to_string()).unwrap();
            let said = kubectl(&["create", "--dry-run=server", "--validate=strict", "-f", &file.display().to_string()]);
            if said.is_err() != (case.refused.is_some() && !case.rust_only) {
                wrong.push(format!("{}: {said:?}, expected {:?}", case.name, case.refused));
            }
        }
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    });
}
