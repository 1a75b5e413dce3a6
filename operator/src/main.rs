//! [io] The operator's process: reads the command line and does what it says.

use std::process::ExitCode;

use clap::Parser;
use rheos_operator::runtime::config::{Cli, Command};
use rheos_operator::runtime::process;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => {
            let filter = EnvFilter::try_new(&args.log).unwrap_or_else(|_| EnvFilter::new("info"));
            tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).init();
            let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return fail(&format!("no threads to run in: {error}")),
            };
            match runtime.block_on(process::run(*args)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&error.to_string()),
            }
        }
        Command::Crd => match crd() {
            Ok(text) => {
                use std::io::Write;
                let _ = std::io::stdout().write_all(text.as_bytes());
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error),
        },
    }
}

/// All definitions, as one YAML stream.
fn crd() -> Result<String, String> {
    let files = rheos_api::kube::files().map_err(|error| error.to_string())?;
    Ok(files.into_iter().map(|(_, text)| format!("---\n{text}")).collect())
}

fn fail(message: &str) -> ExitCode {
    tracing::error!("{message}");
    eprintln!("rheos-operator: {message}");
    ExitCode::FAILURE
}
