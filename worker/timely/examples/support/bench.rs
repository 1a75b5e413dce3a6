//! What both benches share: processes started from one executable, a coordinator, a store that keeps nothing.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rheos_checkpoint::CommitPermit;
use rheos_dataflow::coordinator::{
    Coordinator, Event, JobFacts, Pacing, Publication, PublishFailure, Restored, SnapshotParts, SnapshotReport,
};
use rheos_dataflow::error::Result;
use rheos_dataflow::plan::ExecutionPlan;
use rheos_dataflow::sink::Delivery;
use rheos_dataflow::stage::Connectors;
use rheos_timely::handshake::{Identity, connect};
use rheos_timely::job::{BoxFuture, DEFAULT_BUDGET_BYTES, Decide, Durability, PersistRequest, Persisted, Remote, StatsBoard};
use rheos_timely::{Cluster, Job};

/// Environment variable by which a child learns its place: process, then the addresses.
const PLACE: &str = "RHEOS_BENCH_PLACE";

/// One process of a bench.
pub struct Place {
    pub process: usize,
    pub addresses: Vec<SocketAddr>,
    children: Vec<Child>,
}

impl Place {
    /// In the first process: starts the others. In a child: where it stands.
    pub fn take(processes: usize) -> Self {
        if let Ok(place) = std::env::var(PLACE) {
            let mut parts = place.split(',');
            let process = parts.next().and_then(|p| p.parse().ok()).expect("the child's place");
            let addresses = parts.map(|a| a.parse().expect("an address")).collect();
            return Self { process, addresses, children: Vec::new() };
        }
        // Free ports: bound once to learn them, then left to their owners.
        let listeners: Vec<_> = (0..processes).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
        let addresses: Vec<SocketAddr> = listeners.iter().map(|l| l.local_addr().expect("an address")).collect();
        drop(listeners);
        let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let children = (1..processes).map(|process| {
            Command::new(std::env::current_exe().expect("this executable"))
                .args(std::env::args().skip(1))
                .env(PLACE, format!("{process},{}", list.join(",")))
                .stdout(Stdio::inherit())
                .spawn()
                .expect("a child")
        });
        Self { process: 0, children: children.collect(), addresses }
    }

    pub fn cluster(&self, slots: usize) -> Cluster {
        let listener = TcpListener::bind(self.addresses[self.process]).expect("our port");
        let identity = Identity { uid: "bench".to_owned(), generation: 1, process: self.process };
        let peers = connect(&identity, &listener, &self.addresses, Duration::from_secs(20)).expect("peers");
        Cluster { process: self.process, slots, peers }
    }

    pub fn wait(&mut self) {
        for child in &mut self.children {
            child.wait().expect("a child's end");
        }
    }
}

/// Snapshots are durable at once.
#[derive(Default)]
pub struct Nowhere {
    records: AtomicU64,
}

impl Durability for Nowhere {
    fn persist(&self, request: PersistRequest) -> BoxFuture<Result<Persisted>> {
        let PersistRequest { stage, subtask, snapshot, confirmed } = request;
        let epoch = snapshot.epoch;
        let parts = SnapshotParts { splits: snapshot.splits, confirmed, ..SnapshotParts::default() };
        Box::pin(async move { Ok(Persisted { report: SnapshotReport { stage, subtask, epoch, outcome: Ok(parts) }, compact: Vec::new() }) })
    }

    fn publish(&self, publication: Publication) -> BoxFuture<std::result::Result<CommitPermit, PublishFailure>> {
        let record = self.records.fetch_add(1, Ordering::Relaxed) + 1;
        let permit = serde_json::json!({"generation": 1, "record": record, "epoch": publication.epoch});
        Box::pin(async move { serde_json::from_value(permit).map_err(|e| PublishFailure { fenced: false, message: e.to_string() }) })
    }
}

/// Runs `plan` for `time`, then stops it. Gives the seconds that it ran.
pub fn run(
    place: &Place,
    slots: usize,
    plan: ExecutionPlan,
    connectors: Connectors,
    pacing: Pacing,
    time: Duration,
    stats: &Arc<StatsBoard>,
) -> f64 {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let cluster = place.cluster(slots);
    let workers = cluster.workers() as u32;
    let remote = Remote::default();
    let decide = (place.process == 0).then(|| {
        rheos_timely::discover(runtime.handle(), &connectors, &remote, |error| panic!("{error}"));
        let mut coordinator = Coordinator::new(pacing, JobFacts::of(&plan, "bench", 1, workers, 128), Restored::default());
        let stop = remote.clone();
        runtime.spawn(async move {
            tokio::time::sleep(time).await;
            stop.send(Event::Stop);
        });
        Box::new(move |event, now| coordinator.handle(event, now)) as Decide
    });
    let job = Job {
        plan: Arc::new(plan),
        uid: "bench".to_owned(),
        generation: 1,
        delivery: Delivery::ExactlyOnce,
        groups: 128,
        connectors,
        first_epoch: 1,
        budget_bytes: DEFAULT_BUDGET_BYTES,
        imports: Arc::new(|_| Ok(Vec::new())),
        durability: Arc::new(Nowhere::default()),
        start_permit: None,
        runtime: runtime.handle().clone(),
        events: Arc::new(|_| {}),
        remote,
        stats: Arc::clone(stats),
    };
    let began = Instant::now();
    rheos_timely::run(cluster, job, decide).expect("the run");
    began.elapsed().as_secs_f64()
}

/// Processor seconds of this process so far.
pub fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> = stat.rsplit(") ").next().unwrap_or_default().split(' ').filter_map(|f| f.parse().ok()).collect();
    // utime and stime are fields 14 and 15; the state, field 3, is no number. In ticks of 10 ms.
    fields.get(10..12).map_or(0.0, |times| times.iter().sum::<f64>() / 100.0)
}

/// Largest resident size of this process, MiB.
pub fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) / 1024
}
