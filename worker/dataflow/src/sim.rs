//! [pure] The simulator: whole jobs in one thread, from a seed, with faults at any step.
//!
//! Real: stages and operators, the coordinator, snapshots and their files, the checkpoint protocol over a store in
//! memory, restore and rescale. Simulated: time, the network between workers, sources, sinks, tables that are asked, and the store's delays and
//! failures. One seed is one run, to the last choice.
//!
//! Not here: timely (its progress tracking is modelled by `sim/fabric.rs`), processes, real stores.

mod audit;
pub mod epochs;
mod executor;
pub mod expected;
mod fabric;
mod generation;
pub mod jobs;
mod lookup;
pub mod oracle;
pub mod random;
pub mod scenario;
pub mod sink;
pub mod source;
mod store;

use std::collections::BTreeMap;
use std::sync::Arc;

use rheos_checkpoint::paths::JobPaths;
use rheos_checkpoint::store::memory::MemoryStore;
use rheos_checkpoint::workflow::Protocol;

use self::executor::{Delays, Io};
use self::fabric::JOB_UID;
use self::generation::{Around, Generation, Started, start};
use self::jobs::SimJob;
use self::lookup::SimLookup;
use self::oracle::Multiset;
use self::random::Random;
use self::scenario::{FaultKind, PlantedBug, Point, Scenario};
use self::sink::{SharedWarehouse, SimSink};
use self::source::SimSource;
use self::store::SlowStore;
use crate::coordinator::Event;
use crate::error::{DataflowError, ErrorKind, Result};
use crate::graph::OperatorId;
use crate::lookup::Lookup;
use crate::plan::ExecutionPlan;
use crate::sink::{Delivery, Sink};
use crate::source::Source;
use crate::stage::Connectors;
use crate::time::{Millis, StopMode};

/// A run that takes more steps than this does not end.
const MAX_STEPS: u64 = 400_000;
/// A fault that has waited so many steps for its point is left out.
const FAULT_PATIENCE: u64 = 800;
/// Steps that a zombie lives, at most.
const ZOMBIE_STEPS: u64 = 600;

/// What a run gave.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// By sink, what is visible.
    pub results: BTreeMap<OperatorId, Multiset>,
    /// Changes with every choice that was made.
    pub trace: u64,
    /// Steps.
    pub steps: u64,
    /// Generations.
    pub generations: u64,
    /// Checkpoints whose record was written.
    pub checkpoints: u64,
    /// Checkpoints given up.
    pub abandoned: u64,
    /// Names that were committed again.
    pub repeated_commits: u64,
    /// Faults by point and kind.
    pub faults: BTreeMap<(Point, FaultKind), u64>,
}

/// Runs a scenario to the end of its input.
///
/// # Errors
/// What the engine reported, a change-log that is none, or that the job does not end.
pub fn run(scenario: &Scenario) -> Result<Outcome> {
    World::new(scenario)?.run()
}

/// Runs a scenario and compares what is visible at its end with what was computed plainly: nothing is lost, unless the
/// job is at most once, and nothing is there twice.
///
/// # Errors
/// In words, with the line that repeats the run.
pub fn check(scenario: &Scenario) -> Result<Outcome, String> {
    let failed = |what: String| format!("{what}\n  {scenario:?}\n{}", scenario.repeat());
    let job = SimJob::new(scenario.shape, scenario.content).map_err(|e| failed(e.to_string()))?;
    let outcome = run(scenario).map_err(|e| failed(e.to_string()))?;
    for (sink, expected) in expected::results(&job).map_err(|e| failed(e.to_string()))? {
        let found = outcome.results.get(&sink).cloned().unwrap_or_default();
        let difference = match scenario.delivery {
            Delivery::AtMostOnce => oracle::repeated(&expected, &found, |row| job.identity(&sink, row)),
            _ => oracle::difference(&expected, &found),
        };
        if let Some(difference) = difference {
            return Err(failed(format!("{sink}: {difference}")));
        }
    }
    Ok(outcome)
}

enum Phase {
    Starting(Io<Result<Started>>),
    Running(Box<Generation>),
}

struct World<'a> {
    scenario: &'a Scenario,
    plan: Arc<ExecutionPlan>,
    connectors: Connectors,
    protocol: Protocol,
    objects: Arc<MemoryStore>,
    warehouse: SharedWarehouse,
    random: Random,
    now: Millis,
    /// Workers of the next generation.
    workers: u32,
    phase: Phase,
    zombies: Vec<(u64, Box<Generation>)>,
    /// Some sink does not wait for records.
    writes_at_once: bool,
    next_fault: usize,
    steps_since_fault: u64,
    outcome: Outcome,
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario) -> Result<Self> {
        let mut random = Random::new(scenario.seed ^ 0x5eed);
        let job = SimJob::new(scenario.shape, scenario.content)?;
        let warehouse = SharedWarehouse::default();
        let delays = Delays::new(random.fork(), scenario.store_rests);
        let commit_delays = Delays::new(random.fork(), scenario.commit_rests);
        let mut connectors = Connectors::default();
        for (id, content) in &job.sources {
            let source = SimSource::new(*content, Delays::new(random.fork(), 0));
            connectors.sources.insert(id.clone(), Arc::new(source) as Arc<dyn Source>);
        }
        for id in &job.sinks {
            let copies = scenario.bug == Some(PlantedBug::CopyOnRepeat);
            let hasty = scenario.bug == Some(PlantedBug::WriteAtOnce);
            let sink = SimSink { id: id.clone(), warehouse: Arc::clone(&warehouse), delays: commit_delays.clone(), copies, hasty };
            connectors.sinks.insert(id.clone(), Arc::new(sink) as Arc<dyn Sink>);
        }
        for id in &job.lookups {
            let lookup = SimLookup { chance: Delays::new(random.fork(), 0) };
            connectors.lookups.insert(id.clone(), Arc::new(lookup) as Arc<dyn Lookup>);
        }
        let objects = Arc::new(MemoryStore::new());
        let store = SlowStore { objects: Arc::clone(&objects), delays, put_failures: scenario.put_failures };
        let paths = JobPaths::new("simulation", "job", JOB_UID).map_err(|e| DataflowError::new("simulator", ErrorKind::Bug, e))?;
        let protocol = Protocol::new(Arc::new(store), paths, random.number());
        let writes_at_once = job.sink_nodes().any(|node| scenario.delivery.of_sink(&job.graph, node) != Delivery::ExactlyOnce);
        let plan = Arc::new(ExecutionPlan::cut(job.graph));
        let begin = Io::new(start(protocol.clone(), Arc::clone(&plan), scenario.workers));
        Ok(Self {
            scenario,
            plan,
            connectors,
            protocol,
            objects,
            warehouse,
            random,
            now: 1_000_000,
            workers: scenario.workers,
            phase: Phase::Starting(begin),
            zombies: Vec::new(),
            writes_at_once,
            next_fault: 0,
            steps_since_fault: 0,
            outcome: Outcome::default(),
        })
    }

    fn run(mut self) -> Result<Outcome> {
        while self.outcome.steps < MAX_STEPS {
            self.outcome.steps += 1;
            self.steps_since_fault += 1;
            if self.random.one_in(4) {
                self.now += 1;
            }
            self.strike();
            if !self.zombies.is_empty() && self.random.one_in(3) {
                self.step_zombie()?;
            } else if self.step()? {
                return self.judge();
            }
        }
        let standing = match &self.phase {
            Phase::Running(generation) => generation.standing(),
            Phase::Starting(_) => "a generation is about to start".into(),
        };
        let message = format!("the job has not ended after {MAX_STEPS} steps; {standing}");
        Err(DataflowError::new("simulator", ErrorKind::Bug, message))
    }

    /// One step of the newest generation; true at the job's end.
    fn step(&mut self) -> Result<bool> {
        match &mut self.phase {
            Phase::Starting(io) => match io.poll() {
                None => {}
                Some(Ok(started)) => {
                    self.outcome.generations += 1;
                    let (protocol, connectors) = (self.protocol.clone(), self.connectors.clone());
                    let made = Generation::new(started, &self.plan, protocol, connectors, self.scenario)?;
                    self.phase = Phase::Running(Box::new(made));
                }
                Some(Err(error)) if matches!(error.kind, ErrorKind::Transient | ErrorKind::Fenced) => self.restart(),
                Some(Err(error)) => return Err(error),
            },
            Phase::Running(generation) => {
                if let Some(mode) = generation.over() {
                    if mode == StopMode::Finish {
                        self.leave();
                        return Ok(true);
                    }
                    self.leave();
                    self.restart();
                    return Ok(false);
                }
                let (random, trace) = (&mut self.random, &mut self.outcome.trace);
                let mut around = Around { random, now: self.now, trace, bug: self.scenario.bug };
                let did = generation.step(&mut around)?;
                if generation.fenced {
                    let message = format!("generation {} is fenced, but nobody has taken over", generation.number);
                    return Err(DataflowError::new("simulator", ErrorKind::Bug, message));
                }
                if !did {
                    match generation.wakes_at() {
                        Some(at) => self.now = self.now.max(at),
                        None => return Err(DataflowError::new("simulator", ErrorKind::Bug, "nothing can happen any more")),
                    }
                }
            }
        }
        Ok(false)
    }

    /// Lets the next fault happen if it is its turn.
    fn strike(&mut self) {
        let Some(fault) = self.scenario.faults.get(self.next_fault).copied() else { return };
        if self.steps_since_fault > fault.after + FAULT_PATIENCE {
            self.next_fault += 1;
            return;
        }
        let aimed = fault.point != Point::Anywhere;
        if self.steps_since_fault < fault.after || (aimed && !self.random.one_in(3)) {
            return;
        }
        match &mut self.phase {
            Phase::Starting(_) => {
                if !matches!(fault.point, Point::Restore | Point::Anywhere) || fault.kind != FaultKind::Crash {
                    return;
                }
                self.workers = fault.workers;
                self.restart();
            }
            Phase::Running(generation) => {
                if fault.point == Point::Restore || !generation.is_at(fault.point) {
                    return;
                }
                match fault.kind {
                    FaultKind::Crash | FaultKind::Zombie => {
                        self.workers = fault.workers;
                        let mut old = self.leave();
                        if fault.kind == FaultKind::Zombie {
                            if self.writes_at_once {
                                // What it read beside its successor would be written by both.
                                old.iter_mut().for_each(|old| old.dry_up());
                            }
                            self.zombies.extend(old.map(|old| (ZOMBIE_STEPS, old)));
                        }
                        self.restart();
                    }
                    FaultKind::Suspend => {
                        self.workers = fault.workers;
                        generation.say(Event::Stop);
                    }
                    FaultKind::Savepoint => generation.say(Event::Savepoint(format!("sp-{}", self.next_fault))),
                }
            }
        }
        *self.outcome.faults.entry((fault.point, fault.kind)).or_default() += 1;
        self.next_fault += 1;
        self.steps_since_fault = 0;
    }

    fn restart(&mut self) {
        let begin = start(self.protocol.clone(), Arc::clone(&self.plan), self.workers);
        self.phase = Phase::Starting(Io::new(begin));
    }

    /// Takes the running generation out, with its figures.
    fn leave(&mut self) -> Option<Box<Generation>> {
        let idle = Io::new(start(self.protocol.clone(), Arc::clone(&self.plan), self.workers));
        match std::mem::replace(&mut self.phase, Phase::Starting(idle)) {
            Phase::Running(generation) => {
                self.outcome.checkpoints += generation.checkpoints;
                self.outcome.abandoned += generation.abandoned;
                Some(generation)
            }
            Phase::Starting(_) => None,
        }
    }

    fn step_zombie(&mut self) -> Result<()> {
        let index = self.random.below(self.zombies.len() as u64) as usize;
        let (left, generation) = &mut self.zombies[index];
        let mut around = Around { random: &mut self.random, now: self.now, trace: &mut self.outcome.trace, bug: self.scenario.bug };
        let alive = generation.step(&mut around)?;
        *left -= 1;
        if !alive || *left == 0 || generation.fenced || generation.over().is_some() {
            self.zombies.swap_remove(index);
        }
        Ok(())
    }

    fn judge(mut self) -> Result<Outcome> {
        audit::log(&self.objects)?;
        let warehouse = sink::lock(&self.warehouse);
        for id in self.connectors.sinks.keys() {
            self.outcome.results.insert(id.clone(), oracle::result(warehouse.visible(id))?);
        }
        self.outcome.repeated_commits = warehouse.repeated();
        drop(warehouse);
        Ok(self.outcome)
    }
}
