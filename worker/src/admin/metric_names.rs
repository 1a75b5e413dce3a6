//! [pure] Every name and label of a metric. Names follow Prometheus: base units, counters end in `_total` (which the
//! encoder adds).

/// Label: the operator's stable id.
pub const OPERATOR: &str = "operator";
/// Label: index of an engine process.
pub const PROCESS: &str = "process";
/// Label: name of the job.
pub const JOB: &str = "job";
/// Label: namespace of the job.
pub const NAMESPACE: &str = "namespace";

/// 1 while every engine runs.
pub const RUNNING: &str = "rheos_job_running";
/// The generation that runs.
pub const GENERATION: &str = "rheos_job_generation";
/// Newest epoch that every worker has closed.
pub const EPOCH: &str = "rheos_job_epoch";
/// Generations lost.
pub const RESTARTS: &str = "rheos_job_restarts";
/// Rows read by sources.
pub const ROWS_IN: &str = "rheos_job_rows_in";
/// Rows given to sinks.
pub const ROWS_OUT: &str = "rheos_job_rows_out";
/// How far the watermark is behind the newest tick.
pub const WATERMARK_LAG: &str = "rheos_job_watermark_lag_seconds";
/// Complete checkpoints.
pub const CHECKPOINTS: &str = "rheos_checkpoints_completed";
/// Checkpoints given up.
pub const CHECKPOINTS_FAILED: &str = "rheos_checkpoints_failed";
/// From tick to record, of the newest checkpoint.
pub const CHECKPOINT_DURATION: &str = "rheos_checkpoint_duration_seconds";
/// Bytes newly written by the newest checkpoint.
pub const CHECKPOINT_BYTES: &str = "rheos_checkpoint_bytes";
/// Since the newest checkpoint was complete.
pub const CHECKPOINT_AGE: &str = "rheos_checkpoint_age_seconds";
/// From the newest loss of an engine to the first row after it.
pub const RESTART_DURATION: &str = "rheos_restart_duration_seconds";
/// Rows into an operator, since the generation began.
pub const OPERATOR_ROWS_IN: &str = "rheos_operator_rows_in";
/// Rows out of an operator, since the generation began.
pub const OPERATOR_ROWS_OUT: &str = "rheos_operator_rows_out";
/// Time spent in an operator, since the generation began.
pub const OPERATOR_BUSY: &str = "rheos_operator_busy_seconds";
/// Rows dropped as late, since the generation began.
pub const OPERATOR_LATE: &str = "rheos_operator_late_rows";
/// Malformed records skipped, since the generation began.
pub const OPERATOR_SKIPPED: &str = "rheos_operator_skipped_records";
/// Keys in state.
pub const OPERATOR_STATE_KEYS: &str = "rheos_operator_state_keys";
/// Bytes in state.
pub const OPERATOR_STATE_BYTES: &str = "rheos_operator_state_bytes";
/// Bytes sent but not yet known to be consumed.
pub const PROCESS_IN_FLIGHT: &str = "rheos_process_in_flight_bytes";
/// Epochs open behind the newest.
pub const PROCESS_EPOCH_LAG: &str = "rheos_process_epoch_lag";
/// Most memory held.
pub const PROCESS_PEAK_RSS: &str = "rheos_process_peak_rss_bytes";
/// Clients of the results that are served now.
pub const RESULT_CLIENTS: &str = "rheos_results_clients";
/// Bytes of results given to clients.
pub const RESULT_BYTES: &str = "rheos_results_sent_bytes";
/// Clients cut off.
pub const RESULT_CLIENTS_CUT_OFF: &str = "rheos_results_clients_cut_off";
/// Clients refused for want of room.
pub const RESULT_CLIENTS_REFUSED: &str = "rheos_results_clients_refused";
