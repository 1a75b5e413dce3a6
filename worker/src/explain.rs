//! [io] `rheos-worker explain FILE`: the dataflow graph of a manifest, for people.

use std::io::Write;
use std::process::ExitCode;

use crate::cli::{EXIT_FAILED, EXIT_GOOD, EXIT_INVALID, ExplainArguments};
use crate::manifest;

/// Runs the command.
pub fn main(arguments: &ExplainArguments) -> ExitCode {
    match manifest::load(&arguments.file, None) {
        Ok(loaded) => {
            let text = rheos_sql::explain(&loaded.planned);
            match std::io::stdout().lock().write_all(text.as_bytes()) {
                Ok(()) => EXIT_GOOD.into(),
                Err(_) => EXIT_FAILED.into(), // the reader of the pipe has gone
            }
        }
        Err(errors) => {
            for error in errors {
                eprintln!("error: {error}");
            }
            EXIT_INVALID.into()
        }
    }
}
