//! [io] The worker's entry point.

use std::process::ExitCode;

fn main() -> ExitCode {
    rheos_worker::main()
}
