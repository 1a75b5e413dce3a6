//! [io] The life of the process: connect, serve the probes, wait for the lease, watch, reconcile, stop.
//!
//! Order of the end, on SIGTERM: no new reconcile begins, those that run come to their end, the lease is given back, and
//! the next process goes on at once. When the lease is lost: the process ends, with everything that it had under way.

use std::sync::Arc;
use std::time::Duration;

use kube::{Client, Config};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info};

use super::client::{Freshness, Observer, connect};
use super::config::RunArgs;
use super::controllers::{self, Works};
use super::gate::Gate;
use super::health::{self, Health, Readiness};
use super::leader::{Candidate, Leadership};
use super::memory::Memory;
use super::metrics::Metrics;
use crate::io::Operator;
use crate::io::operator::Settings;
use crate::io::token;
use crate::io::workers::Pods;

/// How long reconciles that run may take to come to their end when the process has to stop.
pub const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// Why the process ended, other than by a signal.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// No cluster, or one that cannot be spoken to.
    #[error("no connection to a cluster: {0}. Run in a pod, or set KUBECONFIG")]
    Connect(String),
    /// The probes cannot be served.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// There is no master key.
    #[error(transparent)]
    Key(#[from] token::KeyError),
    /// No HTTP client for pods can be made.
    #[error(transparent)]
    Pods(#[from] rheos_control_api::ClientError),
    /// The lease is lost.
    #[error("the lease is lost; this process ends, so that nothing acts twice")]
    LeaseLost,
    /// A signal cannot be listened for.
    #[error("signals cannot be listened for: {0}")]
    Signal(std::io::Error),
}

/// Runs until a signal or a fatal error.
///
/// # Errors
/// See [`Fatal`].
pub async fn run(args: RunArgs) -> Result<(), Fatal> {
    let works = Works::default();
    let mut config = Config::infer().await.map_err(|error| Fatal::Connect(error.to_string()))?;
    config.connect_timeout = Some(Duration::from_secs(10));
    let (metrics, mut registry) = Metrics::new();
    registry.register_collector(Box::new(Memory));
    let observer = Observer { metrics: Arc::new(metrics), freshness: Freshness::default() };
    let leadership = if args.no_leader_election { Leadership::always() } else { Leadership::none() };
    let gate = Gate { leadership: leadership.clone() };
    // Two clients, so that the lease is renewed on a connection of its own, however busy the reconciles are.
    let [client, lease_client] = [Some(&gate), None].map(|gate| connect(config.clone(), &observer, gate));
    let client = client.map_err(|error| Fatal::Connect(error.to_string()))?;
    let lease_client = lease_client.map_err(|error| Fatal::Connect(error.to_string()))?;
    let listener = TcpListener::bind(args.listen).await;
    let listener = listener.map_err(|source| Fatal::Listen { address: args.listen, source })?;
    info!(address = ?listener.local_addr().ok(), "probes and metrics are served");
    let readiness = Readiness::default();
    let health = Arc::new(Health::new(readiness.clone(), works.canaries(&leadership), observer.freshness.clone(), registry));
    tokio::spawn(async move {
        if let Err(error) = health::serve(listener, health).await {
            error!("probes and metrics are not served any more: {error}");
        }
    });
    let (stop, stopped) = watch::channel(false);
    let mut signals = Signals::new()?;
    let process = format!("{}-{}", args.identity, std::process::id());
    let mut candidate = Candidate::new(lease_client, &args.own_namespace, &args.lease, process, leadership.clone());
    if !args.no_leader_election {
        tokio::select! {
            () = candidate.acquire(&readiness) => {}
            () = signals.recv() => return Ok(()),
        }
    }
    observer.metrics.leading.set(1);
    let mut work = std::pin::pin!(reconcile(&args, client, observer.metrics, leadership, works, &readiness, stopped));
    let ended = tokio::select! {
        ended = &mut work => return ended,
        () = signals.recv() => true,
        () = candidate.hold(), if !args.no_leader_election => false,
    };
    if !ended {
        return Err(Fatal::LeaseLost);
    }
    info!("stopping: reconciles come to their end");
    stop.send_replace(true);
    let end = async {
        tokio::select! {
            ended = tokio::time::timeout(STOP_PATIENCE, &mut work) => ended.unwrap_or(Ok(())),
            () = candidate.hold(), if !args.no_leader_election => Err(Fatal::LeaseLost),
        }
    };
    end.await?;
    if !args.no_leader_election {
        candidate.release().await;
    }
    Ok(())
}

/// Makes the operator and lets it reconcile.
async fn reconcile(
    args: &RunArgs,
    client: Client,
    metrics: Arc<Metrics>,
    leadership: Leadership,
    works: Works,
    readiness: &Readiness,
    stopped: watch::Receiver<bool>,
) -> Result<(), Fatal> {
    readiness.waits_for("the operator's own key");
    let key = token::master_key(&client, &args.own_namespace).await?;
    let workers = Arc::new(Pods::new(key.clone(), Arc::clone(&metrics))?);
    let settings = Settings { worker_image: args.worker_image.clone(), default_storage: args.default_storage.clone() };
    let operator = Operator::new(client, workers, key, settings, leadership, metrics, args.identity.clone());
    controllers::run(Arc::new(operator), works, args.scopes(), usize::from(args.concurrency), readiness.clone(), stopped).await;
    Ok(())
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self, Fatal> {
        let on = |kind| signal(kind).map_err(Fatal::Signal);
        Ok(Self { terminate: on(SignalKind::terminate())?, interrupt: on(SignalKind::interrupt())? })
    }

    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
