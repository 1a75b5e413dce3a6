//! The rules of the house that no compiler checks: who may depend on whom, what a pure file may name, how a file
//! begins, how long it is, what the top level holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Most lines of a file before its inline tests.
const FILE_LIMIT: usize = 700;

/// What each crate may use of ours, in normal dependencies.
const OURS: &[(&str, &[&str])] = &[
    ("rheos-api", &[]),
    ("rheos-checkpoint", &[]),
    ("rheos-control-api", &["rheos-api"]),
    ("rheos-dataflow", &["rheos-checkpoint"]),
    ("rheos-sql", &["rheos-dataflow"]),
    ("rheos-connectors", &["rheos-api", "rheos-dataflow", "rheos-checkpoint"]),
    ("rheos-timely", &["rheos-dataflow", "rheos-checkpoint"]),
    (
        "rheos-worker",
        &["rheos-api", "rheos-checkpoint", "rheos-connectors", "rheos-control-api", "rheos-dataflow", "rheos-sql", "rheos-timely"],
    ),
    ("rheos-operator", &["rheos-api", "rheos-control-api"]),
    ("rheos-cli", &["rheos-api", "rheos-connectors", "rheos-control-api", "rheos-dataflow", "rheos-operator", "rheos-sql"]),
    ("rheos-e2e", &["rheos-api", "rheos-checkpoint", "rheos-control-api"]),
];

/// Crates without I/O, and what would bring it in.
const PURE: &[&str] = &["rheos-api", "rheos-dataflow", "rheos-sql"];
const IMPURE: &[&str] = &["tokio", "reqwest", "hyper", "axum", "object_store", "rustix", "libc", "mio", "timely"];

/// Names that a `[pure]` file does without. Futures are allowed: a seam may hand out work that others drive.
const NOT_PURE: &[&str] = &["::now(", "kube::Client", "tokio::", "std::fs", "std::thread", "std::process", "TcpStream", "TcpListener"];

/// What the top level holds, beside hidden files and the build's output.
const TOP: &[&str] = &["Cargo.toml", "Cargo.lock", "README.md", "LICENSE", "operator", "worker", "charts", "crds", "e2e", "target"];

fn root() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).parent().unwrap().to_owned()
}

struct Package {
    name: String,
    /// From the root.
    folder: PathBuf,
    /// Normal dependencies.
    dependencies: BTreeSet<String>,
}

fn packages() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let package = |package: &Value| Package {
        name: package["name"].as_str().unwrap().to_owned(),
        folder: Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap().strip_prefix(root()).unwrap().to_owned(),
        dependencies: (package["dependencies"].as_array().unwrap().iter())
            .filter(|dependency| dependency["kind"].is_null())
            .map(|dependency| dependency["name"].as_str().unwrap().to_owned())
            .collect(),
    };
    metadata["packages"].as_array().unwrap().iter().map(package).collect()
}

/// Every Rust file of the project, from the root.
fn sources() -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                walk(&path, found);
            } else if name.ends_with(".rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), &mut found);
    found.sort();
    assert!(found.len() > 50, "only {} files found", found.len());
    found.into_iter().map(|path| (path.strip_prefix(root()).unwrap().to_owned(), fs::read_to_string(&path).unwrap())).collect()
}

/// Lines before the inline tests.
fn before_tests(text: &str) -> &str {
    text.split_once("\n#[cfg(test)]\nmod tests {").map_or(text, |(before, _)| before)
}

fn is_test(path: &Path) -> bool {
    path.ends_with("tests.rs") || path.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "examples")))
}

/// Fails with all findings at once.
fn none(rule: &str, findings: Vec<String>) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}

#[test]
fn crates_depend_only_on_whom_they_may() {
    let allowed: BTreeMap<&str, &[&str]> = OURS.iter().copied().collect();
    let packages = packages();
    let ours: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let mut findings = Vec::new();
    for package in &packages {
        let Some(allowed) = allowed.get(package.name.as_str()) else {
            findings.push(format!("{} is not in the list", package.name));
            continue;
        };
        for dependency in &package.dependencies {
            let dependency = dependency.as_str();
            if ours.contains(dependency) && !allowed.contains(&dependency) {
                findings.push(format!("{} -> {dependency}", package.name));
            }
        }
    }
    none("a crate depends on one of ours that it may not know", findings);
}

#[test]
fn pure_crates_bring_in_no_io_and_only_the_adaptor_names_timely() {
    let mut findings = Vec::new();
    for package in packages() {
        for dependency in &package.dependencies {
            let dependency = dependency.as_str();
            if PURE.contains(&package.name.as_str()) && IMPURE.contains(&dependency) {
                findings.push(format!("{} -> {dependency}", package.name));
            }
            if dependency.starts_with("timely") && package.name != "rheos-timely" {
                findings.push(format!("{} -> {dependency}", package.name));
            }
            if package.folder.starts_with("worker") && (dependency.starts_with("kube") || dependency.starts_with("k8s")) {
                findings.push(format!("{} -> {dependency}", package.name));
            }
        }
    }
    none("a dependency is in the wrong room", findings);
}

#[test]
fn pure_files_name_no_clock_client_or_file() {
    let mut findings = Vec::new();
    for (path, text) in sources() {
        if !text.lines().next().unwrap_or_default().contains("[pure]") {
            continue;
        }
        for (number, line) in before_tests(&text).lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for name in NOT_PURE.iter().filter(|name| code.contains(**name)) {
                findings.push(format!("{}:{}: {name}", path.display(), number + 1));
            }
        }
    }
    none("a [pure] file names what is not", findings);
}

#[test]
fn every_file_says_what_it_is_for_and_stays_readable() {
    let mut findings = Vec::new();
    for (path, text) in sources() {
        if !text.starts_with("//!") {
            findings.push(format!("{}: does not open with //!", path.display()));
        }
        let lines = before_tests(&text).lines().count();
        if lines > FILE_LIMIT && !is_test(&path) {
            findings.push(format!("{}: {lines} lines, {FILE_LIMIT} are the limit", path.display()));
        }
        if path.ends_with("mod.rs") {
            findings.push(format!("{}: a module is foo.rs beside foo/", path.display()));
        }
        for banned in ["#[ignore", "todo!("] {
            if !path.ends_with("house.rs") && text.contains(banned) {
                findings.push(format!("{}: {banned}", path.display()));
            }
        }
    }
    none("a file breaks the rules of form", findings);
}

#[test]
fn the_top_level_holds_what_the_architecture_says() {
    let names = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    none("the top level holds more", names.filter(|name| !name.starts_with('.') && !TOP.contains(&name.as_str())).collect());
}

/// Lines that the example of a connector may have.
const SHORT: usize = 100;

#[test]
fn the_readme_shows_the_connector_of_the_example() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let (readme, example) = (read("README.md"), read("worker/examples/own_connector.rs"));
    assert!(example.lines().count() < SHORT);
    let (_, code) = example.split_once("\n\n").unwrap();
    assert!(readme.contains(&format!("```rust\n{code}```")), "README.md shows another text than worker/examples/own_connector.rs");
}
