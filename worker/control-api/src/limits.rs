//! [pure] Bounds of the admin API, and the form of ids.

use std::time::Duration;

/// Longest request body, bytes.
pub const BODY_LIMIT: usize = 128 * 1024;
/// Most members of a job.
pub const MEMBERS_LIMIT: usize = 512;
/// Requests that are served at the same time; more get 503.
pub const CONCURRENCY_LIMIT: usize = 64;
/// Clients of results at the same time; more get 503.
pub const RESULT_CLIENTS: usize = 2_000;
/// Longest id of a savepoint, characters.
pub const ID_LIMIT: usize = 63;
/// Longest time a long poll waits for a change.
pub const POLL_LIMIT: Duration = Duration::from_secs(30);
/// Longest time a savepoint request waits before it answers 202.
pub const SAVEPOINT_WAIT: Duration = Duration::from_secs(20);
/// Longest time a request to leave may take: the longest checkpoint timeout that a pod's grace period has room for.
pub const LEAVE_WAIT: Duration = Duration::from_secs(600);
/// Checkpoints in [`crate::JobView`]'s history.
pub const HISTORY_LIMIT: usize = 20;
/// Longest response that the client reads, bytes.
pub const RESPONSE_LIMIT: usize = 16 * 1024 * 1024;

/// Whether a text may be the id of a savepoint: lower-case letters, digits and inner dashes.
pub fn is_id(text: &str) -> bool {
    rheos_api::names::label(text, ID_LIMIT).is_ok()
}
