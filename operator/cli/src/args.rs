//! [pure] The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use rheos_api::savepoint::Disposal;

/// Streaming SQL jobs on Kubernetes: start, watch, change and stop them.
///
/// Every long wait shows progress and can be left with Ctrl-C: the cluster goes on by itself.
/// Exit codes: 0 done, 1 failed or refused, 2 wrong input, 3 not found, 4 no cluster answers, 5 not allowed,
/// 6 waited in vain, 130 left with Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "kubectl-streamjob", bin_name = "kubectl streamjob", version, verbatim_doc_comment)]
pub struct Cli {
    /// Where, and how to show it.
    #[command(flatten)]
    pub general: General,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Where, and how to show it; the same for all commands.
#[derive(Debug, Clone, Args)]
pub struct General {
    /// Namespace; the context's own when absent.
    #[arg(short, long, global = true, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Context of the kubeconfig.
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// The kubeconfig, instead of KUBECONFIG and ~/.kube/config.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// When to use colours.
    #[arg(long, global = true, value_enum, default_value_t = ColorChoice::Auto, value_name = "WHEN")]
    pub color: ColorChoice,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Form of the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people.
    #[default]
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// Form of the output.
#[derive(Debug, Clone, Copy, Args)]
pub struct Output {
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t = Form::Table, value_name = "FORM")]
    pub output: Form,
}

/// How long to wait.
#[derive(Debug, Clone, Args)]
pub struct Waiting {
    /// Do not wait for it to come about.
    #[arg(long)]
    pub no_wait: bool,
    /// Wait at most so long (10s, 5m, 1h); without end when absent.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<std::time::Duration>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check a manifest, apply it and wait until the job runs.
    Submit(SubmitArguments),
    /// All jobs of a namespace.
    List(ListArguments),
    /// One job for a person on call: what it does, why, and what to do next.
    Status(StatusArguments),
    /// The rows of a job's results table, and what comes later.
    Results(ResultsArguments),
    /// Take a savepoint and wait for it.
    Savepoint(SavepointArguments),
    /// Stop a job with a checkpoint; it can be resumed.
    Suspend(ChangeArguments),
    /// Let a suspended job go on from its checkpoint.
    Resume(ChangeArguments),
    /// Change the number of workers.
    Rescale(RescaleArguments),
    /// Replace the pods of a job; it goes on from a checkpoint. Also starts a failed job again.
    Restart(ChangeArguments),
    /// What applying a manifest would change, and whether the state carries over.
    Diff(DiffArguments),
    /// The dataflow graph of a manifest.
    Explain(ExplainArguments),
    /// The logs of all workers, merged by time.
    Logs(LogsArguments),
    /// What happened to a job, its pods and its savepoints.
    Events(EventsArguments),
    /// A live table of a job's operators and workers.
    Top(TopArguments),
    /// Pack everything that helps to understand a job into a tar file, without secrets.
    Report(ReportArguments),
    /// Delete a job, after a last savepoint if asked for.
    Delete(DeleteArguments),
    /// Print a completion script for a shell.
    Completion(CompletionArguments),
    /// What may follow the words of a command line; for `kubectl_complete-streamjob`.
    #[command(name = "__complete", hide = true)]
    Complete(CompleteArguments),
}

/// Arguments of `submit`.
#[derive(Debug, Args)]
pub struct SubmitArguments {
    /// The manifest with one StreamJob, YAML or JSON; - for standard input. Other documents in it are not applied.
    pub file: PathBuf,
    /// Take fields over that another manager set last.
    #[arg(long)]
    pub force_conflicts: bool,
    /// Check everything, also by the cluster, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// How long to wait.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Jobs of all namespaces.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Only jobs with these labels.
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// Form of the output.
    #[command(flatten)]
    pub form: Output,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArguments {
    /// The job.
    pub job: String,
    /// Exit with 1 when the job has failed or something is wrong with it.
    #[arg(long)]
    pub check: bool,
    /// Form of the output.
    #[command(flatten)]
    pub form: Output,
}

/// Form of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ResultsForm {
    /// For people.
    Table,
    /// One JSON object a line, with the row's cursor.
    Json,
}

/// Arguments of `results`.
#[derive(Debug, Args)]
pub struct ResultsArguments {
    /// The job.
    pub job: String,
    /// The table; may be left away where the job has one.
    pub table: Option<String>,
    /// Go on with what comes from now on, until Ctrl-C or the job's end.
    #[arg(short, long)]
    pub follow: bool,
    /// Begin with the current view of a change-log instead of all changes that are kept.
    #[arg(long, conflicts_with_all = ["after", "new"])]
    pub view: bool,
    /// Begin behind the row with this cursor.
    #[arg(long, value_name = "CURSOR", conflicts_with = "new", value_parser = cursor)]
    pub after: Option<String>,
    /// Begin with what comes next.
    #[arg(long, requires = "follow")]
    pub new: bool,
    /// Form of the rows.
    #[arg(short, long, value_enum, default_value_t = ResultsForm::Table, value_name = "FORM")]
    pub output: ResultsForm,
}

/// Arguments of `savepoint`.
#[derive(Debug, Args)]
pub struct SavepointArguments {
    /// The job.
    pub job: String,
    /// Name of the Savepoint; the job's and the time when absent.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// What happens to the data when the Savepoint is deleted.
    #[arg(long, value_name = "WHAT", value_parser = disposal, default_value = "Retain")]
    pub disposal: Disposal,
    /// How long to wait.
    #[command(flatten)]
    pub waiting: Waiting,
    /// Form of the output.
    #[command(flatten)]
    pub form: Output,
}

/// Arguments of what changes a job.
#[derive(Debug, Args)]
pub struct ChangeArguments {
    /// The job.
    pub job: String,
    /// How long to wait.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// Arguments of `rescale`.
#[derive(Debug, Args)]
pub struct RescaleArguments {
    /// The job.
    pub job: String,
    /// Workers.
    #[arg(value_name = "N")]
    pub parallelism: i64,
    /// How long to wait.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// Arguments of `diff`.
#[derive(Debug, Args)]
pub struct DiffArguments {
    /// The manifest with one StreamJob; - for standard input.
    pub file: PathBuf,
    /// Form of the output.
    #[command(flatten)]
    pub form: Output,
}

/// Form of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GraphForm {
    /// A tree of text.
    Text,
    /// A Mermaid flowchart.
    Mermaid,
    /// An SVG picture.
    Svg,
    /// Nodes and edges as JSON.
    Json,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// The manifest with one StreamJob; - for standard input.
    pub file: PathBuf,
    /// Form of the graph.
    #[arg(short, long, value_enum, default_value_t = GraphForm::Text, value_name = "FORM")]
    pub output: GraphForm,
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogForm {
    /// Time, worker, level and message.
    Text,
    /// As the workers wrote them, with time and pod before them.
    Raw,
}

/// Arguments of `logs`.
#[derive(Debug, Args)]
pub struct LogsArguments {
    /// The job.
    pub job: String,
    /// Go on with what is logged from now on, until Ctrl-C.
    #[arg(short, long)]
    pub follow: bool,
    /// Lines of each worker to begin with.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub tail: u32,
    /// Only lines that are not older (10s, 5m, 1h).
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub since: Option<std::time::Duration>,
    /// The containers before their last restart.
    #[arg(long, conflicts_with = "follow")]
    pub previous: bool,
    /// Only the worker of this index.
    #[arg(long, value_name = "INDEX")]
    pub worker: Option<u32>,
    /// Form of the lines.
    #[arg(short, long, value_enum, default_value_t = LogForm::Text, value_name = "FORM")]
    pub output: LogForm,
}

/// Arguments of `events`.
#[derive(Debug, Args)]
pub struct EventsArguments {
    /// The job.
    pub job: String,
    /// Form of the output.
    #[command(flatten)]
    pub form: Output,
}

/// Arguments of `top`.
#[derive(Debug, Args)]
pub struct TopArguments {
    /// The job.
    pub job: String,
    /// Time between two tables, and over which rates are taken.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "2s")]
    pub interval: std::time::Duration,
    /// Show one table and end; so it is anyway where the output is no terminal.
    #[arg(long)]
    pub once: bool,
    /// Form of the output; JSON and YAML are shown once.
    #[command(flatten)]
    pub form: Output,
}

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct ReportArguments {
    /// The job.
    pub job: String,
    /// The tar file to write; must not exist. JOB-report-TIME.tar when absent.
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Lines of each worker's log.
    #[arg(long, value_name = "N", default_value_t = 5000)]
    pub tail: u32,
}

/// Arguments of `delete`.
#[derive(Debug, Args)]
pub struct DeleteArguments {
    /// The job.
    pub job: String,
    /// Take a last savepoint before.
    #[arg(long)]
    pub savepoint: bool,
    /// How long to wait.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// A shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// bash.
    Bash,
    /// zsh.
    Zsh,
    /// fish.
    Fish,
    /// The helper by which kubectl itself completes plugins: put it beside this program as `kubectl_complete-streamjob`.
    Kubectl,
}

/// Arguments of `completion`.
#[derive(Debug, Args)]
pub struct CompletionArguments {
    /// The shell.
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Arguments of `__complete`.
#[derive(Debug, Args)]
pub struct CompleteArguments {
    /// The words so far, the last of them unfinished.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

fn duration(text: &str) -> Result<std::time::Duration, String> {
    let read = rheos_api::duration::DurationText::from(text).parse()?;
    if read.is_zero() { Err("it must be above 0".to_owned()) } else { Ok(read) }
}

fn cursor(text: &str) -> Result<String, String> {
    let read: rheos_connectors::results::index::Cursor = text.parse()?;
    Ok(read.to_string())
}

fn disposal(text: &str) -> Result<Disposal, String> {
    match text.to_lowercase().as_str() {
        "retain" => Ok(Disposal::Retain),
        "delete" => Ok(Disposal::Delete),
        _ => Err("write Retain or Delete".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_are_read_as_in_manifests() {
        assert_eq!(duration("1m30s"), Ok(std::time::Duration::from_secs(90)));
        for wrong in ["", "5", "0s", "soon", "-1s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
