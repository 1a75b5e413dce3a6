//! The engine: the child process that runs the dataflow. It shares nothing with its supervisor but a socket.

pub mod channel;
pub mod wire;

use std::process::ExitCode;

use crate::cli::{EXIT_FAILED, EngineArguments};
use crate::engine::channel::Channel;
use crate::engine::wire::Report;
use crate::logging;

/// Runs the command: everything else comes over the socket.
pub fn main(arguments: &EngineArguments) -> ExitCode {
    logging::start(arguments.log_format, false, std::io::stderr);
    if let Ok(channel) = Channel::open() {
        let (place, message) = ("engine".to_owned(), "there is no dataflow in this build".to_owned());
        // An error means that the supervisor is gone.
        let _ = channel.reports().send(&Report::Failed { kind: "internal error".to_owned(), place, message, restartable: false });
    }
    EXIT_FAILED.into()
}
