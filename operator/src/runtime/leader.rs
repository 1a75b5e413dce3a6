//! [io] Leads or waits, by a Lease object in the operator's own namespace.
//!
//! [`Leadership::check`] is asked before every write to the apiserver, by the [`Gate`](super::gate::Gate) of the client, and
//! before every action, which may be a call to a pod. When the lease is lost the process ends: what was in flight cannot
//! be called back, and a process that starts anew has nothing to forget.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, ResourceExt};
use tracing::{info, warn};

use super::health::Readiness;
use super::lease::{self, Moment, Record, Sighting, Step};

/// Whether this process may act. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Leadership {
    start: Instant,
    /// Ms since `start` until which the process leads.
    until: Arc<AtomicU64>,
}

/// This process does not lead (any more).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this process does not hold the lease, so it does not act")]
pub struct NotLeading;

impl Leadership {
    /// A process that does not lead.
    pub fn none() -> Self {
        Self { start: Instant::now(), until: Arc::default() }
    }

    /// A process that leads without a lease, for as long as it lives.
    pub fn always() -> Self {
        Self { start: Instant::now(), until: Arc::new(AtomicU64::new(u64::MAX)) }
    }

    /// Whether a write may be sent now.
    ///
    /// # Errors
    /// The lease is not ours, or was not renewed in time.
    pub fn check(&self) -> Result<(), NotLeading> {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        if now < self.until.load(Ordering::SeqCst) { Ok(()) } else { Err(NotLeading) }
    }

    fn now(&self) -> Moment {
        self.start.elapsed()
    }

    fn extend(&self, until: Moment) {
        self.until.store(u64::try_from(until.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }
}

/// A candidate for the lease.
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    me: String,
    seen: Sighting,
    leadership: Leadership,
}

impl Candidate {
    /// `me` differs from process to process, also in one pod.
    pub fn new(client: Client, namespace: &str, name: &str, me: String, leadership: Leadership) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.to_owned(), me, seen: Sighting::default(), leadership }
    }

    /// One look at the lease and, if it is free or ours, one write. Whether it is ours afterwards.
    ///
    /// # Errors
    /// The apiserver refused or did not answer in time.
    pub async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let sent = self.leadership.now();
        let read = self.api.get_opt(&self.name).await?;
        self.seen.note(read.as_ref().map(record), self.leadership.now());
        let written = match self.seen.evaluate(&self.me, self.leadership.now()) {
            Step::Wait => return Ok(false),
            Step::Create => self.api.create(&PostParams::default(), &self.lease(None, 0, &self.me)).await,
            Step::Write { transitions } => {
                let lease = self.lease(read.as_ref(), transitions, &self.me);
                self.api.replace(&self.name, &PostParams::default(), &lease).await
            }
        };
        match written {
            Ok(lease) => {
                self.seen.note(Some(record(&lease)), self.leadership.now());
                self.leadership.extend(lease::good_until(sent));
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits until the lease is ours; ready while another process holds it.
    pub async fn acquire(&mut self, readiness: &Readiness) {
        let mut told = None;
        loop {
            let attempt = self.timed().await;
            match &attempt {
                Ok(true) => {}
                Ok(false) => readiness.ready(),
                Err(error) => readiness.waits_for(format!("the lease cannot be read or written: {error}")),
            }
            match attempt {
                Ok(true) => {
                    info!(holder = self.me, "this process leads");
                    return;
                }
                Ok(false) if told.as_deref() != self.seen.holder() => {
                    told = self.seen.holder().map(str::to_owned);
                    info!(holder = told, "another process leads; waiting");
                }
                Ok(false) => {}
                Err(error) => warn!("the lease cannot be read or written: {error}"),
            }
            tokio::time::sleep(lease::RETRY).await;
        }
    }

    /// Renews the lease until it is lost.
    pub async fn hold(&mut self) {
        while self.leadership.check().is_ok() {
            tokio::time::sleep(lease::RETRY).await;
            match self.timed().await {
                Ok(true) => {}
                Ok(false) if self.seen.holder() != Some(&self.me) => break,
                Ok(false) => {}
                Err(error) => warn!("the lease was not renewed: {error}"),
            }
        }
        self.leadership.extend(Moment::ZERO);
    }

    /// Gives the lease back, so that the next process need not wait. Nothing may be written after this.
    pub async fn release(&mut self) {
        self.leadership.extend(Moment::ZERO);
        let given = async {
            let Some(held) = self.api.get_opt(&self.name).await? else { return Ok(()) };
            if record(&held).holder != self.me {
                return Ok(());
            }
            let lease = self.lease(Some(&held), record(&held).transitions, "");
            self.api.replace(&self.name, &PostParams::default(), &lease).await.map(drop)
        };
        match tokio::time::timeout(lease::RETRY, given).await {
            Ok(Ok(())) => info!("the lease is given back"),
            Ok(Err(error)) => warn!("the lease was not given back: {error}"),
            Err(_) => warn!("the lease was not given back in time"),
        }
    }

    async fn timed(&mut self) -> Result<bool, kube::Error> {
        let timeout: Duration = lease::RENEW_DEADLINE / 2;
        tokio::time::timeout(timeout, self.attempt())
            .await
            .unwrap_or_else(|_| Err(kube::Error::Service("the apiserver did not answer in time".into())))
    }

    fn lease(&self, old: Option<&Lease>, transitions: i32, holder: &str) -> Lease {
        let now = MicroTime(Timestamp::now());
        let same = old.is_some_and(|old| record(old).holder == holder);
        let acquired = old.and_then(|old| old.spec.as_ref()?.acquire_time.clone()).filter(|_| same);
        let duration = if holder.is_empty() { Duration::from_secs(1) } else { lease::DURATION };
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                resource_version: old.and_then(ResourceExt::resource_version),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                lease_duration_seconds: i32::try_from(duration.as_secs()).ok(),
                lease_transitions: Some(transitions),
                acquire_time: acquired.or_else(|| Some(now.clone())),
                renew_time: Some(now),
                ..LeaseSpec::default()
            }),
        }
    }
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Record {
        holder: spec.holder_identity.unwrap_or_default(),
        duration: seconds.map_or(lease::DURATION, Duration::from_secs),
        transitions: spec.lease_transitions.unwrap_or(0),
        resource_version: lease.resource_version().unwrap_or_default(),
    }
}
