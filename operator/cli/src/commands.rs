//! [io] The commands: each puts together what is asked, judged and shown.

mod change;
mod complete;
mod delete;
mod diff;
mod events;
mod explain;
mod list;
mod logs;
mod report;
mod results;
mod savepoint;
mod status;
mod submit;
mod top;

use std::process::ExitCode;
use std::time::Duration;

use crate::args::{Cli, Command};
use crate::exit::{self, Failure, Outcome};
use crate::io::cluster::Cluster;
use crate::io::terminal::Terminal;

/// What every command works with.
struct Context {
    cluster: Cluster,
    terminal: Terminal,
    /// The namespace that the command line names.
    asked: Option<String>,
}

/// Runs a command line to its exit code.
pub fn main(cli: Cli) -> ExitCode {
    let terminal = Terminal::new(cli.general.color);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            terminal.failure(&Failure::failed(format!("no runtime: {error}")));
            return exit::FAILED.into();
        }
    };
    let outcome = runtime.block_on(run(cli, terminal));
    // Requests that are left behind end with the process.
    runtime.shutdown_timeout(Duration::ZERO);
    match outcome {
        Ok(()) => exit::GOOD.into(),
        Err(failure) => {
            terminal.failure(&failure);
            failure.code.into()
        }
    }
}

async fn run(cli: Cli, terminal: Terminal) -> Outcome {
    let Cli { general, command } = cli;
    // What needs no cluster comes first.
    match &command {
        Command::Completion(arguments) => return complete::script(&terminal, arguments.shell),
        Command::Complete(arguments) => return complete::words(&terminal, &general, &arguments.words).await,
        Command::Explain(arguments) => return explain::run(&terminal, &general, arguments).await,
        _ => {}
    }
    let context = Context { cluster: Cluster::connect(&general).await?, terminal, asked: general.namespace };
    match command {
        Command::Submit(arguments) => submit::run(&context, &arguments).await,
        Command::List(arguments) => list::run(&context, &arguments).await,
        Command::Status(arguments) => status::run(&context, &arguments).await,
        Command::Results(arguments) => results::run(&context, &arguments).await,
        Command::Savepoint(arguments) => savepoint::run(&context, &arguments).await,
        Command::Suspend(arguments) => change::suspend(&context, &arguments).await,
        Command::Resume(arguments) => change::resume(&context, &arguments).await,
        Command::Rescale(arguments) => change::rescale(&context, &arguments).await,
        Command::Restart(arguments) => change::restart(&context, &arguments).await,
        Command::Diff(arguments) => diff::run(&context, &arguments).await,
        Command::Logs(arguments) => logs::run(&context, &arguments).await,
        Command::Events(arguments) => events::run(&context, &arguments).await,
        Command::Top(arguments) => top::run(&context, &arguments).await,
        Command::Report(arguments) => report::run(&context, &arguments).await,
        Command::Delete(arguments) => delete::run(&context, &arguments).await,
        Command::Explain(_) | Command::Completion(_) | Command::Complete(_) => Ok(()),
    }
}

/// What a person types to look at a job.
fn look(cluster: &Cluster, job: &str) -> String {
    format!("kubectl streamjob status {job} -n {}", cluster.namespace)
}
