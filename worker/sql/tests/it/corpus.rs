//! Bad SQL texts, one a file in `e2e/corpus/sql`. The first line is `-- line:column: what the error must say`; more
//! such lines may follow, one for each error.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::errors;

/// Wall time for one text, generous for a busy machine.
const MOST: Duration = Duration::from_secs(2);

#[test]
fn every_bad_text_gives_its_error() {
    let folder = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../e2e/corpus/sql");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    assert!(files.len() >= 60, "{} files", files.len());
    let mut wrong = Vec::new();
    for path in files {
        let sql = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        let expected: Vec<&str> = sql.lines().map_while(|line| line.strip_prefix("-- ")).collect();
        let started = Instant::now();
        let found = errors(&sql);
        let slow = started.elapsed() > MOST;
        let matches = |(expected, found): (&&str, &str)| {
            let place = |text: &str| text.splitn(3, ':').take(2).collect::<Vec<_>>().join(":");
            place(expected) == place(found) && found.contains(expected.splitn(3, ':').nth(2).unwrap_or_default().trim())
        };
        let count = found.lines().count();
        if slow || expected.is_empty() || count != expected.len() || !expected.iter().zip(found.lines()).all(matches) {
            wrong.push(format!("{}{}\n{}", path.display(), if slow { " (slow)" } else { "" }, found));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
