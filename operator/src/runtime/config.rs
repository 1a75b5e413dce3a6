//! [pure] The command line of the operator.

use std::net::SocketAddr;

use clap::{Parser, Subcommand};
use rheos_api::stream_job::Storage;

/// The operator of Rheos.
#[derive(Debug, Parser)]
#[command(name = "rheos-operator", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Reconciles jobs until it is told to stop.
    Run(Box<RunArgs>),
    /// Prints the custom resource definitions as YAML.
    Crd,
}

/// How to run.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// Namespaces to look after, separated by commas; all of them when absent.
    #[arg(long, value_delimiter = ',')]
    pub namespaces: Vec<String>,
    /// The operator's own namespace: of its lease and of its key.
    #[arg(long, default_value = "rheos-system")]
    pub own_namespace: String,
    /// Name of this process in the lease and in events; the pod's name.
    #[arg(long, default_value = "rheos-operator")]
    pub identity: String,
    /// Image of workers whose job names none.
    #[arg(long)]
    pub worker_image: String,
    /// Checkpoint storage of jobs that name none: JSON of the form of `spec.checkpoint.storage`. Credentials are never in
    /// it: it names a Secret, which each job's namespace has to have.
    #[arg(long, value_parser = storage)]
    pub default_storage: Option<Storage>,
    /// Where probes and metrics are served.
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Name of the lease; two operators with different namespaces need different ones.
    #[arg(long, default_value = "rheos-operator")]
    pub lease: String,
    /// Acts without a lease. Only one such process may run.
    #[arg(long)]
    pub no_leader_election: bool,
    /// Most jobs that are reconciled at the same time.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub concurrency: u16,
    /// Where an OpenTelemetry collector takes spans by OTLP over HTTP, `http://collector:4318`; none are made when absent.
    #[arg(long)]
    pub otlp_endpoint: Option<String>,
    /// What is logged: `info`, `debug`, or as `tracing`'s filters say.
    #[arg(long, default_value = "info,kube=warn")]
    pub log: String,
}

/// Reads a storage and checks it as that of a job is checked.
fn storage(text: &str) -> Result<Storage, String> {
    let storage: Storage = serde_json::from_str(text).map_err(|error| error.to_string())?;
    rheos_api::uri::storage(&storage.uri).map_err(|(problem, hint)| format!("uri: {problem}; {hint}"))?;
    if let Some(endpoint) = &storage.endpoint {
        rheos_api::uri::endpoint(endpoint).map_err(|(problem, hint)| format!("endpoint: {problem}; {hint}"))?;
    }
    Ok(storage)
}

impl RunArgs {
    /// The scopes of the watches: the namespaces, or one empty name for all.
    pub fn scopes(&self) -> Vec<String> {
        let named: Vec<String> = self.namespaces.iter().map(|name| name.trim().to_owned()).collect();
        let mut named: Vec<String> = named.into_iter().filter(|name| !name.is_empty()).collect();
        named.sort_unstable();
        named.dedup();
        if named.is_empty() { vec![String::new()] } else { named }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(args: &[&str]) -> RunArgs {
        let all = ["rheos-operator", "run", "--worker-image", "w"].iter().chain(args);
        match Cli::try_parse_from(all).unwrap().command {
            Command::Run(args) => *args,
            Command::Crd => panic!("run was asked for"),
        }
    }

    #[test]
    fn namespaces_are_all_or_those_that_are_named() {
        assert_eq!(run(&[]).scopes(), [""]);
        assert_eq!(run(&["--namespaces", "b,a, a,"]).scopes(), ["a", "b"]);
    }

    #[test]
    fn a_default_storage_is_read_as_a_jobs_own() {
        let args = run(&["--default-storage", r#"{"uri": "s3://b/p", "credentialsSecretRef": {"name": "s3"}}"#]);
        let storage = args.default_storage.unwrap();
        assert_eq!((storage.uri.as_str(), storage.credentials_secret_ref.unwrap().name.as_str()), ("s3://b/p", "s3"));
    }

    #[test]
    fn nonsense_is_refused() {
        let storage = ["--default-storage", r#"{"uri": "s3://key:secret@bucket"}"#];
        for wrong in [["--concurrency", "0"], ["--listen", "here"], ["--default-storage", "s3://bucket"], storage] {
            let all = ["rheos-operator", "run", "--worker-image", "w"].iter().chain(&wrong);
            assert!(Cli::try_parse_from(all).is_err(), "{wrong:?}");
        }
        assert!(Cli::try_parse_from(["rheos-operator", "run"]).is_err(), "an image is needed");
    }
}
