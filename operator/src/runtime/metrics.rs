//! [pure] The operator's figures for Prometheus; every metric's name is here and nowhere else.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// What kind of object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabels {
    /// `StreamJob` or `Savepoint`; of a watch, the kind watched.
    pub kind: &'static str,
}

/// What kind of object, and how it went.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResultLabels {
    /// `StreamJob` or `Savepoint`.
    pub kind: &'static str,
    /// `ok`, `error`, or the error in a word.
    pub result: &'static str,
}

/// A phase of jobs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PhaseLabels {
    /// The phase.
    pub phase: String,
}

/// A request to the apiserver or to a coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// `GET`, `LIST`, `WATCH`, `POST`, `PATCH`, …
    pub verb: String,
    /// Plural name of the kind; of a coordinator, the act.
    pub resource: String,
    /// Status code; 0 when there was no answer.
    pub code: u16,
}

/// An action, as `apply` executes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ActionLabels {
    /// Its name.
    pub action: &'static str,
    /// `ok`, `refused`, `error`.
    pub result: &'static str,
}

/// A time as a gauge.
pub type Seconds = Gauge<f64, std::sync::atomic::AtomicU64>;

/// All metrics.
#[derive(Debug)]
pub struct Metrics {
    /// Reconciles.
    pub reconciles: Family<ResultLabels, Counter>,
    /// Reconciles that failed, by error.
    pub errors: Family<ResultLabels, Counter>,
    /// From the start of the process to the end of its first reconcile.
    pub first_reconcile: Family<KindLabels, Seconds>,
    /// How long reconciles take.
    pub reconcile_seconds: Family<KindLabels, Histogram>,
    /// Objects that wait for their reconcile.
    pub queue_depth: Family<KindLabels, Gauge>,
    /// How long the first of them has waited.
    pub queue_wait: Family<KindLabels, Seconds>,
    /// Jobs, by phase.
    pub jobs: Family<PhaseLabels, Gauge>,
    /// How long a job was in a phase that it left.
    pub phase_seconds: Family<PhaseLabels, Histogram>,
    /// Actions.
    pub actions: Family<ActionLabels, Counter>,
    /// How long the apiserver takes to begin its answer.
    pub api_seconds: Family<RequestLabels, Histogram>,
    /// Calls to coordinators.
    pub worker_seconds: Family<RequestLabels, Histogram>,
    /// Watches that failed and began again.
    pub watch_restarts: Family<KindLabels, Counter>,
    /// Long polls that are open.
    pub followers: Gauge,
    /// 1 while this process leads.
    pub leading: Gauge,
}

fn quick() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 14))
}

fn slow() -> Histogram {
    Histogram::new(exponential_buckets(0.1, 2.5, 14))
}

impl Metrics {
    /// The metrics and the registry that shows them.
    pub fn new() -> (Self, Registry) {
        let metrics = Self {
            reconciles: Family::default(),
            errors: Family::default(),
            first_reconcile: Family::default(),
            reconcile_seconds: Family::new_with_constructor(quick),
            queue_depth: Family::default(),
            queue_wait: Family::default(),
            jobs: Family::default(),
            phase_seconds: Family::new_with_constructor(slow),
            actions: Family::default(),
            api_seconds: Family::new_with_constructor(quick),
            worker_seconds: Family::new_with_constructor(quick),
            watch_restarts: Family::default(),
            followers: Gauge::default(),
            leading: Gauge::default(),
        };
        let mut registry = Registry::default();
        metrics.register(registry.sub_registry_with_prefix("rheos_operator"));
        (metrics, registry)
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("reconciles", "Reconciles, by result", self.reconciles.clone());
        registry.register("reconcile_errors", "Reconciles that failed, by error", self.errors.clone());
        let help = "From the start of the process to the end of its first reconcile, the wait for the lease within";
        registry.register_with_unit("first_reconcile", help, Unit::Seconds, self.first_reconcile.clone());
        let help = "Duration of a reconcile";
        registry.register_with_unit("reconcile_duration", help, Unit::Seconds, self.reconcile_seconds.clone());
        registry.register("queue_depth", "Objects that wait for their reconcile", self.queue_depth.clone());
        let help = "How long the first object of the queue has waited";
        registry.register_with_unit("queue_wait", help, Unit::Seconds, self.queue_wait.clone());
        registry.register("jobs", "Jobs, by phase", self.jobs.clone());
        let help = "How long a job was in a phase that it left";
        registry.register_with_unit("phase_duration", help, Unit::Seconds, self.phase_seconds.clone());
        registry.register("actions", "Actions, by result", self.actions.clone());
        let help = "Time until the apiserver begins its answer";
        registry.register_with_unit("kubernetes_request_duration", help, Unit::Seconds, self.api_seconds.clone());
        let help = "Time of calls to coordinators";
        registry.register_with_unit("worker_request_duration", help, Unit::Seconds, self.worker_seconds.clone());
        registry.register("watch_restarts", "Watches that failed and began again", self.watch_restarts.clone());
        registry.register("followers", "Long polls to coordinators that are open", self.followers.clone());
        registry.register("leading", "1 while this process holds the lease", self.leading.clone());
    }
}
