//! A job built by hand: numbers from a counting source, shuffled by key, into a sink that stages and commits.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use rheos_checkpoint::CommitPermit;
use rheos_dataflow::coordinator::{
    Coordinator, Event, JobFacts, Pacing, Publication, PublishFailure, Restored, SnapshotParts, SnapshotReport,
};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::graph::{DataflowGraph, Edge, Exchange, Node, OperatorId, OperatorSpec, Pruning, SinkSpec, SourceSpec};
use rheos_dataflow::plan::ExecutionPlan;
use rheos_dataflow::sink::{Committable, Delivery, Prepared, Sink, SinkContext, SinkWriter};
use rheos_dataflow::source::{Read, Source, SplitId, SplitReader, Start, Waker};
use rheos_dataflow::stage::{Connectors, StageImport};
use rheos_dataflow::time::{Epoch, StopMode};
use rheos_timely::handshake::{Identity, connect};
use rheos_timely::job::{BoxFuture, Decide, Durability, PersistRequest, Persisted, Remote, StatsBoard};
use rheos_timely::{Cluster, EngineEvent, Job};

pub(crate) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]))
}

pub(crate) fn id(name: &str) -> OperatorId {
    OperatorId(name.to_owned())
}

/// Gives `0..rows` in `splits` interleaved parts; `None`: for ever.
pub(crate) struct Numbers {
    pub(crate) splits: u64,
    pub(crate) rows: Option<u64>,
    /// Once the rows are out: whether the splits end, or wait for more.
    pub(crate) ends: bool,
}

struct NumbersReader {
    split: u64,
    splits: u64,
    next: u64,
    rows: u64,
    ends: bool,
}

impl Source for Numbers {
    fn discover(&self) -> Result<Vec<SplitId>> {
        Ok((0..self.splits).map(|split| split.to_string()).collect())
    }

    fn open(&self, split: &SplitId, start: Start<'_>, _waker: Waker) -> Result<Box<dyn SplitReader>> {
        Ok(Box::new(NumbersReader {
            split: split.parse().unwrap(),
            splits: self.splits,
            next: start.offset()?.map_or(0, |offset| offset.as_u64().unwrap()),
            rows: self.rows.unwrap_or(u64::MAX),
            ends: self.ends,
        }))
    }
}

impl SplitReader for NumbersReader {
    fn read(&mut self, rows: usize) -> Result<Read> {
        let batch: Vec<i64> =
            (self.next..).take(rows).map(|n| n * self.splits + self.split).take_while(|n| *n < self.rows).map(|n| n as i64).collect();
        if batch.is_empty() {
            return Ok(if self.ends { Read::End } else { Read::Pending });
        }
        self.next += batch.len() as u64;
        Ok(Read::Rows(RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from(batch))]).unwrap()))
    }

    fn offset(&self) -> serde_json::Value {
        self.next.into()
    }
}

/// Counts each number that was committed, and by whom it was written.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) committed: Mutex<BTreeMap<i64, u32>>,
    pub(crate) written: AtomicU64,
    pub(crate) commits: Mutex<Vec<(u64, u32)>>,
    /// How long each write takes.
    pub(crate) slow: Duration,
    /// Writing this number fails.
    pub(crate) poison: Option<i64>,
}

struct CountsWriter {
    counts: Arc<Counts>,
    rows: Vec<i64>,
}

pub(crate) struct CountsSink(pub(crate) Arc<Counts>);

impl Sink for CountsSink {
    fn writer(&self, _context: &SinkContext) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(CountsWriter { counts: Arc::clone(&self.0), rows: Vec::new() }))
    }

    fn commit(&self, _permit: &CommitPermit, committables: Vec<Committable>) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> {
        let counts = Arc::clone(&self.0);
        Box::pin(async move {
            let mut committed = counts.committed.lock().unwrap();
            for committable in committables {
                counts.commits.lock().unwrap().push((committable.epoch, committable.subtask));
                for n in committable.payload.as_array().unwrap() {
                    *committed.entry(n.as_i64().unwrap()).or_default() += 1;
                }
            }
            Ok(())
        })
    }
}

impl SinkWriter for CountsWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let values = batch.column(0).as_primitive::<Int64Type>().values();
        if self.counts.poison.is_some_and(|poison| values.contains(&poison)) {
            return Err(DataflowError::new("counts", ErrorKind::Data, "poisoned"));
        }
        if !self.counts.slow.is_zero() {
            std::thread::park_timeout(self.counts.slow);
        }
        self.counts.written.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        self.rows.extend(values);
        Ok(())
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<Prepared> {
        let rows = std::mem::take(&mut self.rows);
        Ok(Box::pin(async move { Ok(if rows.is_empty() { vec![] } else { vec![rows.into()] }) }))
    }
}

/// Nothing is written to disk: what is under test is when things happen.
#[derive(Default)]
pub(crate) struct Memory {
    records: AtomicU64,
    /// Uploads of source stages fail before this epoch.
    pub(crate) fails_before: AtomicU64,
    pub(crate) published: Mutex<Vec<Epoch>>,
    pub(crate) last: Mutex<Option<Publication>>,
}

impl Durability for Memory {
    fn persist(&self, request: PersistRequest) -> BoxFuture<Result<Persisted>> {
        let PersistRequest { stage, subtask, snapshot, confirmed } = request;
        let fail = snapshot.epoch < self.fails_before.load(Ordering::Relaxed) && !snapshot.splits.is_empty();
        Box::pin(async move {
            let epoch = snapshot.epoch;
            let mut parts = SnapshotParts { splits: snapshot.splits, confirmed, ..SnapshotParts::default() };
            for (sink, prepared) in snapshot.sinks {
                for payload in prepared.await? {
                    parts.committables.push(Committable { sink: sink.clone(), subtask, epoch, payload });
                }
            }
            let outcome = if fail { Err("the disk is full".to_owned()) } else { Ok(parts) };
            Ok(Persisted { report: SnapshotReport { stage, subtask, epoch, outcome }, compact: Vec::new() })
        })
    }

    fn publish(&self, publication: Publication) -> BoxFuture<std::result::Result<CommitPermit, PublishFailure>> {
        let record = self.records.fetch_add(1, Ordering::Relaxed) + 1;
        self.published.lock().unwrap().push(publication.epoch);
        let permit = permit(record, publication.epoch);
        *self.last.lock().unwrap() = Some(publication);
        Box::pin(async move { Ok(permit) })
    }
}

pub(crate) fn permit(record: u64, epoch: Epoch) -> CommitPermit {
    serde_json::from_value(serde_json::json!({"generation": 1, "record": record, "epoch": epoch})).unwrap()
}

/// source -> [shuffle] -> sink.
pub(crate) fn plan(exchange: Exchange) -> ExecutionPlan {
    let node =
        |name: &str, spec| Node { id: id(name), title: name.to_owned(), spec, schema: schema(), changelog: false, state_schema: None };
    let source = SourceSpec {
        table: "numbers".to_owned(),
        options: BTreeMap::new(),
        physical: schema(),
        declared: schema(),
        partition_by: Vec::new(),
        pruning: Pruning::default(),
        prelude: None,
        watermark: None,
    };
    let sink = SinkSpec {
        table: "counts".to_owned(),
        options: BTreeMap::new(),
        schema: schema(),
        partition_by: Vec::new(),
        primary_key: Vec::new(),
        changelog: false,
    };
    ExecutionPlan::cut(DataflowGraph {
        nodes: vec![node("source", OperatorSpec::Source(source)), node("sink", OperatorSpec::Sink(sink))],
        edges: vec![Edge { from: 0, to: 1, port: 0, exchange }],
    })
}

/// One test job, run by `processes` sets of `slots` workers.
pub(crate) struct Trial {
    pub(crate) processes: usize,
    pub(crate) slots: usize,
    pub(crate) plan: ExecutionPlan,
    pub(crate) source: Arc<Numbers>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) pacing: Pacing,
    pub(crate) budget_bytes: u64,
    pub(crate) restored: Restored,
    pub(crate) remote: Remote,
    pub(crate) stats: Arc<StatsBoard>,
    pub(crate) events: Arc<Mutex<Vec<EngineEvent>>>,
}

impl Trial {
    pub(crate) fn new(processes: usize, slots: usize, source: Numbers) -> Self {
        Self {
            processes,
            slots,
            plan: plan(Exchange::HashShuffle(vec![0])),
            source: Arc::new(source),
            counts: Arc::default(),
            memory: Arc::default(),
            pacing: Pacing { epoch_min: 5, epoch_max: 50, checkpoint_interval: 30, checkpoint_timeout: 20_000, window: 16 },
            budget_bytes: 4 << 20,
            restored: Restored::default(),
            remote: Remote::default(),
            stats: Arc::default(),
            events: Arc::default(),
        }
    }

    /// Runs to the end. Each process's result, by index.
    pub(crate) fn run(&self) -> Vec<Result<StopMode>> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listeners: Vec<_> = (0..self.processes).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        let (addresses, runtime) = (&addresses, runtime.handle());
        std::thread::scope(|scope| {
            let runs: Vec<_> = listeners
                .iter()
                .enumerate()
                .map(|(process, listener)| {
                    scope.spawn(move || {
                        let identity = Identity { uid: "trial".to_owned(), generation: 1, process };
                        let peers = connect(&identity, listener, addresses, Duration::from_secs(20))?;
                        let cluster = Cluster { process, slots: self.slots, peers };
                        let decide = (process == 0).then(|| self.coordinator());
                        rheos_timely::run(cluster, self.job(process, runtime), decide)
                    })
                })
                .collect();
            runs.into_iter().map(|run| run.join().unwrap()).collect()
        })
    }

    fn coordinator(&self) -> Decide {
        let workers = (self.processes * self.slots) as u32;
        let facts = JobFacts::of(&self.plan, "trial", 1, workers, 128);
        let mut coordinator = Coordinator::new(self.pacing.clone(), facts, self.restored.clone());
        Box::new(move |event, now| coordinator.handle(event, now))
    }

    fn job(&self, process: usize, runtime: &tokio::runtime::Handle) -> Job {
        let mut connectors = Connectors::default();
        connectors.sources.insert(id("source"), Arc::clone(&self.source) as _);
        connectors.sinks.insert(id("sink"), Arc::new(CountsSink(Arc::clone(&self.counts))));
        let remote = if process == 0 { self.remote.clone() } else { Remote::default() };
        if process == 0 {
            rheos_timely::discover(runtime, &connectors, &remote, |error| panic!("{error}"));
        }
        let events = Arc::clone(&self.events);
        let restored = self.restored.splits.clone();
        let stages = self.plan.stages.len();
        Job {
            plan: Arc::new(self.plan.clone()),
            uid: "trial".to_owned(),
            generation: 1,
            delivery: Delivery::ExactlyOnce,
            groups: 128,
            connectors,
            first_epoch: self.restored.epoch + 1,
            budget_bytes: self.budget_bytes,
            imports: Arc::new(move |_| {
                Ok((0..stages).map(|_| StageImport { operators: BTreeMap::new(), splits: restored.clone() }).collect())
            }),
            durability: Arc::clone(&self.memory) as _,
            start_permit: (process == 0).then(|| permit(1, self.restored.epoch)),
            runtime: runtime.clone(),
            events: Arc::new(move |event| events.lock().unwrap().push(event)),
            remote,
            stats: Arc::clone(&self.stats),
        }
    }

    /// Runs in the background while `during` looks on; then asks for a stop.
    pub(crate) fn run_until(&self, during: impl FnOnce(&Self)) -> Vec<Result<StopMode>> {
        std::thread::scope(|scope| {
            let run = scope.spawn(|| self.run());
            during(self);
            self.remote.send(Event::Stop);
            run.join().unwrap()
        })
    }
}

/// Looks until it is true; fails after 30 s.
pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(30), "waited too long for: {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}
