//! [pure] Decides when ticks go out, what a checkpoint consists of, and when a record may be written.
//!
//! A state machine without I/O: `handle(event, now) -> actions`. The timely adaptor and the simulator run it beside the
//! control source of worker 0. Completeness of a checkpoint is a frontier: when the snapshot stream has passed epoch e,
//! every report of e has been seen.
//!
//! Invariants:
//! - Epochs are dense: tick `e + 1` follows tick `e`; a tick is never more than `window` epochs ahead of the slowest worker.
//! - One checkpoint is in flight at most, and one [`Action::Publish`]; an abandoned epoch is never published.
//! - A committable is in every record from the first one that covers its epoch until its sink confirmed it.
//! - After [`Action::End`] or [`Action::Fenced`] nothing more comes out.

mod compose;
mod job;
mod pacer;
mod splits;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rheos_checkpoint::CommitPermit;
use rheos_checkpoint::manifest::{Manifest, StateFile};
use rheos_checkpoint::protocol::carry::Carried;
use rheos_checkpoint::record::Record;
use serde::{Deserialize, Serialize};

use crate::graph::OperatorId;
use crate::sink::Committable;
use crate::snapshot::SplitState;
use crate::source::SplitId;
use crate::time::{Epoch, Millis, StopMode, Tick};

pub use job::{JobFacts, OperatorFacts, Restored};

use pacer::Pacer;
use splits::Splits;

/// Savepoints that may wait for their turn; more are refused.
pub const SAVEPOINT_QUEUE_LIMIT: usize = 16;
/// Checkpoints that are tried for one stop before it is reported as failed.
pub const STOP_ATTEMPTS: u32 = 3;

/// How a job's ticks are paced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pacing {
    /// Shortest epoch, ms (busy job).
    pub epoch_min: Millis,
    /// Longest epoch, ms (idle job).
    pub epoch_max: Millis,
    /// Between the starts of two checkpoints, ms.
    pub checkpoint_interval: Millis,
    /// A checkpoint that is not complete after this long is given up, ms.
    pub checkpoint_timeout: Millis,
    /// Epochs that may be open behind the newest one before ticks are held back (W).
    pub window: u64,
}

/// One subtask's part of a checkpoint, sent on the snapshot stream as JSON. Every stage of every worker sends one for
/// every checkpoint, if only with empty parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotReport {
    /// The stage.
    pub stage: usize,
    /// The subtask.
    pub subtask: u32,
    /// The checkpoint's epoch.
    pub epoch: Epoch,
    /// The parts, or why there are none (the checkpoint is then abandoned, later ones go on).
    pub outcome: Result<SnapshotParts, String>,
}

/// What a subtask's part of a checkpoint consists of, all of it durable.
///
/// A driver whose upload failed keeps what it could not write, the committables among it, and reports it with the next
/// checkpoint: an operator exports a change only once.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SnapshotParts {
    /// All live state files of this subtask, by operator and table, oldest first (carried ones too).
    pub files: BTreeMap<OperatorId, BTreeMap<String, Vec<StateFile>>>,
    /// Facts by operator.
    pub facts: BTreeMap<OperatorId, BTreeMap<String, serde_json::Value>>,
    /// Splits owned by this subtask.
    pub splits: Vec<SplitState>,
    /// Staged output of this checkpoint.
    pub committables: Vec<Committable>,
    /// By sink: this subtask's committables up to this epoch are known to be committed.
    pub confirmed: BTreeMap<OperatorId, Epoch>,
    /// Bytes written for this checkpoint (carried files not counted).
    pub bytes_written: u64,
}

/// What the coordinator is told.
#[derive(Debug, Clone)]
pub enum Event {
    /// Time passed (also the answer to [`Action::WakeAt`]).
    Time,
    /// Every worker has closed all epochs below this one (the monitored frontier).
    Progress(Epoch),
    /// A report came on the snapshot stream.
    Report(SnapshotReport),
    /// The snapshot stream's frontier: all reports below this epoch have been delivered.
    Snapshots(Epoch),
    /// Every split that this subtask of a source stage owns has ended, as of the close of `epoch`, the splits of that
    /// epoch's tick included. Said at the first such close.
    SourcesFinished {
        /// The stage.
        stage: usize,
        /// The subtask.
        subtask: u32,
        /// The epoch that was closed.
        epoch: Epoch,
    },
    /// Whether any source read rows in the newest closed epoch (adapts the epoch's length).
    Load {
        /// Rows read in that epoch by the reporting worker.
        rows: u64,
    },
    /// What [`crate::source::Source::discover`] returned. Said for every source at the start, then after each later
    /// look; those already known are left out by the coordinator.
    Splits {
        /// The source.
        source: OperatorId,
        /// All splits that exist now.
        found: Vec<SplitId>,
        /// Whether there will be later looks; such a source never ends.
        more: bool,
    },
    /// The answer to [`Action::Recommit`]: all of it is visible. (A failed commit fails the generation.)
    Recommitted,
    /// A savepoint is wanted.
    Savepoint(String),
    /// A checkpoint is wanted now.
    Checkpoint,
    /// The job shall stop with a checkpoint.
    Stop,
    /// Keep to another pace from now on.
    Pace(Pacing),
    /// The answer to [`Action::Publish`].
    Published {
        /// The checkpoint's epoch.
        epoch: Epoch,
        /// The permit, or what went wrong; `fenced` in the error ends the generation.
        result: Result<CommitPermit, PublishFailure>,
    },
}

/// Why a record was not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishFailure {
    /// A newer generation has taken over.
    pub fenced: bool,
    /// What happened.
    pub message: String,
}

/// What the driver must do.
#[derive(Debug, Clone)]
pub enum Action {
    /// Send this tick to every worker.
    Tick(Tick),
    /// Call again with [`Event::Time`] at this time.
    WakeAt(Millis),
    /// Write manifest and record; answer with [`Event::Published`]. One at a time.
    Publish(Box<Publication>),
    /// Commit these again, whoever staged them, with the start record's permit: the restored record carried them and
    /// nobody knows whether they are visible. No tick goes out before [`Event::Recommitted`].
    Recommit(Vec<Committable>),
    /// Tell the sinks to commit what this record holds.
    Commit(CommitPermit),
    /// A checkpoint was abandoned. The job goes on.
    Abandoned {
        /// Its epoch.
        epoch: Epoch,
        /// The savepoint that it was to be; not tried again.
        savepoint: Option<String>,
        /// Why.
        reason: String,
    },
    /// A savepoint was refused: too many wait, or the job ends.
    Refused {
        /// Its id.
        savepoint: String,
        /// Why.
        reason: String,
    },
    /// [`STOP_ATTEMPTS`] checkpoints failed. A job that was asked to stop goes on running; one whose sources are
    /// finished tries again after the checkpoint interval.
    StopFailed {
        /// Which end was tried.
        mode: StopMode,
        /// Why the last attempt failed.
        reason: String,
    },
    /// No more ticks: control drops its capabilities and the dataflow drains.
    End(StopMode),
    /// A newer generation runs: exit without another write.
    Fenced,
}

/// A complete checkpoint, ready to be made final.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The checkpoint's epoch.
    pub epoch: Epoch,
    /// Everything that a restore needs.
    pub manifest: Manifest,
    /// Committables of this and earlier checkpoints that no sink has confirmed.
    pub committables: Vec<Committable>,
    /// The savepoint to write it as, too.
    pub savepoint: Option<String>,
    /// Bytes of state newly written for it.
    pub bytes_written: u64,
    /// When its tick was sent, on the clock of [`Coordinator::handle`].
    pub began: Millis,
}

/// The record that a generation starts from; see `rheos_checkpoint::protocol`.
pub type StartRecord = Record;

/// The checkpoint that is under way.
#[derive(Debug)]
struct Flight {
    epoch: Epoch,
    wall_time: Millis,
    /// On the pacer's clock.
    began: Millis,
    /// On the driver's clock.
    began_at: Millis,
    savepoint: Option<String>,
    stop: Option<StopMode>,
    reports: BTreeMap<(usize, u32), SnapshotParts>,
    publishing: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Coordinator {
    pacing: Pacing,
    job: JobFacts,
    pacer: Pacer,
    splits: Splits,
    /// The epoch that the next tick closes.
    next_epoch: Epoch,
    /// Every worker has closed all epochs below this.
    progress: Epoch,
    /// All reports below this have been delivered.
    snapshots: Epoch,
    flight: Option<Flight>,
    /// Staged output that no sink has confirmed, by sink and subtask.
    carried: Carried<(OperatorId, u32), Committable>,
    recommit: Recommit,
    checkpoint_asked: bool,
    savepoints: VecDeque<String>,
    stop_asked: bool,
    stop_attempts: u32,
    /// Subtasks of source stages that have ended, and the epoch as of which they said so.
    finished: BTreeMap<(usize, u32), Epoch>,
    ended: bool,
}

/// Where the committables of the restored record stand.
#[derive(Debug, PartialEq, Eq)]
enum Recommit {
    Needed,
    Running,
    Done,
}

impl Coordinator {
    /// A coordinator about to open the epoch after the restored one.
    pub fn new(pacing: Pacing, job: JobFacts, restored: Restored) -> Self {
        let first = restored.epoch + 1;
        let recommit = if restored.committables.is_empty() { Recommit::Done } else { Recommit::Needed };
        let mut carried = Carried::default();
        restored.committables.into_iter().for_each(|committable| carry(&mut carried, committable));
        Self {
            pacer: Pacer::new(&pacing, restored.wall_time),
            splits: Splits::new(job.sources.keys().cloned(), &restored.splits),
            next_epoch: first,
            progress: first,
            snapshots: first,
            flight: None,
            recommit,
            carried,
            checkpoint_asked: false,
            savepoints: VecDeque::new(),
            stop_asked: false,
            stop_attempts: 0,
            finished: BTreeMap::new(),
            ended: false,
            pacing,
            job,
        }
    }

    /// Takes one event at `now` (wall clock, ms; may step back) and says what to do, in order. Call it with
    /// [`Event::Time`] once to begin.
    pub fn handle(&mut self, event: Event, now: Millis) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.ended {
            return actions;
        }
        self.pacer.advance(now);
        self.take(event, &mut actions);
        if self.recommit == Recommit::Needed {
            self.recommit = Recommit::Running;
            actions.push(Action::Recommit(self.carried.all().cloned().collect()));
        }
        self.expire(&mut actions);
        self.publish(&mut actions);
        self.tick(&mut actions);
        self.arm(&mut actions);
        actions
    }

    /// The epoch that the next tick closes.
    pub fn next_epoch(&self) -> Epoch {
        self.next_epoch
    }

    /// The epoch of the checkpoint that is under way.
    pub fn in_flight(&self) -> Option<Epoch> {
        self.flight.as_ref().map(|flight| flight.epoch)
    }

    fn take(&mut self, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Time => {}
            Event::Progress(epoch) => self.progress = self.progress.max(epoch),
            Event::Report(report) => self.report(report, actions),
            Event::Snapshots(epoch) => self.snapshots = self.snapshots.max(epoch),
            Event::SourcesFinished { stage, subtask, epoch } => {
                self.finished.insert((stage, subtask), epoch);
            }
            Event::Pace(pacing) => self.pacing = pacing,
            Event::Load { rows } => self.pacer.load(rows, &self.pacing),
            Event::Splits { source, found, more } => self.splits.found(&source, found, more),
            Event::Recommitted => {
                if self.recommit == Recommit::Running {
                    self.recommit = Recommit::Done;
                    // Nothing was ticked yet, so all that is carried is what was committed just now.
                    self.carried = Carried::default();
                }
            }
            Event::Savepoint(id) => self.savepoint(id, actions),
            Event::Checkpoint => self.checkpoint_asked = true,
            Event::Stop => self.stop_asked = true,
            Event::Published { epoch, result } => self.published(epoch, result, actions),
        }
    }

    fn savepoint(&mut self, id: String, actions: &mut Vec<Action>) {
        let running = self.flight.as_ref().and_then(|flight| flight.savepoint.as_ref());
        if running == Some(&id) || self.savepoints.contains(&id) {
            return;
        }
        if self.savepoints.len() >= SAVEPOINT_QUEUE_LIMIT {
            let reason = format!("{SAVEPOINT_QUEUE_LIMIT} savepoints wait already: ask again when they are done");
            actions.push(Action::Refused { savepoint: id, reason });
        } else {
            self.savepoints.push_back(id);
        }
    }

    fn report(&mut self, report: SnapshotReport, actions: &mut Vec<Action>) {
        let current = self.flight.as_ref().is_some_and(|flight| flight.epoch == report.epoch && !flight.publishing);
        match report.outcome {
            Ok(mut parts) => {
                // A late report of an abandoned checkpoint counts here: its output is staged, and staged only once.
                for (sink, epoch) in &parts.confirmed {
                    self.carried.confirm(&(sink.clone(), report.subtask), *epoch);
                }
                parts.committables.drain(..).for_each(|committable| carry(&mut self.carried, committable));
                if let Some(flight) = self.flight.as_mut().filter(|_| current) {
                    flight.reports.insert((report.stage, report.subtask), parts);
                }
            }
            Err(reason) if current => {
                self.abandon(format!("stage {} on worker {}: {reason}", report.stage, report.subtask), actions);
            }
            Err(_) => {}
        }
    }

    /// Gives up a checkpoint that takes too long. Once its record is being written only the store knows how it ends.
    fn expire(&mut self, actions: &mut Vec<Action>) {
        let timeout = self.pacing.checkpoint_timeout;
        if let Some(flight) = &self.flight
            && !flight.publishing
            && self.pacer.now() >= flight.began.saturating_add(timeout)
        {
            let missing = self.job.reporters.iter().find(|reporter| !flight.reports.contains_key(reporter));
            let waited_for = missing.map_or_else(String::new, |(stage, subtask)| {
                format!(", still waiting for stage {stage} on worker {subtask} and perhaps others")
            });
            self.abandon(format!("not complete after {timeout} ms{waited_for}"), actions);
        }
    }

    fn abandon(&mut self, reason: String, actions: &mut Vec<Action>) {
        let Some(flight) = self.flight.take() else { return };
        actions.push(Action::Abandoned { epoch: flight.epoch, savepoint: flight.savepoint, reason: reason.clone() });
        if let Some(mode) = flight.stop {
            self.stop_attempts += 1;
            if self.stop_attempts >= STOP_ATTEMPTS {
                self.stop_attempts = 0;
                self.stop_asked = false;
                self.pacer.hold_finish(self.pacing.checkpoint_interval);
                actions.push(Action::StopFailed { mode, reason });
            }
        }
    }

    fn publish(&mut self, actions: &mut Vec<Action>) {
        let Some(flight) = &mut self.flight else { return };
        if flight.publishing || self.snapshots <= flight.epoch {
            return;
        }
        if let Some((stage, subtask)) = self.job.reporters.iter().find(|reporter| !flight.reports.contains_key(reporter)) {
            let reason = format!("no report from stage {stage} on worker {subtask}: this is a fault of the engine");
            return self.abandon(reason, actions);
        }
        flight.publishing = true;
        let reports = std::mem::take(&mut flight.reports);
        let bytes_written = reports.values().map(|parts| parts.bytes_written).sum();
        actions.push(Action::Publish(Box::new(Publication {
            epoch: flight.epoch,
            manifest: compose::manifest(&self.job, flight.epoch, flight.wall_time, reports),
            committables: self.carried.all().cloned().collect(),
            savepoint: flight.savepoint.clone(),
            bytes_written,
            began: flight.began_at,
        })));
    }

    fn published(&mut self, epoch: Epoch, result: Result<CommitPermit, PublishFailure>, actions: &mut Vec<Action>) {
        if !self.flight.as_ref().is_some_and(|flight| flight.publishing && flight.epoch == epoch) {
            return;
        }
        match result {
            Ok(permit) => {
                let stop = self.flight.take().and_then(|flight| flight.stop);
                actions.push(Action::Commit(permit));
                if let Some(mode) = stop {
                    for savepoint in std::mem::take(&mut self.savepoints) {
                        actions.push(Action::Refused { savepoint, reason: "the job has ended".into() });
                    }
                    self.ended = true;
                    actions.push(Action::End(mode));
                }
            }
            Err(failure) if failure.fenced => {
                self.ended = true;
                actions.push(Action::Fenced);
            }
            Err(failure) => self.abandon(failure.message, actions),
        }
    }

    /// Sends the ticks that are due, never past the window, never one behind an end.
    fn tick(&mut self, actions: &mut Vec<Action>) {
        let stopping = self.flight.as_ref().is_some_and(|flight| flight.stop.is_some());
        if self.ended || stopping || self.held() {
            return;
        }
        let stop = self.due_stop();
        let asked = self.flight.is_none() && (stop.is_some() || !self.savepoints.is_empty() || self.checkpoint_asked);
        if !asked && !self.pacer.due() {
            return;
        }
        let checkpoint = self.flight.is_none() && (asked || self.pacer.checkpoint_due(&self.pacing));
        let epoch = self.next_epoch;
        let tick = Tick {
            epoch,
            wall_time: self.pacer.wall_time(),
            checkpoint,
            savepoint: if checkpoint { self.savepoints.pop_front() } else { None },
            stop,
            empty_sources: Arc::new(self.splits.take_empty(epoch)),
            new_splits: Arc::new(self.splits.take(epoch)),
        };
        if checkpoint {
            self.checkpoint_asked = false;
            self.flight = Some(Flight {
                epoch,
                wall_time: tick.wall_time,
                began: self.pacer.now(),
                began_at: self.pacer.reading(),
                savepoint: tick.savepoint.clone(),
                stop,
                reports: BTreeMap::new(),
                publishing: false,
            });
        }
        self.next_epoch += 1;
        self.pacer.ticked(checkpoint, &self.pacing);
        actions.push(Action::Tick(tick));
    }

    /// Whether ticks must wait for others than the clock.
    fn held(&self) -> bool {
        self.recommit != Recommit::Done || self.next_epoch >= self.progress.saturating_add(self.pacing.window.max(1))
    }

    /// The stop that the next tick may carry: nothing in flight, and no savepoint left behind.
    fn due_stop(&self) -> Option<StopMode> {
        if self.flight.is_some() || self.savepoints.len() > 1 {
            return None;
        }
        if self.stop_asked {
            return Some(StopMode::Suspend);
        }
        let ended = self.splits.all_handed_out()?.all(|(source, tick)| {
            // What a subtask says as of that tick's close, or later, is about all splits that it will ever have.
            let mut subtasks = self.job.subtasks_of(source);
            subtasks.all(|subtask| self.finished.get(&subtask).is_some_and(|epoch| *epoch >= tick))
        });
        (ended && !self.pacer.finish_held()).then_some(StopMode::Finish)
    }

    fn arm(&mut self, actions: &mut Vec<Action>) {
        if self.ended {
            return;
        }
        let expiry = self.flight.as_ref().filter(|flight| !flight.publishing);
        let expiry = expiry.map(|flight| flight.began.saturating_add(self.pacing.checkpoint_timeout));
        let stopping = self.flight.as_ref().is_some_and(|flight| flight.stop.is_some());
        let tick = (!stopping && !self.held()).then(|| self.pacer.next_tick());
        if let Some(at) = expiry.into_iter().chain(tick).min().and_then(|at| self.pacer.arm(at)) {
            actions.push(Action::WakeAt(at));
        }
    }
}

fn carry(carried: &mut Carried<(OperatorId, u32), Committable>, committable: Committable) {
    let writer = (committable.sink.clone(), committable.subtask);
    carried.add(writer, committable.epoch, [committable]);
}
