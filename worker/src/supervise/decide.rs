//! [pure] What to do next: `handle(input, now) -> actions`. The driver only executes.
//!
//! ```text
//!   Restarting: (old engines gone) and (generation minted) and (every member there) ──► Up: start, run, drain ──► Over
//!        ▲                                                                              │
//!        └────────── an engine is lost, or the members change and it has drained ◄──────┘
//! ```
//!
//! A change of members first lets the generation drain with a checkpoint; a loss on the way makes it a restart.
//!
//! Killing the rest of a lost generation and minting the next one happen side by side; engines of the next start when
//! both are done. A report that a restart cannot help ends the job even when it comes after the loss was seen: the
//! engine that failed and the peers that lost it race to tell.
//!
//! `now` is the time since the supervisor began.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rheos_api::validated::RestartPolicy;
use rheos_control_api::{Failure, RestartTiming};
use rheos_dataflow::error::ErrorKind;
use rheos_dataflow::time::StopMode;

use crate::engine::wire::{Command, Report};
use crate::supervise::restart::{Restarts, Verdict};

/// Between two pings to one engine.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);
/// An engine that runs and has not answered for this long is taken for dead and killed.
pub const HEARTBEAT_DEADLINE: Duration = Duration::from_secs(5);
/// Restoring and connecting may take this long.
pub const START_DEADLINE: Duration = Duration::from_secs(600);
/// After the first engine has drained, the others may take this long to.
pub const END_DEADLINE: Duration = Duration::from_secs(60);

/// A stop may take this long beside a checkpoint.
pub const STOP_GRACE: Duration = Duration::from_secs(30);

/// A generation that may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Minted {
    /// Its number.
    pub generation: u64,
    /// Number of its start record.
    pub start_record: u64,
}

/// Why something failed, and whether another try may help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// For people.
    pub failure: Failure,
    /// Whether another try may help.
    pub restartable: bool,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Begin, or time passed: see [`Life::wake_at`].
    Time,
    /// Answer to [`Action::Mint`].
    Minted(Result<Minted, Cause>),
    /// An engine of the current generation said something.
    Report {
        /// Which.
        process: usize,
        /// What.
        report: Report,
    },
    /// An engine of the current generation is gone.
    Exited {
        /// Which.
        process: usize,
        /// How, for people.
        how: String,
    },
    /// Stop with a checkpoint.
    Stop,
    /// End at once.
    Abort,
    /// Take a savepoint.
    Savepoint(String),
    /// From the next generation on there are so many members: let this one drain with a checkpoint.
    Move {
        /// How many.
        members: usize,
        /// Those of them that no engine can be started at now.
        away: BTreeSet<usize>,
    },
    /// No engine can be started at this member of the next generation now.
    Away(usize),
    /// One can.
    Here(usize),
    /// Keep to another restart policy from now on.
    Policy(RestartPolicy, Duration),
    /// Another coordinator has taken over.
    Fenced(String),
}

/// What the driver must do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Mint the next generation; answer with [`Input::Minted`].
    Mint,
    /// Start an engine for every member.
    Launch(Minted),
    /// Say something to an engine.
    Send(usize, Command),
    /// Kill this engine; its exit follows.
    Kill(usize),
    /// A savepoint was given up.
    SavepointFailed(String, String),
    /// Nothing is left to do.
    Finish(Outcome),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every source ended and everything is committed.
    Finished,
    /// Stopped when asked; goes on from its newest checkpoint.
    Suspended,
    /// Given up.
    Failed(Failure),
    /// Ended at once when asked; goes on from its newest checkpoint.
    Aborted,
}

/// What the supervisor of one job is told to keep to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Engine processes of the next generation.
    pub members: usize,
    /// `spec.restart`.
    pub restart: RestartPolicy,
    /// A stop with a checkpoint may take this long.
    pub stop_deadline: Duration,
}

#[derive(Debug, Clone, PartialEq)]
enum Phase {
    Restarting { alive: BTreeSet<usize>, mint_at: Duration, asked: bool, minted: Option<Minted> },
    Up(Up),
    Ending { alive: BTreeSet<usize>, outcome: Outcome },
    Over,
}

#[derive(Debug, Clone, PartialEq)]
struct Up {
    since: Duration,
    members: usize,
    alive: BTreeSet<usize>,
    running: BTreeMap<usize, Heartbeat>,
    all_running: Option<Duration>,
    ended: BTreeMap<usize, StopMode>,
    first_ended: Option<Duration>,
    stop_sent: Option<Duration>,
    first_row: Option<Duration>,
    /// When the generation before was lost.
    lost_at: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Heartbeat {
    heard: Duration,
    pinged: Duration,
}

/// The life of a job under one supervisor.
#[derive(Debug, Clone)]
pub struct Life {
    rules: Rules,
    restarts: Restarts,
    phase: Phase,
    stop: bool,
    /// The generation that is up drains for one with other members.
    moving: bool,
    /// Members of the next generation that no engine can be started at.
    away: BTreeSet<usize>,
    nonce: u64,
    /// Savepoints asked for and not yet answered; true: the running generation knows.
    savepoints: BTreeMap<String, bool>,
    /// When the last generation was lost, or began to drain for the next one.
    lost_at: Option<Duration>,
    failing: bool,
    timing: RestartTiming,
    /// Completed restarts and moves, newest last; the driver moves them on.
    pub timings: Vec<RestartTiming>,
    /// Restarts so far.
    pub restart_count: u64,
    /// Generations that have drained for one with other members.
    pub move_count: u64,
    /// Whether the generation that begins next does so because members or settings changed.
    pub planned: bool,
    /// Why the newest restart happened.
    pub last_cause: Option<Failure>,
}

impl Life {
    /// Nothing has begun; the first input is [`Input::Time`].
    pub fn new(rules: Rules) -> Self {
        let restarts = Restarts::new(rules.restart);
        let phase = Phase::Restarting { alive: BTreeSet::new(), mint_at: Duration::ZERO, asked: false, minted: None };
        Self {
            rules,
            restarts,
            phase,
            stop: false,
            moving: false,
            away: BTreeSet::new(),
            nonce: 0,
            savepoints: BTreeMap::new(),
            lost_at: None,
            failing: false,
            timing: RestartTiming::default(),
            timings: Vec::new(),
            restart_count: 0,
            move_count: 0,
            planned: false,
            last_cause: None,
        }
    }

    /// Whether every engine runs.
    pub fn is_running(&self) -> bool {
        matches!(&self.phase, Phase::Up(up) if up.all_running.is_some())
    }

    /// Whether an engine was lost and the next generation does not run yet.
    pub fn is_failing(&self) -> bool {
        self.failing
    }

    /// Whether the next generation is awaited: the engines for it are wanted now.
    pub fn is_between(&self) -> bool {
        self.moving || matches!(self.phase, Phase::Restarting { .. })
    }

    /// Whether a stop was asked for.
    pub fn is_stopping(&self) -> bool {
        self.stop
    }

    /// When to call with [`Input::Time`] at the latest.
    pub fn wake_at(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Restarting { asked: false, mint_at, .. } => Some(*mint_at),
            Phase::Up(up) => {
                let starting = up.all_running.is_none().then_some(up.since + START_DEADLINE);
                let pings = up.running.values().map(|beat| (beat.pinged + HEARTBEAT_INTERVAL).min(beat.heard + HEARTBEAT_DEADLINE)).min();
                let stop = up.stop_sent.map(|sent| sent + self.rules.stop_deadline);
                let end = up.first_ended.map(|ended| ended + END_DEADLINE);
                [starting, pings, stop, end].into_iter().flatten().min()
            }
            _ => None,
        }
    }

    /// One step.
    pub fn handle(&mut self, input: Input, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        match input {
            Input::Time => {}
            Input::Minted(result) => self.minted(result, now, &mut actions),
            Input::Report { process, report } => self.report(process, report, now, &mut actions),
            Input::Exited { process, how } => self.exited(process, how, now, &mut actions),
            Input::Stop => self.stop(&mut actions),
            Input::Abort => self.end(Outcome::Aborted, &mut actions),
            Input::Savepoint(id) => {
                self.savepoints.entry(id).or_insert(false);
            }
            Input::Move { members, away } => self.move_to(members, away, now, &mut actions),
            Input::Away(process) => {
                self.away.insert(process);
            }
            Input::Here(process) => {
                self.away.remove(&process);
            }
            Input::Policy(policy, stop_deadline) => {
                self.restarts.set_policy(policy);
                (self.rules.restart, self.rules.stop_deadline) = (policy, stop_deadline);
            }
            Input::Fenced(message) => {
                let (kind, place) = (ErrorKind::Fenced.to_string(), "coordinator".to_owned());
                self.end(Outcome::Failed(Failure { kind, place, message }), &mut actions);
            }
        }
        self.advance(now, &mut actions);
        actions
    }

    /// Everything that follows from state and time alone.
    fn advance(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if let Phase::Restarting { mint_at, asked, .. } = &mut self.phase
            && !*asked
            && now >= *mint_at
        {
            *asked = true;
            actions.push(Action::Mint);
        }
        if let Phase::Restarting { alive, minted: Some(minted), .. } = &self.phase
            && alive.is_empty()
        {
            let minted = *minted;
            if !self.away.is_empty() {
                // It may take long until all are there, and nothing is lost by a stop before that.
                if self.stop {
                    self.end(Outcome::Suspended, actions);
                    self.advance(now, actions);
                }
                return;
            }
            actions.push(Action::Launch(minted));
            self.timing.generation = minted.generation;
            self.phase = Phase::Up(Up {
                since: now,
                members: self.rules.members,
                alive: (0..self.rules.members).collect(),
                running: BTreeMap::new(),
                all_running: None,
                ended: BTreeMap::new(),
                first_ended: None,
                stop_sent: None,
                first_row: None,
                lost_at: self.lost_at,
            });
        }
        if let Phase::Ending { alive, outcome } = &self.phase
            && alive.is_empty()
        {
            actions.push(Action::Finish(outcome.clone()));
            self.phase = Phase::Over;
        }
        self.deadlines(now, actions);
        self.commands(now, actions);
    }

    /// Finds engines that hang.
    fn deadlines(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let Phase::Up(up) = &mut self.phase else { return };
        let seconds = |limit: Duration| format!("within {} s", limit.as_secs_f64());
        let silent = up.running.iter().find(|(process, beat)| !up.ended.contains_key(process) && now >= beat.heard + HEARTBEAT_DEADLINE);
        let problem = if let Some((process, _)) = silent {
            Some((*process, format!("gave no sign of life for {} s", HEARTBEAT_DEADLINE.as_secs_f64())))
        } else if up.all_running.is_none() && now >= up.since + START_DEADLINE {
            (0..up.members)
                .find(|process| !up.running.contains_key(process))
                .map(|process| (process, format!("did not start {}", seconds(START_DEADLINE))))
        } else if up.stop_sent.is_some_and(|sent| now >= sent + self.rules.stop_deadline) {
            Some((0, format!("did not stop {}", seconds(self.rules.stop_deadline))))
        } else if up.first_ended.is_some_and(|ended| now >= ended + END_DEADLINE) {
            up.alive.iter().next().map(|process| (*process, format!("did not drain {}", seconds(END_DEADLINE))))
        } else {
            None
        };
        if let Some((process, message)) = problem {
            self.lose(lost(process, message), now, actions);
        }
    }

    /// Pings, the stop, savepoints.
    fn commands(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let Phase::Up(up) = &mut self.phase else { return };
        for (process, beat) in &mut up.running {
            if up.ended.contains_key(process) {
                beat.heard = now;
            }
            if now >= beat.pinged + HEARTBEAT_INTERVAL {
                beat.pinged = now;
                self.nonce += 1;
                actions.push(Action::Send(*process, Command::Ping { nonce: self.nonce }));
            }
        }
        if up.all_running.is_none() || !up.ended.is_empty() {
            return;
        }
        for (id, sent) in &mut self.savepoints {
            if !*sent {
                *sent = true;
                actions.push(Action::Send(0, Command::Savepoint { id: id.clone() }));
            }
        }
        if (self.stop || self.moving) && up.stop_sent.is_none() {
            up.stop_sent = Some(now);
            actions.push(Action::Send(0, Command::Stop));
        }
    }

    fn minted(&mut self, result: Result<Minted, Cause>, now: Duration, actions: &mut Vec<Action>) {
        let Phase::Restarting { alive, minted, asked, mint_at } = &mut self.phase else { return };
        match result {
            Ok(fresh) => {
                *minted = Some(fresh);
                if let Some(lost_at) = self.lost_at {
                    self.timing.minted_ms = millis(now.saturating_sub(lost_at));
                }
            }
            Err(cause) => match verdict(&mut self.restarts, &cause, now, Duration::ZERO) {
                Ok(at) => (*asked, *mint_at) = (false, at),
                Err(failure) => {
                    let alive = alive.clone();
                    self.phase = Phase::Ending { alive, outcome: Outcome::Failed(failure) };
                    self.give_up_savepoints("the job failed", actions);
                }
            },
        }
    }

    fn report(&mut self, process: usize, report: Report, now: Duration, actions: &mut Vec<Action>) {
        if let Report::Failed { kind, place, message, restartable } = report {
            let cause = Cause { failure: Failure { kind, place, message }, restartable };
            match &mut self.phase {
                Phase::Up(_) => self.lose(cause, now, actions),
                // The engine that failed tells after its peers have told that they lost it.
                Phase::Restarting { alive, .. } => {
                    if let Some(failure) = fatal(&mut self.restarts, &cause) {
                        let alive = std::mem::take(alive);
                        self.phase = Phase::Ending { alive, outcome: Outcome::Failed(failure) };
                        self.give_up_savepoints("the job failed", actions);
                    } else if !restartable {
                        self.last_cause = Some(cause.failure);
                    }
                }
                _ => {}
            }
            return;
        }
        let Phase::Up(up) = &mut self.phase else { return };
        match report {
            Report::Running { .. } => {
                up.running.insert(process, Heartbeat { heard: now, pinged: now });
                if up.running.len() == up.members && up.all_running.is_none() {
                    up.all_running = Some(now);
                    self.failing = false;
                    if let Some(lost_at) = self.lost_at.take() {
                        self.timing.running_ms = Some(millis(now.saturating_sub(lost_at)));
                        self.timing.first_row_ms = up.first_row.map(|first| millis(first.saturating_sub(lost_at)));
                        self.timings.push(self.timing);
                    }
                }
            }
            Report::FirstRow => {
                if up.first_row.is_none() {
                    up.first_row = Some(now);
                    if let (Some(_), Some(lost_at), Some(timing)) = (up.all_running, up.lost_at, self.timings.last_mut()) {
                        timing.first_row_ms = Some(millis(now.saturating_sub(lost_at)));
                    }
                }
            }
            Report::Pong { .. } => {
                if let Some(beat) = up.running.get_mut(&process) {
                    beat.heard = now;
                }
            }
            Report::Ended { mode } => {
                up.ended.insert(process, mode);
                up.first_ended.get_or_insert(now);
            }
            Report::CheckpointCompleted { savepoint, .. } => {
                self.restarts.progressed();
                if let Some((id, _)) = savepoint {
                    self.savepoints.remove(&id);
                }
            }
            Report::CheckpointFailed { reason, .. } => {
                let sent: Vec<_> = self.savepoints.iter().filter(|(_, sent)| **sent).map(|(id, _)| id.clone()).collect();
                for id in sent {
                    self.savepoints.remove(&id);
                    actions.push(Action::SavepointFailed(id, reason.clone()));
                }
            }
            Report::Stats(_) | Report::Results(_) | Report::Failed { .. } => {}
        }
    }

    fn exited(&mut self, process: usize, how: String, now: Duration, actions: &mut Vec<Action>) {
        match &mut self.phase {
            Phase::Up(up) => {
                up.alive.remove(&process);
                if !up.ended.contains_key(&process) {
                    self.lose(lost(process, how), now, actions);
                } else if up.alive.is_empty() {
                    let finished = up.ended.values().any(|mode| *mode == StopMode::Finish);
                    if self.moving && !finished && !self.stop {
                        let began = up.stop_sent.unwrap_or(now);
                        self.timing = RestartTiming { cleared_ms: millis(now.saturating_sub(began)), ..RestartTiming::default() };
                        self.lost_at = Some(began);
                        self.move_count += 1;
                        self.planned = true;
                        self.restart(BTreeSet::new(), now);
                        return;
                    }
                    let outcome = if finished { Outcome::Finished } else { Outcome::Suspended };
                    self.phase = Phase::Ending { alive: BTreeSet::new(), outcome };
                    self.give_up_savepoints("the job ended", actions);
                }
            }
            Phase::Restarting { alive, .. } => {
                alive.remove(&process);
                if let (true, Some(lost_at)) = (alive.is_empty(), self.lost_at) {
                    self.timing.cleared_ms = millis(now.saturating_sub(lost_at));
                }
            }
            Phase::Ending { alive, .. } => {
                alive.remove(&process);
            }
            Phase::Over => {}
        }
    }

    fn stop(&mut self, actions: &mut Vec<Action>) {
        self.stop = true;
        // Nothing runs, and nothing will for a while: the newest checkpoint is where the job stands.
        if let Phase::Restarting { asked: false, .. } = &self.phase {
            self.end(Outcome::Suspended, actions);
        }
    }

    fn move_to(&mut self, members: usize, away: BTreeSet<usize>, now: Duration, actions: &mut Vec<Action>) {
        self.rules.members = members;
        self.away = away;
        match &mut self.phase {
            // Somebody has changed what failed: no reason to wait longer.
            Phase::Restarting { asked: false, mint_at, .. } => *mint_at = now.min(*mint_at),
            // Nothing has happened that a checkpoint could keep.
            Phase::Up(up) if up.all_running.is_none() => {
                let alive = std::mem::take(&mut up.alive);
                actions.extend(alive.iter().map(|process| Action::Kill(*process)));
                self.lost_at.get_or_insert(now);
                self.timing = RestartTiming::default();
                self.planned = true;
                self.restart(alive, now);
            }
            Phase::Up(_) => self.moving = true,
            _ => {}
        }
    }

    /// The next generation begins at `mint_at`, when these have gone.
    fn restart(&mut self, alive: BTreeSet<usize>, mint_at: Duration) {
        self.moving = false;
        for sent in self.savepoints.values_mut() {
            *sent = false; // asked for again by the next generation, under the same id
        }
        self.phase = Phase::Restarting { alive, mint_at, asked: false, minted: None };
    }

    /// The generation that is up cannot go on.
    fn lose(&mut self, cause: Cause, now: Duration, actions: &mut Vec<Action>) {
        let Phase::Up(up) = &mut self.phase else { return };
        let alive = std::mem::take(&mut up.alive);
        actions.extend(alive.iter().map(|process| Action::Kill(*process)));
        let ran = up.all_running.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        match verdict(&mut self.restarts, &cause, now, ran) {
            Ok(mint_at) => {
                let cleared_ms = 0.0;
                self.restart_count += 1;
                self.planned = false;
                self.lost_at.get_or_insert(now);
                self.failing = true;
                self.timing = RestartTiming { cleared_ms, ..RestartTiming::default() };
                self.last_cause = Some(cause.failure);
                // Members that change were the cause, or are the cure.
                self.restart(alive, if self.moving { now } else { mint_at });
            }
            Err(failure) => {
                self.phase = Phase::Ending { alive, outcome: Outcome::Failed(failure) };
                self.give_up_savepoints("the job failed", actions);
            }
        }
    }

    /// Kills what lives and ends.
    fn end(&mut self, outcome: Outcome, actions: &mut Vec<Action>) {
        let alive = match &mut self.phase {
            Phase::Restarting { alive, .. } => std::mem::take(alive),
            Phase::Up(up) => {
                let alive = std::mem::take(&mut up.alive);
                actions.extend(alive.iter().map(|process| Action::Kill(*process)));
                alive
            }
            Phase::Ending { .. } | Phase::Over => return,
        };
        self.phase = Phase::Ending { alive, outcome };
        self.give_up_savepoints("the job was stopped", actions);
    }

    fn give_up_savepoints(&mut self, reason: &str, actions: &mut Vec<Action>) {
        for (id, _) in std::mem::take(&mut self.savepoints) {
            actions.push(Action::SavepointFailed(id, reason.to_owned()));
        }
    }
}

/// The failure that ends the job, when another try cannot help.
fn fatal(restarts: &mut Restarts, cause: &Cause) -> Option<Failure> {
    let failure = &cause.failure;
    if failure.kind == ErrorKind::Data.to_string() {
        // A record that was bad once may be gone or fixed the second time (a file replaced); not the third.
        let why = restarts.bad_data(&failure.to_string())?;
        return Some(given_up(failure, &why));
    }
    (!cause.restartable).then(|| failure.clone())
}

/// When to try again, or why not.
fn verdict(restarts: &mut Restarts, cause: &Cause, now: Duration, ran: Duration) -> Result<Duration, Failure> {
    if let Some(failure) = fatal(restarts, cause) {
        return Err(failure);
    }
    match restarts.failed(now, ran) {
        Verdict::RestartAt(at) => Ok(at),
        Verdict::GiveUp(why) => Err(given_up(&cause.failure, &why)),
    }
}

fn given_up(failure: &Failure, why: &str) -> Failure {
    Failure { message: format!("{}; given up: {why}", failure.message), ..failure.clone() }
}

fn lost(process: usize, message: String) -> Cause {
    let failure = Failure { kind: ErrorKind::Transient.to_string(), place: format!("engine process {process}"), message };
    Cause { failure, restartable: true }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests;
