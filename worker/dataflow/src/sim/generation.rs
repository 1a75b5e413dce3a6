//! [pure] One generation of a simulated job: the stages, the coordinator, and the I/O that both ask for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use rheos_checkpoint::CommitPermit;
use rheos_checkpoint::workflow::{Begun, Protocol, ProtocolError, Publisher};

use super::executor::Io;
use super::fabric::{Fabric, Happened, JOB_UID, Move};
use super::random::{Random, mix};
use super::scenario::{PlantedBug, Point, Scenario};
use crate::coordinator::{Action, Coordinator, Event, JobFacts, Publication, PublishFailure, Restored, SnapshotReport};
use crate::error::{DataflowError, ErrorKind, Result};
use crate::graph::OperatorId;
use crate::key_group::Subtask;
use crate::plan::ExecutionPlan;
use crate::sink::Committable;
use crate::sink::commits::{Commit, Commits};
use crate::snapshot::part::StagePart;
use crate::snapshot::restore;
use crate::stage::{Connectors, StageImport, StageSnapshot};
use crate::time::{Epoch, Millis, StopMode};

/// Key groups of a simulated job.
pub(super) const GROUPS: u32 = 16;
/// Checkpoints that a publication keeps.
const RETAIN: usize = 2;

/// What a generation begins with, read from the store.
pub(super) struct Started {
    pub(super) begun: Begun,
    publisher: Publisher,
    imports: Vec<StageImport>,
    pub(super) workers: u32,
}

/// Begins a generation: mints it, and reads what it restores.
pub(super) async fn start(protocol: Protocol, plan: Arc<ExecutionPlan>, workers: u32) -> Result<Started> {
    let begun = protocol.begin(None).await.map_err(|e| store_error(&e))?;
    let (publisher, point) = protocol.attach(begun.generation, begun.start_record).await.map_err(|e| store_error(&e))?;
    let mut imports = Vec::new();
    if let Some(manifest) = &point.manifest {
        restore::check(&plan.graph, GROUPS, manifest, false)?;
        for stage in 0..plan.stages.len() {
            for index in 0..workers {
                let groups = Subtask { index, workers, groups: GROUPS }.key_groups();
                let mut tables = Vec::new();
                for read in restore::reads(&plan, stage, &groups, manifest) {
                    let mut rows = Vec::new();
                    for file in &read.files {
                        let blocks = protocol.read_state(file).await.map_err(|e| store_error(&e))?;
                        rows.extend(restore::decode(&read.operator, file, blocks, &groups)?);
                    }
                    tables.push((read.operator, read.table, rows.into()));
                }
                imports.push(restore::import(&plan, stage, manifest, tables)?);
            }
        }
    }
    Ok(Started { begun, publisher, imports, workers })
}

fn store_error(error: &ProtocolError) -> DataflowError {
    let kind = match error {
        _ if error.is_fenced() => ErrorKind::Fenced,
        _ if error.is_transient() => ErrorKind::Transient,
        _ => ErrorKind::State,
    };
    DataflowError::new("checkpoint store", kind, error)
}

/// What I/O ended with.
enum Done {
    Persisted { node: usize, report: SnapshotReport, compaction: Vec<(OperatorId, std::ops::Range<u32>)> },
    Published { epoch: Epoch, publisher: Box<Publisher>, result: std::result::Result<CommitPermit, PublishFailure> },
    Committed { worker: usize, sink: OperatorId, epoch: Epoch },
    Recommitted,
    Broken(DataflowError),
}

/// What makes the parts of one stage on one worker durable.
struct Persister {
    part: Arc<Mutex<StagePart>>,
    waiting: VecDeque<StageSnapshot>,
    running: Option<Epoch>,
    /// The generation knows that its sources have ended.
    finished: bool,
}

/// What commits the output of one worker.
struct Committer {
    /// Permits that are on their way to it.
    notices: VecDeque<CommitPermit>,
    /// Epoch of the newest permit that has come.
    heard: Epoch,
    commits: Commits,
}

/// What a step needs from outside.
pub(super) struct Around<'a> {
    pub(super) random: &'a mut Random,
    pub(super) now: Millis,
    pub(super) trace: &'a mut u64,
    pub(super) bug: Option<PlantedBug>,
}

/// See the module's documentation.
pub(super) struct Generation {
    pub(super) number: u64,
    fabric: Fabric,
    coordinator: Coordinator,
    protocol: Protocol,
    connectors: Connectors,
    publisher: Option<Box<Publisher>>,
    start_permit: CommitPermit,
    persisters: Vec<Persister>,
    committers: Vec<Committer>,
    ios: Vec<(Point, Io<Done>)>,
    /// Said by somebody, not yet heard by the coordinator.
    events: Vec<Event>,
    reports: Vec<SnapshotReport>,
    wakes: BTreeSet<Millis>,
    told_progress: Epoch,
    told_snapshots: Epoch,
    ended: Option<StopMode>,
    bug: Option<PlantedBug>,
    pub(super) fenced: bool,
    pub(super) checkpoints: u64,
    pub(super) abandoned: u64,
}

impl Generation {
    pub(super) fn new(
        started: Started,
        plan: &Arc<ExecutionPlan>,
        protocol: Protocol,
        connectors: Connectors,
        scenario: &Scenario,
    ) -> Result<Self> {
        let bug = scenario.bug;
        let Started { begun, publisher, mut imports, workers } = started;
        let point = &begun.point;
        if bug == Some(PlantedBug::SkipOffsets) {
            imports.iter_mut().flat_map(|import| &mut import.splits).for_each(|split| split.offset = None);
        }
        let first_epoch = point.record.epoch + 1;
        let imports = point.manifest.is_some().then_some(imports);
        let number = begun.generation;
        let mut fabric = Fabric::new(plan, workers, number, scenario.delivery, &connectors, first_epoch, imports)?;
        fabric.late_snapshots = bug == Some(PlantedBug::LateSnapshots);
        let facts = JobFacts::of(plan, JOB_UID, number, workers, GROUPS);
        let restored = Restored::read(&point.record, point.manifest.as_ref())?;
        let persister = |node: &super::fabric::NodeState| Persister {
            part: Arc::new(Mutex::new(StagePart::new(plan, node.stage, node.task.subtask(), point.manifest.as_ref()))),
            waiting: VecDeque::new(),
            running: None,
            finished: false,
        };
        let committer = |_| Committer { notices: VecDeque::new(), heard: 0, commits: Commits::new(connectors.sinks.keys().cloned()) };
        let committers = (0..workers).map(committer).collect();
        let mut events = vec![Event::Time];
        for (id, source) in &connectors.sources {
            events.push(Event::Splits { source: id.clone(), found: source.discover()?, more: false });
        }
        Ok(Self {
            number,
            persisters: fabric.nodes.iter().map(persister).collect(),
            fabric,
            coordinator: Coordinator::new(scenario.pacing.clone(), facts, restored),
            protocol,
            connectors,
            publisher: Some(Box::new(publisher)),
            start_permit: begun.permit,
            committers,
            ios: Vec::new(),
            events,
            reports: Vec::new(),
            wakes: BTreeSet::new(),
            told_progress: first_epoch,
            told_snapshots: first_epoch,
            ended: None,
            bug,
            fenced: false,
            checkpoints: 0,
            abandoned: 0,
        })
    }

    /// Its sources give nothing any more.
    pub(super) fn dry_up(&mut self) {
        self.fabric.dry = true;
    }

    /// Something that the supervisor says to the coordinator.
    pub(super) fn say(&mut self, event: Event) {
        self.events.push(event);
    }

    /// How the generation ended, once all is committed.
    pub(super) fn over(&self) -> Option<StopMode> {
        let committed = self.ios.is_empty() && self.committers.iter().all(|c| c.notices.is_empty() && !c.commits.running());
        self.ended.filter(|_| committed)
    }

    /// Whether it is at such a point now; where crashes are aimed at.
    pub(super) fn is_at(&self, point: Point) -> bool {
        match point {
            Point::Noticed => self.committers.iter().any(|c| !c.notices.is_empty()),
            Point::Draining => self.ended.is_some(),
            Point::Anywhere => true,
            other => self.ios.iter().any(|(at, _)| *at == other),
        }
    }

    /// Where it stands, for messages.
    pub(super) fn standing(&self) -> String {
        let open: Vec<Epoch> = self.fabric.nodes.iter().map(|node| node.task.open_epoch()).collect();
        let ios: Vec<Point> = self.ios.iter().map(|(point, _)| *point).collect();
        format!(
            "generation {}: next tick {}, checkpoint in flight {:?}, stages at {open:?}, I/O {ios:?}, unheard events {:?}, ended {:?}, {} checkpoints, {} abandoned",
            self.number,
            self.coordinator.next_epoch(),
            self.coordinator.in_flight(),
            self.events,
            self.ended,
            self.checkpoints,
            self.abandoned,
        )
    }

    /// The next wake-up of the coordinator.
    pub(super) fn wakes_at(&self) -> Option<Millis> {
        self.wakes.first().copied()
    }

    /// Does one thing; false when there is nothing to do before time passes.
    pub(super) fn step(&mut self, around: &mut Around<'_>) -> Result<bool> {
        let mut moves = Vec::new();
        if self.ended.is_none() {
            // Sources are slow, so that a run has many epochs.
            let reading = around.random.one_in(4);
            self.fabric.moves(reading, &mut moves);
        }
        let frontier = self.snapshot_frontier();
        let wake = self.wakes.first().is_some_and(|at| *at <= around.now);
        let commits: Vec<usize> = (0..self.committers.len()).filter(|w| !self.committers[*w].notices.is_empty()).collect();
        let choices = [
            moves.len(),
            self.ios.len(),
            self.events.len(),
            self.reports.len(),
            usize::from(self.fabric.progress() > self.told_progress),
            usize::from(frontier > self.told_snapshots),
            usize::from(wake),
            commits.len(),
        ];
        let mut choice = around.random.below(choices.iter().sum::<usize>() as u64) as usize;
        let Some(kind) = choices.iter().position(|count| {
            if choice < *count {
                true
            } else {
                choice -= *count;
                false
            }
        }) else {
            return Ok(false);
        };
        *around.trace = mix(*around.trace ^ mix((kind as u64) << 32 | choice as u64) ^ around.now as u64);
        match kind {
            0 => self.make(moves[choice])?,
            1 => self.poll(choice, around)?,
            2 => {
                let event = self.events.remove(choice);
                self.tell(event, around)?;
            }
            3 => {
                let report = self.reports.swap_remove(choice);
                self.tell(Event::Report(report), around)?;
            }
            4 => {
                self.told_progress = self.fabric.progress();
                self.tell(Event::Progress(self.told_progress), around)?;
            }
            5 => {
                self.told_snapshots = frontier;
                self.tell(Event::Snapshots(frontier), around)?;
            }
            6 => {
                self.wakes.retain(|at| *at > around.now);
                self.tell(Event::Time, around)?;
            }
            _ => self.commit(commits[choice]),
        }
        Ok(true)
    }

    fn make(&mut self, choice: Move) -> Result<()> {
        let Happened::Closed { node, epoch, snapshot, rows_read } = self.fabric.make(choice)? else { return Ok(()) };
        let state = &self.fabric.nodes[node];
        let is_source = self.fabric.plan.stages[state.stage].source.is_some();
        if is_source {
            self.events.push(Event::Load { rows: rows_read });
            if state.task.finished() && !self.persisters[node].finished {
                self.persisters[node].finished = true;
                self.events.push(Event::SourcesFinished { stage: state.stage, subtask: state.worker, epoch });
            }
        }
        if let Some(snapshot) = snapshot {
            self.persisters[node].waiting.push_back(snapshot);
            self.persist(node);
        }
        Ok(())
    }

    /// Makes the node's next snapshot durable, one after the other.
    fn persist(&mut self, node: usize) {
        let persister = &mut self.persisters[node];
        if persister.running.is_some() {
            return;
        }
        let Some(snapshot) = persister.waiting.pop_front() else { return };
        persister.running = Some(snapshot.epoch);
        let (part, protocol, generation) = (Arc::clone(&persister.part), self.protocol.clone(), self.number);
        let state = &self.fabric.nodes[node];
        let sinks = &self.fabric.plan.stages[state.stage].sinks;
        let sinks = sinks.iter().map(|node| &self.fabric.plan.graph.nodes[*node].id);
        let committer = &self.committers[state.worker as usize];
        let confirmed = match self.bug {
            Some(PlantedBug::ConfirmUnfinished) => sinks.map(|sink| (sink.clone(), committer.heard)).collect(),
            _ => committer.commits.confirmed(sinks),
        };
        let subtask = state.worker;
        let forgets = self.bug == Some(PlantedBug::ForgetFailedUpload);
        self.ios.push((
            Point::Upload,
            Io::new(async move {
                match persist(&part, snapshot, &protocol, generation, subtask, confirmed, forgets).await {
                    Ok(report) => {
                        let compaction = lock(&part).compaction();
                        Done::Persisted { node, report, compaction }
                    }
                    Err(error) => Done::Broken(error),
                }
            }),
        ));
    }

    fn poll(&mut self, index: usize, around: &mut Around<'_>) -> Result<()> {
        let Some(done) = self.ios[index].1.poll() else { return Ok(()) };
        drop(self.ios.swap_remove(index));
        match done {
            Done::Broken(error) => return Err(error),
            Done::Recommitted => self.events.push(Event::Recommitted),
            Done::Persisted { node, report, compaction } => {
                let state = &mut self.fabric.nodes[node];
                for (operator, groups) in compaction {
                    state.task.compact(&operator, groups);
                }
                if let Ok(parts) = &report.outcome {
                    let commits = &mut self.committers[state.worker as usize].commits;
                    commits.staged(report.epoch, parts.committables.iter().cloned());
                }
                self.reports.push(report);
                self.persisters[node].running = None;
                self.persist(node);
            }
            Done::Published { epoch, publisher, result } => {
                self.publisher = Some(publisher);
                self.tell(Event::Published { epoch, result }, around)?;
            }
            Done::Committed { worker, sink, epoch } => {
                let next = self.committers[worker].commits.done(&sink, epoch);
                next.into_iter().for_each(|commit| self.run(worker, commit));
            }
        }
        Ok(())
    }

    /// All reports below this have come.
    fn snapshot_frontier(&self) -> Epoch {
        let mut frontier = self.reports.iter().map(|report| report.epoch).min().unwrap_or(Epoch::MAX);
        for (persister, node) in self.persisters.iter().zip(&self.fabric.nodes) {
            let waiting = persister.waiting.front().map(|snapshot| snapshot.epoch);
            let open = node.task.open_epoch() - u64::from(node.late);
            frontier = frontier.min(persister.running.or(waiting).unwrap_or(open).min(open));
        }
        frontier
    }

    fn tell(&mut self, event: Event, around: &mut Around<'_>) -> Result<()> {
        for action in self.coordinator.handle(event, around.now) {
            match action {
                Action::Tick(tick) => self.fabric.tick(tick),
                Action::WakeAt(at) => drop(self.wakes.insert(at)),
                Action::Publish(publication) => self.publish(*publication, around)?,
                Action::Commit(permit) => {
                    self.checkpoints += 1;
                    self.committers.iter_mut().for_each(|committer| committer.notices.push_back(permit.clone()));
                }
                Action::Recommit(committables) => {
                    let committables = if around.bug == Some(PlantedBug::NoRecommit) { Vec::new() } else { committables };
                    self.ios.push((Point::Recommit, self.commit_io(self.start_permit.clone(), committables, Done::Recommitted)));
                }
                Action::Abandoned { .. } => self.abandoned += 1,
                Action::Refused { .. } | Action::StopFailed { .. } => {}
                Action::End(mode) => {
                    self.ended = Some(mode);
                    self.fabric.dry = true;
                }
                Action::Fenced => self.fenced = true,
            }
        }
        Ok(())
    }

    fn publish(&mut self, mut publication: Publication, around: &Around<'_>) -> Result<()> {
        let bug = |message| DataflowError::new("coordinator", ErrorKind::Bug, message);
        let mut publisher = self.publisher.take().ok_or_else(|| bug("two publications at once"))?;
        match around.bug {
            Some(PlantedBug::DropCarried) => publication.committables.retain(|c| c.epoch == publication.epoch),
            Some(PlantedBug::CommitBeforeRecord) => {
                let permit = serde_json::json!({"generation": self.number, "record": 0, "epoch": publication.epoch});
                let permit: CommitPermit = serde_json::from_value(permit).map_err(|_| bug("no permit"))?;
                self.committers.iter_mut().for_each(|committer| committer.notices.push_back(permit.clone()));
            }
            _ => {}
        }
        let committables: Vec<_> = publication.committables.iter().filter_map(|c| serde_json::to_value(c).ok()).collect();
        self.ios.push((
            Point::Publish,
            Io::new(async move {
                let Publication { epoch, manifest, savepoint, .. } = publication;
                let mut result = publisher.publish(&manifest, &committables).await;
                if let (Ok(_), Some(id)) = (&result, savepoint)
                    && let Err(error) = publisher.savepoint(&id).await
                {
                    result = if error.is_fenced() { Err(error) } else { result };
                }
                if result.is_ok()
                    && let Err(error) = publisher.collect(RETAIN).await
                    && error.is_fenced()
                {
                    result = Err(error);
                }
                let result = result.map_err(|e| PublishFailure { fenced: e.is_fenced(), message: e.to_string() });
                Done::Published { epoch, publisher, result }
            }),
        ));
        Ok(())
    }

    /// A worker hears of a record.
    fn commit(&mut self, worker: usize) {
        let Some(permit) = self.committers[worker].notices.pop_front() else { return };
        self.committers[worker].heard = permit.epoch();
        let due = self.committers[worker].commits.permit(&permit);
        due.into_iter().for_each(|commit| self.run(worker, commit));
    }

    fn run(&mut self, worker: usize, commit: Commit) {
        let Commit { sink, permit, committables } = commit;
        let done = Done::Committed { worker, sink, epoch: permit.epoch() };
        self.ios.push((Point::Commit, self.commit_io(permit, committables, done)));
    }

    fn commit_io(&self, permit: CommitPermit, committables: Vec<Committable>, done: Done) -> Io<Done> {
        let sinks = self.connectors.sinks.clone();
        Io::new(async move {
            let mut by_sink: BTreeMap<OperatorId, Vec<Committable>> = BTreeMap::new();
            for committable in committables {
                by_sink.entry(committable.sink.clone()).or_default().push(committable);
            }
            for (id, committables) in by_sink {
                let Some(sink) = sinks.get(&id) else {
                    return Done::Broken(DataflowError::new(id.0, ErrorKind::Bug, "committables of no sink"));
                };
                if let Err(error) = sink.commit(&permit, committables).await {
                    return Done::Broken(error);
                }
            }
            done
        })
    }
}

fn lock(part: &Mutex<StagePart>) -> std::sync::MutexGuard<'_, StagePart> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes one snapshot durable.
async fn persist(
    part: &Mutex<StagePart>,
    snapshot: StageSnapshot,
    protocol: &Protocol,
    generation: u64,
    subtask: u32,
    confirmed: BTreeMap<OperatorId, Epoch>,
    forgets: bool,
) -> Result<SnapshotReport> {
    let epoch = snapshot.epoch;
    let sinks = lock(part).take(snapshot)?;
    for (sink, prepared) in sinks {
        let payloads = prepared.await?;
        lock(part).staged(&sink, payloads);
    }
    let files = lock(part).files()?;
    let mut written = Vec::new();
    for (index, writer) in files {
        match protocol.put_state(generation, epoch, subtask, index, writer).await {
            Ok(file) => written.push(file),
            Err(error) => {
                let mut part = lock(part);
                if forgets {
                    let _ = part.report(Ok(Vec::new()), BTreeMap::new());
                }
                return Ok(part.report(Err(error.to_string()), confirmed));
            }
        }
    }
    Ok(lock(part).report(Ok(written), confirmed))
}
