//! [io] The worker's entry point.

use std::process::ExitCode;

use clap::Parser;
use rheos_worker::cli::{Cli, Command};
use rheos_worker::{dispose, engine, explain, pod, run};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Run(arguments) => run::main(&arguments),
        Command::Explain(arguments) => explain::main(&arguments),
        Command::Pod(arguments) => pod::main(&arguments),
        Command::Leave(arguments) => pod::leave::main(&arguments),
        Command::Dispose(arguments) => dispose::main(&arguments),
        Command::Engine(arguments) => engine::main(&arguments),
    }
}
