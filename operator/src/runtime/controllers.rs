//! [io] Both controllers over one set of watches, from the first list to the end of the last reconcile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::{info, warn};

use super::health::{Canary, Readiness};
use super::leader::Leadership;
use super::runner::{self, Work};
use crate::io::cache::Key;
use crate::io::followers::Followers;
use crate::io::watches::Watches;
use crate::io::workers::Workers;
use crate::io::{Operator, savepoint, stream_job};

/// How many Savepoints are reconciled at the same time.
pub const SAVEPOINT_CONCURRENCY: usize = 8;
/// How often the first lists are looked at until they are complete.
const SYNC_PERIOD: Duration = Duration::from_millis(20);
/// How often what is missing of them is told.
const SYNC_WARNING: Duration = Duration::from_secs(10);

/// The queues. Clones are the same ones.
#[derive(Debug, Clone)]
pub struct Works {
    /// Of jobs.
    pub jobs: Work<Key>,
    /// Of Savepoints.
    pub savepoints: Work<Key>,
}

impl Default for Works {
    fn default() -> Self {
        Self { jobs: Work::new("StreamJob"), savepoints: Work::new("Savepoint") }
    }
}

impl Works {
    /// What liveness looks at. A process that does not lead has no loop that has to turn.
    pub fn canaries(&self, leadership: &Leadership) -> Vec<(&'static str, Canary)> {
        let canary = |work: &Work<Key>| -> Canary {
            let (work, leadership) = (work.clone(), leadership.clone());
            Box::new(move || if leadership.check().is_ok() { work.quiet() } else { Duration::ZERO })
        };
        vec![("StreamJob", canary(&self.jobs)), ("Savepoint", canary(&self.savepoints))]
    }
}

/// Reconciles the jobs and Savepoints of `scopes` until `stopped`, and then until what runs has ended.
pub async fn run<W: Workers>(
    operator: Arc<Operator<W>>,
    works: Works,
    scopes: Vec<String>,
    concurrency: usize,
    readiness: Readiness,
    stopped: watch::Receiver<bool>,
) {
    let metrics = Arc::clone(&operator.metrics);
    let watches = Watches::start(&operator, &scopes, &works);
    let (workers, views) = (Arc::clone(&operator.workers), operator.views.clone());
    let followers = Arc::new(Followers::new(workers, views, works.jobs.clone(), Arc::clone(&metrics)));
    let mut stopping = stopped.clone();
    tokio::select! {
        () = synced(&operator, &works, &scopes, &readiness) => {}
        _ = stopping.wait_for(|stop| *stop) => return,
    }
    readiness.ready();
    info!(jobs = operator.caches.jobs.keys().len(), "the first lists are complete; reconciling");
    let of_jobs = {
        let (operator, followers) = (Arc::clone(&operator), Arc::clone(&followers));
        runner::run(works.jobs, concurrency, Arc::clone(&metrics), stopped.clone(), move |key: Key| {
            let (operator, followers) = (Arc::clone(&operator), Arc::clone(&followers));
            async move { stream_job::reconcile(&operator, Some(&followers), &key).await }
        })
    };
    let of_savepoints = runner::run(works.savepoints, SAVEPOINT_CONCURRENCY, metrics, stopped, move |key: Key| {
        let operator = Arc::clone(&operator);
        async move { savepoint::reconcile(&operator, &key).await }
    });
    tokio::join!(of_jobs, of_savepoints);
    drop(watches);
}

/// Until every first list is complete. What is missing is told now and then: a right that was not given shows here.
async fn synced<W>(operator: &Operator<W>, works: &Works, scopes: &[String], readiness: &Readiness) {
    let mut told = Instant::now();
    loop {
        let missing = operator.caches.missing(scopes);
        if missing.is_empty() {
            return;
        }
        readiness.waits_for(format!("the first lists of {}", missing.join(", ")));
        works.jobs.turned();
        works.savepoints.turned();
        if told.elapsed() >= SYNC_WARNING {
            told = Instant::now();
            warn!(?missing, "waiting for the first lists");
        }
        tokio::time::sleep(SYNC_PERIOD).await;
    }
}
