//! [io] One long poll for each pod of index 0 that answers for a job: what it says wakes the job's reconcile.
//!
//! A change of a job is known in milliseconds and a quiet job costs one request in half a minute. At most [`LIMIT`] pods
//! are followed; those beyond are asked when their job is reconciled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;

use super::cache::Key;
use super::operator::Views;
use super::workers::{Target, Workers};
use crate::reconcile::{Answer, PodFacts};
use crate::runtime::metrics::Metrics;
use crate::runtime::runner::Work;

/// Most pods that are followed.
pub const LIMIT: usize = 8192;
/// The pause after the first poll that failed; it doubles.
pub const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause after polls that failed.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The shortest time between two polls of one pod, whatever it answers.
pub const BREATH: Duration = Duration::from_millis(50);

struct Follower {
    job: Key,
    task: AbortHandle,
}

/// All followers.
pub struct Followers<W> {
    workers: Arc<W>,
    views: Views,
    work: Work<Key>,
    metrics: Arc<Metrics>,
    running: Mutex<BTreeMap<String, Follower>>,
}

impl<W: Workers> Followers<W> {
    /// Follows nobody yet; changes go to `views` and wake `work`.
    pub fn new(workers: Arc<W>, views: Views, work: Work<Key>, metrics: Arc<Metrics>) -> Self {
        Self { workers, views, work, metrics, running: Mutex::default() }
    }

    /// Follows those of a job's pods that can answer for it, and nobody else of that job any more.
    pub fn follow(&self, job: &Key, job_uid: &str, pods: &[PodFacts]) {
        let mut wanted = BTreeMap::new();
        for pod in pods.iter().filter(|pod| pod.index == 0 && pod.phase == "Running") {
            if let Some(address) = pod.address {
                let target = Target { job: job.clone(), job_uid: job_uid.to_owned(), pod: pod.name.clone(), address };
                wanted.insert(pod.uid.clone(), target);
            }
        }
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let known: BTreeSet<String> = running.iter().filter(|(_, follower)| follower.job == *job).map(|(uid, _)| uid.clone()).collect();
        for uid in known.iter().filter(|uid| !wanted.contains_key(*uid)) {
            if let Some(follower) = running.remove(uid) {
                follower.task.abort();
                self.views.forget(uid);
            }
        }
        for (uid, target) in wanted {
            if known.contains(&uid) || running.len() >= LIMIT {
                continue;
            }
            let task = tokio::spawn(follow(Arc::clone(&self.workers), self.views.clone(), self.work.clone(), uid.clone(), target));
            running.insert(uid, Follower { job: job.clone(), task: task.abort_handle() });
        }
        self.metrics.followers.set(i64::try_from(running.len()).unwrap_or(i64::MAX));
    }
}

impl<W> Drop for Followers<W> {
    fn drop(&mut self) {
        for follower in self.running.lock().unwrap_or_else(PoisonError::into_inner).values() {
            follower.task.abort();
        }
    }
}

async fn follow<W: Workers>(workers: Arc<W>, views: Views, work: Work<Key>, uid: String, target: Target) {
    let (mut version, mut pause) = (0, FIRST_PAUSE);
    let mut heard: Option<bool> = None;
    loop {
        match workers.job_after(&target, version).await {
            Ok(view) => {
                let news = heard != Some(true) || view.version != version;
                version = view.version;
                (heard, pause) = (Some(true), FIRST_PAUSE);
                views.put(&uid, Answer::View(Box::new(view)));
                if news {
                    work.push(target.job.clone());
                }
                tokio::time::sleep(BREATH).await;
            }
            Err(error) => {
                // A process that starts anew may count its versions anew.
                version = 0;
                views.put(&uid, Answer::Silent(error.message()));
                if heard != Some(false) {
                    tracing::info!(job = %target.job, pod = target.pod, "the pod does not answer: {}", error.message());
                    work.push(target.job.clone());
                }
                heard = Some(false);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}
