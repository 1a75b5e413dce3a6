//! [pure] A model of all that a decision acts on: the apiserver's objects, pods that start and end, coordinators that mint
//! generations. Time moves when the test says so. What a job does is in its SQL: `SELECT …` works, `BAD …` cannot read the
//! state, `HANG …` never completes a checkpoint, `CRASH …` never becomes ready, `END …` finishes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use jiff::{SignedDuration, Timestamp};
use rheos_api::savepoint::{SavepointPhase, SavepointSpec};
use rheos_api::status::{Phase, StreamJobStatus};
use rheos_api::stream_job::Storage;
use rheos_api::{StreamJob, StreamJobSpec};
use rheos_control_api::{Assignment, CheckpointView, Failure, JobView, Judgement, SavepointView, judge};

use crate::build;
use crate::labels;
use crate::lifecycle::decide;
use crate::reconcile::*;

/// A condition that is true for this reason.
pub(super) fn yes(reason: &str) -> (String, String) {
    ("True".to_owned(), reason.to_owned())
}

/// A condition that is false for this reason.
pub(super) fn no(reason: &str) -> (String, String) {
    ("False".to_owned(), reason.to_owned())
}

/// One job and its surroundings.
pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) job: Identity,
    pub(super) spec: StreamJobSpec,
    pub(super) status: StreamJobStatus,
    pub(super) snapshots: Vec<Snapshot>,
    pub(super) pods: BTreeMap<String, ModelPod>,
    pub(super) savepoints: BTreeMap<String, SavepointFacts>,
    pub(super) refusals: Vec<Refusal>,
    /// By state id: generations minted, and the newest checkpoint's SQL.
    pub(super) store: BTreeMap<String, Place>,
    /// What must never happen and did.
    pub(super) violations: Vec<String>,
    /// What was said.
    pub(super) events: Vec<EventNote>,
    /// What was done, by name.
    pub(super) done: Vec<String>,
    /// More pods than this find no room.
    pub(super) room: usize,
    /// How long a pod that is deleted takes to go, seconds; it leads meanwhile.
    pub(super) leave: i64,
    /// Whether savepoints fail.
    pub(super) savepoints_fail: bool,
    /// Whether the job hangs when it shall stop.
    pub(super) stops_hang: bool,
    /// Whether the operator has not looked at the job before.
    pub(super) first_look: bool,
    surroundings: (bool, bool),
    serial: u32,
}

/// The job's place in the store for one state id.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    pub(super) generation: u64,
    pub(super) epoch: u64,
    /// Where the first checkpoint came from.
    pub(super) from: Option<String>,
}

/// A pod, with what runs in it.
#[derive(Debug, Clone)]
pub(super) struct ModelPod {
    pub(super) facts: PodFacts,
    /// Its node is away: it neither answers nor goes.
    pub(super) lost: bool,
    sql: String,
    pub(super) known: Option<Assignment>,
    pub(super) view: Option<JobView>,
}

impl World {
    /// A job with a spec that was just created.
    pub(super) fn new(edit: impl FnOnce(&mut StreamJobSpec)) -> Self {
        let mut spec = StreamJobSpec { sql: Some("SELECT 1".to_owned()), ..StreamJobSpec::default() };
        let uri = "s3://bucket/prefix".to_owned();
        spec.checkpoint.storage = Some(Storage { uri, endpoint: None, region: None, credentials_secret_ref: None });
        edit(&mut spec);
        let job = Identity { name: "q5".into(), namespace: "ns".into(), uid: "u".into(), spec_generation: 1, ..Identity::default() };
        Self {
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            job,
            spec,
            status: StreamJobStatus::default(),
            snapshots: Vec::new(),
            pods: BTreeMap::new(),
            savepoints: BTreeMap::new(),
            refusals: Vec::new(),
            store: BTreeMap::new(),
            violations: Vec::new(),
            events: Vec::new(),
            done: Vec::new(),
            room: usize::MAX,
            leave: 0,
            savepoints_fail: false,
            stops_hang: false,
            first_look: true,
            surroundings: (false, false),
            serial: 0,
        }
    }

    pub(super) fn edit(&mut self, edit: impl FnOnce(&mut StreamJobSpec)) {
        edit(&mut self.spec);
        self.job.spec_generation += 1;
    }

    pub(super) fn observe(&self) -> Observed {
        let metadata = rheos_api::metadata::Metadata { name: self.job.name.clone(), ..Default::default() };
        let manifest = StreamJob {
            api_version: rheos_api::API_VERSION.into(),
            kind: rheos_api::KIND.into(),
            metadata,
            spec: self.spec.clone(),
            status: None,
        };
        let wanted = match rheos_api::validate(&manifest) {
            Ok(job) => Wanted::Valid { spec: Box::new(self.spec.clone()), job: Box::new(job) },
            Err(errors) => Wanted::Invalid(errors),
        };
        Observed {
            job: self.job.clone(),
            wanted,
            status: self.status.clone(),
            snapshots: self.snapshots.clone(),
            pods: self.pods.values().map(ModelPod::seen).collect(),
            service: self.surroundings.0,
            budget: self.surroundings.1,
            savepoints: self.savepoints.values().cloned().collect(),
            refusals: self.refusals.clone(),
            default_image: "worker:1".into(),
            // What was refused was heard by the process that looks again.
            first_look: self.first_look && self.refusals.is_empty(),
        }
    }

    /// One reconcile.
    pub(super) fn reconcile(&mut self) -> Decision {
        self.reconcile_until(usize::MAX)
    }

    /// One reconcile by an operator that dies after `steps` writes; the first is that of the status.
    pub(super) fn reconcile_until(&mut self, steps: usize) -> Decision {
        let decision = decide(&self.observe(), self.now);
        assert_eq!(decision, decide(&self.observe(), self.now), "a decision is deterministic");
        let acts = decision.actions.iter().filter(|action| action.is_act()).count();
        assert!(acts <= 1, "{:?}", decision.actions);
        if steps == 0 {
            return decision;
        }
        // What is written is what is read: no field is lost on its way.
        let text = serde_json::to_string(&decision.status).unwrap();
        self.status = serde_json::from_str(&text).unwrap();
        assert_eq!(self.status, decision.status);
        // Whoever comes after one that died looks for the first time.
        self.first_look = steps != usize::MAX;
        self.events.extend(decision.events.clone());
        self.refusals.clear();
        for action in decision.actions.iter().take(steps - 1) {
            self.done.push(action.name().to_owned());
            self.apply(action);
        }
        decision
    }

    fn uid(&mut self) -> String {
        self.serial += 1;
        format!("uid-{}", self.serial)
    }

    fn apply(&mut self, action: &Action) {
        match action {
            Action::AddFinalizer => self.job.finalizer = true,
            Action::RemoveFinalizer => self.job.finalizer = false,
            Action::CreateToken(_) => {}
            Action::CreateService(_) => self.surroundings.0 = true,
            Action::CreatePdb(_) => self.surroundings.1 = true,
            Action::CreateConfigMap(map) => {
                let mut map = map.as_ref().clone();
                map.metadata.uid = Some(self.uid());
                let mut snapshot = build::config_map::read(&map).unwrap();
                snapshot.created = Some(self.now);
                if self.snapshots.iter().all(|known| known.revision != snapshot.revision) {
                    self.snapshots.push(snapshot);
                }
            }
            Action::DeleteConfigMap(target) => self.snapshots.retain(|snapshot| snapshot.uid != target.uid),
            Action::CreatePod(pod) => self.create(pod),
            Action::DeletePod { target, .. } => {
                let now = self.now;
                if let Some(pod) = self.pods.get_mut(&target.name).filter(|pod| pod.facts.uid == target.uid) {
                    pod.facts.deleting_since.get_or_insert(now);
                }
            }
            Action::Assign { pod, assignment, .. } => self.assign(pod, assignment),
            Action::Stop { pod, .. } => {
                if let Some(view) = self.pods.get_mut(pod).and_then(|pod| pod.view.as_mut()) {
                    view.stopping = true;
                }
            }
            Action::Savepoint { pod, id, .. } => {
                if let Some(view) = self.pods.get_mut(pod).and_then(|pod| pod.view.as_mut()) {
                    view.savepoints.entry(id.clone()).or_insert(SavepointView::Pending);
                }
            }
            Action::CreateSavepoint { name, object } => {
                let labels = serde_json::from_value(object["metadata"]["labels"].clone()).unwrap();
                let spec: SavepointSpec = serde_json::from_value(object["spec"].clone()).unwrap();
                self.savepoint(name, labels, spec);
            }
            Action::WriteSavepoint { target, status } => {
                if let Some(savepoint) = self.savepoints.get_mut(&target.name) {
                    savepoint.status = (**status).clone();
                }
            }
            Action::DeleteSavepoint(target) => {
                self.savepoints.remove(&target.name);
            }
        }
    }

    /// A person's, or the operator's, Savepoint.
    pub(super) fn savepoint(&mut self, name: &str, labels: BTreeMap<String, String>, spec: SavepointSpec) {
        let facts = SavepointFacts {
            name: name.to_owned(),
            uid: self.uid(),
            resource_version: "1".into(),
            created: Some(self.now),
            deleting_since: None,
            finalizer: true,
            labels,
            annotations: BTreeMap::new(),
            spec,
            status: Default::default(),
        };
        self.savepoints.entry(name.to_owned()).or_insert(facts);
    }

    fn create(&mut self, pod: &k8s_openapi::api::core::v1::Pod) {
        let name = pod.metadata.name.clone().unwrap();
        if self.pods.contains_key(&name) {
            return;
        }
        let label = |label: &str| pod.metadata.labels.as_ref().unwrap()[label].clone();
        let revision = label(labels::REVISION);
        let snapshot = self.snapshots.iter().find(|snapshot| snapshot.revision == revision);
        let Some(snapshot) = snapshot else {
            self.violations.push(format!("pod {name} mounts a snapshot that is not there"));
            return;
        };
        let sql = snapshot.spec.sql.clone().unwrap();
        let uid = self.uid();
        let facts = PodFacts {
            name: name.clone(),
            uid,
            resource_version: "1".into(),
            revision,
            index: label(labels::INDEX).parse().unwrap(),
            incarnation: label(labels::INCARNATION).parse().unwrap(),
            created: Some(self.now),
            phase: "Pending".into(),
            ..PodFacts::default()
        };
        self.pods.insert(name, ModelPod { facts, lost: false, sql, known: None, view: None });
    }

    fn assign(&mut self, name: &str, assignment: &Assignment) {
        let others: Vec<String> = self
            .pods
            .values()
            .filter(|pod| pod.facts.name != name && !pod.lost && pod.leads(&assignment.state_id))
            .map(|pod| pod.facts.name.clone())
            .collect();
        if !others.is_empty() {
            self.violations.push(format!("{name} was told to lead while {others:?} lead the same state"));
        }
        let Some(pod) = self.pods.get(name).filter(|pod| !pod.lost) else { return };
        match judge(pod.known.as_ref(), assignment) {
            Judgement::Known => return,
            Judgement::Take => {}
            Judgement::Conflict | Judgement::Stale { .. } => {
                let object = name.to_owned();
                self.refusals.push(Refusal { action: "Assign", object, code: 409, ..Refusal::default() });
                return;
            }
        }
        let same = pod.known.as_ref().is_some_and(|known| {
            Assignment { version: assignment.version, checkpoint: assignment.checkpoint, ..known.clone() } == *assignment
        });
        let live = pod.leads(&assignment.state_id);
        let generation = match same && live {
            true => self.store[&assignment.state_id].generation,
            false => self.mint(&assignment.state_id, assignment),
        };
        let pod = self.pods.get_mut(name).unwrap();
        pod.known = Some(assignment.clone());
        let view = pod.view.get_or_insert_default();
        view.assignment = Some(assignment.version);
        view.coordinator = true;
        if !(same && live) {
            view.generation = generation;
            view.state = Phase::Deploying;
            view.stopping = false;
            view.failure = None;
            view.parallelism = assignment.parallelism;
        }
    }

    /// A new generation; every other one of the state is fenced.
    fn mint(&mut self, state_id: &str, assignment: &Assignment) -> u64 {
        let place = self.store.entry(state_id.to_owned()).or_default();
        if place.epoch == 0 {
            place.from = assignment.restore.as_ref().map(|restore| restore.uri.clone());
        }
        place.generation += 1;
        let generation = place.generation;
        for pod in self.pods.values_mut().filter(|pod| pod.leads(state_id)) {
            if let Some(view) = &mut pod.view {
                view.state = Phase::Failed;
                view.failure = Some(Failure { kind: "fenced".into(), place: "store".into(), message: "superseded".into() });
            }
        }
        generation
    }

    /// Lets time pass and everything around the operator do what it does.
    pub(super) fn tick(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
        let gone = self.now - SignedDuration::from_secs(self.leave);
        self.pods.retain(|_, pod| pod.lost || pod.facts.deleting_since.is_none_or(|since| since > gone));
        let mut room = self.room.saturating_sub(self.pods.values().filter(|pod| pod.facts.phase == "Running").count());
        for pod in self.pods.values_mut() {
            let waits = pod.facts.phase == "Pending";
            pod.start(room > 0);
            room -= usize::from(waits && pod.facts.phase == "Running");
        }
        let usable: Vec<String> = self.pods.values().filter(|pod| pod.facts.ready && !pod.lost).map(|pod| pod.facts.name.clone()).collect();
        let names: Vec<String> = self.pods.keys().cloned().collect();
        for name in names {
            self.run(&name, &usable);
        }
    }

    fn run(&mut self, name: &str, usable: &[String]) {
        let (now, savepoints_fail, stops_hang) = (self.now, self.savepoints_fail, self.stops_hang);
        let Some(pod) = self.pods.get_mut(name).filter(|pod| !pod.lost) else { return };
        let (Some(known), Some(view)) = (&pod.known, &mut pod.view) else { return };
        if !matches!(view.state, Phase::Deploying | Phase::Running | Phase::Failing) {
            return;
        }
        view.version += 1;
        if !known.members.iter().all(|member| usable.contains(&member.pod)) {
            view.state = Phase::Failing;
            return;
        }
        let place = self.store.get_mut(&known.state_id).unwrap();
        if view.state == Phase::Failing {
            place.generation += 1;
            view.generation = place.generation;
        }
        let word = pod.sql.split(' ').next().unwrap_or_default();
        if word == "BAD" {
            view.state = Phase::Failed;
            view.failure = Some(Failure { kind: "bad state".into(), place: "store".into(), message: "not of this SQL".into() });
            return;
        }
        let was_running = view.state == Phase::Running;
        view.state = Phase::Running;
        if was_running && word != "HANG" {
            place.epoch += 1;
            let view_of = |epoch| CheckpointView {
                generation: view.generation,
                epoch,
                record: epoch,
                bytes: 1,
                duration_ms: 1.0,
                completed_at: now.as_millisecond(),
            };
            let checkpoint = view_of(place.epoch);
            view.checkpoints.history.push(checkpoint);
            for (id, savepoint) in view.savepoints.iter_mut().filter(|(_, savepoint)| **savepoint == SavepointView::Pending) {
                *savepoint = match savepoints_fail {
                    true => SavepointView::Failed { reason: "no such bucket".into() },
                    false => SavepointView::Completed { uri: format!("s3://bucket/savepoints/{id}"), epoch: place.epoch },
                };
            }
        }
        if view.stopping && !stops_hang {
            view.state = Phase::Suspended;
        } else if word == "END" && was_running {
            view.state = Phase::Finished;
        }
    }

    /// Reconciles and lets time pass until the world is as asked for.
    pub(super) fn until(&mut self, what: &str, wanted: impl Fn(&Self) -> bool) {
        for _ in 0..400 {
            self.reconcile();
            if wanted(self) {
                return;
            }
            self.tick(2);
        }
        panic!("never came: {what}\nstatus: {:#?}\npods: {:#?}", self.status, self.pods.keys());
    }

    pub(super) fn until_running(&mut self) {
        self.until("a settled running job", |world| world.is_settled());
    }

    /// Whether the job runs as its spec says, and nothing changes.
    pub(super) fn is_settled(&self) -> bool {
        let run = self.status.assigned.as_ref().map(|assigned| assigned.run.clone()).unwrap_or_default();
        self.status.phase == Phase::Running
            && self.status.rollout.is_none()
            && run.parallelism == self.spec.parallelism
            && self.status.parallelism.running == self.spec.parallelism
            && self.status.stable.as_ref() == Some(&run)
            && self.pods.len() == self.spec.parallelism as usize
            && (self.status.rejected.is_some() || self.sql() == self.spec.sql.clone().unwrap_or_default())
    }

    /// The SQL that runs.
    pub(super) fn sql(&self) -> String {
        let name = self.status.assigned.as_ref().map(|assigned| assigned.coordinator.clone()).unwrap_or_default();
        self.pods
            .get(&name)
            .filter(|pod| pod.view.as_ref().is_some_and(|view| view.state == Phase::Running))
            .map(|pod| pod.sql.clone())
            .unwrap_or_default()
    }

    /// The condition of a type: its status and reason.
    pub(super) fn condition(&self, kind: &str) -> (String, String) {
        let condition = crate::conditions::get(&self.status.conditions, kind);
        condition.map(|condition| (condition.status.clone(), condition.reason.clone())).unwrap_or_default()
    }

    pub(super) fn has_event(&self, reason: &str) -> bool {
        self.events.iter().any(|event| event.reason == reason)
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.pods.keys().map(String::as_str).collect()
    }

    pub(super) fn phase_of(&self, savepoint: &str) -> Option<SavepointPhase> {
        self.savepoints.get(savepoint).map(|savepoint| savepoint.status.phase)
    }

    /// Nothing is done and nothing is written, however often it is looked at.
    pub(super) fn assert_at_rest(&mut self) {
        // A write of figures alone may be due.
        self.reconcile();
        for _ in 0..20 {
            let before = self.status.clone();
            let decision = self.reconcile();
            assert!(decision.actions.is_empty(), "{:?}\n{:#?}", decision.actions, self.status);
            assert_eq!(decision.status, before);
            self.now += SignedDuration::from_secs(1);
        }
    }
}

impl ModelPod {
    /// As the operator sees it.
    fn seen(&self) -> PodFacts {
        let answer = match &self.view {
            _ if self.facts.index != 0 || self.facts.address.is_none() => Answer::NotAsked,
            _ if self.lost => Answer::Silent("no route".into()),
            Some(view) => Answer::View(Box::new(view.clone())),
            None => Answer::View(Box::default()),
        };
        PodFacts { answer, ..self.facts.clone() }
    }

    /// Whether it leads a job with this state, and engines run.
    fn leads(&self, state_id: &str) -> bool {
        let live = self.view.as_ref().is_some_and(|view| matches!(view.state, Phase::Deploying | Phase::Running | Phase::Failing));
        live && self.known.as_ref().is_some_and(|known| known.state_id == state_id)
    }

    fn start(&mut self, room: bool) {
        if self.lost || self.facts.phase == "Failed" || self.facts.ready {
            return;
        }
        if self.facts.phase == "Pending" && !room {
            self.facts.unscheduled = Some(("Unschedulable".into(), "0/1 nodes are available: insufficient cpu".into()));
            return;
        }
        self.facts.unscheduled = None;
        self.facts.phase = "Running".into();
        if self.sql.starts_with("CRASH") {
            self.facts.container.waiting = Some(("CrashLoopBackOff".into(), "back-off".into()));
            self.facts.container.last_end = Some(("Error".into(), 1, "no such table".into()));
            return;
        }
        let serial: u32 = self.facts.uid.trim_start_matches("uid-").parse().unwrap();
        self.facts.address = Some(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + serial)));
        self.facts.ready = true;
        self.facts.container.running = true;
    }

    /// The container is started anew; its files stay.
    pub(super) fn restart(&mut self) {
        if let Some(view) = &mut self.view
            && view.state == Phase::Running
        {
            view.state = Phase::Failing;
        }
    }

    /// The container is started anew, and has lost its files.
    pub(super) fn forget(&mut self) {
        self.known = None;
        self.view = None;
    }
}
