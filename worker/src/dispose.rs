//! [io] `rheos-worker dispose`: deletes one savepoint, with the identity of the process that runs it.

use std::process::ExitCode;

use rheos_checkpoint::workflow::dispose_at;

use crate::cli::{DisposeArguments, EXIT_FAILED, EXIT_GOOD, EXIT_INVALID};
use crate::manifest;
use crate::supervise::mint::open_savepoint;

/// Runs the command. Good also when the savepoint is gone already.
pub fn main(arguments: &DisposeArguments) -> ExitCode {
    let job = match manifest::validated(&arguments.job) {
        Ok(job) => job,
        Err(problems) => {
            problems.iter().for_each(|problem| eprintln!("error: {problem}"));
            return EXIT_INVALID.into();
        }
    };
    let options = job.checkpoint.storage.as_ref().map(|storage| manifest::storage(storage).1).unwrap_or_default();
    let (store, folder) = match open_savepoint(&arguments.uri, &options) {
        Ok(opened) => opened,
        Err(problem) => {
            eprintln!("error: --uri: {problem}");
            return EXIT_INVALID.into();
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return EXIT_FAILED.into();
        }
    };
    match runtime.block_on(dispose_at(store.as_ref(), &folder)) {
        Ok(()) => EXIT_GOOD.into(),
        Err(error) => {
            eprintln!("error: {}: {error}", arguments.uri);
            EXIT_FAILED.into()
        }
    }
}
