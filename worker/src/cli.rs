//! [pure] The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Exit code: finished, or stopped when asked.
pub const EXIT_GOOD: u8 = 0;
/// Exit code: the job failed, or could not be run here.
pub const EXIT_FAILED: u8 = 1;
/// Exit code: the manifest, the SQL or the command line is wrong.
pub const EXIT_INVALID: u8 = 2;

/// Port of the engines' exchange of rows.
pub const DATA_PORT: u16 = 7100;
/// Port at which a coordinator asks a pod for an engine.
pub const MEMBER_PORT: u16 = 7101;
/// Port of a pod's admin API.
pub const ADMIN_PORT: u16 = 7180;
/// Environment variable with the pod's name.
pub const POD_NAME: &str = "RHEOS_POD_NAME";
/// Environment variable with the pod's address.
pub const POD_IP: &str = "RHEOS_POD_IP";

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
    /// Be one pod of a job in a cluster: wait for an assignment, or for a coordinator that wants an engine.
    Pod(PodArguments),
    /// Tell the pod of this machine to leave its job with a checkpoint, and wait for it.
    Leave(LeaveArguments),
    /// Delete a savepoint.
    Dispose(DisposeArguments),
    /// Run the dataflow; started by `run` and `pod` only.
    #[command(hide = true)]
    Engine(EngineArguments),
}

/// Arguments of `pod`.
#[derive(Debug, Args)]
pub struct PodArguments {
    /// The job: its StreamJob as JSON, with the SQL in it.
    #[arg(long, value_name = "FILE")]
    pub job: PathBuf,
    /// File with the job's token.
    #[arg(long, value_name = "FILE")]
    pub token: PathBuf,
    /// Index among the job's pods, for the log.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub index: u32,
    /// Where the last assignment is kept over restarts of the container.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/rheos")]
    pub dir: PathBuf,
    /// Name of the pod, instead of RHEOS_POD_NAME.
    #[arg(long, value_name = "NAME")]
    pub pod: Option<String>,
    /// Address to listen on, instead of all; RHEOS_POD_IP tells which kind.
    #[arg(long, value_name = "ADDR")]
    pub bind: Option<IpAddr>,
    /// Port of the engines' exchange of rows; the same in all pods of a job.
    #[arg(long, value_name = "PORT", default_value_t = DATA_PORT)]
    pub data_port: u16,
    /// Port at which a coordinator asks for an engine; the same in all pods of a job.
    #[arg(long, value_name = "PORT", default_value_t = MEMBER_PORT)]
    pub member_port: u16,
    /// Port of the admin API.
    #[arg(long, value_name = "PORT", default_value_t = ADMIN_PORT)]
    pub admin_port: u16,
    /// Where the last error goes; not written when it is not there.
    #[arg(long, value_name = "FILE", default_value = "/dev/termination-log")]
    pub termination_log: PathBuf,
    /// Form of the log on standard error. RUST_LOG chooses what is logged.
    #[arg(long, value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
    /// Keep no standby engines: less memory, slower restarts.
    #[arg(long)]
    pub no_standby: bool,
}

/// Arguments of `leave`.
#[derive(Debug, Args)]
pub struct LeaveArguments {
    /// File with the job's token.
    #[arg(long, value_name = "FILE")]
    pub token: PathBuf,
    /// Address of the pod's admin API, instead of RHEOS_POD_IP at the usual port.
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<SocketAddr>,
}

/// Arguments of `dispose`.
#[derive(Debug, Args)]
pub struct DisposeArguments {
    /// A job that may: its StreamJob, whose store's endpoint and region are used.
    #[arg(long, value_name = "FILE")]
    pub job: PathBuf,
    /// The savepoint, as it was reported.
    #[arg(long, value_name = "URI")]
    pub uri: String,
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
