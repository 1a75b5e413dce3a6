//! [io] Completion: scripts for shells, and the words that may follow, for kubectl's own completion of plugins.

use std::time::Duration;

use clap::CommandFactory;
use kube::ResourceExt;

use crate::args::{Cli, General, Shell};
use crate::exit::Outcome;
use crate::io::cluster::Cluster;
use crate::io::terminal::Terminal;

/// How long the cluster is asked for names of jobs: a person waits at the keyboard.
const PATIENCE: Duration = Duration::from_secs(2);
/// Commands whose first argument is a job.
const OF_A_JOB: [&str; 12] =
    ["status", "savepoint", "suspend", "resume", "rescale", "restart", "results", "logs", "events", "top", "report", "delete"];
/// What kubectl reads behind the candidates: these and no files.
const NO_FILES: &str = ":4";
/// The same: files may follow.
const FILES: &str = ":0";

/// Prints a completion script.
pub(super) fn script(terminal: &Terminal, shell: Shell) -> Outcome {
    let generator = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
        Shell::Kubectl => return terminal.print("#!/bin/sh\nexec kubectl-streamjob __complete -- \"$@\"\n"),
    };
    let mut text = Vec::new();
    // The scripts complete the program under its own name; `kubectl streamjob` is kubectl's to complete.
    let mut command = Cli::command().bin_name("kubectl-streamjob");
    clap_complete::generate(generator, &mut command, "kubectl-streamjob", &mut text);
    terminal.print(&String::from_utf8_lossy(&text))
}

/// Prints what may follow `words`, the last of them unfinished.
pub(super) async fn words(terminal: &Terminal, general: &General, words: &[String]) -> Outcome {
    let (unfinished, before) = words.split_last().map_or(("", &[][..]), |(last, before)| (last.as_str(), before));
    let named: Vec<&str> = before.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    let command = Cli::command();
    let (candidates, directive): (Vec<String>, &str) = match named.as_slice() {
        _ if unfinished.starts_with('-') => (options(&command, named.first().copied()), NO_FILES),
        [] => (command.get_subcommands().filter(|sub| !sub.is_hide_set()).map(|sub| sub.get_name().to_owned()).collect(), NO_FILES),
        [name] if OF_A_JOB.contains(name) => (jobs(general, before).await, NO_FILES),
        ["submit" | "diff" | "explain"] => (Vec::new(), FILES),
        _ => (Vec::new(), NO_FILES),
    };
    let fitting = candidates.into_iter().filter(|candidate| candidate.starts_with(unfinished));
    terminal.print(&format!("{}{directive}\n", fitting.map(|candidate| format!("{candidate}\n")).collect::<String>()))
}

fn options(command: &clap::Command, name: Option<&str>) -> Vec<String> {
    let of = |command: &clap::Command| {
        command.get_arguments().filter_map(|argument| argument.get_long()).map(|long| format!("--{long}")).collect()
    };
    let mut options: Vec<String> = of(command);
    if let Some(sub) = name.and_then(|name| command.find_subcommand(name)) {
        options.extend::<Vec<String>>(of(sub));
    }
    options
}

/// Names of jobs; none when the cluster does not answer at once.
async fn jobs(general: &General, before: &[String]) -> Vec<String> {
    let mut general = general.clone();
    let value = |names: [&str; 2]| {
        let at = before.iter().position(|word| names.contains(&word.as_str()))?;
        before.get(at + 1).cloned()
    };
    general.namespace = value(["-n", "--namespace"]).or(general.namespace);
    let asked = async {
        let cluster = Cluster::connect(&general).await.ok()?;
        Some(cluster.jobs(false, None).await.ok()?.0)
    };
    let jobs = tokio::time::timeout(PATIENCE, asked).await.ok().flatten().unwrap_or_default();
    jobs.iter().map(ResourceExt::name_any).collect()
}
