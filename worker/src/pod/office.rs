//! [io] The pod's main task: takes assignments and requests, runs a supervisor while this pod coordinates, and leaves.
//!
//! The order of things that must survive a crash: an assignment is kept before anything acts on it, and the end of its
//! run before anybody else is told; a container that comes back goes on with what is kept, and only if its run has not
//! ended. A run that a store refused has not ended: the container does, because its credentials are read at its start,
//! and goes on with those it finds then.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rheos_control_api::{Assignment, Failure, JobView, Judgement, Phase, SavepointView, judge};
use rheos_dataflow::error::ErrorKind;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::pod::facts::Facts;
use crate::pod::keep::{End, Keep, Kept};
use crate::pod::relay::{Event, Relay};
use crate::supervise::decide::{Outcome, STOP_GRACE};
use crate::supervise::driver::{Config, Ended, Supervisor};
use crate::supervise::handle::{Desk, Handle, Refusal, Request};
use crate::supervise::mint::StoreMint;
use crate::supervise::roster::Target;

/// After the deadline of a leave, killed engines may take this long to be gone.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// What the task is given.
pub struct Office {
    facts: Arc<Facts>,
    keep: Keep,
    desk: Desk,
    relay: Relay,
    events: mpsc::UnboundedReceiver<Event>,
    termination_log: PathBuf,
    running: Option<Running>,
    /// To be carried out when the run has ended.
    next: Option<Assignment>,
    leave: Option<Leave>,
    /// A store refused what this container was started with, in these words.
    denied: Option<String>,
}

/// A supervisor at work.
struct Running {
    handle: Handle,
    task: JoinHandle<Ended>,
    state_id: String,
}

/// This pod goes.
struct Leave {
    asked: Vec<oneshot::Sender<Result<(), Refusal>>>,
    /// When the checkpoint must be there, then when killed engines must be gone; none: nothing runs any more.
    deadline: Option<Instant>,
    killed: bool,
    /// The process ends with it.
    for_good: bool,
}

impl Office {
    /// Shows the pod at the desk. Nothing happens before [`Office::run`].
    pub fn new(
        facts: Arc<Facts>,
        keep: Keep,
        desk: Desk,
        relay: (Relay, mpsc::UnboundedReceiver<Event>),
        termination_log: PathBuf,
    ) -> Self {
        let (relay, events) = relay;
        let office = Self { facts, keep, desk, relay, events, termination_log, running: None, next: None, leave: None, denied: None };
        let kept = office.keep.kept().cloned();
        if let Some(target) = kept.as_ref().and_then(|kept| office.facts.target(&kept.assignment).ok()) {
            // What was kept can be read, also of a job that has ended.
            office.desk.results.open(&target.job);
            if let Some(end) = kept.as_ref().and_then(|kept| kept.end.as_ref()).filter(|end| end.state != Phase::Suspended) {
                office.desk.results.end(format!("{:?}", end.state));
            }
        }
        office.show(|view| {
            let spec = &office.facts.job.job;
            view.namespace = office.facts.namespace().to_owned();
            view.name = spec.name.to_string();
            view.uid.clone_from(&office.facts.uid);
            view.max_parallelism = spec.max_parallelism;
            if let Some(kept) = kept {
                (view.assignment, view.coordinator) = (Some(kept.assignment.version), true);
                view.uid = kept.assignment.state_id;
                view.parallelism = kept.assignment.parallelism;
                let end = kept.end.unwrap_or(End { state: Phase::Created, failure: None });
                (view.state, view.failure) = (end.state, end.failure);
            }
        });
        office
    }

    /// Works until a signal has ended it and no engine is left.
    ///
    /// # Errors
    /// A store refused the credentials, in these words.
    pub async fn run(mut self, mut signals: mpsc::Receiver<()>) -> Result<(), String> {
        if let Some(Kept { assignment, end: None, .. }) = self.keep.kept().cloned() {
            tracing::info!(assignment = assignment.version, "this pod goes on with the assignment that it was given before");
            self.start(&assignment);
        }
        loop {
            let deadline = self.leave.as_ref().and_then(|leave| leave.deadline);
            tokio::select! {
                Some(request) = self.desk.requests.recv() => self.request(request).await,
                Some(event) = self.events.recv() => self.event(event).await,
                ended = over(&mut self.running) => self.ended(ended),
                signal = signals.recv() => {
                    if signal.is_none() || self.leave.as_ref().is_some_and(|leave| leave.for_good) {
                        return Ok(()); // once more: at once
                    }
                    self.begin_leave(None).await;
                }
                () = until(deadline) => {
                    if self.give_up_leaving().await {
                        return Ok(());
                    }
                }
            }
            if self.running.is_none() && self.relay.engines() == 0 && self.left() {
                return Ok(());
            }
            if let Some(denied) = self.denied.take() {
                return Err(denied);
            }
        }
    }

    async fn request(&mut self, request: Request) {
        match request {
            Request::Assign(assignment, reply) => {
                let answer = self.assign(*assignment).await;
                let _ = reply.send(answer); // the asker may have gone
            }
            Request::Leave(reply) => self.begin_leave(Some(reply)).await,
            Request::Savepoint(id, reply) => self.savepoint(id, reply),
            Request::Stop => {
                self.next = None;
                if let Some(running) = &self.running {
                    running.handle.stop().await;
                }
            }
            Request::Abort | Request::Fence(_) | Request::Known(..) => {}
            Request::Retarget(_, reply) => drop(reply.send(Err(Refusal::Conflict("a pod is given assignments".to_owned())))),
        }
    }

    /// Takes a savepoint, or finds the one that an earlier life of this job took under the same id. In a task of its own:
    /// neither the store nor the supervisor keeps this one waiting.
    fn savepoint(&self, id: String, reply: oneshot::Sender<Result<SavepointView, String>>) {
        let handle = self.running.as_ref().map(|running| running.handle.clone());
        let known = handle.is_some() && self.desk.view.borrow().savepoints.contains_key(&id);
        let target = self.keep.kept().and_then(|kept| self.facts.target(&kept.assignment).ok()).filter(|_| !known);
        tokio::spawn(async move {
            let store = target.and_then(|target| StoreMint::new(&target.job, None, false).ok());
            let found = match store {
                Some(store) => store.find_savepoint(&id).await,
                None => None,
            };
            let answer = match (handle, found) {
                (Some(handle), Some(found)) => {
                    handle.know(id, found.clone()).await;
                    Ok(found)
                }
                (None, Some(found)) => Ok(found),
                (Some(handle), None) => handle.savepoint(id).await,
                (None, None) => Err("the job does not run in this pod".to_owned()),
            };
            let _ = reply.send(answer); // the asker may have gone
        });
    }

    /// Takes an assignment, or says why not.
    async fn assign(&mut self, assignment: Assignment) -> Result<(), Refusal> {
        if self.leave.is_some() {
            return Err(Refusal::Conflict("this pod is leaving".to_owned()));
        }
        let version = assignment.version;
        let stale = |known: u64| Refusal::Conflict(format!("version {version} is stale: {known} is in force"));
        match judge(self.keep.kept().map(|kept| &kept.assignment), &assignment) {
            Judgement::Known => return Ok(()),
            Judgement::Stale { known } => return Err(stale(known)),
            Judgement::Conflict => {
                return Err(Refusal::Conflict(format!("version {version} is in force and says something else: use a higher one")));
            }
            Judgement::Take => {}
        }
        let target = self.facts.target(&assignment).map_err(Refusal::Invalid)?;
        self.relay.claim(version).map_err(stale)?;
        self.keep.keep(Kept::new(assignment.clone())).map_err(Refusal::Failed)?;
        tracing::info!(assignment = version, parallelism = assignment.parallelism, "a new assignment");
        match &self.running {
            None => self.start(&assignment),
            Some(running) if running.state_id == assignment.state_id && !running.handle.view().stopping => {
                // An error: the run has just ended, and the next one begins with this.
                if running.handle.retarget(target).await.is_err() {
                    self.next = Some(assignment);
                }
            }
            Some(running) => {
                running.handle.stop().await;
                self.next = Some(assignment);
            }
        }
        Ok(())
    }

    /// Begins a run.
    fn start(&mut self, assignment: &Assignment) {
        let begun = self.facts.target(assignment).and_then(|target| self.supervise(assignment, target));
        if let Err(message) = begun {
            let failure = Failure { kind: ErrorKind::User.to_string(), place: "assignment".to_owned(), message };
            self.conclude(Phase::Failed, Some(failure.clone()));
            self.show(|view| {
                (view.assignment, view.coordinator) = (Some(assignment.version), true);
                (view.state, view.failure) = (Phase::Failed, Some(failure));
            });
        }
    }

    fn supervise(&mut self, assignment: &Assignment, target: Target) -> Result<(), String> {
        let from = assignment.restore.as_ref().map(|restore| restore.uri.as_str());
        let mint = StoreMint::new(&target.job, from, true)?;
        let _ = self.relay.claim(assignment.version); // a higher one is met as soon as it matters
        let config = Config { program: self.facts.program.clone(), standby: self.facts.standby, target };
        let (supervisor, handle) = Supervisor::on(config, Arc::new(mint), self.desk.view.clone(), self.desk.results.clone());
        let task = tokio::spawn(supervisor.run());
        self.running = Some(Running { handle, task, state_id: assignment.state_id.clone() });
        Ok(())
    }

    /// A run has ended.
    fn ended(&mut self, ended: Option<Ended>) {
        self.running = None;
        let (state, failure) = match ended.map(|ended| ended.outcome) {
            Some(Outcome::Finished) => (Phase::Finished, None),
            Some(Outcome::Failed(failure)) => (Phase::Failed, Some(failure)),
            Some(Outcome::Suspended | Outcome::Aborted) => (Phase::Suspended, None),
            None => {
                let failure = Failure {
                    kind: ErrorKind::Bug.to_string(),
                    place: "supervisor".to_owned(),
                    message: "it panicked; see the log".to_owned(),
                };
                self.show(|view| (view.state, view.failure) = (Phase::Failed, Some(failure.clone())));
                (Phase::Failed, Some(failure))
            }
        };
        if let Some(next) = self.next.take() {
            self.start(&next);
            return;
        }
        let denied = failure.as_ref().filter(|failure| failure.kind == ErrorKind::Denied.to_string());
        if let Some(failure) = denied {
            self.denied = Some(failure.to_string());
            return;
        }
        // A pod that leaves has stopped its job for itself only: if its container comes back, the job goes on.
        if self.leave.is_none() || state != Phase::Suspended {
            self.conclude(state, failure);
        }
    }

    /// Remembers how the run ended.
    fn conclude(&mut self, state: Phase, failure: Option<Failure>) {
        if let Some(failure) = &failure {
            tracing::error!(%failure, "the job failed");
            super::tell_kubelet(&self.termination_log, &failure.to_string());
        }
        if let Some(kept) = self.keep.kept().cloned()
            && let Err(problem) = self.keep.keep(kept.ended(state, failure))
        {
            tracing::error!(problem, "the end of the run cannot be remembered: it goes on when this container is restarted");
        }
    }

    async fn event(&mut self, event: Event) {
        match (event, &self.running) {
            (Event::Coordinator(newer), Some(running)) => {
                running.handle.fence(format!("a coordinator elsewhere works by assignment {newer}")).await;
            }
            (Event::Denied(message), _) => self.denied = Some(message),
            _ => {}
        }
    }

    async fn begin_leave(&mut self, reply: Option<oneshot::Sender<Result<(), Refusal>>>) {
        let settings = self.keep.kept().map(|kept| Duration::from_millis(kept.assignment.checkpoint.timeout_ms));
        let deadline = Instant::now() + settings.unwrap_or(self.facts.job.job.checkpoint.timeout) + STOP_GRACE;
        let for_good = reply.is_none();
        if let Some(leave) = &mut self.leave {
            leave.for_good |= for_good;
            leave.asked.extend(reply);
            return;
        }
        tracing::info!("this pod leaves: a checkpoint, then the end of its engines");
        self.leave = Some(Leave { asked: reply.into_iter().collect(), deadline: Some(deadline), killed: false, for_good });
        self.next = None;
        self.relay.leave();
        match &self.running {
            Some(running) => drop(running.handle.leave().await),
            None => self.show(|view| view.leaving = true),
        }
    }

    /// The time for a checkpoint is over, or that for the end of what was killed then. True: end as it is.
    async fn give_up_leaving(&mut self) -> bool {
        let Some(leave) = &mut self.leave else { return false };
        if leave.killed {
            tracing::error!("engines are left; they end with the process");
            leave.deadline = None;
            return leave.for_good;
        }
        tracing::warn!("the checkpoint before leaving took too long: engines are killed");
        (leave.killed, leave.deadline) = (true, Some(Instant::now() + KILL_GRACE));
        self.relay.end();
        if let Some(running) = &self.running {
            running.handle.abort().await;
        }
        false
    }

    /// Nothing runs here. True: the process may end.
    fn left(&mut self) -> bool {
        let Some(leave) = &mut self.leave else { return false };
        leave.asked.drain(..).for_each(|asked| drop(asked.send(Ok(()))));
        leave.deadline = None;
        leave.for_good
    }

    /// Changes what is seen while no supervisor shows it.
    fn show(&self, change: impl FnOnce(&mut JobView)) {
        self.desk.view.send_modify(|shown| {
            let mut view = JobView::clone(shown);
            change(&mut view);
            view.version += 1;
            *shown = Arc::new(view);
        });
    }
}

/// The end of the run; `None` when its task panicked.
async fn over(running: &mut Option<Running>) -> Option<Ended> {
    match running {
        Some(running) => (&mut running.task).await.ok(),
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
