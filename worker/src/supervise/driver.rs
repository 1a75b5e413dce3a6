//! [io] Executes what [`super::decide`] decides, for one job.
//!
//! One task owns everything; the outside speaks to it through a [`Handle`]: requests in, the newest [`JobView`] out.
//! The roster is data: here every member is a process of this machine, with a data listener that this process binds
//! once and lends to each generation.
//!
//! Engine processes are started before their generation is minted, and plan meanwhile. Standbys: while a job runs, one
//! more process for each member has been started and has planned. A restart then costs neither.

use std::collections::{BTreeMap, VecDeque};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rheos_control_api::{JobView, Phase, SavepointView, WorkerView};
use rheos_dataflow::error::ErrorKind;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::engine::wire::{Job, Report, Start};
use crate::supervise::decide::{Action, Cause, Input, Life, Minted, Outcome, Rules};
use crate::supervise::mint::Mint;
use crate::supervise::process::{Engine, Notice, Program, Serial};
use crate::supervise::usage;
use crate::supervise::view::{Summary, View};

/// Between two looks at the memory of all engines.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(500);
/// Standbys are made when a generation has run this long: its first rows come first.
const STANDBY_DELAY: Duration = Duration::from_secs(1);
/// After so many standbys that died by themselves no more are made.
const STANDBY_FAILURES: u32 = 3;
/// Requests that may wait.
const REQUEST_LIMIT: usize = 64;
/// Savepoints of one run that are remembered.
const SAVEPOINT_LIMIT: usize = 1_000;
/// At the end, killed processes may take this long to be gone.
const CLEAR_DEADLINE: Duration = Duration::from_secs(10);

/// A member of the roster.
#[derive(Debug)]
pub struct Member {
    /// Where its peers reach it.
    pub address: SocketAddr,
    /// Its data listener, bound and listening.
    pub listener: TcpListener,
}

/// Everything that a supervisor needs.
#[derive(Debug)]
pub struct Config {
    /// What to keep to.
    pub rules: Rules,
    /// How an engine is started.
    pub program: Program,
    /// The job, as engines are told it.
    pub job: Job,
    /// The members, by process index.
    pub roster: Vec<Member>,
    /// Whether to keep standby processes.
    pub standby: bool,
}

/// The way to a running supervisor. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
    view: watch::Receiver<Arc<JobView>>,
}

#[derive(Debug)]
enum Request {
    Stop,
    Abort,
    Savepoint(String, oneshot::Sender<Result<SavepointView, String>>),
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

impl Handle {
    /// The newest view.
    pub fn view(&self) -> Arc<JobView> {
        Arc::clone(&self.view.borrow())
    }

    /// Follows the view.
    pub fn watch(&self) -> watch::Receiver<Arc<JobView>> {
        self.view.clone()
    }

    /// Asks for a stop with a checkpoint. False: the supervisor has ended.
    pub async fn stop(&self) -> bool {
        self.requests.send(Request::Stop).await.is_ok()
    }

    /// Asks for an end at once. False: the supervisor has ended.
    pub async fn abort(&self) -> bool {
        self.requests.send(Request::Abort).await.is_ok()
    }

    /// Asks for a savepoint, or for the state of one that was asked for before.
    ///
    /// # Errors
    /// Too many savepoints, or the supervisor has ended.
    pub async fn savepoint(&self, id: String) -> Result<SavepointView, String> {
        let (reply, answer) = oneshot::channel();
        let gone = || "the job has ended".to_owned();
        self.requests.send(Request::Savepoint(id, reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

/// Both ends of a queue. Bounded by who sends: engines a report at a time, minting one answer.
type Channel<T> = (mpsc::UnboundedSender<T>, mpsc::UnboundedReceiver<T>);

/// A supervisor, and the way to it. Nothing happens before [`Supervisor::run`].
pub struct Supervisor {
    config: Config,
    mint: Arc<dyn Mint>,
    began: Instant,
    life: Life,
    view: View,
    publish: watch::Sender<Arc<JobView>>,
    requests: mpsc::Receiver<Request>,
    notices: Channel<Notice>,
    minted: Channel<Result<Minted, Cause>>,
    inputs: VecDeque<Input>,
    /// Engines of the current generation, by process index.
    engines: BTreeMap<usize, Engine>,
    standbys: Vec<Engine>,
    standby_failures: u32,
    serials: Serial,
    living: u64,
    running_since: Option<Instant>,
    sampled: Instant,
    peak_rss: u64,
}

impl Supervisor {
    /// A supervisor of a job.
    pub fn new(config: Config, mint: Arc<dyn Mint>) -> (Self, Handle) {
        let view = View::new(JobView {
            namespace: config.job.namespace.clone(),
            name: config.job.job.clone(),
            uid: config.job.uid.clone(),
            parallelism: config.job.parallelism,
            max_parallelism: config.job.max_parallelism,
            ..JobView::default()
        });
        let (publish, watch) = watch::channel(Arc::new(view.job().clone()));
        let (sender, requests) = mpsc::channel(REQUEST_LIMIT);
        let now = Instant::now();
        let supervisor = Self {
            life: Life::new(config.rules.clone()),
            view,
            publish,
            requests,
            notices: mpsc::unbounded_channel(),
            minted: mpsc::unbounded_channel(),
            inputs: VecDeque::from([Input::Time]),
            engines: BTreeMap::new(),
            standbys: Vec::new(),
            standby_failures: 0,
            serials: 0,
            living: 0,
            running_since: None,
            sampled: now,
            peak_rss: 0,
            began: now,
            config,
            mint,
        };
        (supervisor, Handle { requests: sender, view: watch })
    }

    /// Runs the job to its end.
    pub async fn run(mut self) -> Ended {
        loop {
            while let Some(input) = self.inputs.pop_front() {
                let now = self.began.elapsed();
                if let Input::Report { process, report } = &input {
                    self.view.report(*process, report, now, wall_millis());
                }
                let was_failing = self.life.restart_count;
                let actions = self.life.handle(input, now);
                if self.life.restart_count > was_failing {
                    self.lost();
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
        let standby = self.running_since.filter(|_| self.wants_standbys()).map(|since| since + STANDBY_DELAY);
        let sample = (!self.engines.is_empty()).then(|| self.sampled + SAMPLE_INTERVAL);
        let until = [wake, standby, sample].into_iter().flatten().min();
        let sleep = async {
            match until {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(notice) = self.notices.1.recv() => self.notice(notice),
            Some(result) = self.minted.1.recv() => self.inputs.push_back(Input::Minted(result)),
            Some(request) = self.requests.recv() => self.request(request),
            () = sleep => self.inputs.push_back(Input::Time),
        }
    }

    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Report(serial, report) => {
                if let Some(process) = self.process_of(serial) {
                    if matches!(report, Report::Ended { .. }) {
                        self.sample();
                    }
                    self.inputs.push_back(Input::Report { process, report });
                } else {
                    tracing::warn!(?report, "a standby said something before it was started");
                }
            }
            Notice::Exited(serial, how) => {
                self.living -= 1;
                if let Some(process) = self.process_of(serial) {
                    self.engines.remove(&process);
                    self.inputs.push_back(Input::Exited { process, how });
                } else if let Some(index) = self.standbys.iter().position(|standby| standby.serial == serial) {
                    self.standbys.remove(index);
                    self.standby_failures += 1;
                    tracing::warn!(how, "a standby engine process ended");
                }
            }
        }
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Stop => self.inputs.push_back(Input::Stop),
            Request::Abort => self.inputs.push_back(Input::Abort),
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
        }
    }

    /// Does one thing. Gives the outcome when nothing is left to do.
    fn execute(&mut self, action: Action) -> Option<Outcome> {
        match action {
            Action::Mint => {
                self.prepare_engines();
                let (mint, sender) = (Arc::clone(&self.mint), self.minted.0.clone());
                tokio::spawn(async move {
                    let _ = sender.send(mint.mint().await);
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

    /// Starts the next generation's processes, so that they plan while the last one is cleared and this one minted.
    /// What cannot be started now is tried again, and told, at the launch.
    fn prepare_engines(&mut self) {
        while self.standbys.len() < self.config.roster.len() {
            match self.spawn() {
                Ok(engine) => self.standbys.push(engine),
                Err(_) => return,
            }
        }
    }

    fn launch(&mut self, minted: Minted) {
        let addresses: Vec<_> = self.config.roster.iter().map(|member| member.address).collect();
        let mut workers = Vec::new();
        for process in 0..self.config.roster.len() {
            let start = Start { generation: minted.generation, start_record: minted.start_record, process, addresses: addresses.clone() };
            let launched = match self.standbys.pop() {
                Some(engine) => Ok(engine),
                None => self.spawn(),
            };
            let launched = launched.and_then(|engine| engine.start(&start, &self.config.roster[process].listener).map(|()| engine));
            let address = self.config.roster[process].address.to_string();
            let mut worker = WorkerView { process, address, ..WorkerView::default() };
            match launched {
                Ok(engine) => {
                    worker.pid = Some(engine.pid);
                    self.engines.insert(process, engine);
                }
                Err(error) => {
                    let how = format!("cannot be started: {error}");
                    self.inputs.push_back(Input::Exited { process, how });
                }
            }
            workers.push(worker);
        }
        tracing::info!(generation = minted.generation, start_record = minted.start_record, "generation starts");
        self.view.launched(minted.generation, workers);
    }

    fn spawn(&mut self) -> std::io::Result<Engine> {
        self.serials += 1;
        let engine = Engine::spawn(&self.config.program, &self.config.job, self.serials, self.notices.0.clone())?;
        self.living += 1;
        Ok(engine)
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
        let pids: Vec<Option<u32>> = (0..self.config.roster.len()).map(|p| self.engines.get(&p).map(|engine| engine.pid)).collect();
        self.view.change(|job| {
            job.state = state;
            job.stopping = life.is_stopping();
            job.restarts.count = life.restart_count;
            job.restarts.last_cause = life.last_cause.as_ref().map(ToString::to_string);
            job.restarts.timings = life.timings[timings..].to_vec();
            for (worker, pid) in job.workers.iter_mut().zip(pids) {
                worker.pid = pid;
            }
        });
        self.publish.send_replace(Arc::new(self.view.job().clone()));
    }

    fn wants_standbys(&self) -> bool {
        self.config.standby
            && self.standby_failures < STANDBY_FAILURES
            && self.standbys.len() < self.config.roster.len()
            && !self.life.is_stopping()
    }

    fn housekeep(&mut self) {
        if self.sampled.elapsed() >= SAMPLE_INTERVAL {
            self.sample();
        }
        if self.wants_standbys() && self.running_since.is_some_and(|since| since.elapsed() >= STANDBY_DELAY) {
            match self.spawn() {
                Ok(engine) => self.standbys.push(engine),
                Err(error) => {
                    self.standby_failures += 1;
                    tracing::warn!(%error, "cannot start a standby engine process");
                }
            }
        }
    }

    fn sample(&mut self) {
        self.sampled = Instant::now();
        let peaks: BTreeMap<usize, u64> =
            self.engines.iter().map(|(process, engine)| (*process, usage::peak_rss_bytes(engine.pid))).collect();
        let standbys: u64 = self.standbys.iter().map(|standby| usage::peak_rss_bytes(standby.pid)).sum();
        self.peak_rss = self.peak_rss.max(peaks.values().sum::<u64>() + standbys);
        self.view.measured(&peaks);
    }

    /// Waits until every process is gone, and sums up.
    async fn finish(mut self, outcome: Outcome) -> Ended {
        self.standbys.clear();
        self.engines.clear();
        while self.living > 0 {
            match timeout(CLEAR_DEADLINE, self.notices.1.recv()).await {
                Ok(Some(Notice::Exited(..))) => self.living -= 1,
                Ok(Some(Notice::Report(..))) => {}
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
        self.publish.send_replace(Arc::clone(&view));
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
