//! [io] The way to a running job: requests in, the newest view out. What the admin API and signals speak to.

use std::sync::Arc;

use rheos_control_api::{Assignment, JobView, SavepointView};
use tokio::sync::{mpsc, oneshot, watch};

use crate::results::Results;
use crate::supervise::roster::Target;

/// Requests that may wait.
const REQUEST_LIMIT: usize = 64;

/// The way to a job. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
    view: watch::Receiver<Arc<JobView>>,
    results: Results,
}

/// What a job is asked.
#[derive(Debug)]
pub enum Request {
    /// Stop with a checkpoint.
    Stop,
    /// End at once.
    Abort,
    /// Take a savepoint under an id.
    Savepoint(String, oneshot::Sender<Result<SavepointView, String>>),
    /// A savepoint under this id is there from before: show it.
    Known(String, SavepointView),
    /// Work by an assignment.
    Assign(Box<Assignment>, oneshot::Sender<Result<(), Refusal>>),
    /// Go over to another target; answered when that is what the view shows.
    Retarget(Box<Target>, oneshot::Sender<Result<(), Refusal>>),
    /// Another coordinator has taken over: end at once, as fenced.
    Fence(String),
    /// This pod goes; answered when no engine runs here any more.
    Leave(oneshot::Sender<Result<(), Refusal>>),
}

/// Why a request changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It makes no sense.
    Invalid(String),
    /// It does not fit what is there.
    Conflict(String),
    /// It could not be carried out.
    Failed(String),
}

/// The other end of a [`Handle`].
#[derive(Debug)]
pub struct Desk {
    /// What is asked.
    pub requests: mpsc::Receiver<Request>,
    /// What is shown.
    pub view: watch::Sender<Arc<JobView>>,
    /// What is pushed to clients.
    pub results: Results,
}

/// A handle and its other end.
pub fn open() -> (Handle, Desk) {
    open_on(watch::Sender::new(Arc::new(JobView::default())), Results::default())
}

/// The same over a view and results that others show, too.
pub fn open_on(view: watch::Sender<Arc<JobView>>, results: Results) -> (Handle, Desk) {
    let (sender, requests) = mpsc::channel(REQUEST_LIMIT);
    (Handle { requests: sender, view: view.subscribe(), results: results.clone() }, Desk { requests, view, results })
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

    /// What is pushed to clients.
    pub fn results(&self) -> &Results {
        &self.results
    }

    /// Asks for a stop with a checkpoint. False: the job has ended.
    pub async fn stop(&self) -> bool {
        self.requests.send(Request::Stop).await.is_ok()
    }

    /// Asks for an end at once. False: the job has ended.
    pub async fn abort(&self) -> bool {
        self.requests.send(Request::Abort).await.is_ok()
    }

    /// Asks for a savepoint, or for the state of one that was asked for before.
    ///
    /// # Errors
    /// Too many savepoints, or the job has ended.
    pub async fn savepoint(&self, id: String) -> Result<SavepointView, String> {
        let (reply, answer) = oneshot::channel();
        let gone = || "the job has ended".to_owned();
        self.requests.send(Request::Savepoint(id, reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Tells of a savepoint that was taken before.
    pub async fn know(&self, id: String, savepoint: SavepointView) -> bool {
        self.requests.send(Request::Known(id, savepoint)).await.is_ok()
    }

    /// Gives this pod an assignment. It is kept when this returns.
    ///
    /// # Errors
    /// Why it is not taken.
    pub async fn assign(&self, assignment: Assignment) -> Result<(), Refusal> {
        self.ask(|reply| Request::Assign(Box::new(assignment), reply)).await
    }

    /// Tells this pod to leave, and waits until no engine runs here.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn leave(&self) -> Result<(), Refusal> {
        self.ask(Request::Leave).await
    }

    /// Goes over to another target.
    ///
    /// # Errors
    /// The job has ended.
    pub async fn retarget(&self, target: Target) -> Result<(), Refusal> {
        self.ask(|reply| Request::Retarget(Box::new(target), reply)).await
    }

    /// Tells that another coordinator has taken over. False: the job has ended.
    pub async fn fence(&self, message: String) -> bool {
        self.requests.send(Request::Fence(message)).await.is_ok()
    }

    async fn ask(&self, request: impl FnOnce(oneshot::Sender<Result<(), Refusal>>) -> Request) -> Result<(), Refusal> {
        let (reply, answer) = oneshot::channel();
        let gone = || Refusal::Conflict("this process ends".to_owned());
        self.requests.send(request(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Refusal {
    /// Why.
    pub fn into_message(self) -> String {
        match self {
            Self::Invalid(message) | Self::Conflict(message) | Self::Failed(message) => message,
        }
    }
}
