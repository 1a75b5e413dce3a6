//! [io] Runs reconciles off a queue: bounded concurrency, one at a time for a key, backoff by key, a canary.
//!
//! Watches, followers and timers all do the same thing: [`Work::push`]. Nothing that one of them does can keep another
//! from being heard, because there is no stream they share. A reconcile that panics counts as one that failed.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::task::{Id, JoinSet};
use tracing::{Instrument, error, info, info_span, warn};

use super::backoff;
use super::metrics::{KindLabels, Metrics, ResultLabels};
use super::queue::{Moment, Queue};

/// What a reconcile asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Run again after a while, if nothing changes before.
    After(Duration),
    /// Run when something changes.
    OnChange,
}

/// An error that says whether trying again can help.
pub trait Retry: Display {
    /// `false`: only a change of an object can help.
    fn is_retryable(&self) -> bool;
    /// A short word for the metrics.
    fn label(&self) -> &'static str;
}

/// The work of one kind of object. Clones are the same one.
#[derive(Debug)]
pub struct Work<K> {
    shared: Arc<Shared<K>>,
}

#[derive(Debug)]
struct Shared<K> {
    queue: Mutex<Queue<K>>,
    wake: Notify,
    start: Instant,
    kind: &'static str,
    /// When the canary last came through the loop.
    canary: watch::Sender<Instant>,
}

impl<K> Clone for Work<K> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<K: Ord + Clone> Work<K> {
    /// No work yet; `kind` names it in metrics. The time to the first reconcile counts from here.
    pub fn new(kind: &'static str) -> Self {
        let start = Instant::now();
        let canary = watch::channel(start).0;
        Self { shared: Arc::new(Shared { queue: Mutex::default(), wake: Notify::new(), start, kind, canary }) }
    }

    /// Asks for a reconcile as soon as possible.
    pub fn push(&self, key: K) {
        self.with(|queue, now| queue.push(key, now));
        self.shared.wake.notify_one();
    }

    /// Asks for a reconcile before all that are waiting, in bounds.
    pub fn push_first(&self, key: K) {
        self.with(|queue, now| queue.push_first(key, now));
        self.shared.wake.notify_one();
    }

    /// The loop turns, or has not begun yet.
    pub fn turned(&self) {
        self.shared.canary.send_replace(Instant::now());
    }

    /// How long ago the loop last showed that it turns.
    pub fn quiet(&self) -> Duration {
        self.shared.canary.borrow().elapsed()
    }

    fn with<T>(&self, act: impl FnOnce(&mut Queue<K>, Moment) -> T) -> T {
        let now = self.shared.start.elapsed();
        act(&mut self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner), now)
    }
}

/// How often the loop shows that it turns, even when there is nothing to do.
pub const CANARY_PERIOD: Duration = Duration::from_secs(5);
/// A reconcile that takes longer is cut off and counts as failed.
pub const RECONCILE_DEADLINE: Duration = Duration::from_secs(120);

/// A key's failures in a row, for its backoff.
type Failures<K> = BTreeMap<K, u32>;

/// Runs `reconcile` for every key of `work`, at most `concurrency` at once, until `stop` turns true; then waits for
/// those that run, at most [`RECONCILE_DEADLINE`].
pub async fn run<K, F, E>(
    work: Work<K>,
    concurrency: usize,
    metrics: Arc<Metrics>,
    mut stop: watch::Receiver<bool>,
    reconcile: impl Fn(K) -> F + Send,
) where
    K: Ord + Clone + Debug + Display + Hash + Send + 'static,
    F: Future<Output = Result<Next, E>> + Send + 'static,
    E: Retry + Send + 'static,
{
    let mut tasks: JoinSet<(K, Duration, Result<Next, Failure<E>>)> = JoinSet::new();
    let mut keys: BTreeMap<Id, K> = BTreeMap::new();
    let mut failures = Failures::new();
    let kind = work.shared.kind;
    let mut canary = tokio::time::interval(CANARY_PERIOD);
    loop {
        while tasks.len() < concurrency && !*stop.borrow() {
            let Some(key) = work.with(Queue::pop) else { break };
            let future = reconcile(key.clone());
            let named = key.clone();
            let span = info_span!("reconcile", kind, object = %key);
            let reconciling = async move {
                let started = Instant::now();
                let outcome = match tokio::time::timeout(RECONCILE_DEADLINE, future).await {
                    Ok(outcome) => outcome.map_err(Failure::Failed),
                    Err(_) => Err(Failure::TooLong),
                };
                (named, started.elapsed(), outcome)
            };
            let handle = tasks.spawn(reconciling.instrument(span));
            keys.insert(handle.id(), key);
        }
        if *stop.borrow() && tasks.is_empty() {
            return;
        }
        let due = work.with(|queue, now| queue.next_due().map(|at| at.saturating_sub(now)));
        let (depth, waiting) =
            work.with(|queue, now| (queue.depth(), queue.oldest().map_or(Duration::ZERO, |since| now.saturating_sub(since))));
        let labels = KindLabels { kind };
        metrics.queue_depth.get_or_create(&labels).set(i64::try_from(depth).unwrap_or(i64::MAX));
        metrics.queue_wait.get_or_create(&labels).set(waiting.as_secs_f64());
        tokio::select! {
            Some(ended) = tasks.join_next_with_id() => {
                let (id, result) = match ended {
                    Ok((id, result)) => (id, Some(result)),
                    Err(error) => (error.id(), None),
                };
                let Some(key) = keys.remove(&id) else { continue };
                let (took, outcome) = result.map_or((Duration::ZERO, Err(Failure::Panicked)), |(_, took, outcome)| (took, outcome));
                settle(&work, &metrics, &mut failures, key, took, outcome);
            }
            () = work.shared.wake.notified() => {}
            () = wait(due) => {}
            _ = stop.changed() => {}
            _ = canary.tick() => {}
        }
        // A loop whose every place is taken by reconciles that do not end does not count as turning.
        if tasks.len() < concurrency {
            work.turned();
        }
    }
}

enum Failure<E> {
    Failed(E),
    TooLong,
    Panicked,
}

impl<E: Retry> Failure<E> {
    fn describe(&self) -> (bool, &'static str, String) {
        match self {
            Self::Failed(error) => (error.is_retryable(), error.label(), error.to_string()),
            Self::TooLong => (true, "deadline", format!("took longer than {} s", RECONCILE_DEADLINE.as_secs())),
            Self::Panicked => (true, "panic", "the reconcile panicked".to_owned()),
        }
    }
}

fn settle<K: Ord + Clone + Display + Hash, E: Retry>(
    work: &Work<K>,
    metrics: &Metrics,
    failures: &mut Failures<K>,
    key: K,
    took: Duration,
    outcome: Result<Next, Failure<E>>,
) {
    let kind = work.shared.kind;
    let labels = KindLabels { kind };
    if metrics.first_reconcile.get(&labels).is_none() {
        metrics.first_reconcile.get_or_create(&labels).set(work.shared.start.elapsed().as_secs_f64());
    }
    let (result, again) = match &outcome {
        Ok(next) => {
            if failures.remove(&key).is_some() {
                info!(kind, object = %key, "reconciled again after failures");
            }
            (
                "ok",
                match next {
                    Next::After(delay) => Some(*delay),
                    Next::OnChange => None,
                },
            )
        }
        Err(failure) => {
            let (retryable, label, message) = failure.describe();
            let attempt = failures.entry(key.clone()).or_default();
            *attempt = attempt.saturating_add(1);
            let delay = retryable.then(|| backoff::delay(&key.to_string(), *attempt));
            metrics.errors.get_or_create(&ResultLabels { kind, result: label }).inc();
            if label == "panic" {
                error!(kind, object = %key, attempt = *attempt, "{message}");
            } else {
                warn!(kind, object = %key, attempt = *attempt, retry_in = ?delay, "reconcile failed: {message}");
            }
            ("error", delay)
        }
    };
    metrics.reconciles.get_or_create(&ResultLabels { kind, result }).inc();
    metrics.reconcile_seconds.get_or_create(&labels).observe(took.as_secs_f64());
    work.with(|queue, now| queue.done(&key, now, again.map(|delay| now + delay)));
}

async fn wait(delay: Option<Duration>) {
    match delay {
        Some(delay) => tokio::time::sleep(delay).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("no")]
    struct No;

    impl Retry for No {
        fn is_retryable(&self) -> bool {
            true
        }
        fn label(&self) -> &'static str {
            "no"
        }
    }

    #[tokio::test]
    async fn a_reconcile_that_panics_or_fails_runs_again_and_holds_up_nobody() {
        let work = Work::new("Test");
        let (metrics, _registry) = Metrics::new();
        let metrics = Arc::new(metrics);
        let (stop, stopped) = watch::channel(false);
        let runs = Arc::new(AtomicUsize::new(0));
        let others = Arc::new(Notify::new());
        for key in ["bad", "good"] {
            work.push(key.to_owned());
        }
        let (counted, heard) = (Arc::clone(&runs), Arc::clone(&others));
        let stop = Arc::new(stop);
        let stopper = Arc::clone(&stop);
        let runner = run(work.clone(), 1, Arc::clone(&metrics), stopped, move |key: String| {
            let (counted, heard, stopper) = (Arc::clone(&counted), Arc::clone(&heard), Arc::clone(&stopper));
            async move {
                if key == "good" {
                    heard.notify_one();
                    return Ok(Next::OnChange);
                }
                match counted.fetch_add(1, Ordering::SeqCst) {
                    0 => panic!("planned"),
                    1 => Err(No),
                    _ => {
                        stopper.send_replace(true);
                        Ok(Next::OnChange)
                    }
                }
            }
        });
        tokio::time::timeout(Duration::from_secs(20), runner).await.unwrap();
        others.notified().await;
        assert_eq!(runs.load(Ordering::SeqCst), 3);
        assert_eq!(metrics.errors.get_or_create(&ResultLabels { kind: "Test", result: "panic" }).get(), 1);
        assert_eq!(metrics.errors.get_or_create(&ResultLabels { kind: "Test", result: "no" }).get(), 1);
        assert!(work.quiet() < Duration::from_secs(5));
        let first = metrics.first_reconcile.get_or_create(&KindLabels { kind: "Test" }).get();
        assert!(first > 0.0 && first < work.shared.start.elapsed().as_secs_f64(), "{first}");
    }
}
