//! [io] The operator in its world, one step at a time: the real reconciles on a virtual clock, over the model of the
//! apiserver, with watch events that the harness delivers, and with a death wherever the plan says.
//!
//! The reconciles, the caches and the queue are the operator's own. What is not: the watch streams (their events are
//! taken from the server's log) and the followers (a change of a pod's view wakes the job).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;
use rheos_operator::io::cache::{Cache, Changed, Fact, Item, Key as Name};
use rheos_operator::io::operator::{Caches, Settings};
use rheos_operator::io::token::MasterKey;
use rheos_operator::io::{Operator, facts, savepoint, stream_job};
use rheos_operator::runtime::backoff;
use rheos_operator::runtime::leader::Leadership;
use rheos_operator::runtime::metrics::Metrics;
use rheos_operator::runtime::queue::Queue;
use rheos_operator::runtime::runner::Next;
use serde_json::Value;

use crate::apiserver::{ApiServer, Change, Entry, Key};
use crate::world::{ModelWorkers, Shared, World};

/// What happens to one of the watch events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WatchFault {
    /// It is lost; a later list makes up for it.
    Drop,
    /// It comes after everything else that is on its way.
    Delay,
    /// It comes twice.
    Repeat,
}

/// How a new operator process sees the world first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    /// As it is.
    Fresh,
    /// As it was when the disturbed part began.
    Stale,
}

/// What the harness reconciles.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Job(Name),
    Savepoint(Name),
}

/// How long nothing may change before the world counts as at rest: longer than any deadline of a job.
const QUIET: Duration = Duration::from_secs(400);
/// Steps after which a run is said not to come to rest.
const STEPS: usize = 4000;

/// The operator and its world.
pub(crate) struct Harness {
    pub(crate) server: ApiServer,
    pub(crate) world: Shared,
    operator: Operator<ModelWorkers>,
    clock: Arc<AtomicI64>,
    queue: Queue<Target>,
    failures: BTreeMap<Target, u32>,
    /// How far the log was delivered.
    delivered: u64,
    /// Where the disturbed part began.
    since: u64,
    views: BTreeMap<String, u64>,
    fault: Option<(usize, WatchFault)>,
    events: usize,
    held: Vec<Entry>,
    lost: bool,
    restart_view: View,
    /// Whether the new process still acts on its first, old list: no event has reached it.
    blind: bool,
    /// Errors of reconciles, for people.
    pub(crate) errors: Vec<String>,
}

fn operator(server: &ApiServer, world: &Shared, clock: &Arc<AtomicI64>) -> Operator<ModelWorkers> {
    let workers = Arc::new(ModelWorkers { world: Arc::clone(world), faults: server.faults.clone() });
    let settings = Settings { worker_image: "rheos/worker:test".into(), default_storage: None };
    let key = MasterKey::new(&[7; 32]).unwrap();
    let (metrics, _) = Metrics::new();
    let (leadership, metrics) = (Leadership::always(), Arc::new(metrics));
    let mut operator = Operator::new(server.client(), workers, key, settings, leadership, metrics, "operator-0".into());
    let clock = Arc::clone(clock);
    operator.clock = Arc::new(move || Timestamp::from_second(clock.load(Ordering::SeqCst)).unwrap());
    operator
}

impl Harness {
    /// An operator that starts in this world.
    pub(crate) fn new(server: ApiServer, world: World, now: i64) -> Self {
        let (world, clock) = (Arc::new(Mutex::new(world)), Arc::new(AtomicI64::new(now)));
        server.state().now = now;
        let since = server.state().version();
        let mut harness = Self {
            operator: operator(&server, &world, &clock),
            since,
            server,
            world,
            clock,
            queue: Queue::default(),
            failures: BTreeMap::new(),
            delivered: 0,
            views: BTreeMap::new(),
            fault: None,
            events: 0,
            held: Vec::new(),
            lost: false,
            restart_view: View::Fresh,
            blind: false,
            errors: Vec::new(),
        };
        harness.list(None);
        harness
    }

    /// The same world again, with a new operator in it that has seen all of it.
    pub(crate) fn fork(&self) -> Self {
        let world = self.world.lock().unwrap().clone();
        let mut fork = Self::new(self.server.fork(), world, self.clock.load(Ordering::SeqCst));
        fork.queue = Queue::default();
        fork.look_at_views();
        fork.queue = Queue::default();
        fork
    }

    /// Something is going to be disturbed from here on.
    pub(crate) fn disturb(&mut self, watch: Option<(usize, WatchFault)>, restart_view: View) {
        self.since = self.server.state().version();
        (self.fault, self.events, self.restart_view) = (watch, 0, restart_view);
    }

    /// Watch events that were delivered since [`Self::disturb`].
    pub(crate) fn events(&self) -> usize {
        self.events
    }

    fn now(&self) -> Duration {
        Duration::from_secs(u64::try_from(self.clock.load(Ordering::SeqCst)).unwrap())
    }

    /// Runs until nothing has moved for [`QUIET`]. The number of steps it took.
    pub(crate) async fn rest(&mut self) -> Result<usize, String> {
        let (mut before, mut since) = (self.mark(), self.now());
        for step in 0..STEPS {
            let moved = { self.world.lock().unwrap().step(&self.server) };
            if !self.blind {
                self.deliver();
                self.look_at_views();
            }
            if let Some(target) = self.queue.pop(self.now()) {
                self.reconcile(target).await;
            } else if std::mem::take(&mut self.blind) {
                // Everything was reconciled once by the old list; now the watches catch up.
            } else if !moved && !self.make_up() {
                let mark = self.mark();
                if mark != before {
                    (before, since) = (mark, self.now());
                }
                if self.now() >= since + QUIET || !self.wait() {
                    return Ok(step);
                }
            }
        }
        Err(format!("does not come to rest; last errors: {:?}", self.errors.iter().rev().take(3).collect::<Vec<_>>()))
    }

    /// Runs while there is something to do at once; the rest of the world stands still.
    pub(crate) async fn alone(&mut self) {
        self.deliver();
        while let Some(target) = self.queue.pop(self.now()) {
            self.reconcile(target).await;
            self.deliver();
        }
    }

    /// `times` reconciles of everything, by time alone. The writes that they made.
    pub(crate) async fn idle(&mut self, times: usize) -> Vec<String> {
        let before = self.server.faults.names().len();
        for _ in 0..times {
            self.wait();
            self.push_all();
            while let Some(target) = self.queue.pop(self.now()) {
                self.reconcile(target).await;
            }
        }
        self.server.faults.names().split_off(before)
    }

    fn mark(&self) -> (u64, usize) {
        (self.server.state().version(), self.server.faults.writes())
    }

    /// Lets time pass until the next key is due.
    fn wait(&mut self) -> bool {
        let Some(due) = self.queue.next_due() else { return false };
        let seconds = i64::try_from(due.as_secs_f64().ceil() as u64).unwrap();
        let now = seconds.max(self.clock.load(Ordering::SeqCst));
        self.clock.store(now, Ordering::SeqCst);
        self.server.state().now = now;
        true
    }

    async fn reconcile(&mut self, target: Target) {
        let died = self.server.faults.clone();
        let outcome = {
            let work = async {
                match &target {
                    Target::Job(key) => stream_job::reconcile(&self.operator, None, key).await,
                    Target::Savepoint(key) => savepoint::reconcile(&self.operator, key).await,
                }
            };
            tokio::select! {
                biased;
                outcome = work => Some(outcome),
                () = died.died() => None,
            }
        };
        self.server.state().reconciled(outcome.is_some());
        let now = self.now();
        let again = match outcome {
            None => None,
            Some(Ok(next)) => {
                self.failures.remove(&target);
                match next {
                    Next::After(delay) => Some(now + delay),
                    Next::OnChange => None,
                }
            }
            Some(Err(error)) => {
                self.errors.push(error.to_string());
                let attempt = self.failures.entry(target.clone()).or_default();
                *attempt += 1;
                Some(now + backoff::delay("test", *attempt))
            }
        };
        self.queue.done(&target, now, again);
        if self.server.faults.restart() {
            self.restart();
        }
    }

    /// The operator's process has died; a new one starts.
    fn restart(&mut self) {
        self.operator = operator(&self.server, &self.world, &self.clock);
        self.queue = Queue::default();
        self.failures.clear();
        self.views.clear();
        self.held.clear();
        self.blind = self.restart_view == View::Stale;
        let at = self.blind.then_some(self.since);
        self.list(at);
    }

    /// Lists everything, as it is or as it was, and asks for a reconcile of all of it.
    fn list(&mut self, at: Option<u64>) {
        let (objects, version) = {
            let state = self.server.state();
            match at {
                Some(version) => (state.at(version), version),
                None => (state.objects().clone(), state.version()),
            }
        };
        self.bracket(false);
        for (key, object) in &objects {
            self.take(key, object, false, true);
        }
        self.bracket(true);
        self.delivered = version;
        self.push_all();
    }

    fn push_all(&mut self) {
        let now = self.now();
        for key in self.operator.caches.jobs.keys() {
            self.queue.push(Target::Job(key), now);
        }
        for key in self.operator.caches.savepoints.keys() {
            self.queue.push(Target::Savepoint(key), now);
        }
    }

    /// Delivers what the server's log has more than what was delivered.
    fn deliver(&mut self) {
        let news: Vec<Entry> = self.server.state().after(self.delivered).to_vec();
        for entry in news {
            self.delivered = entry.version;
            if !is_watched(&entry.key, &entry.object) {
                continue;
            }
            let number = self.events;
            self.events += 1;
            match self.fault {
                Some((nth, WatchFault::Drop)) if nth == number => self.lost = true,
                Some((nth, WatchFault::Delay)) if nth == number => self.held.push(entry),
                Some((nth, WatchFault::Repeat)) if nth == number => {
                    self.hear(&entry);
                    self.hear(&entry);
                }
                _ => self.hear(&entry),
            }
        }
    }

    /// What was held back comes now; what was lost is made up for by a list. Whether there was any.
    fn make_up(&mut self) -> bool {
        let held = std::mem::take(&mut self.held);
        held.iter().for_each(|entry| self.hear(entry));
        let lost = std::mem::take(&mut self.lost);
        if lost {
            self.list(None);
        }
        lost || !held.is_empty()
    }

    fn hear(&mut self, entry: &Entry) {
        self.take(&entry.key, &entry.object, entry.change == Change::Deleted, false);
    }

    /// One object goes into its cache and wakes whom it concerns, by the operator's own functions.
    fn take(&mut self, key: &Key, object: &Value, deleted: bool, listed: bool) {
        if !is_watched(key, object) {
            return;
        }
        let caches: Caches = self.operator.caches.clone();
        let role = &object["metadata"]["labels"]["rheos.dev/role"];
        let meta = || serde_json::from_value::<PartialObjectMeta>(object.clone()).unwrap();
        match key.plural {
            "streamjobs" => {
                let now = self.now();
                for changed in apply(&caches.jobs, facts::job_mark(&meta().metadata), deleted, listed) {
                    match changed.new {
                        true => self.queue.push_first(Target::Job(changed.key), now),
                        false => self.queue.push(Target::Job(changed.key), now),
                    }
                }
            }
            "pods" if role == "disposal" => {
                let pod = serde_json::from_value(object.clone()).unwrap();
                for changed in apply(&caches.disposals, facts::disposal(&pod), deleted, listed) {
                    self.queue.push(Target::Savepoint(changed.owner), self.now());
                }
            }
            "pods" => {
                let pod = serde_json::from_value(object.clone()).unwrap();
                self.put(&caches.pods, facts::pod(&pod), deleted, listed, false);
            }
            "configmaps" => self.put(&caches.config_maps, facts::owned(&meta().metadata), deleted, listed, false),
            "services" => self.put(&caches.services, facts::owned(&meta().metadata), deleted, listed, false),
            "poddisruptionbudgets" => self.put(&caches.budgets, facts::owned(&meta().metadata), deleted, listed, false),
            "savepoints" => {
                let item = facts::savepoint(serde_json::from_value(object.clone()).unwrap());
                self.put(&caches.savepoints, item, deleted, listed, true);
            }
            _ => {}
        }
    }

    fn put<F: Fact>(&mut self, cache: &Cache<F>, item: Option<Item<F>>, deleted: bool, listed: bool, savepoint: bool) {
        let now = self.now();
        for changed in apply(cache, item, deleted, listed) {
            self.queue.push(Target::Job(changed.owner), now);
            if savepoint {
                self.queue.push(Target::Savepoint(changed.key), now);
            }
        }
    }

    /// The beginning or the end of a list, in every cache. What went with it wakes its owner.
    fn bracket(&mut self, done: bool) {
        fn event<T>(done: bool) -> Event<T> {
            if done { Event::InitDone } else { Event::Init }
        }
        let (caches, now) = (self.operator.caches.clone(), self.now());
        let mut changed = caches.jobs.apply("", event(done));
        changed.extend(caches.pods.apply("", event(done)));
        changed.extend(caches.config_maps.apply("", event(done)));
        changed.extend(caches.services.apply("", event(done)));
        changed.extend(caches.budgets.apply("", event(done)));
        changed.extend(caches.savepoints.apply("", event(done)));
        for changed in changed {
            self.queue.push(Target::Job(changed.owner), now);
        }
        for changed in caches.disposals.apply("", event(done)) {
            self.queue.push(Target::Savepoint(changed.owner), now);
        }
    }

    /// A pod says something new of its job: what a follower would have heard.
    fn look_at_views(&mut self) {
        let now = self.now();
        let seen: Vec<(String, u64, String)> = {
            let world = self.world.lock().unwrap();
            let supervisors = world.supervisors.iter();
            supervisors.map(|(uid, supervisor)| (uid.clone(), supervisor.view.version, supervisor.pod.clone())).collect()
        };
        for (uid, version, pod) in seen {
            if self.views.insert(uid, version) != Some(version)
                && let Some(job) = self.job_of(&pod)
            {
                self.queue.push(Target::Job(job), now);
            }
        }
    }

    fn job_of(&self, pod: &str) -> Option<Name> {
        let state = self.server.state();
        let (_, object) = state.list("pods").find(|(key, _)| key.name == pod)?;
        Some(Name::new("default", object["metadata"]["labels"]["rheos.dev/job"].as_str()?))
    }
}

fn apply<F: Fact>(cache: &Cache<F>, item: Option<Item<F>>, deleted: bool, listed: bool) -> Vec<Changed> {
    cache.apply(
        "",
        match (deleted, listed) {
            (true, _) => Event::Delete(item),
            (false, true) => Event::InitApply(item),
            (false, false) => Event::Apply(item),
        },
    )
}

/// The selectors of the operator's watches.
fn is_watched(key: &Key, object: &Value) -> bool {
    let labels = &object["metadata"]["labels"];
    let ours = labels["app.kubernetes.io/managed-by"] == "rheos-operator";
    match key.plural {
        "streamjobs" | "savepoints" => true,
        "pods" => ours && (labels.get("rheos.dev/index").is_some() || labels["rheos.dev/role"] == "disposal"),
        "configmaps" => ours && labels.get("rheos.dev/revision").is_some(),
        "services" | "poddisruptionbudgets" => ours,
        _ => false,
    }
}
