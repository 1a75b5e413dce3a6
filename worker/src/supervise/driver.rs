//! [io] Executes what [`super::decide`] decides, for one job.
//!
//! One task owns everything; the outside speaks to it through a [`Handle`]: requests in, the newest [`JobView`] out.
//! What is run and where is a [`Target`], which may be exchanged while the job runs.
//!
//! Engines are started before their generation is minted, and plan meanwhile. Standbys: while a job runs, one more
//! engine for each member has been started and has planned. A restart then costs neither.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rheos_control_api::{JobView, Phase, SavepointView, WorkerView};
use rheos_dataflow::error::ErrorKind;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::engine::wire::{Command, Report, Start};
use crate::results::Results;
use crate::supervise::decide::{Action, Cause, Input, Life, Minted, Outcome};
use crate::supervise::handle::{self, Desk, Handle, Refusal, Request};
use crate::supervise::mint::Mint;
use crate::supervise::process::{Engine, Notice, Notices, Program, Serial};
use crate::supervise::roster::{Change, Loss, Seats, Target};
use crate::supervise::usage;
use crate::supervise::view::{Summary, View};

/// Between two looks at the memory of all engines.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(500);
/// Standbys are made when a generation has run this long: its first rows come first.
const STANDBY_DELAY: Duration = Duration::from_secs(1);
/// After so many standbys that died by themselves no more are made.
const STANDBY_FAILURES: u32 = 3;
/// Savepoints of one run that are remembered.
const SAVEPOINT_LIMIT: usize = 1_000;
/// At the end, killed processes may take this long to be gone.
const CLEAR_DEADLINE: Duration = Duration::from_secs(10);

/// Everything that a supervisor needs.
#[derive(Debug)]
pub struct Config {
    /// How an engine is started here.
    pub program: Program,
    /// Whether to keep standby engines.
    pub standby: bool,
    /// What to run, and where.
    pub target: Target,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// In figures.
    pub summary: Summary,
    /// The last view.
    pub view: Arc<JobView>,
}

/// A supervisor, and the way to it. Nothing happens before [`Supervisor::run`].
pub struct Supervisor {
    target: Target,
    standby: bool,
    mint: Arc<dyn Mint>,
    began: Instant,
    life: Life,
    view: View,
    desk: Desk,
    notices: (Notices, mpsc::UnboundedReceiver<Notice>),
    /// Bounded by what is asked: one answer a mint.
    minted: (mpsc::UnboundedSender<Minting>, mpsc::UnboundedReceiver<Minting>),
    inputs: VecDeque<Input>,
    /// Engines of the current generation, by process index.
    engines: BTreeMap<usize, Engine>,
    /// Of the next one.
    seats: Seats,
    standby_failures: u32,
    running_since: Option<Instant>,
    sampled: Instant,
    peak_rss: u64,
}

/// The answer to a mint.
type Minting = Result<Minted, Cause>;

impl Supervisor {
    /// A supervisor of a job.
    pub fn new(config: Config, mint: Arc<dyn Mint>) -> (Self, Handle) {
        Self::over(config, mint, handle::open())
    }

    /// The same, that goes on with a view and results which showed something before.
    pub fn on(config: Config, mint: Arc<dyn Mint>, view: watch::Sender<Arc<JobView>>, results: Results) -> (Self, Handle) {
        Self::over(config, mint, handle::open_on(view, results))
    }

    fn over(config: Config, mint: Arc<dyn Mint>, (handle, desk): (Handle, Desk)) -> (Self, Handle) {
        let Config { program, standby, target } = config;
        let job = &target.job;
        let view = View::new(JobView {
            version: desk.view.borrow().version + 1,
            namespace: job.namespace.clone(),
            name: job.job.clone(),
            uid: job.uid.clone(),
            parallelism: job.parallelism,
            max_parallelism: job.max_parallelism,
            assignment: target.assignment,
            coordinator: target.assignment.is_some(),
            ..JobView::default()
        });
        desk.view.send_replace(Arc::new(view.job().clone()));
        desk.results.open(job);
        let now = Instant::now();
        let notices = mpsc::unbounded_channel();
        let supervisor = Self {
            life: Life::new(target.rules.clone()),
            view,
            desk,
            seats: Seats::new(program, &target, notices.0.clone()),
            notices,
            minted: mpsc::unbounded_channel(),
            inputs: VecDeque::from([Input::Time]),
            engines: BTreeMap::new(),
            standby_failures: 0,
            running_since: None,
            sampled: now,
            peak_rss: 0,
            began: now,
            target,
            standby,
            mint,
        };
        (supervisor, handle)
    }

    /// Runs the job to its end.
    pub async fn run(mut self) -> Ended {
        loop {
            while let Some(input) = self.inputs.pop_front() {
                let now = self.began.elapsed();
                if let Input::Report { process, report } = &input {
                    self.view.report(*process, report, now, wall_millis());
                }
                let (restarts, moves) = (self.life.restart_count, self.life.move_count);
                let actions = self.life.handle(input, now);
                if self.life.restart_count > restarts {
                    self.lost();
                }
                if self.life.move_count > moves {
                    self.view.drained();
                }
                for action in actions {
                    if let Some(outcome) = self.execute(action) {
                        return self.finish(outcome).await;
                    }
                }
            }
            self.show();
            self.housekeep();
            self.wait().await;
        }
    }

    /// Waits for the next thing to happen.
    async fn wait(&mut self) {
        let wake = self.life.wake_at().map(|at| self.began + at);
        let prepare = self.prepare_at();
        let sample = (!self.engines.is_empty()).then(|| self.sampled + SAMPLE_INTERVAL);
        let until = [wake, prepare, sample].into_iter().flatten().min();
        let sleep = async {
            match until {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(notice) = self.notices.1.recv() => self.notice(notice),
            Some(result) = self.minted.1.recv() => self.inputs.push_back(Input::Minted(result)),
            Some(request) = self.desk.requests.recv() => self.request(request),
            () = sleep => self.inputs.push_back(Input::Time),
        }
    }

    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Ready(serial, pid) => {
                if let Some(process) = self.seats.answered(serial, pid) {
                    self.inputs.push_back(Input::Here(process));
                }
            }
            // Durable, whoever says it.
            Notice::Report(_, Report::Results(announcement)) => self.desk.results.announce(announcement),
            Notice::Report(serial, report) => match self.process_of(serial) {
                Some(process) => {
                    if matches!(report, Report::Ended { .. }) {
                        self.sample();
                    }
                    self.inputs.push_back(Input::Report { process, report });
                }
                None => self.seats.said(serial, report),
            },
            Notice::Leaving(serial) => {
                if self.process_of(serial).is_some() && !self.life.is_between() {
                    tracing::info!("a member leaves: the generation drains");
                    self.move_on();
                }
            }
            Notice::Replaced(serial, newer) => {
                self.seats.living -= 1;
                self.inputs.push_back(Input::Fenced(format!("pods of this job work by assignment {newer}")));
                self.seats.lost(serial, String::new(), false, Instant::now(), wall_millis());
            }
            Notice::Exited(serial, how) => self.gone(serial, how, true),
            Notice::Lost(serial, how) => self.gone(serial, how, false),
        }
    }

    /// An engine is gone; `exited`: and its pod is not.
    fn gone(&mut self, serial: Serial, how: String, exited: bool) {
        self.seats.living -= 1;
        if let Some(process) = self.process_of(serial) {
            self.engines.remove(&process);
            self.inputs.push_back(Input::Exited { process, how });
            return;
        }
        match self.seats.lost(serial, how.clone(), exited, Instant::now(), wall_millis()) {
            Loss::Other => {}
            Loss::Away(process) => {
                tracing::debug!(process, how, "a member is away");
                self.inputs.push_back(Input::Away(process));
            }
            Loss::Died => {
                self.standby_failures += 1;
                tracing::warn!(how, "an engine ended before it was started");
            }
        }
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Stop => self.inputs.push_back(Input::Stop),
            Request::Abort => self.inputs.push_back(Input::Abort),
            Request::Fence(message) => self.inputs.push_back(Input::Fenced(message)),
            Request::Savepoint(id, reply) => {
                let savepoints = &self.view.job().savepoints;
                let known = savepoints.get(&id).filter(|known| !matches!(known, SavepointView::Failed { .. })).cloned();
                let answer = match known {
                    Some(known) => Ok(known),
                    None if savepoints.len() >= SAVEPOINT_LIMIT => Err(format!("a run takes at most {SAVEPOINT_LIMIT} savepoints")),
                    None => {
                        self.view.change(|job| {
                            job.savepoints.insert(id.clone(), SavepointView::Pending);
                        });
                        self.inputs.push_back(Input::Savepoint(id));
                        Ok(SavepointView::Pending)
                    }
                };
                let _ = reply.send(answer); // the asker may have gone
            }
            Request::Known(id, savepoint) => self.view.change(|job| {
                job.savepoints.insert(id, savepoint);
            }),
            Request::Retarget(target, reply) => {
                self.retarget(*target);
                let _ = reply.send(Ok(()));
            }
            Request::Leave(reply) if self.target.assignment.is_some() => {
                self.view.change(|job| job.leaving = true);
                self.inputs.push_back(Input::Stop);
                let _ = reply.send(Ok(()));
            }
            Request::Assign(_, reply) | Request::Leave(reply) => {
                let _ = reply.send(Err(Refusal::Conflict("this is a run on one machine, and no pod of a cluster".to_owned())));
            }
        }
    }

    /// Goes over to another target.
    fn retarget(&mut self, target: Target) {
        let change = self.target.change(&target);
        let settings = Command::Settings { pacing: target.job.pacing.clone(), retain: target.job.retain };
        let settled = target.job == self.target.job;
        self.target = target;
        self.desk.results.open(&self.target.job);
        let (rules, job) = (&self.target.rules, &self.target.job);
        self.inputs.push_back(Input::Policy(rules.restart, rules.stop_deadline));
        self.view.change(|view| {
            view.assignment = self.target.assignment;
            view.parallelism = job.parallelism;
        });
        tracing::info!(assignment = self.target.assignment, parallelism = job.parallelism, ?change, "another target");
        if change == Change::Settings && (settled || self.life.is_running()) {
            self.seats.renew(&self.target);
            if let Some(engine) = self.engines.get(&0).filter(|_| !settled) {
                engine.send(&settings);
            }
        } else {
            self.seats.fill(&self.target);
            self.move_on();
        }
        self.show(); // who asked is answered when the view shows it
    }

    /// Lets the generation drain, for one of the target as it is now.
    fn move_on(&mut self) {
        self.inputs.push_back(Input::Move { members: self.seats.len(), away: self.seats.away() });
    }

    /// Does one thing. Gives the outcome when nothing is left to do.
    fn execute(&mut self, action: Action) -> Option<Outcome> {
        match action {
            Action::Mint => {
                self.seats.prepare(Instant::now(), true);
                self.inputs.extend(self.seats.away().into_iter().map(Input::Away));
                let (mint, sender) = (Arc::clone(&self.mint), self.minted.0.clone());
                let order = self.target.assignment.unwrap_or_default();
                tokio::spawn(async move {
                    let _ = sender.send(mint.mint(order).await);
                });
            }
            Action::Launch(minted) => self.launch(minted),
            Action::Send(process, command) => {
                if let Some(engine) = self.engines.get(&process) {
                    engine.send(&command);
                }
            }
            Action::Kill(process) => {
                if let Some(engine) = self.engines.get(&process) {
                    engine.kill();
                }
            }
            Action::SavepointFailed(id, reason) => self.view.change(|job| {
                job.savepoints.insert(id, SavepointView::Failed { reason });
            }),
            Action::Finish(outcome) => return Some(outcome),
        }
        None
    }

    fn launch(&mut self, minted: Minted) {
        let addresses = self.seats.addresses();
        let mut workers = Vec::new();
        for process in 0..addresses.len() {
            let start = Start { generation: minted.generation, start_record: minted.start_record, process, addresses: addresses.clone() };
            let address = addresses[process].to_string();
            let mut worker = WorkerView { process, address, ..WorkerView::default() };
            match self.seats.take(process) {
                Ok(engine) => {
                    if let Err(error) = engine.start(&start) {
                        tracing::warn!(%error, "an engine cannot be given its data listener");
                        engine.kill();
                    }
                    worker.pid = engine.pid;
                    self.engines.insert(process, engine);
                }
                Err(died) => {
                    self.inputs.extend(died.report.map(|report| Input::Report { process, report }));
                    self.inputs.push_back(Input::Exited { process, how: died.how });
                }
            }
            workers.push(worker);
        }
        tracing::info!(generation = minted.generation, start_record = minted.start_record, "generation starts");
        self.view.launched(minted.generation, std::mem::take(&mut self.life.planned), workers);
    }

    fn process_of(&self, serial: Serial) -> Option<usize> {
        self.engines.iter().find(|(_, engine)| engine.serial == serial).map(|(process, _)| *process)
    }

    fn lost(&mut self) {
        self.view.lost();
        if let Some(cause) = &self.life.last_cause {
            tracing::warn!(generation = self.view.job().generation, restart = self.life.restart_count, cause = %cause, "generation lost");
        }
    }

    /// Brings the view up to date and publishes it.
    fn show(&mut self) {
        let life = &self.life;
        let begun = self.view.job().generation > 0;
        let state = match (life.is_running(), life.is_failing(), begun) {
            (true, ..) => Phase::Running,
            (false, true, _) => Phase::Failing,
            (false, false, true) => Phase::Deploying,
            (false, false, false) => Phase::Created,
        };
        if state == Phase::Running {
            self.running_since.get_or_insert_with(Instant::now);
        } else {
            self.running_since = None;
        }
        let timings = life.timings.len().saturating_sub(rheos_control_api::limits::HISTORY_LIMIT);
        let workers = self.view.job().workers.len();
        let pids: Vec<Option<u32>> = (0..workers).map(|process| self.engines.get(&process).and_then(|engine| engine.pid)).collect();
        let members = self.seats.views();
        self.view.change(|job| {
            job.state = state;
            job.stopping = life.is_stopping();
            job.members = members;
            job.restarts.count = life.restart_count;
            job.restarts.last_cause = life.last_cause.as_ref().map(ToString::to_string);
            job.restarts.timings = life.timings[timings..].to_vec();
            for (worker, pid) in job.workers.iter_mut().zip(pids) {
                worker.pid = pid;
            }
        });
        self.desk.view.send_replace(Arc::new(self.view.job().clone()));
    }

    /// When the next engine is to be prepared.
    fn prepare_at(&self) -> Option<Instant> {
        if self.life.is_between() {
            return self.seats.free_at(false);
        }
        let wanted = self.standby && self.standby_failures < STANDBY_FAILURES && !self.life.is_stopping();
        let since = self.running_since.filter(|_| wanted)?;
        self.seats.free_at(true).map(|free| free.max(since + STANDBY_DELAY))
    }

    fn housekeep(&mut self) {
        if self.sampled.elapsed() >= SAMPLE_INTERVAL {
            self.sample();
        }
        let now = Instant::now();
        if self.prepare_at().is_none_or(|at| at > now) {
            return;
        }
        if self.life.is_between() {
            self.seats.prepare(now, false);
        } else if self.seats.prepare_one(now, true) == Some(false) {
            self.standby_failures += 1;
            tracing::warn!("cannot start a standby engine");
        }
    }

    fn sample(&mut self) {
        self.sampled = Instant::now();
        let children = self.engines.iter().filter_map(|(process, engine)| Some((*process, engine.child_pid()?)));
        let peaks: BTreeMap<usize, u64> = children.map(|(process, pid)| (process, usage::peak_rss_bytes(pid))).collect();
        let standbys: u64 = self.seats.child_pids().map(usage::peak_rss_bytes).sum();
        self.peak_rss = self.peak_rss.max(peaks.values().sum::<u64>() + standbys);
        self.view.measured(&peaks);
    }

    /// Waits until every process is gone, and sums up.
    async fn finish(mut self, outcome: Outcome) -> Ended {
        self.seats.clear();
        self.engines.clear();
        while self.seats.living > 0 {
            match timeout(CLEAR_DEADLINE, self.notices.1.recv()).await {
                Ok(Some(Notice::Exited(..) | Notice::Lost(..) | Notice::Replaced(..))) => self.seats.living -= 1,
                Ok(Some(Notice::Report(..) | Notice::Ready(..) | Notice::Leaving(..))) => {}
                Ok(None) | Err(_) => break,
            }
        }
        let mut summary = self.view.summary(&outcome);
        summary.restarts = self.life.restart_count;
        summary.restart_ms = self.life.timings.iter().filter_map(|timing| timing.first_row_ms).collect();
        summary.wall_seconds = self.began.elapsed().as_secs_f64();
        summary.cpu_seconds = usage::cpu_seconds();
        summary.peak_rss_bytes = self.peak_rss + usage::peak_rss_bytes(std::process::id());
        let failure = match &outcome {
            Outcome::Failed(failure) => Some(failure.clone()),
            Outcome::Finished | Outcome::Suspended | Outcome::Aborted => None,
        };
        match &failure {
            Some(failure) if failure.kind == ErrorKind::Fenced.to_string() => self.desk.results.close(failure.message.clone()),
            _ if matches!(summary.state, Phase::Finished | Phase::Failed) => self.desk.results.end(format!("{:?}", summary.state)),
            _ => {}
        }
        self.view.change(|job| {
            job.state = summary.state;
            job.failure = failure;
            job.restarts.count = summary.restarts;
            for worker in &mut job.workers {
                worker.pid = None;
                worker.running = false;
            }
        });
        let view = Arc::new(self.view.job().clone());
        self.desk.view.send_replace(Arc::clone(&view));
        Ended { outcome, summary, view }
    }
}

/// Milliseconds since 1970.
pub fn wall_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A cause that another try may help.
pub fn transient(place: &str, message: impl std::fmt::Display) -> Cause {
    cause(place, ErrorKind::Transient, message, true)
}

/// A cause of a kind.
pub fn cause(place: &str, kind: ErrorKind, message: impl std::fmt::Display, restartable: bool) -> Cause {
    let failure = rheos_control_api::Failure { kind: kind.to_string(), place: place.to_owned(), message: message.to_string() };
    Cause { failure, restartable }
}
