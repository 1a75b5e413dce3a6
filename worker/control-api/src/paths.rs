//! [pure] Every path of the admin API.

/// Whether the process lives.
pub const HEALTH: &str = "/healthz";
/// Whether rows can flow.
pub const READY: &str = "/readyz";
/// Figures for Prometheus.
pub const METRICS: &str = "/metrics";
/// [`crate::JobView`]; with `?after=<version>` the answer waits for a newer one.
pub const JOB: &str = "/v1/job";
/// Takes [`crate::SavepointRequest`].
pub const SAVEPOINTS: &str = "/v1/savepoints";
/// Stops with a checkpoint.
pub const STOP: &str = "/v1/stop";
/// Takes [`crate::Assignment`]; pods only.
pub const ASSIGNMENT: &str = "/v1/assignment";
/// [`crate::ResultsView`]; below it, by a table's name, its rows without end (see the README).
pub const RESULTS: &str = "/v1/results";
/// Header of a stream of results: the cursor behind which its changes begin.
pub const CURSOR_HEADER: &str = "rheos-cursor";
/// Header of a stream of results that begins with the view: its rows.
pub const VIEW_ROWS_HEADER: &str = "rheos-view-rows";
/// This pod goes: the job takes a checkpoint and its engine here ends; pods only.
pub const LEAVE: &str = "/v1/leave";
