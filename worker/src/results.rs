//! [io] The results of a job, pushed to clients: what the `results` connector keeps, read once and sent to all.
//!
//! ```text
//!   engine of process 0 ── announcement ──► table: which epochs are kept ──► a task a client: position, one chunk at a time
//!                                             │                                   │
//!   storage ── segments ──────────────────► cache: rows encoded once a format ◄───┘
//! ```
//!
//! Invariants:
//! - A client is a position in an order that never changes; it holds no rows but the one chunk that it is given, which it
//!   shares with all others that are there. So what a thousand clients cost is a thousand connections.
//! - What a client is shown is durable and final; no row is sent whose epoch has no index.
//! - A client that does not take its chunk in time is cut off, with the reason as the last that it reads.

mod cache;
mod feed;
mod meter;
mod table;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use rheos_checkpoint::Protocol;
use rheos_checkpoint::paths::JobPaths;
use rheos_connectors::results::Announcement;
use rheos_connectors::results::encode::{Last, ResultFormat};
use rheos_connectors::results::index::Cursor;
use rheos_connectors::staged::StagedStore;
use rheos_control_api::limits::RESULT_CLIENTS;
use rheos_control_api::{ResultsTable, ResultsView};
use tokio::sync::{OnceCell, Semaphore, watch};

use self::cache::Cache;
pub use self::feed::{Chunks, Subscription};
use self::meter::Meter;
pub use self::meter::{Figures, Place};
use self::table::Table;
use crate::engine::wire::Job;
use crate::supervise::mint::random;

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Where to begin.
    pub from: From,
    /// Whether to go on with what comes later.
    pub follow: bool,
    /// In which form.
    pub format: ResultFormat,
}

/// Where a client begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// With the oldest row that is kept.
    Oldest,
    /// With what comes next.
    Newest,
    /// With the row behind this one.
    After(Cursor),
    /// With the current view of a change-log, then its changes.
    View,
}

/// Why a client gets nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The job does not run here.
    Elsewhere(String),
    /// There is no such table.
    NoTable(String),
    /// It cannot be asked for so.
    Bad(String),
    /// Rows between the cursor and what is kept are gone.
    Gone(String),
    /// It does not fit what is there.
    Conflict(String),
    /// Too many clients, or the storage does not answer: later perhaps.
    Busy(String),
}

/// Results of the job that is worked on here, if there is one. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Results(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: Mutex<Option<Arc<Source>>>,
    clients: Arc<Semaphore>,
    meter: Arc<Meter>,
    /// The admin API of the pod that coordinates the job, if it is another one.
    elsewhere: Mutex<Option<SocketAddr>>,
}

/// Tables by name.
type Tables = BTreeMap<String, Arc<Table>>;

/// A job with results.
#[derive(Debug)]
struct Source {
    job: Job,
    /// Planned when somebody asks.
    tables: OnceCell<Tables>,
    /// The end of the job, or of what is known here of it.
    ended: watch::Sender<Option<Last>>,
}

impl Default for Results {
    fn default() -> Self {
        let clients = Arc::new(Semaphore::new(RESULT_CLIENTS));
        Self(Arc::new(Inner { source: Mutex::default(), clients, meter: Arc::default(), elsewhere: Mutex::default() }))
    }
}

impl Results {
    /// This job is worked on from now on.
    pub fn open(&self, job: &Job) {
        let mut source = self.source();
        match source.as_ref().filter(|source| source.is_of(job)) {
            Some(source) => drop(source.ended.send_replace(None)),
            None => {
                let new = Source { job: job.clone(), tables: OnceCell::new(), ended: watch::Sender::new(None) };
                if let Some(before) = source.replace(Arc::new(new)) {
                    before.ended.send_replace(Some(Last::Cut("the job has changed; ask again".to_owned())));
                }
            }
        }
    }

    /// The job has ended: clients are told when they have everything.
    pub fn end(&self, how: String) {
        if let Some(source) = self.source().as_ref() {
            source.ended.send_replace(Some(Last::End(how)));
        }
    }

    /// The job is worked on elsewhere.
    pub fn close(&self, reason: String) {
        if let Some(source) = self.source().take() {
            source.ended.send_replace(Some(Last::Cut(reason)));
        }
    }

    /// The job is coordinated by another pod, or (none) by this one.
    pub fn lead_elsewhere(&self, admin: Option<SocketAddr>) {
        *self.0.elsewhere.lock().unwrap_or_else(PoisonError::into_inner) = admin;
    }

    /// The admin API of the pod that coordinates the job, where this one does not.
    pub fn elsewhere(&self) -> Option<SocketAddr> {
        *self.0.elsewhere.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one client.
    ///
    /// # Errors
    /// There is none.
    pub fn place(&self) -> Result<Place, Refusal> {
        let meter = Arc::clone(&self.0.meter);
        match Arc::clone(&self.0.clients).try_acquire_owned() {
            Ok(permit) => Ok(Place { meter, _permit: permit }),
            Err(_) => {
                meter.refused();
                Err(Refusal::Busy(format!("{RESULT_CLIENTS} clients are being served; try again")))
            }
        }
    }

    /// What clients were given so far.
    pub fn figures(&self) -> Figures {
        let clients = RESULT_CLIENTS.saturating_sub(self.0.clients.available_permits());
        self.0.meter.figures(clients as u64)
    }

    /// Something has changed in what is kept.
    pub fn announce(&self, announcement: Announcement) {
        let source = self.source().clone();
        // Before anybody asks nothing is known; what is kept is listed then.
        if let Some(table) = source.as_ref().and_then(|source| source.tables.get()?.get(&announcement.table)) {
            table.announced(announcement);
        }
    }

    /// The results tables of the job.
    ///
    /// # Errors
    /// The job does not run here, or its storage does not answer.
    pub async fn view(&self) -> Result<ResultsView, Refusal> {
        let source = self.here()?;
        let mut view = ResultsView::default();
        for (name, table) in source.tables().await? {
            table.load().await?;
            view.tables.push(ResultsTable { name: name.clone(), ..table.shown() });
        }
        Ok(view)
    }

    /// Begins to send to a client.
    ///
    /// # Errors
    /// Why it gets nothing.
    pub async fn subscribe(&self, table: &str, ask: Ask) -> Result<Subscription, Refusal> {
        let source = self.here()?;
        let tables = source.tables().await?;
        let found = tables.get(table).cloned().ok_or_else(|| no_table(table, tables))?;
        let place = self.place()?;
        found.load().await?;
        feed::begin(found, ask, source.ended.subscribe(), place).await
    }

    fn here(&self) -> Result<Arc<Source>, Refusal> {
        self.source().clone().ok_or_else(|| Refusal::Elsewhere("the job does not run in this pod".to_owned()))
    }

    fn source(&self) -> std::sync::MutexGuard<'_, Option<Arc<Source>>> {
        self.0.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_table(table: &str, tables: &Tables) -> Refusal {
    let names: Vec<&str> = tables.keys().map(String::as_str).collect();
    let table: String = table.chars().take(80).collect();
    Refusal::NoTable(match names.is_empty() {
        true => "this job has no table with 'connector' = 'results'".to_owned(),
        false => format!("there is no results table {table:?}; this job has {}", names.join(", ")),
    })
}

impl Source {
    /// Whether the same results are there for this job.
    fn is_of(&self, job: &Job) -> bool {
        let key = |job: &Job| (job.namespace.clone(), job.job.clone(), job.uid.clone(), job.sql.clone(), job.storage_uri.clone());
        key(&self.job) == key(job) && self.job.storage_options == job.storage_options
    }

    async fn tables(&self) -> Result<&Tables, Refusal> {
        let plan = || async {
            let job = self.job.clone();
            let planned = tokio::task::spawn_blocking(move || tables(&job)).await;
            planned.map_err(|error| error.to_string()).and_then(|tables| tables)
        };
        self.tables.get_or_try_init(plan).await.map_err(Refusal::Busy)
    }
}

/// Plans the SQL, as the engines do.
fn tables(job: &Job) -> Result<Tables, String> {
    let options = rheos_sql::PlanOptions {
        pushdown: job.pushdown,
        accepts_changelog: rheos_connectors::accepts_changelog,
        emits_changelog: rheos_connectors::emits_changelog,
        looks_up: rheos_connectors::looks_up,
    };
    let all = |errors: Vec<String>| errors.join("\n");
    let planned = rheos_sql::plan(&job.sql, &options).map_err(|errors| all(errors.iter().map(ToString::to_string).collect()))?;
    let configs = rheos_connectors::results::Config::of_graph(&planned.graph);
    let configs = configs.map_err(|errors| all(errors.iter().map(ToString::to_string).collect()))?;
    if configs.is_empty() {
        return Ok(Tables::new());
    }
    let store = rheos_checkpoint::open(&job.storage_uri, &job.storage_options).map_err(|error| error.to_string())?;
    let paths = JobPaths::new(&job.namespace, &job.job, &job.uid).map_err(|error| error.to_string())?;
    let staged = StagedStore::new(Arc::clone(&store), &paths).map_err(|error| error.to_string())?;
    let protocol = Protocol::new(store, paths, random());
    let cache = Arc::new(Cache::default());
    let table = |(name, config)| (name, Table::new(config, &staged, protocol.clone(), &job.uid, Arc::clone(&cache)));
    Ok(configs.into_iter().map(table).collect())
}
