//! [io] Hosts the coordinator beside the dataflow of worker 0, and watches progress on every worker.
//!
//! Two operators, so that the dataflow has no cycle: *control* has no input and sends orders to all agents; *monitor* has
//! no output and sees the frontier of closed epochs and the agents' reports. Both share the [`Host`]. The frontier of the
//! reports is the completeness of checkpoints. Control keeps its capability until the coordinator ends the job; nothing
//! orders by its time.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rheos_checkpoint::CommitPermit;
use rheos_dataflow::coordinator::{Action, Event, Publication};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::graph::OperatorId;
use rheos_dataflow::sink::{Committable, Sink};
use rheos_dataflow::time::{Epoch, Millis, Tick};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, Stream};
use timely::progress::frontier::MutableAntichain;
use timely::progress::operate::FrontierInterest;
use timely::scheduling::Activator;

use crate::agent::{Order, Orders, Reports, Upward, commit};
use crate::clock::WallClock;
use crate::job::{Decide, EngineEvent, Job};
use crate::local::Local;
use crate::mailbox::Mailbox;
use crate::stage::Monitored;

/// Tick-to-closed times that are kept for percentiles.
const LATENCIES_KEPT: usize = 512;

/// The coordinator and what it needs around it; on worker 0 only.
pub(crate) struct Host {
    decide: Decide,
    job: Arc<Job>,
    local: Rc<Local>,
    mail: Arc<Mailbox<Event>>,
    activator: Activator,
    workers: u32,
    /// Orders that control has to send.
    outgoing: Vec<(u32, Order)>,
    /// Wake-ups that the coordinator asked for and that have not come. Timely's timers cannot be taken back, and the
    /// coordinator counts on every one.
    armed: BTreeSet<Millis>,
    clock: WallClock,
    began: bool,
    ended: bool,
    /// When each tick went out, until it is closed.
    sent: VecDeque<(Epoch, Instant)>,
    /// Checkpoints under way: when their tick went out.
    checkpoints: BTreeMap<Epoch, Instant>,
    busy: BTreeSet<u32>,
}

/// Builds the control operator; on worker 0 with the host.
pub(crate) fn build<'scope>(
    scope: Scope<'scope, Epoch>,
    job: &Arc<Job>,
    local: &Rc<Local>,
    decide: Option<Decide>,
) -> (Stream<'scope, Epoch, Orders>, Option<Rc<RefCell<Host>>>) {
    let mut builder = OperatorBuilder::new("control".to_owned(), scope);
    let (output, orders) = builder.new_output::<Orders>();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Orders>>::from(output);
    let address = builder.operator_info().address;
    let activator = scope.activator_for(Rc::clone(&address));
    activator.activate();
    let host = decide.map(|decide| {
        job.remote.control.attach(scope.worker().sync_activator_for(address.to_vec()));
        Rc::new(RefCell::new(Host {
            decide,
            job: Arc::clone(job),
            local: Rc::clone(local),
            mail: Arc::clone(&job.remote.control),
            activator,
            workers: scope.peers() as u32,
            outgoing: Vec::new(),
            armed: BTreeSet::new(),
            clock: WallClock::new(),
            began: false,
            ended: false,
            sent: VecDeque::new(),
            checkpoints: BTreeMap::new(),
            busy: BTreeSet::new(),
        }))
    });
    let shared = host.clone();
    builder.build(move |mut capabilities| {
        let mut capability = capabilities.pop().filter(|_| shared.is_some());
        move |_| {
            let (Some(host), Some(held)) = (&shared, &capability) else { return };
            let host = &mut *host.borrow_mut();
            host.poll();
            output.activate().session(held).give_iterator(host.outgoing.drain(..));
            if host.ended {
                capability = None;
            }
        }
    });
    (orders, host)
}

/// Builds the monitor: frees the ledger on every worker, and tells the host of progress and reports.
pub(crate) fn watch<'scope>(
    scope: Scope<'scope, Epoch>,
    local: &Rc<Local>,
    host: Option<Rc<RefCell<Host>>>,
    closed: Monitored<'scope>,
    reports: Stream<'scope, Epoch, Reports>,
) {
    let mut builder = OperatorBuilder::new("monitor".to_owned(), scope);
    let mut closed = builder.new_input(closed, Pipeline);
    let mut reports = builder.new_input(reports, Exchange::new(|_: &String| 0));
    if host.is_none() {
        builder.set_notify_for(1, FrontierInterest::Never);
    }
    let local = Rc::clone(local);
    let mut seen = (0, 0);
    builder.build(move |_| {
        move |frontiers| {
            closed.for_each(|_, _| {});
            let progress = passed(&frontiers[0]);
            if progress > seen.0 {
                seen.0 = progress;
                local.forget_ticks();
                if local.ledger.closed(progress) {
                    local.wake_stages();
                }
                if let Some(host) = &host {
                    host.borrow_mut().progress(progress);
                }
            }
            let Some(host) = &host else { return };
            let host = &mut *host.borrow_mut();
            reports.for_each(|_, batch| batch.drain(..).for_each(|message| host.hear(&message)));
            let complete = passed(&frontiers[1]);
            if complete > seen.1 {
                seen.1 = complete;
                host.tell(Event::Snapshots(complete));
            }
            if !host.outgoing.is_empty() || host.ended {
                host.activator.activate();
            }
        }
    });
}

/// All epochs below are over.
fn passed(frontier: &MutableAntichain<Epoch>) -> Epoch {
    frontier.frontier().first().copied().unwrap_or(Epoch::MAX)
}

impl Host {
    /// What has come from other threads, and the clock.
    fn poll(&mut self) {
        for event in self.mail.drain() {
            if let Event::Published { epoch, result } = &event {
                self.published(*epoch, result.is_ok());
            }
            self.tell(event);
        }
        let later = self.armed.split_off(&(self.clock.now() + 1));
        let due = !std::mem::replace(&mut self.armed, later).is_empty();
        if due || !std::mem::replace(&mut self.began, true) {
            self.tell(Event::Time);
        }
    }

    fn progress(&mut self, closed: Epoch) {
        while let Some((epoch, sent)) = self.sent.front().copied()
            && epoch < closed
        {
            self.sent.pop_front();
            let mut times = self.local.epoch_ms.borrow_mut();
            if times.len() == LATENCIES_KEPT {
                times.pop_front();
            }
            times.push_back(sent.elapsed().as_secs_f64() * 1e3);
        }
        self.tell(Event::Progress(closed));
    }

    /// A message from an agent.
    fn hear(&mut self, message: &str) {
        match serde_json::from_str(message) {
            Ok(Upward::Report(report)) => self.tell(Event::Report(report)),
            Ok(Upward::SourcesFinished { stage, subtask, epoch }) => self.tell(Event::SourcesFinished { stage, subtask, epoch }),
            Ok(Upward::Busy { worker, busy }) => {
                if busy {
                    self.busy.insert(worker);
                    self.tell(Event::Load { rows: 1 });
                } else {
                    self.busy.remove(&worker);
                }
            }
            Err(error) => self.local.failure.fail(DataflowError::new("control", ErrorKind::Bug, error)),
        }
    }

    fn tell(&mut self, event: Event) {
        if self.ended {
            return;
        }
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in (self.decide)(event, self.clock.now()) {
                // Workers say only when their load changes; the coordinator wants to hear it each epoch.
                if matches!(action, Action::Tick(_)) && !self.busy.is_empty() {
                    events.push_back(Event::Load { rows: self.busy.len() as u64 });
                }
                self.act(action);
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Tick(tick) => self.tick(tick),
            Action::WakeAt(at) => {
                if self.armed.insert(at) {
                    self.activator.activate_after(self.clock.until(at));
                }
            }
            Action::Publish(publication) => self.publish(*publication),
            Action::Recommit(committables) => self.recommit(committables),
            Action::Commit(permit) => self.order(&Order::Commit(permit)),
            Action::Abandoned { epoch, savepoint, reason } => {
                self.checkpoints.remove(&epoch);
                self.say(EngineEvent::CheckpointAbandoned { epoch, savepoint, reason });
            }
            Action::Refused { savepoint, reason } => self.say(EngineEvent::SavepointRefused { savepoint, reason }),
            Action::StopFailed { mode, reason } => self.say(EngineEvent::StopFailed { mode, reason }),
            Action::End(mode) => {
                self.order(&Order::End(mode));
                self.ended = true;
            }
            Action::Fenced => {
                let message = "a newer generation of this job has taken over; this one ends without another write";
                self.local.failure.fail(DataflowError::new("coordinator", ErrorKind::Fenced, message));
            }
        }
    }

    fn say(&self, event: EngineEvent) {
        (self.local.events)(event);
    }

    fn order(&mut self, order: &Order) {
        self.outgoing.extend((0..self.workers).map(|worker| (worker, order.clone())));
    }

    fn tick(&mut self, tick: Tick) {
        let now = Instant::now();
        self.sent.push_back((tick.epoch, now));
        if tick.checkpoint || tick.savepoint.is_some() || tick.stop.is_some() {
            self.checkpoints.insert(tick.epoch, now);
        }
        self.order(&Order::Tick(tick));
    }

    fn publish(&mut self, publication: Publication) {
        let (epoch, bytes, savepoint) = (publication.epoch, publication.bytes_written, publication.savepoint.clone());
        let began = self.checkpoints.get(&epoch).copied();
        let publish = self.job.durability.publish(publication);
        let (mail, events) = (Arc::clone(&self.mail), Arc::clone(&self.local.events));
        self.job.runtime.spawn(async move {
            let result = publish.await;
            if let Ok(permit) = result.clone() {
                let duration = began.map_or(Duration::ZERO, |at| at.elapsed());
                events(EngineEvent::CheckpointCompleted { permit, bytes, duration, savepoint });
            }
            mail.send(Event::Published { epoch, result });
        });
    }

    fn published(&mut self, epoch: Epoch, complete: bool) {
        if complete {
            self.checkpoints = self.checkpoints.split_off(&(epoch + 1));
        }
    }

    /// Commits what the restored record carries; the coordinator sends no tick before.
    fn recommit(&mut self, committables: Vec<Committable>) {
        let (mail, failure) = (Arc::clone(&self.mail), Arc::clone(&self.local.failure));
        let (sinks, permit) = (self.job.connectors.sinks.clone(), self.job.start_permit.clone());
        self.job.runtime.spawn(async move {
            match recommit(&sinks, permit.as_ref(), committables).await {
                Ok(()) => mail.send(Event::Recommitted),
                Err(error) => failure.fail(error),
            }
        });
    }
}

async fn recommit(
    sinks: &BTreeMap<OperatorId, Arc<dyn Sink>>,
    permit: Option<&CommitPermit>,
    committables: Vec<Committable>,
) -> Result<()> {
    let state = |place: &str, message: &str| DataflowError::new(place, ErrorKind::State, message);
    let permit = permit.ok_or_else(|| state("checkpoint", "committables to commit, but no permit"))?;
    let mut by_sink: BTreeMap<OperatorId, Vec<Committable>> = BTreeMap::new();
    for committable in committables {
        by_sink.entry(committable.sink.clone()).or_default().push(committable);
    }
    for (id, committables) in by_sink {
        let sink = sinks.get(&id).ok_or_else(|| {
            state(&id.0, "the checkpoint holds output of this sink that is not yet visible, and the SQL has no such sink any more: start once with the sink in place")
        })?;
        commit(Arc::clone(sink), permit, committables).await?;
    }
    Ok(())
}
