//! Bad input, one file a case: manifests, SQL texts, records, checkpoint files, each with the error that it must give
//! written in it or beside it. None may panic, take long, take much memory, or pass.
//!
//! Every case runs in a process of its own, which is this test program again with one test and the case in its
//! environment: so a case that aborts is only one finding, and its memory is what the kernel counted for that process
//! (`VmHWM`, the program itself included). Time is that of the longest reading of the input in the case, as the kernel counted
//! it for all threads of the process (`schedstat`, which is exact to a tick): a busy machine makes nobody slow.

mod checkpoints;
mod records;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rheos_api::{parse_manifest, validate};
use rheos_dataflow::sink::Delivery;
use serde::{Deserialize, Serialize};

/// Longest time for one case.
const TIME_LIMIT: Duration = Duration::from_millis(100);
/// Most resident memory of a process that runs one case, bytes.
const MEMORY_LIMIT: u64 = 64 * 1024 * 1024;
/// Environment of the process of one case: the case, and where to report.
const CASE: &str = "RHEOS_CORPUS_CASE";
const REPORT: &str = "RHEOS_CORPUS_REPORT";
/// The test that runs one case.
const ONE: &str = "corpus::one_case_of_the_corpus";

/// Runs one file of a family; gives what is wrong.
type Check = fn(&Path, &mut Watch) -> Vec<String>;

/// The families: folder, fewest cases (the corpus only grows), and what runs a case and tells what is not as expected.
const FAMILIES: [(&str, usize, Check); 4] = [
    ("manifests", 77, manifest_findings),
    ("sql", 148, sql_findings),
    ("records", 100, records::findings),
    ("checkpoints", 30, checkpoints::findings),
];

/// The longest reading of bad input so far.
#[derive(Default)]
struct Watch(Duration);

impl Watch {
    fn time<T>(&mut self, read: impl FnOnce() -> T) -> T {
        let before = cpu_time();
        let result = read();
        self.0 = self.0.max(cpu_time().saturating_sub(before));
        result
    }
}

/// What the threads of this process have run for.
fn cpu_time() -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    // A thread may end meanwhile.
    let counted = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("schedstat")).ok());
    Duration::from_nanos(counted.filter_map(|text| text.split(' ').next()?.parse::<u64>().ok()).sum())
}

/// What one process tells.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    findings: Vec<String>,
    micros: u64,
    peak_bytes: u64,
}

#[test]
fn bad_manifests_give_their_errors() {
    family("manifests");
}

#[test]
fn bad_sql_gives_its_errors() {
    family("sql");
}

#[test]
fn bad_records_give_their_errors_or_are_skipped_and_counted() {
    family("records");
}

#[test]
fn bad_checkpoints_give_their_errors_and_never_an_empty_start() {
    family("checkpoints");
}

/// Does nothing but in a process that was started for one case.
#[test]
fn one_case_of_the_corpus() {
    let Some(case) = std::env::var_os(CASE).map(PathBuf::from) else { return };
    let folder = case.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
    let (_, _, findings) = FAMILIES.iter().find(|(name, ..)| *name == folder).unwrap();
    let mut watch = Watch::default();
    let findings = findings(&case, &mut watch);
    let report = Report { findings, micros: watch.0.as_micros() as u64, peak_bytes: peak_bytes() };
    std::fs::write(std::env::var_os(REPORT).unwrap(), serde_json::to_vec(&report).unwrap()).unwrap();
}

/// The most memory that was ever resident in this process.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

/// Runs every case of a family, side by side, and panics with all findings.
fn family(name: &str) {
    let (_, least, _) = FAMILIES.iter().find(|(family, ..)| *family == name).unwrap();
    let cases = cases(&Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("corpus").join(name));
    assert!(cases.len() >= *least, "only {} cases", cases.len());
    let reports = tempfile::tempdir().unwrap();
    let (next, findings) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let (slowest, largest) = (Mutex::new((0, String::new())), Mutex::new((0, String::new())));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let shown = case.file_name().unwrap().to_string_lossy().into_owned();
                    match run(case, &reports.path().join(&shown)) {
                        Err(died) => findings.lock().unwrap().push(format!("{shown}: {died}")),
                        Ok(report) => {
                            findings.lock().unwrap().extend(report.findings.iter().map(|finding| format!("{shown}: {finding}")));
                            let mut slowest = slowest.lock().unwrap();
                            *slowest = std::mem::take(&mut *slowest).max((report.micros, shown.clone()));
                            let mut largest = largest.lock().unwrap();
                            *largest = std::mem::take(&mut *largest).max((report.peak_bytes, shown));
                        }
                    }
                }
            });
        }
    });
    println!("{name}: {} cases, slowest {:?} µs, largest {:?} bytes", cases.len(), slowest.lock().unwrap(), largest.lock().unwrap());
    let findings = findings.into_inner().unwrap();
    assert!(findings.is_empty(), "{} findings\n{}", findings.len(), findings.join("\n"));
}

/// Every entry of a folder but the expectations and what begins with an underscore, which cases share.
fn cases(folder: &Path) -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| {
        path.extension().is_none_or(|ending| ending != "expect") && !path.file_name().unwrap().as_encoded_bytes().starts_with(b"_")
    });
    cases.sort();
    cases
}

/// Runs one case in a process of its own.
fn run(case: &Path, report: &Path) -> Result<Report, String> {
    let mut found = run_once(case, report)?;
    if found.peak_bytes > MEMORY_LIMIT {
        found.findings.push(format!("took {} MiB", found.peak_bytes >> 20));
    }
    if found.micros > TIME_LIMIT.as_micros() as u64 {
        found.findings.push(format!("took {} ms", found.micros / 1_000));
    }
    Ok(found)
}

fn run_once(case: &Path, report: &Path) -> Result<Report, String> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", ONE, "--test-threads", "1"])
        .env(CASE, case)
        .env(REPORT, report)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        return Err(format!("panicked or died ({}): {said}", output.status));
    }
    let bytes = std::fs::read(report).map_err(|error| format!("no report: {error}"))?;
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

/// A manifest's comments say which errors it must give: `# expect: …`, one a line.
fn manifest_findings(file: &Path, watch: &mut Watch) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let expected: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("# expect: ")).collect();
    if expected.is_empty() {
        return vec!["the first line is no `# expect: …`".to_owned()];
    }
    let errors = watch.time(|| match parse_manifest(&text) {
        Err(error) => vec![error.to_string()],
        Ok(job) => validate(&job).err().unwrap_or_default().iter().map(ToString::to_string).collect(),
    });
    let all = errors.len() == expected.len() && errors.iter().zip(&expected).all(|(error, expected)| error.contains(expected));
    if all { Vec::new() } else { vec![format!("expected {expected:#?}\n    found {errors:#?}")] }
}

/// The same for SQL: `-- line:column: …`. That the errors are the right ones is a test of the crate that plans; here
/// they have to be as many.
fn sql_findings(file: &Path, watch: &mut Watch) -> Vec<String> {
    let text = String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned();
    let expected = text.lines().map_while(|line| line.strip_prefix("-- ")).count();
    match watch.time(|| rheos_worker::manifest::plan(&text, Delivery::ExactlyOnce)) {
        Ok(_) => vec!["was planned".to_owned()],
        Err(errors) if errors.len() == expected && expected > 0 => Vec::new(),
        Err(errors) => vec![format!("expected {expected} errors, found {errors:#?}")],
    }
}

/// `key: value` lines of an expectation.
fn expectations(file: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let pair = |line: &str| {
        let (key, value) = line.split_once(": ").unwrap_or_else(|| panic!("{}: {line:?} is not `key: value`", file.display()));
        (key.to_owned(), value.to_owned())
    };
    text.lines().filter(|line| !line.is_empty()).map(pair).collect()
}
