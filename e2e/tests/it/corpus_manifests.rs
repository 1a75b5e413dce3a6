//! Bad manifests: each file of `corpus/manifests` says in its first comment line which error it must give. None may
//! panic, take long or pass.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rheos_api::{parse_manifest, validate};

/// Fewest files: the corpus only grows.
const LEAST: usize = 40;
/// Longest time for one file.
const TIME_LIMIT: Duration = Duration::from_millis(100);

#[test]
fn every_bad_manifest_is_refused_for_its_reason_and_quickly() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/manifests");
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= LEAST, "only {} files", files.len());
    let mut findings = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).unwrap();
        let expected: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("# expect: ")).collect();
        if expected.is_empty() {
            findings.push(format!("{name}: the first line is no `# expect: …`"));
            continue;
        }
        let begun = Instant::now();
        let errors = match parse_manifest(&text) {
            Err(error) => vec![error.to_string()],
            Ok(job) => validate(&job).err().unwrap_or_default().iter().map(ToString::to_string).collect(),
        };
        if begun.elapsed() > TIME_LIMIT {
            findings.push(format!("{name}: took {:?}", begun.elapsed()));
        }
        let all = errors.len() == expected.len() && errors.iter().zip(&expected).all(|(error, expected)| error.contains(expected));
        if !all {
            findings.push(format!("{name}: expected {expected:#?}\n    found {errors:#?}"));
        }
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}
