//! [io] One operator a worker that stands between the coordinator and the worker's stages.
//!
//! It spreads ticks, has snapshots made durable and reports them, commits staged output when a record permits it,
//! answers pings and publishes figures. Its report stream carries the completeness of checkpoints: the agent holds one
//! capability, at an epoch that no later report precedes, and lets it pass e when the last report of e is sent. The
//! stream is disconnected from everything else, so between checkpoints it costs nothing.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rheos_checkpoint::CommitPermit;
use rheos_dataflow::coordinator::SnapshotReport;
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::graph::OperatorId;
use rheos_dataflow::plan::StageIndex;
use rheos_dataflow::sink::commits::{Commit, Commits};
use rheos_dataflow::sink::{Committable, Sink};
use rheos_dataflow::snapshot::SplitState;
use rheos_dataflow::time::{Epoch, Millis, StopMode, Tick};
use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, Stream};
use timely::progress::frontier::Antichain;

use crate::job::{EngineEvent, Job, PersistRequest, Persisted, WorkerStats};
use crate::local::Local;
use crate::mailbox::Mailbox;

/// A commit is tried this often before the job is restarted; the record keeps what it would have committed.
const COMMIT_TRIES: u32 = 5;
/// Wait before the second try of a commit, doubled for each further one.
const COMMIT_BACKOFF: Duration = Duration::from_millis(50);
/// Figures are published at most this often.
const STATS_PERIOD: Duration = Duration::from_millis(250);

/// From the coordinator to every worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Order {
    Tick(Tick),
    Commit(CommitPermit),
    /// The last checkpoint is complete: drain. A tick that asks for a stop is not the end, for its checkpoint may fail.
    End(StopMode),
}

/// From a worker to the coordinator; travels as JSON, which the reports' free-form parts need.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Upward {
    Report(SnapshotReport),
    SourcesFinished {
        stage: StageIndex,
        subtask: u32,
        epoch: Epoch,
    },
    /// Whether this worker's sources read rows; said when it changes, for each message costs a round of progress.
    Busy {
        worker: u32,
        busy: bool,
    },
}

/// From other threads to the agent.
pub(crate) enum Mail {
    Persisted {
        stage: StageIndex,
        epoch: Epoch,
        result: Result<Persisted>,
    },
    Committed {
        sink: OperatorId,
        epoch: Epoch,
        result: Result<()>,
    },
    /// The last of the local workers to answer sends the pong.
    Ping {
        nonce: u64,
        left: Arc<AtomicUsize>,
    },
}

/// Orders by worker.
pub(crate) type Orders = Vec<(u32, Order)>;
/// Messages to the coordinator.
pub(crate) type Reports = Vec<String>;

const DISCONNECTED: [(usize, Antichain<u64>); 0] = [];

/// Builds the agent of this worker.
pub(crate) fn build<'scope>(
    scope: Scope<'scope, Epoch>,
    job: &Arc<Job>,
    local: &Rc<Local>,
    orders: Stream<'scope, Epoch, Orders>,
) -> Stream<'scope, Epoch, Reports> {
    let mut builder = OperatorBuilder::new("agent".to_owned(), scope);
    let mut orders = builder.new_input_connection(orders, Exchange::new(|order: &(u32, Order)| u64::from(order.0)), DISCONNECTED);
    let (output, reports) = builder.new_output_connection::<Reports, _>(DISCONNECTED);
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Reports>>::from(output);
    let address = builder.operator_info().address;
    *local.agent.borrow_mut() = Some(scope.activator_for(Rc::clone(&address)));
    let mail = Arc::new(Mailbox::default());
    mail.attach(scope.worker().sync_activator_for(address.to_vec()));
    job.remote.register(Arc::clone(&mail));
    local.failure.watch(scope.worker().sync_activator_for(address.to_vec()));
    local.wake_agent();

    let (job, local) = (Arc::clone(job), Rc::clone(local));
    builder.build_reschedule(move |mut capabilities| {
        let mut capability = capabilities.remove(0);
        capability.downgrade(&job.first_epoch);
        let mut agent = Agent {
            capability: Some(capability),
            pending: BTreeMap::new(),
            uploads: 0,
            commits: Commits::new(job.connectors.sinks.keys().cloned()),
            published: None,
            offsets: BTreeMap::new(),
            newest: (0, 0),
            job,
            local,
            mail,
        };
        move |frontiers| {
            let mut failed = None;
            orders.for_each(|_, batch| {
                for (_, order) in batch.drain(..) {
                    if let Err(error) = agent.obey(order) {
                        failed = Some(error);
                    }
                }
            });
            for item in agent.mail.drain() {
                if let Err(error) = agent.receive(item, &mut |capability, message| {
                    output.activate().session(capability).give(message);
                }) {
                    failed = Some(error);
                }
            }
            agent.take_snapshots();
            agent.report(&mut |capability, message| output.activate().session(capability).give(message));
            agent.show(frontiers[0].is_empty());
            if let Some(error) = failed {
                agent.local.failure.fail(error);
            }
            // Not done while a commit or an upload is under way: the last epoch's output would be lost with us.
            agent.uploads > 0 || agent.commits.running()
        }
    });
    reports
}

type Send<'a> = &'a mut dyn FnMut(&Capability<Epoch>, String);

struct Agent {
    /// At or below the epoch of any report to come; gone at the end.
    capability: Option<Capability<Epoch>>,
    /// Stages whose snapshot of an epoch is not yet reported.
    pending: BTreeMap<Epoch, usize>,
    uploads: usize,
    commits: Commits,
    published: Option<Instant>,
    /// What local sources have read, by checkpoint that is not final yet.
    offsets: BTreeMap<Epoch, Vec<SplitState>>,
    /// Epoch and wall time of the newest tick.
    newest: (Epoch, Millis),
    job: Arc<Job>,
    local: Rc<Local>,
    mail: Arc<Mailbox<Mail>>,
}

impl Agent {
    fn obey(&mut self, order: Order) -> Result<()> {
        match order {
            Order::Tick(tick) => {
                if self.local.rows_read.take() == 0 && self.local.busy.take() {
                    self.local.upward.borrow_mut().push(Upward::Busy { worker: self.local.worker, busy: false });
                }
                self.newest = (tick.epoch, tick.wall_time);
                self.local.ticks.borrow_mut().insert(tick.epoch, tick);
                self.local.wake_stages();
            }
            Order::Commit(permit) => {
                self.tell_sources(permit.epoch());
                for due in self.commits.permit(&permit) {
                    self.commit(due)?;
                }
            }
            Order::End(mode) => {
                self.capability = None;
                self.local.ended.set(Some(mode));
                self.local.wake_stages();
            }
        }
        Ok(())
    }

    /// The checkpoint of `epoch` is final.
    fn tell_sources(&mut self, epoch: Epoch) {
        let later = self.offsets.split_off(&(epoch + 1));
        let Some(splits) = std::mem::replace(&mut self.offsets, later).remove(&epoch) else { return };
        for (id, source) in &self.job.connectors.sources {
            let own = splits.iter().filter(|split| split.assignment.source == *id);
            let offsets: Vec<_> = own.filter_map(|split| Some((&split.assignment.split, split.offset.as_ref()?))).collect();
            if !offsets.is_empty() {
                source.checkpointed(&offsets);
            }
        }
    }

    /// Hands new snapshots to the store.
    fn take_snapshots(&mut self) {
        loop {
            let Some((stage, snapshot)) = self.local.snapshots.borrow_mut().pop_front() else { return };
            let epoch = snapshot.epoch;
            self.pending.entry(epoch).or_insert(self.job.plan.stages.len());
            self.offsets.entry(epoch).or_default().extend(snapshot.splits.iter().cloned());
            let sinks = self.job.plan.stages[stage].sinks.iter().map(|sink| &self.job.plan.graph.nodes[*sink].id);
            let confirmed = self.commits.confirmed(sinks);
            let request = PersistRequest { stage, subtask: self.local.worker, snapshot, confirmed };
            let persist = self.job.durability.persist(request);
            let mail = Arc::clone(&self.mail);
            self.uploads += 1;
            self.job.runtime.spawn(async move {
                let result = persist.await;
                mail.send(Mail::Persisted { stage, epoch, result });
            });
        }
    }

    fn receive(&mut self, mail: Mail, send: Send<'_>) -> Result<()> {
        match mail {
            Mail::Persisted { stage, epoch, result } => {
                self.uploads -= 1;
                let Persisted { report, compact } = result?;
                for (operator, groups) in compact {
                    self.local.tasks.borrow()[stage].borrow_mut().compact(&operator, groups);
                }
                if let Ok(parts) = &report.outcome {
                    self.commits.staged(epoch, parts.committables.iter().cloned());
                }
                self.send(epoch, &Upward::Report(report), send)?;
                self.reported(epoch);
            }
            Mail::Committed { sink, epoch, result } => {
                result?;
                if let Some(next) = self.commits.done(&sink, epoch) {
                    self.commit(next)?;
                }
            }
            Mail::Ping { nonce, left } => {
                if left.fetch_sub(1, Ordering::AcqRel) == 1 {
                    (self.local.events)(EngineEvent::Pong { nonce });
                }
            }
        }
        Ok(())
    }

    /// Sends what stages want the coordinator to know.
    fn report(&mut self, send: Send<'_>) {
        let messages = std::mem::take(&mut *self.local.upward.borrow_mut());
        for message in messages {
            // After the end nobody listens.
            if let Some(capability) = &self.capability {
                let epoch = *capability.time();
                if let Err(error) = self.send(epoch, &message, send) {
                    self.local.failure.fail(error);
                }
            }
        }
    }

    fn send(&self, epoch: Epoch, message: &Upward, send: Send<'_>) -> Result<()> {
        let bug = |what: &dyn std::fmt::Display| DataflowError::new("agent", ErrorKind::Bug, what);
        let capability = self.capability.as_ref().and_then(|capability| capability.try_delayed(&epoch));
        let capability = capability.ok_or_else(|| bug(&format!("a report of epoch {epoch} came after its checkpoint was complete")))?;
        send(&capability, serde_json::to_string(message).map_err(|error| bug(&error))?);
        Ok(())
    }

    /// One more stage's part of `epoch` is reported; when all are, the frontier may pass.
    fn reported(&mut self, epoch: Epoch) {
        if let Some(left) = self.pending.get_mut(&epoch) {
            *left -= 1;
        }
        while let Some((epoch, 0)) = self.pending.first_key_value().map(|(epoch, left)| (*epoch, *left)) {
            self.pending.remove(&epoch);
            if let Some(capability) = &mut self.capability {
                capability.downgrade(&(epoch + 1));
            }
        }
    }

    /// Runs a commit beside the dataflow.
    fn commit(&self, due: Commit) -> Result<()> {
        let Commit { sink: id, permit, committables } = due;
        let sink = self.job.connectors.sinks.get(&id).cloned();
        let sink = sink.ok_or_else(|| DataflowError::new(id.0.clone(), ErrorKind::Bug, "staged output of no sink"))?;
        let mail = Arc::clone(&self.mail);
        if sink.gathers() {
            // It was committed before the permit came here.
            mail.send(Mail::Committed { sink: id, epoch: permit.epoch(), result: Ok(()) });
            return Ok(());
        }
        self.job.runtime.spawn(async move {
            let result = commit(sink, &permit, committables).await;
            mail.send(Mail::Committed { sink: id, epoch: permit.epoch(), result });
        });
        Ok(())
    }

    /// Publishes figures now and then, and at the end.
    fn show(&mut self, over: bool) {
        let now = Instant::now();
        if !over && self.published.is_some_and(|at| now - at < STATS_PERIOD) {
            return;
        }
        self.published = Some(now);
        let (tick, wall_time) = self.newest;
        let nodes = self.local.tasks.borrow().iter().flat_map(|task| task.borrow().stats()).collect();
        let stats = WorkerStats {
            tick,
            wall_time,
            closed: self.local.ledger.frontier(),
            in_flight_bytes: self.local.ledger.in_flight(),
            schedules: self.local.schedules.get(),
            nodes,
            epoch_ms: self.local.epoch_ms.borrow().iter().copied().collect(),
        };
        self.job.stats.put(self.local.worker, stats);
    }
}

/// Tries until it succeeds or is hopeless. Commits are idempotent.
pub(crate) async fn commit(sink: Arc<dyn Sink>, permit: &CommitPermit, committables: Vec<Committable>) -> Result<()> {
    let mut backoff = COMMIT_BACKOFF;
    for _ in 1..COMMIT_TRIES {
        match sink.commit(permit, committables.clone()).await {
            Err(error) if error.kind == ErrorKind::Transient => {
                tracing::warn!(%error, epoch = permit.epoch(), "commit failed, trying again");
                tokio::time::sleep(backoff).await;
                backoff *= 2;
            }
            result => return result,
        }
    }
    sink.commit(permit, committables).await
}
