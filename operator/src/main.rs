//! [io] The operator's process: reads the command line and does what it says.

use std::process::ExitCode;

use clap::Parser;
use rheos_operator::runtime::config::{Cli, Command, RunArgs};
use rheos_operator::runtime::process;
use rheos_operator::runtime::traces::Traces;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => run(*args),
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

fn run(args: RunArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("no threads to run in: {error}")),
    };
    let traces = args.otlp_endpoint.as_ref().map(|endpoint| Traces::new(endpoint, runtime.handle().clone())).transpose();
    let traces = match traces {
        Ok(traces) => traces,
        Err(error) => return fail(&format!("--otlp-endpoint: {error}")),
    };
    let filter = EnvFilter::try_new(&args.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt::layer().json().flatten_event(true);
    tracing_subscriber::registry().with(filter).with(logs).with(traces.as_ref().map(Traces::layer)).init();
    let ended = runtime.block_on(process::run(args));
    if let Some(traces) = traces {
        traces.finish();
    }
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
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
