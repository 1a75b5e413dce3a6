//! [io] One stage as one timely operator: moves messages in and out of a [`StageTask`] and holds its capabilities.
//!
//! Invariants:
//! - A source stage holds the capability of its open epoch. Any other stage holds one only for epochs that it got a
//!   message in (and for its first): a holder costs a round of progress messages an epoch.
//! - An epoch closes at a source when its tick is here, elsewhere when all input frontiers have passed it.
//! - What an epoch emits leaves before its capability goes.
//! - One call runs for about [`SLICE`]; then the other operators of the worker have their turn.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rheos_dataflow::envelope::{Envelope, Payload};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::graph::Exchange;
use rheos_dataflow::plan::{Channel, ExecutionPlan, StageIndex};
use rheos_dataflow::stage::{Outgoing, SourceStatus, StageTask, Work};
use rheos_dataflow::time::Epoch;
use std::sync::Arc;
use timely::container::NoopBuilder;
use timely::dataflow::channels::pact::{DistributorPact, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::{Capability, InputCapability};
use timely::dataflow::{Scope, Stream};
use timely::progress::frontier::MutableAntichain;
use timely::scheduling::Activator;

use crate::agent::Upward;
use crate::job::EngineEvent;
use crate::local::Local;
use crate::parcel::{Parcel, Router, Unpacker, batch_bytes};

/// How long one call of a stage may run before others have their turn.
const SLICE: Duration = Duration::from_micros(1_000);
/// Between two calls of a stage whose sink can take nothing.
const BLOCKED_LOOK: Duration = Duration::from_millis(2);

/// Pulls everything that has come on one input.
type Inlet = Box<dyn FnMut(&mut dyn FnMut(&InputCapability<Epoch>, Parcel))>;
type Outlet = OutputBuilder<Epoch, NoopBuilder<Parcel>>;
/// A stream without data, only for its frontier.
pub(crate) type Monitored<'scope> = Stream<'scope, Epoch, Vec<()>>;

/// Where the worker stands in the cluster, and what the stages are cut from.
pub(crate) struct Surroundings<'a> {
    pub(crate) plan: &'a ExecutionPlan,
    pub(crate) local: &'a Rc<Local>,
    /// Workers of this process.
    pub(crate) neighbours: std::ops::Range<usize>,
    pub(crate) peers: usize,
}

/// Builds the operator of `stage`. `make` creates its task, given a waker. Takes its input streams from `streams` and
/// puts its outputs there, by channel. Stages that end the flow also return a stream for the monitor.
pub(crate) fn build<'scope>(
    scope: Scope<'scope, Epoch>,
    around: &Surroundings<'_>,
    stage: StageIndex,
    streams: &mut BTreeMap<usize, Stream<'scope, Epoch, Parcel>>,
    make: impl FnOnce(rheos_dataflow::source::Waker) -> Result<StageTask>,
) -> Result<Option<Monitored<'scope>>> {
    let cut = &around.plan.stages[stage];
    let mut builder = OperatorBuilder::new(name(around.plan, stage), scope);
    let info = builder.operator_info();
    let activator = scope.activator_for(Rc::clone(&info.address));
    let waker = scope.worker().sync_activator_for(info.address.to_vec());
    let task = Rc::new(RefCell::new(make(Arc::new(move || waker.activate().unwrap_or_default()))?));

    let mut inlets = Vec::new();
    for channel in &cut.inputs {
        let stream = streams.remove(channel).ok_or_else(|| bug(format!("channel {channel} is consumed before it is built")))?;
        let channel = &around.plan.channels[*channel];
        inlets.push((inlet(&mut builder, stream, around, channel), unpacker(around, channel)));
    }
    let mut outlets = Vec::new();
    for channel in &cut.outputs {
        let (output, stream) = builder.new_output::<Parcel>();
        outlets.push(Outlet::from(output));
        streams.insert(*channel, stream);
    }
    // The frontier of a stage with a consumer is contained in the consumer's.
    let monitored = (cut.outputs.is_empty() || !cut.sinks.is_empty()).then(|| builder.new_output::<Vec<()>>().1);

    let local = Rc::clone(around.local);
    local.stages.borrow_mut().push(activator.clone());
    local.tasks.borrow_mut().push(Rc::clone(&task));
    activator.activate();
    let is_source = cut.source.is_some();
    builder.build_reschedule(move |mut capabilities| {
        let open = task.borrow().open_epoch();
        for capability in &mut capabilities {
            capability.downgrade(&open);
        }
        let ports = capabilities.len();
        let held = BTreeMap::from([(open, capabilities)]);
        let mut driver = Driver {
            stage,
            is_source,
            task,
            inlets,
            outlets,
            ports,
            held,
            closing: false,
            paused: false,
            ended: false,
            reported: false,
            activator,
            local,
        };
        move |frontiers| {
            if driver.local.failure.failed() {
                return false;
            }
            if let Err(error) = driver.run(frontiers) {
                driver.local.failure.fail(error);
            }
            // A stage without messages holds no capability, and still has its last epoch to close.
            !driver.ended
        }
    });
    Ok(monitored)
}

fn name(plan: &ExecutionPlan, stage: StageIndex) -> String {
    let ids: Vec<_> = plan.stages[stage].nodes.iter().map(|node| plan.graph.nodes[*node].id.0.as_str()).collect();
    ids.join(" > ")
}

fn bug(message: String) -> DataflowError {
    DataflowError::new("dataflow", ErrorKind::Bug, message)
}

fn unpacker(around: &Surroundings<'_>, channel: &Channel) -> Unpacker {
    Unpacker::new(Arc::clone(&around.plan.graph.nodes[channel.from_node].schema), around.peers)
}

fn inlet<'scope>(
    builder: &mut OperatorBuilder<'scope, Epoch>,
    stream: Stream<'scope, Epoch, Parcel>,
    around: &Surroundings<'_>,
    channel: &Channel,
) -> Inlet {
    if channel.exchange == Exchange::Forward {
        let mut input = builder.new_input(stream, Pipeline);
        return Box::new(move |take| input.for_each(|capability, parcel| take(&capability, std::mem::take(parcel))));
    }
    let schema = Arc::clone(&around.plan.graph.nodes[channel.from_node].schema);
    let neighbours = around.neighbours.clone();
    let mut input = builder.new_input(stream, DistributorPact(move |peers| Router::new(schema, neighbours, peers)));
    Box::new(move |take| input.for_each(|capability, parcel| take(&capability, std::mem::take(parcel))))
}

struct Driver {
    stage: StageIndex,
    is_source: bool,
    task: Rc<RefCell<StageTask>>,
    inlets: Vec<(Inlet, Unpacker)>,
    outlets: Vec<Outlet>,
    /// Outputs, the monitored one among them.
    ports: usize,
    /// One capability an output (the monitored one last), by epoch.
    held: BTreeMap<Epoch, Vec<Capability<Epoch>>>,
    /// A tick was given to the task and its `Closed` has not come.
    closing: bool,
    /// The last closed epoch was to be the job's last.
    paused: bool,
    /// Nothing is held or expected any more.
    ended: bool,
    /// The coordinator knows that the sources have ended.
    reported: bool,
    activator: Activator,
    local: Rc<Local>,
}

impl Driver {
    fn run(&mut self, frontiers: &[MutableAntichain<Epoch>]) -> Result<()> {
        self.local.schedules.set(self.local.schedules.get() + 1);
        self.receive()?;
        let began = Instant::now();
        loop {
            if self.may_end(frontiers) || !self.may_work() {
                return Ok(());
            }
            self.begin_close(frontiers);
            let work = self.task.borrow_mut().work()?;
            self.ship()?;
            let more = match work {
                Work::Busy => true,
                Work::Closed { epoch, snapshot } => {
                    self.closed(epoch, snapshot);
                    true
                }
                Work::Idle | Work::Waiting { room: true } => self.is_source && self.read()?,
                // The waker activates this operator.
                Work::Waiting { room: false } => false,
                Work::Blocked => {
                    self.activator.activate_after(BLOCKED_LOOK);
                    return Ok(());
                }
            };
            if !more {
                return Ok(());
            }
            if began.elapsed() >= SLICE {
                self.activator.activate();
                return Ok(());
            }
        }
    }

    /// Lets go of everything once the job has ended and nothing can come.
    fn may_end(&mut self, frontiers: &[MutableAntichain<Epoch>]) -> bool {
        if self.local.ended.get().is_some() && frontiers.iter().all(MutableAntichain::is_empty) {
            self.held.clear();
            self.ended = true;
        }
        self.ended
    }

    /// Moves what has come into the task.
    fn receive(&mut self) -> Result<()> {
        let Self { inlets, held, task, ports, .. } = self;
        let task = &mut *task.borrow_mut();
        let open = task.open_epoch();
        let mut failed = None;
        for (input, (inlet, unpacker)) in inlets.iter_mut().enumerate() {
            inlet(&mut |capability, parcel| {
                let Some(epoch) = capability.least().copied() else { return };
                held.entry(epoch).or_insert_with(|| (0..*ports).map(|port| capability.delayed(&epoch, port)).collect());
                match unpacker.unpack(parcel) {
                    Ok(envelope) if epoch >= open => task.receive(input, epoch, envelope),
                    Ok(_) => failed = Some(bug(format!("a message of epoch {epoch} came after its end"))),
                    Err(error) => failed = Some(error),
                }
            });
        }
        failed.map_or(Ok(()), Err)
    }

    /// Stages in the middle pause far above the budget. A source pauses in `read`.
    fn may_work(&self) -> bool {
        self.is_source || self.local.ledger.may_work(self.task.borrow().open_epoch())
    }

    fn begin_close(&mut self, frontiers: &[MutableAntichain<Epoch>]) {
        let open = self.task.borrow().open_epoch();
        if self.closing || frontiers.iter().any(|frontier| frontier.less_equal(&open)) {
            return;
        }
        if let Some(tick) = self.local.tick(open) {
            self.closing = true;
            self.task.borrow_mut().close(tick);
        }
    }

    fn closed(&mut self, epoch: Epoch, snapshot: Option<rheos_dataflow::stage::StageSnapshot>) {
        self.closing = false;
        let tick = self.local.tick(epoch);
        // Rows behind a stop are read again by whoever goes on; if the stop fails, the next tick says so.
        self.paused = tick.as_ref().is_some_and(|tick| tick.stop.is_some());
        let new_splits = tick.is_some_and(|tick| !tick.new_splits.is_empty() || !tick.empty_sources.is_empty());
        if let Some(mut capabilities) = self.held.remove(&epoch)
            && self.is_source
        {
            for capability in &mut capabilities {
                capability.downgrade(&(epoch + 1));
            }
            self.held.insert(epoch + 1, capabilities);
        }
        if let Some(snapshot) = snapshot {
            self.local.snapshots.borrow_mut().push_back((self.stage, snapshot));
            self.local.wake_agent();
        }
        if self.is_source {
            self.say_finished(epoch, new_splits);
        }
    }

    /// What is said as of an epoch whose tick brought splits would be about the splits before it.
    fn say_finished(&mut self, epoch: Epoch, new_splits: bool) {
        let finished = !new_splits && self.task.borrow().finished();
        if finished && !self.reported {
            let finished = Upward::SourcesFinished { stage: self.stage, subtask: self.local.worker, epoch };
            self.local.upward.borrow_mut().push(finished);
            self.local.wake_agent();
        }
        self.reported = finished;
    }

    /// Reads a batch if there is budget. Whether there was one.
    fn read(&mut self) -> Result<bool> {
        if self.closing || self.paused || !self.local.ledger.may_read() {
            return Ok(false);
        }
        match self.task.borrow_mut().read()? {
            SourceStatus::Rows { rows, .. } => {
                self.local.rows_read.set(self.local.rows_read.get() + rows as u64);
                if !self.local.busy.replace(true) {
                    let busy = Upward::Busy { worker: self.local.worker, busy: true };
                    self.local.upward.borrow_mut().push(busy);
                    self.local.wake_agent();
                }
                if !self.local.read_any.replace(true) {
                    (self.local.events)(EngineEvent::FirstRow);
                }
                Ok(true)
            }
            SourceStatus::Pending | SourceStatus::Finished => Ok(false),
        }
    }

    /// Sends what the task has put out.
    fn ship(&mut self) -> Result<()> {
        let task = &mut *self.task.borrow_mut();
        let mut outbox = task.outbox().drain(..).peekable();
        while let Some(first) = outbox.peek() {
            let (output, epoch) = (first.output, first.epoch);
            let capability = self.held.get(&epoch).and_then(|held| held.get(output));
            let capability = capability.ok_or_else(|| bug(format!("output in epoch {epoch} without a capability for it")))?;
            let mut handle = self.outlets[output].activate();
            let mut session = handle.session_with_builder(capability);
            while let Some(Outgoing { target, envelope, .. }) = outbox.next_if(|next| next.output == output && next.epoch == epoch) {
                self.local.ledger.sent(epoch, envelope_bytes(&envelope));
                session.give_container(&mut Parcel::new(target, envelope));
            }
        }
        Ok(())
    }
}

/// What an envelope weighs in memory, with the overhead of a small message.
fn envelope_bytes(envelope: &Envelope) -> u64 {
    const OVERHEAD: usize = 128;
    match &envelope.payload {
        Payload::Rows(batch) => (batch_bytes(batch) + OVERHEAD) as u64,
        Payload::Watermark(_) => OVERHEAD as u64,
    }
}
