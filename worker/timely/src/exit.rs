//! [io] The end of an engine process when one of its threads panics.
//!
//! Timely's network threads panic when a peer is lost, and a worker that loses a peer can do nothing useful. The process
//! must then be gone in milliseconds: unwinding and backtraces took 100 ms and more.

use std::io::Write;

use rheos_dataflow::contain::is_contained;

/// Exit code of a process that lost the connection to a peer: its supervisor should look at the peer.
pub const EXIT_PEER_LOST: i32 = 70;
/// Exit code of a process in which a thread panicked for any other reason.
pub const EXIT_PANIC: i32 = 71;

/// How timely's network threads say that a peer is gone.
const PEER_LOST: &str = "timely communication error:";

/// From now on a panic in any thread ends the process, with [`EXIT_PEER_LOST`] or [`EXIT_PANIC`], unless it is contained.
pub fn on_panic() {
    std::panic::set_hook(Box::new(|info| {
        if is_contained() {
            return;
        }
        let payload = info.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied());
        let text = text.unwrap_or("panic");
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        if text.starts_with(PEER_LOST) {
            // Not this process's failure: the supervisor tells of the peer's.
            tracing::debug!(place, "{text}");
            std::process::exit(EXIT_PEER_LOST);
        }
        let _ = writeln!(std::io::stderr(), "{text} ({place})");
        std::process::exit(EXIT_PANIC);
    }));
}
