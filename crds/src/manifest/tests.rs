//! Reading manifests: places of errors, several documents, limits.

use super::*;

const SMALL: &str = "apiVersion: rheos.dev/v1alpha1\nkind: StreamJob\nmetadata: {name: a}\nspec: {sql: SELECT}\n";

fn problem(text: &str) -> String {
    parse_manifest(text).unwrap_err().to_string()
}

#[test]
fn a_small_manifest_has_all_defaults() {
    let job = parse_manifest(SMALL).unwrap();
    assert_eq!(job.spec, crate::StreamJobSpec { sql: Some("SELECT".into()), ..Default::default() });
}

#[test]
fn what_is_written_as_json_is_read_back() {
    let job = parse_manifest(SMALL).unwrap();
    assert_eq!(parse_manifest(&serde_json::to_string(&job).unwrap()).unwrap(), job);
}

#[test]
fn an_unknown_field_is_named_with_its_place_and_what_was_meant() {
    let text = SMALL.replace("{sql: SELECT}", "\n  sql: x\n  checkpoint:\n    intervall: 1s");
    assert_eq!(problem(&text), "line 7, column 5: spec.checkpoint.intervall: unknown field \"intervall\"; did you mean \"interval\"?");
}

#[test]
fn of_several_documents_the_one_job_is_read_and_keeps_its_lines() {
    let other = "# first\napiVersion: v1\nkind: Secret\ndata: {x: 1}\n---\n";
    assert!(parse_manifest(&format!("{other}{SMALL}")).is_ok());
    assert!(parse_manifest(&format!("{other}{SMALL}---\n# nothing\n...\n")).is_ok());
    let broken = SMALL.replace("sql:", "sqI:");
    assert!(problem(&format!("{other}{broken}")).starts_with("line 9, column 8: "));
    assert!(problem(&format!("{SMALL}---\n{SMALL}")).contains("2 documents are a StreamJob"));
}

#[test]
fn the_size_limit_is_exact() {
    let fill = |bytes: usize| format!("{SMALL}#{}", "x".repeat(bytes - SMALL.len() - 1));
    assert!(parse_manifest(&fill(MANIFEST_LIMIT)).is_ok());
    assert!(problem(&fill(MANIFEST_LIMIT + 1)).contains("at most"));
}
