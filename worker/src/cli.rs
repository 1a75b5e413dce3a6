//! [pure] The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Exit code: finished, or stopped when asked.
pub const EXIT_GOOD: u8 = 0;
/// Exit code: the job failed, or could not be run here.
pub const EXIT_FAILED: u8 = 1;
/// Exit code: the manifest, the SQL or the command line is wrong.
pub const EXIT_INVALID: u8 = 2;

/// Streaming SQL on one machine: runs the very manifest that Kubernetes takes.
#[derive(Debug, Parser)]
#[command(name = "rheos-worker", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a job; it goes on from where it was stopped.
    Run(RunArguments),
    /// Show the dataflow graph of a job.
    Explain(ExplainArguments),
    /// Run the dataflow; started by `run` only.
    #[command(hide = true)]
    Engine(EngineArguments),
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// The manifest, a YAML file with one StreamJob.
    pub file: PathBuf,
    /// Workers, instead of spec.parallelism; may differ from the last run's.
    #[arg(long, value_name = "N")]
    pub parallelism: Option<i64>,
    /// Where the job is remembered, and its checkpoints unless the manifest names a store.
    #[arg(long, value_name = "DIR", default_value = ".rheos")]
    pub data_dir: PathBuf,
    /// Start without state; what an earlier run left stays where it is.
    #[arg(long, conflicts_with = "from")]
    pub fresh: bool,
    /// Start from this savepoint.
    #[arg(long, value_name = "URI")]
    pub from: Option<String>,
    /// Write figures of the run into this file at its end, as JSON.
    #[arg(long, value_name = "FILE")]
    pub summary: Option<PathBuf>,
    /// Address of the admin API; port 0 takes a free one, which is printed.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub admin: SocketAddr,
    /// Form of the log on standard error. RUST_LOG chooses what is logged.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Sources produce every declared column, as if the job used them all: for measuring.
    #[arg(long)]
    pub no_pushdown: bool,
    /// Keep no standby processes: less memory, slower restarts.
    #[arg(long)]
    pub no_standby: bool,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// The manifest, a YAML file with one StreamJob.
    pub file: PathBuf,
}

/// Arguments of `engine`; everything else comes over the socket.
#[derive(Debug, Args)]
pub struct EngineArguments {
    /// Form of the log on standard error.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// As the command line has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}
