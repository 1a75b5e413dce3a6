//! [io] The members of the next generation, and an engine at hand for each of them.
//!
//! An engine is prepared before its generation is minted: it plans meanwhile. A member that cannot be reached is tried
//! again, with pauses, until it is there; one whose engine dies while it is prepared is not: that failure belongs to the
//! generation which would have begun with it, and counts.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rheos_control_api::MemberView;

use crate::engine::wire::{Job, Report};
use crate::supervise::decide::Rules;
use crate::supervise::link::Peer;
use crate::supervise::process::{Engine, Notices, Program, Serial};

/// Before a member that cannot be reached is tried again; doubled up to [`RETRY_LONGEST`].
const RETRY_FIRST: Duration = Duration::from_millis(50);
/// The longest such pause: a container that comes back is found this soon.
const RETRY_LONGEST: Duration = Duration::from_secs(1);

/// A member of the roster.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its pod, in a cluster.
    pub pod: Option<String>,
    /// Where its peers reach its engine.
    pub address: SocketAddr,
    /// Where that engine runs.
    pub place: Place,
}

/// Where an engine runs.
#[derive(Debug, Clone)]
pub enum Place {
    /// In a child of this process, with this data listener, bound and listening.
    Here(Arc<TcpListener>),
    /// In another pod, with the listener there.
    There(Peer),
}

/// What a supervisor is to run, and where. It may be exchanged while the job runs.
#[derive(Debug, Clone)]
pub struct Target {
    /// Version of the assignment that says so, in a cluster; also the order that generations are minted by.
    pub assignment: Option<u64>,
    /// What to keep to.
    pub rules: Rules,
    /// The job, as engines are told it.
    pub job: Job,
    /// The members, by process index.
    pub roster: Vec<Member>,
}

/// What the way from one target to another takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing but settings that a running generation can change.
    Settings,
    /// Another generation.
    Generation,
}

impl Target {
    /// What the way from this one to `next` takes.
    pub fn change(&self, next: &Self) -> Change {
        let seats = |target: &Self| target.roster.iter().map(|member| (member.pod.clone(), member.address)).collect::<Vec<_>>();
        let settled = Job { pacing: next.job.pacing.clone(), retain: next.job.retain, ..self.job.clone() };
        if settled == next.job && seats(self) == seats(next) { Change::Settings } else { Change::Generation }
    }
}

/// A member of the next generation.
#[derive(Debug)]
struct Seat {
    member: Member,
    engine: Option<Engine>,
    /// Whether the engine has answered; those here need not.
    ready: bool,
    /// Why the engine that was at hand is not any more.
    died: Option<Died>,
    retry_at: Instant,
    pause: Duration,
    away: Option<(i64, String)>,
}

/// The end of an engine before its start.
#[derive(Debug, Default)]
pub(super) struct Died {
    pub(super) report: Option<Report>,
    pub(super) how: String,
}

/// What came of the end of a prepared engine.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// It was none of these.
    Other,
    /// The member is away now.
    Away(usize),
    /// The engine died by itself.
    Died,
}

/// The seats of the next generation.
#[derive(Debug)]
pub(super) struct Seats {
    seats: Vec<Seat>,
    program: Program,
    job: Job,
    notices: Notices,
    serials: Serial,
    /// Engines that were asked for and have not told their end.
    pub(super) living: u64,
}

impl Seats {
    pub(super) fn new(program: Program, target: &Target, notices: Notices) -> Self {
        let mut seats = Self { seats: Vec::new(), program, job: target.job.clone(), notices, serials: 0, living: 0 };
        seats.fill(target);
        seats
    }

    /// For another target: what was at hand is ended.
    pub(super) fn fill(&mut self, target: &Target) {
        self.job = target.job.clone();
        self.seats = target.roster.iter().cloned().map(Seat::new).collect();
    }

    pub(super) fn len(&self) -> usize {
        self.seats.len()
    }

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.seats.iter().map(|seat| seat.member.address).collect()
    }

    /// Members elsewhere for which no engine has answered yet.
    pub(super) fn away(&self) -> BTreeSet<usize> {
        (0..).zip(&self.seats).filter(|(_, seat)| !seat.is_ready() && seat.died.is_none()).map(|(process, _)| process).collect()
    }

    /// When an engine can be asked for next, of those that are missing; `again`: also where the last one died.
    pub(super) fn free_at(&self, again: bool) -> Option<Instant> {
        self.seats.iter().filter(|seat| seat.is_free(again)).map(|seat| seat.retry_at).min()
    }

    /// For a target with the same members. What is at hand stays if the job is the same.
    pub(super) fn renew(&mut self, target: &Target) {
        if self.job != target.job {
            self.clear();
        }
        self.job = target.job.clone();
        self.seats.iter_mut().zip(&target.roster).for_each(|(seat, member)| seat.member = member.clone());
    }

    /// Ends what is at hand.
    pub(super) fn clear(&mut self) {
        self.seats.iter_mut().for_each(|seat| (seat.engine, seat.ready) = (None, false));
    }

    /// Asks for an engine wherever there is none, unless a pause is not over; `again`: also where the last one died.
    pub(super) fn prepare(&mut self, now: Instant, again: bool) {
        while self.prepare_one(now, again) == Some(true) {}
    }

    /// Asks for one engine that is missing. False: it could not be started; nothing: none is missing.
    pub(super) fn prepare_one(&mut self, now: Instant, again: bool) -> Option<bool> {
        let process = self.seats.iter().position(|seat| seat.is_free(again) && now >= seat.retry_at)?;
        Some(self.ask(process))
    }

    fn ask(&mut self, process: usize) -> bool {
        self.serials += 1;
        let seat = &mut self.seats[process];
        (seat.died, seat.ready) = (None, false);
        let engine = match &seat.member.place {
            Place::Here(listener) => Engine::spawn(&self.program, &self.job, listener, self.serials, self.notices.clone()),
            Place::There(peer) => Ok(Engine::dial(peer, &self.job, self.serials, self.notices.clone())),
        };
        match engine {
            Ok(engine) => {
                seat.engine = Some(engine);
                self.living += 1;
                true
            }
            Err(error) => {
                seat.died = Some(Died { report: None, how: format!("cannot be started: {error}") });
                false
            }
        }
    }

    /// An engine elsewhere has answered.
    pub(super) fn answered(&mut self, serial: Serial, pid: u32) -> Option<usize> {
        let (process, seat) = self.seat_of(serial)?;
        if let Some(engine) = &mut seat.engine {
            engine.pid = Some(pid);
        }
        (seat.ready, seat.away, seat.pause) = (true, None, RETRY_FIRST);
        Some(process)
    }

    /// A prepared engine said something: it can only be why it ends.
    pub(super) fn said(&mut self, serial: Serial, report: Report) {
        match self.seat_of(serial) {
            Some((_, seat)) if matches!(report, Report::Failed { .. }) => seat.died.get_or_insert_default().report = Some(report),
            _ => tracing::warn!(?report, "an engine said something before it was started"),
        }
    }

    /// A prepared engine has ended by itself (`exited`), or its pod is not there (any more).
    pub(super) fn lost(&mut self, serial: Serial, how: String, exited: bool, now: Instant, wall: i64) -> Loss {
        let Some((process, seat)) = self.seat_of(serial) else { return Loss::Other };
        let answered = std::mem::take(&mut seat.ready);
        seat.engine = None;
        if exited {
            seat.died.get_or_insert_default().how = how;
            return Loss::Died;
        }
        seat.died = None;
        seat.pause = if answered { RETRY_FIRST } else { (seat.pause * 2).min(RETRY_LONGEST) };
        seat.retry_at = now + seat.pause;
        let since = seat.away.take().map_or(wall, |(since, _)| since);
        seat.away = Some((since, how));
        Loss::Away(process)
    }

    /// Gives the engine of a member away: it is started now. Or tells why there is none.
    pub(super) fn take(&mut self, process: usize) -> Result<Engine, Box<Died>> {
        let Some(seat) = self.seats.get_mut(process) else { return Err(Box::default()) };
        seat.ready = false;
        match (seat.engine.take(), seat.died.take()) {
            (Some(engine), None) => Ok(engine),
            (_, Some(died)) => Err(Box::new(died)),
            (None, None) => Err(Box::new(Died { report: None, how: "was not prepared".to_owned() })),
        }
    }

    /// Process ids of the prepared engines that are children of this process.
    pub(super) fn child_pids(&self) -> impl Iterator<Item = u32> {
        self.seats.iter().filter_map(|seat| seat.engine.as_ref()?.child_pid())
    }

    /// The pods, as people see them.
    pub(super) fn views(&self) -> Vec<MemberView> {
        let view = |seat: &Seat| {
            let address = match &seat.member.place {
                Place::Here(_) => seat.member.address,
                Place::There(peer) => peer.address,
            };
            let (away_since, reason) = seat.away.clone().unzip();
            Some(MemberView { pod: seat.member.pod.clone()?, address: address.to_string(), away_since, reason })
        };
        self.seats.iter().filter_map(view).collect()
    }

    fn seat_of(&mut self, serial: Serial) -> Option<(usize, &mut Seat)> {
        (0..).zip(&mut self.seats).find(|(_, seat)| seat.engine.as_ref().is_some_and(|engine| engine.serial == serial))
    }
}

impl Seat {
    fn new(member: Member) -> Self {
        let retry_at = Instant::now();
        Self { member, engine: None, ready: false, died: None, retry_at, pause: RETRY_FIRST, away: None }
    }

    fn is_free(&self, again: bool) -> bool {
        self.engine.is_none() && (again || self.died.is_none())
    }

    fn is_ready(&self) -> bool {
        self.ready || matches!(self.member.place, Place::Here(_))
    }
}
