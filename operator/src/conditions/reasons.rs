//! [pure] Every reason that a condition or an event of ours can carry. Programs compare them: none is ever renamed.

// Of a job that is well.

/// Rows flow.
pub const RUNNING: &str = "Running";
/// What is wanted is there.
pub const SETTLED: &str = "Settled";
/// Nothing is wrong.
pub const HEALTHY: &str = "Healthy";
/// Every source has ended and everything is committed.
pub const FINISHED: &str = "Finished";
/// The job stands still, as wanted.
pub const SUSPENDED: &str = "Suspended";
/// The job shall run.
pub const NOT_SUSPENDED: &str = "NotSuspended";
/// The operator acts on the job.
pub const ACTIVE: &str = "Active";

// Of a change under way.

/// Nothing was begun yet.
pub const CREATED: &str = "Created";
/// Pods start, or the job restores its state.
pub const DEPLOYING: &str = "Deploying";
/// New pods start beside the running job.
pub const PREPARING: &str = "Preparing";
/// A savepoint is taken before the upgrade.
pub const SAVING: &str = "Saving";
/// The job stops with a checkpoint.
pub const STOPPING: &str = "Stopping";
/// The new revision runs and has not completed a checkpoint yet.
pub const VERIFYING: &str = "Verifying";
/// The number of workers changes.
pub const RESCALING: &str = "Rescaling";
/// The last stable revision comes back.
pub const ROLLING_BACK: &str = "RollingBack";
/// The job is being deleted.
pub const DELETING: &str = "Deleting";
/// A new revision shall run.
pub const UPGRADING: &str = "Upgrading";
/// A revision completed its first checkpoint.
pub const STABLE: &str = "Stable";

// Of a spec.

/// The spec breaks rules; the job goes on as it was.
pub const INVALID_SPEC: &str = "InvalidSpec";
/// The ConfigMap of `sqlFrom` or its key is not there.
pub const SQL_NOT_FOUND: &str = "SqlNotFound";
/// A field was changed that cannot be; the job goes on as it was.
pub const CHANGE_REFUSED: &str = "ChangeRefused";
/// The savepoint of `spec.restore` is not there, or not complete.
pub const RESTORE_SOURCE_MISSING: &str = "RestoreSourceMissing";
/// The annotation `rheos.dev/paused` stops all acts.
pub const PAUSED: &str = "Paused";
/// No annotation stops anything.
pub const NOT_PAUSED: &str = "NotPaused";

// Of upgrades.

/// The upgrade waits for a fresh checkpoint: the latest is older than `spec.upgrade.maxCheckpointAge`.
pub const CHECKPOINT_TOO_OLD: &str = "CheckpointTooOld";
/// There is no room for old and new pods at the same time: the old ones stop first.
pub const MAKING_ROOM: &str = "MakingRoom";
/// The new revision was taken back.
pub const ROLLED_BACK: &str = "RolledBack";
/// The new revision did not become stable in time.
pub const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";
/// The savepoint before the upgrade failed.
pub const SAVEPOINT_FAILED: &str = "SavepointFailed";
/// The job did not stop in time; its pods were taken away, and it goes on from its last checkpoint.
pub const STOP_TIMED_OUT: &str = "StopTimedOut";

// Of pods and containers: Kubernetes' own words where it has one.

/// The image cannot be had.
pub const IMAGE_PULL: &str = "ImagePullBackOff";
/// The container ends again and again.
pub const CRASH_LOOP: &str = "CrashLoopBackOff";
/// The container cannot be made: a Secret or a key is missing.
pub const CONTAINER_CONFIG: &str = "CreateContainerConfigError";
/// The container cannot be started.
pub const CONTAINER_START: &str = "ContainerCannotStart";
/// The container used more memory than its limit.
pub const OOM_KILLED: &str = "OOMKilled";
/// No node takes the pod.
pub const UNSCHEDULABLE: &str = "Unschedulable";
/// The node threw the pod out.
pub const EVICTED: &str = "Evicted";
/// The pod is gone, or its node is.
pub const POD_LOST: &str = "PodLost";
/// A quota of the namespace leaves no room.
pub const QUOTA_EXCEEDED: &str = "QuotaExceeded";
/// Pod Security of the namespace refuses the pod.
pub const POD_SECURITY: &str = "PodSecurityRefused";
/// The apiserver refuses an object.
pub const APPLY_REFUSED: &str = "ApplyRefused";
/// The pod that leads the job does not answer.
pub const COORDINATOR_SILENT: &str = "CoordinatorSilent";
/// The pod that leads the job refuses what it was told.
pub const COORDINATOR_REFUSES: &str = "CoordinatorRefuses";

// Of the job itself.

/// An engine was lost; the next generation starts.
pub const RESTARTING: &str = "Restarting";
/// The job restarts again and again: it works between restarts and comes to little.
pub const RESTART_LOOP: &str = "RestartLoop";
/// A store or server refuses the credentials; they are read again, with growing pauses, until they are right.
pub const ACCESS_DENIED: &str = "AccessDenied";
/// The job was given up: storage, brokers or the network stayed away.
pub const TRANSIENT_FAILURE: &str = "TransientFailure";
/// The input cannot be processed.
pub const BAD_DATA: &str = "BadData";
/// The SQL or an option is wrong.
pub const INVALID_JOB: &str = "InvalidJob";
/// Saved state is missing, corrupted or not of this SQL.
pub const BAD_STATE: &str = "BadState";
/// A broken invariant of Rheos.
pub const INTERNAL_ERROR: &str = "InternalError";
/// Another coordinator took over; the operator settles it.
pub const FENCED: &str = "Fenced";

// Of checkpoints and savepoints.

/// Checkpoints complete.
pub const CHECKPOINTING: &str = "Checkpointing";
/// None has completed for longer than interval and timeout.
pub const CHECKPOINTS_LATE: &str = "CheckpointsLate";
/// The job does not run.
pub const NOT_RUNNING: &str = "NotRunning";
/// A checkpoint or savepoint is there.
pub const CHECKPOINT_AVAILABLE: &str = "CheckpointAvailable";
/// None has completed yet.
pub const NO_CHECKPOINT: &str = "NoCheckpoint";
/// A savepoint completed.
pub const SAVEPOINT_COMPLETED: &str = "SavepointCompleted";
/// A savepoint was asked for.
pub const SAVEPOINT_STARTED: &str = "SavepointStarted";
/// The data of a savepoint could not be deleted.
pub const DISPOSAL_FAILED: &str = "DisposalFailed";
/// A newer savepoint took the place of one that still waited.
pub const SAVEPOINT_SUPERSEDED: &str = "SavepointSuperseded";

/// The reason for a failure that a coordinator reports, by its kind in words.
pub fn of_failure(kind: &str) -> &'static str {
    match kind {
        "transient failure" => TRANSIENT_FAILURE,
        "bad data" => BAD_DATA,
        "invalid job" => INVALID_JOB,
        "bad state" => BAD_STATE,
        DENIED_KIND => ACCESS_DENIED,
        FENCED_KIND => FENCED,
        _ => INTERNAL_ERROR,
    }
}

/// The kind of failure of a coordinator whose credentials a store refused: its container ends, and reads them anew.
pub const DENIED_KIND: &str = "access denied";

/// The kind of failure of a coordinator that another one took over from.
pub const FENCED_KIND: &str = "fenced";

/// The reason of a failed job that a status field says; what is none of them is an internal error.
pub fn known(text: &str) -> &'static str {
    let all = [TRANSIENT_FAILURE, BAD_DATA, INVALID_JOB, BAD_STATE, FENCED];
    all.into_iter().find(|reason| *reason == text).unwrap_or(INTERNAL_ERROR)
}
