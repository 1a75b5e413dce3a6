//! [io] What happens in a run, told to the supervisor.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rheos_timely::EngineEvent;

use super::channel::Reports;
use super::vault::Vault;
use super::wire::Report;

/// Turns what happens in the run into reports.
pub(super) struct Teller {
    reports: Reports,
    building: AtomicU32,
    first_row: AtomicBool,
    vault: Arc<Vault>,
    clock: Mutex<Clock>,
}

impl Teller {
    pub(super) fn new(reports: Reports, workers: u32, vault: Arc<Vault>, clock: Clock) -> Self {
        Self { reports, building: AtomicU32::new(workers), first_row: AtomicBool::new(false), vault, clock: Mutex::new(clock) }
    }

    pub(super) fn tell(&self, event: EngineEvent) {
        let report = match event {
            EngineEvent::Built { .. } => {
                if self.building.fetch_sub(1, Ordering::AcqRel) != 1 {
                    return;
                }
                let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
                clock.part("build");
                Report::Running { parts_ms: clock.parts.clone() }
            }
            EngineEvent::FirstRow if self.first_row.swap(true, Ordering::AcqRel) => return,
            EngineEvent::FirstRow => Report::FirstRow,
            EngineEvent::CheckpointCompleted { permit, bytes, duration, savepoint } => {
                let written = savepoint.as_ref().and_then(|id| Some((id.clone(), self.vault.savepoint_uri(id)?)));
                if let (Some(id), None) = (savepoint, &written) {
                    let reason = format!("savepoint {id}: the checkpoint is complete, its copy is not; see the log");
                    let _ = self.reports.send(&Report::CheckpointFailed { epoch: permit.epoch(), reason });
                }
                Report::CheckpointCompleted {
                    epoch: permit.epoch(),
                    record: permit.record(),
                    bytes,
                    duration_ms: duration.as_secs_f64() * 1e3,
                    savepoint: written,
                }
            }
            EngineEvent::CheckpointAbandoned { epoch, savepoint, reason } => {
                let reason = savepoint.map_or(reason.clone(), |id| format!("savepoint {id}: {reason}"));
                Report::CheckpointFailed { epoch, reason }
            }
            EngineEvent::SavepointRefused { savepoint, reason } => {
                Report::CheckpointFailed { epoch: 0, reason: format!("savepoint {savepoint}: {reason}") }
            }
            EngineEvent::StopFailed { reason, .. } => Report::CheckpointFailed { epoch: 0, reason: format!("stop: {reason}") },
            EngineEvent::Pong { nonce } => Report::Pong { nonce },
        };
        // An error means that the supervisor is gone; whoever reads the socket ends the process.
        let _ = self.reports.send(&report);
    }
}

/// Times the parts of the start.
pub(super) struct Clock {
    last: Instant,
    parts: BTreeMap<String, f64>,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { last: Instant::now(), parts: BTreeMap::new() }
    }

    pub(super) fn part(&mut self, name: &str) {
        self.parts.insert(name.to_owned(), self.last.elapsed().as_secs_f64() * 1e3);
        self.last = Instant::now();
    }

    /// What came before is not part of a start.
    pub(super) fn forget(&mut self) {
        self.last = Instant::now();
    }
}
