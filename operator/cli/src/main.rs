//! [io] The entry point of `kubectl-streamjob`.

use std::process::ExitCode;

use clap::Parser;
use rheos_cli::args::Cli;
use rheos_cli::commands;

fn main() -> ExitCode {
    commands::main(Cli::parse())
}
