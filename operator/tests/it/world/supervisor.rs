//! [pure] A supervisor in a worker pod, as the operator sees it, and the store that its job keeps its state in.

use std::collections::BTreeMap;

use rheos_control_api::{Assignment, CheckpointView, Failure, JobView, Judgement, Phase, SavepointView, judge};

/// What a job has saved under one state id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Store {
    /// The generation that was minted last.
    pub(crate) generation: u64,
    /// The epoch of the last checkpoint.
    pub(crate) epoch: u64,
    /// What the state began from, if not from nothing.
    pub(crate) restored: Option<String>,
}

/// A supervisor.
#[derive(Debug, Clone, Default)]
pub(crate) struct Supervisor {
    /// Its pod.
    pub(crate) pod: String,
    /// What it was told last.
    pub(crate) assignment: Option<Assignment>,
    /// What it says of the job.
    pub(crate) view: JobView,
    /// State id and generation of the engines that it runs.
    pub(crate) running: Option<(String, u64)>,
    /// What the engines were started with.
    started_with: Option<Assignment>,
    stop: bool,
}

impl Supervisor {
    pub(crate) fn new(pod: &str) -> Self {
        Self { pod: pod.to_owned(), view: JobView { version: 1, ..JobView::default() }, ..Self::default() }
    }

    pub(crate) fn runs(&self) -> bool {
        self.running.is_some()
    }

    /// `PUT /v1/assignment`; the refusal is 409.
    pub(crate) fn assign(&mut self, new: &Assignment) -> Result<JobView, String> {
        match judge(self.assignment.as_ref(), new) {
            Judgement::Known => {}
            Judgement::Take => {
                self.assignment = Some(new.clone());
                self.stop = false;
                self.view.assignment = Some(new.version);
                self.view.coordinator = true;
                self.view.failure = None;
                self.view.version += 1;
                let same = |old: &Assignment| {
                    let bare = |it: &Assignment| Assignment { version: 0, restore: None, ..it.clone() };
                    bare(old) == bare(new)
                };
                if !(self.runs() && self.started_with.as_ref().is_some_and(same)) {
                    self.view.state = Phase::Deploying;
                }
            }
            Judgement::Conflict => return Err("this version says something else".to_owned()),
            Judgement::Stale { known } => return Err(format!("version {known} is known")),
        }
        Ok(self.view.clone())
    }

    /// `POST /v1/stop`.
    pub(crate) fn stop(&mut self) -> JobView {
        if !self.stop && self.assignment.is_some() {
            self.stop = true;
            self.view.stopping = true;
            self.view.version += 1;
        }
        self.view.clone()
    }

    /// `POST /v1/savepoints`.
    pub(crate) fn savepoint(&mut self, id: &str) -> Result<(), String> {
        if !self.runs() {
            return Err("the job does not run".to_owned());
        }
        if !self.view.savepoints.contains_key(id) {
            self.view.savepoints.insert(id.to_owned(), SavepointView::Pending);
            self.view.version += 1;
        }
        Ok(())
    }

    /// The pod goes: a last checkpoint, and the engines end.
    pub(crate) fn leave(&mut self, stores: &mut BTreeMap<String, Store>) {
        self.checkpoint(stores);
        self.running = None;
        self.view.state = Phase::Suspended;
        self.view.version += 1;
    }

    fn checkpoint(&mut self, stores: &mut BTreeMap<String, Store>) {
        let Some((state_id, generation)) = &self.running else { return };
        let store = stores.entry(state_id.clone()).or_default();
        store.epoch += 1;
        self.view.checkpoints.completed += 1;
        self.view.checkpoints.history.push(CheckpointView {
            generation: *generation,
            epoch: store.epoch,
            record: store.epoch,
            bytes: 1,
            duration_ms: 1.0,
            completed_at: 0,
        });
    }

    /// One step. `alive` are the pods that run, `others` the engines of other supervisors: pod and state id.
    pub(crate) fn step(
        &mut self,
        stores: &mut BTreeMap<String, Store>,
        alive: &[String],
        others: &[(String, String)],
        violations: &mut Vec<String>,
    ) -> bool {
        let Some(assignment) = self.assignment.clone() else { return false };
        let before = self.view.clone();
        let complete = assignment.members.iter().all(|member| alive.contains(&member.pod));
        match self.view.state {
            Phase::Running if self.stop => {
                self.checkpoint(stores);
                self.running = None;
                self.view.state = Phase::Suspended;
                self.view.stopping = false;
            }
            Phase::Running if !complete => {
                self.running = None;
                self.view.state = Phase::Failing;
                self.view.restarts.count += 1;
                self.view.restarts.last_cause = Some("a member was lost".to_owned());
            }
            Phase::Running => self.work(stores),
            Phase::Deploying | Phase::Failing if self.stop => self.view.state = Phase::Suspended,
            Phase::Deploying | Phase::Failing if complete => self.begin(&assignment, stores, others, violations),
            _ => {}
        }
        if self.view != before {
            self.view.version += 1;
        }
        self.view != before
    }

    fn work(&mut self, stores: &mut BTreeMap<String, Store>) {
        let Some((state_id, generation)) = self.running.clone() else { return };
        if stores.get(&state_id).is_some_and(|store| store.generation > generation) {
            self.running = None;
            self.view.state = Phase::Failed;
            let message = "another coordinator has taken over".to_owned();
            self.view.failure = Some(Failure { kind: "fenced".into(), place: "coordinator".into(), message });
            return;
        }
        if !self.view.checkpoints.history.iter().any(|checkpoint| checkpoint.generation == generation) {
            self.checkpoint(stores);
        }
        let epoch = stores.get(&state_id).map_or(0, |store| store.epoch);
        for (id, savepoint) in &mut self.view.savepoints {
            if *savepoint == SavepointView::Pending {
                *savepoint = SavepointView::Completed { uri: format!("s3://b/{state_id}/savepoints/{id}"), epoch };
            }
        }
    }

    fn begin(
        &mut self,
        assignment: &Assignment,
        stores: &mut BTreeMap<String, Store>,
        others: &[(String, String)],
        violations: &mut Vec<String>,
    ) {
        if self.runs() {
            self.checkpoint(stores);
        }
        let state_id = &assignment.state_id;
        if let Some((other, _)) = others.iter().find(|(_, state)| state == state_id) {
            violations.push(format!("{} begins on state {state_id} while {other} still runs on it", self.pod));
        }
        let store = stores.entry(state_id.clone()).or_default();
        if store.epoch == 0 && store.generation == 0 {
            store.restored = assignment.restore.as_ref().map(|restore| restore.uri.clone());
        }
        store.generation += 1;
        self.running = Some((state_id.clone(), store.generation));
        self.started_with = Some(assignment.clone());
        self.view.generation = store.generation;
        self.view.parallelism = assignment.parallelism;
        self.view.state = Phase::Running;
    }
}
