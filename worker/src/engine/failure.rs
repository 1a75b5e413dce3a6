//! [pure] How the engine's errors look to its supervisor.

use rheos_checkpoint::workflow::ProtocolError;
use rheos_dataflow::error::{DataflowError, ErrorKind};

use super::wire::Report;

/// The last report of an engine.
pub(super) fn report(error: &DataflowError) -> Report {
    Report::Failed {
        kind: error.kind.to_string(),
        place: error.place.clone(),
        message: error.message.clone(),
        // Bad data comes again at every restart, and so does a wrong plan; a bug may depend on timing.
        restartable: matches!(error.kind, ErrorKind::Transient | ErrorKind::Bug),
    }
}

/// An error of the checkpoint store as the dataflow has them.
pub(super) fn of_store(error: &ProtocolError) -> DataflowError {
    let kind = if error.is_fenced() {
        ErrorKind::Fenced
    } else if error.is_transient() {
        ErrorKind::Transient
    } else if error.is_denied() {
        ErrorKind::Denied
    } else {
        ErrorKind::State
    };
    DataflowError::new("checkpoint store", kind, error)
}
