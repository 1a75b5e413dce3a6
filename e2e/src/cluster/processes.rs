//! [io] Processes that outlive the program that started them, recorded by id.
//!
//! Process ids are used again: each is recorded with its start time, and only that pair is ever signalled.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::shell::{run, until};

/// How long a process may take to end after SIGTERM, then after SIGKILL.
const END_LIMIT: Duration = Duration::from_secs(10);

/// A process, exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// For people.
    pub name: String,
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks since boot, as `/proc/PID/stat` has it.
    pub started: u64,
}

impl Process {
    fn of(name: &str, pid: u32) -> Option<Self> {
        Some(Self { name: name.to_owned(), pid, started: start_time(pid)? })
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        start_time(self.pid) == Some(self.started)
    }

    /// Sends a signal; to nobody if it has ended.
    pub fn signal(&self, signal: &str) {
        if self.is_alive() {
            let _ = run("kill", &[&format!("-{signal}"), &self.pid.to_string()]);
        }
    }
}

/// When a process that runs (and is no zombie) started.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; what follows the last one is fixed: state first, start time twentieth.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    if state == "Z" || state == "X" { None } else { fields.nth(18)?.parse().ok() }
}

/// The record.
#[derive(Debug)]
pub struct Processes {
    file: PathBuf,
    entries: Vec<Process>,
}

impl Processes {
    /// The record in `folder`; empty when there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(folder: &Path) -> Result<Self, String> {
        let file = folder.join("processes.json");
        let entries = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", file.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(format!("{}: {error}", file.display())),
        };
        Ok(Self { file, entries })
    }

    /// Starts a process of its own session that writes to `log`.
    ///
    /// # Errors
    /// When it cannot be started or recorded.
    pub fn start(&mut self, name: &str, words: &[String], log: &Path) -> Result<(), String> {
        let text = |error: std::io::Error| format!("{name}: {error}");
        let out = std::fs::File::options().create(true).append(true).open(log).map_err(text)?;
        let (stdout, stderr) = (Stdio::from(out.try_clone().map_err(text)?), Stdio::from(out));
        // Both replace themselves by what they run, so the id stays.
        let child = Command::new("setsid").args(words).stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn().map_err(text)?;
        let process = Process::of(name, child.id()).ok_or_else(|| format!("{name} ended at once; see {}", log.display()))?;
        self.entries.retain(|entry| entry.name != name);
        self.entries.push(process);
        self.save()
    }

    fn save(&self) -> Result<(), String> {
        let bytes = serde_json::to_vec_pretty(&self.entries).map_err(|error| error.to_string())?;
        std::fs::write(&self.file, bytes).map_err(|error| format!("{}: {error}", self.file.display()))
    }

    /// The process of this name.
    pub fn named(&self, name: &str) -> Option<&Process> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// Fails with the name of the first that has ended.
    ///
    /// # Errors
    /// See above.
    pub fn all_alive(&self) -> Result<(), String> {
        self.entries.iter().find(|entry| !entry.is_alive()).map_or(Ok(()), |entry| Err(format!("{} has ended", entry.name)))
    }

    /// One line each.
    pub fn list(&self) -> String {
        let state = |entry: &Process| if entry.is_alive() { "running" } else { "ended" };
        self.entries.iter().map(|entry| format!("{:<28} {:>8} {}\n", entry.name, entry.pid, state(entry))).collect()
    }

    /// Ends all, last started first, and forgets them.
    ///
    /// # Errors
    /// When one does not end.
    pub fn stop(mut self) -> Result<(), String> {
        while let Some(entry) = self.entries.pop() {
            end(&entry)?;
        }
        if self.file.exists() { self.save() } else { Ok(()) }
    }
}

/// Ends a process: SIGTERM, then SIGKILL.
///
/// # Errors
/// When it is still there.
pub fn end(process: &Process) -> Result<(), String> {
    for signal in ["TERM", "KILL"] {
        process.signal(signal);
        let gone = until(&format!("{} ({}) to end", process.name, process.pid), END_LIMIT, || Ok((!process.is_alive()).then_some(())));
        if gone.is_ok() || signal == "KILL" {
            return gone;
        }
    }
    Ok(())
}

/// Ends every process whose arguments name one of `folders`: shims of containerd outlive it, and a start that was
/// interrupted may not have recorded its process. Never this process or its ancestors.
///
/// # Errors
/// When one does not end, or `/proc` cannot be read.
pub fn stop_all_naming(folders: &[&str]) -> Result<(), String> {
    let mine = ancestors();
    for pid in all().map_err(|error| format!("/proc: {error}"))? {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let named = arguments.split(|byte| *byte == 0).any(|word| {
            let word = String::from_utf8_lossy(word);
            folders.iter().any(|folder| word.contains(&format!("{folder}/")))
        });
        if named
            && !mine.contains(&pid)
            && let Some(process) = Process::of("a process of the cluster", pid)
        {
            end(&process)?;
        }
    }
    Ok(())
}

/// Ends at once, by SIGKILL.
///
/// # Errors
/// When it is still there.
pub fn kill(pid: u32) -> Result<(), String> {
    let Some(process) = Process::of("a container's process", pid) else { return Ok(()) };
    process.signal("KILL");
    until(&format!("process {pid} to end"), END_LIMIT, || Ok((!process.is_alive()).then_some(())))
}

fn all() -> std::io::Result<Vec<u32>> {
    Ok(std::fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

fn ancestors() -> Vec<u32> {
    let mut found = vec![std::process::id()];
    while let Some(parent) = found.last().and_then(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok().filter(|parent| *parent > 1)
    }) {
        found.push(parent);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_process_is_found_again_ended_and_not_confused_with_a_later_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut processes = Processes::open(folder.path()).unwrap();
        let words = ["tail".to_owned(), "-f".to_owned(), "/dev/null".to_owned()];
        processes.start("tail", &words, &folder.path().join("log")).unwrap();
        let again = Processes::open(folder.path()).unwrap();
        let process = again.named("tail").unwrap().clone();
        assert!(process.is_alive());
        let other = Process { started: process.started + 1, ..process.clone() };
        other.signal("KILL");
        assert!(!other.is_alive() && process.is_alive());
        again.stop().unwrap();
        assert!(!process.is_alive());
        assert_eq!(Processes::open(folder.path()).unwrap().list(), "");
    }

    #[test]
    fn processes_are_found_by_a_folder_in_their_arguments() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("log");
        let text = file.to_str().unwrap().to_owned();
        let mut processes = Processes::open(folder.path()).unwrap();
        std::fs::write(&file, "").unwrap();
        processes.start("tail", &["tail".into(), "-f".into(), text], &folder.path().join("out")).unwrap();
        until("its arguments", END_LIMIT, || {
            let process = processes.named("tail").unwrap();
            Ok(std::fs::read_to_string(format!("/proc/{}/cmdline", process.pid)).unwrap().starts_with("tail").then_some(()))
        })
        .unwrap();
        stop_all_naming(&[folder.path().to_str().unwrap()]).unwrap();
        assert!(processes.all_alive().is_err());
    }
}
