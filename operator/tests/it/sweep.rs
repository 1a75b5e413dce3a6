//! [io] The crash sweep: for every operation of a job's life, the operator dies at every write, in every way, and restarts
//! with a fresh or a stale view; every watch event is lost, late or repeated. Every run ends as the undisturbed one does,
//! never has two generations on one state, and then stays: twenty reconciles write nothing.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::apiserver::{ApiServer, Bug, Key, Position};
use crate::harness::{Harness, View, WatchFault};
use crate::world::{BAD_IMAGE, World};

/// Reconciles after a run that must not write.
const IDLE: usize = 20;
/// Where the clock starts.
const START: i64 = 1_800_000_000;

type Act = fn(&Harness);

struct Scenario {
    name: &'static str,
    /// Undisturbed, each brought to rest before the next.
    before: &'static [Act],
    /// What is disturbed.
    act: Act,
    /// What must hold at the end of the undisturbed run.
    check: fn(&Harness),
}

const SCENARIOS: [Scenario; 12] = [
    Scenario { name: "create", before: &[], act: create, check: |all| running(all, 2) },
    Scenario { name: "rescale up", before: &[create], act: |all| parallelism(all, 4), check: |all| running(all, 4) },
    Scenario { name: "rescale down", before: &[create], act: |all| parallelism(all, 1), check: |all| running(all, 1) },
    Scenario { name: "upgrade", before: &[create], act: upgrade, check: upgraded },
    Scenario { name: "upgrade with a savepoint", before: &[create, by_savepoint], act: upgrade, check: upgraded },
    Scenario { name: "roll-back", before: &[create], act: bad_image, check: rolled_back },
    Scenario { name: "savepoint", before: &[create], act: take_savepoint, check: saved },
    Scenario { name: "suspend", before: &[create], act: suspend, check: suspended },
    Scenario { name: "resume", before: &[create, suspend], act: resume, check: |all| running(all, 2) },
    Scenario { name: "restore", before: &[create, take_savepoint], act: restore, check: restored },
    Scenario { name: "delete", before: &[create], act: delete, check: deleted },
    Scenario { name: "lost leader", before: &[create], act: lose_leader, check: |all| running(all, 2) },
];

fn job(name: &str) -> Key {
    Key::new("streamjobs", "default", name)
}

fn manifest(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "sql": "CREATE TABLE a (x INT) WITH ('connector' = 'datagen'); INSERT INTO b SELECT x FROM a;",
            "parallelism": 2,
            "checkpoint": {"storage": {"uri": "s3://bucket/prefix"}},
        },
    })
}

fn create(all: &Harness) {
    all.server.state().create(&job("j"), manifest("j")).unwrap();
}

fn edit(all: &Harness, edit: impl FnOnce(&mut Value)) {
    all.server.state().edit(&job("j"), |object| edit(&mut object["spec"]));
}

fn parallelism(all: &Harness, workers: i64) {
    edit(all, |spec| spec["parallelism"] = json!(workers));
}

fn upgrade(all: &Harness) {
    edit(all, |spec| spec["sql"] = json!("CREATE TABLE a (x INT) WITH ('connector' = 'datagen'); INSERT INTO c SELECT x FROM a;"));
}

fn by_savepoint(all: &Harness) {
    edit(all, |spec| spec["upgrade"] = json!({"mode": "Savepoint"}));
}

fn bad_image(all: &Harness) {
    edit(all, |spec| spec["worker"] = json!({"image": BAD_IMAGE}));
}

fn take_savepoint(all: &Harness) {
    let object = json!({"metadata": {"name": "s"}, "spec": {"job": "j"}});
    all.server.state().create(&Key::new("savepoints", "default", "s"), object).unwrap();
}

fn suspend(all: &Harness) {
    edit(all, |spec| spec["state"] = json!("Suspended"));
}

fn resume(all: &Harness) {
    edit(all, |spec| spec["state"] = json!("Running"));
}

fn restore(all: &Harness) {
    let mut object = manifest("k");
    object["spec"]["restore"] = json!({"from": {"savepoint": "s"}});
    all.server.state().create(&job("k"), object).unwrap();
}

fn delete(all: &Harness) {
    all.server.state().delete(&job("j"), &Value::Null).unwrap();
}

fn lose_leader(all: &Harness) {
    let leader = status(all, "j")["assigned"]["coordinator"].as_str().unwrap().to_owned();
    let mut state = all.server.state();
    state.set_status(&Key::new("pods", "default", &leader), &json!({"phase": "Failed", "reason": "Evicted"}));
    let uid = state.get(&Key::new("pods", "default", &leader)).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    all.world.lock().unwrap().supervisors.remove(&uid);
}

fn status(all: &Harness, name: &str) -> Value {
    all.server.state().get(&job(name)).unwrap()["status"].clone()
}

fn pods(all: &Harness) -> usize {
    all.server.state().list("pods").count()
}

fn running(all: &Harness, workers: i64) {
    let status = status(all, "j");
    assert_eq!(
        (&status["phase"], &status["parallelism"]["running"]),
        (&json!("Running"), &json!(workers)),
        "{:?} {status:#}",
        all.errors.last()
    );
    assert_eq!(pods(all), usize::try_from(workers).unwrap());
}

fn upgraded(all: &Harness) {
    running(all, 2);
    let status = status(all, "j");
    assert_eq!(status["generation"], 2, "{status:#}");
    assert!(status.get("rollout").is_none() && status["stable"]["revision"] == status["revision"], "{status:#}");
}

fn rolled_back(all: &Harness) {
    running(all, 2);
    assert!(status(all, "j")["rejected"]["revision"].is_string());
}

fn saved(all: &Harness) {
    let object = all.server.state().get(&Key::new("savepoints", "default", "s")).unwrap();
    assert_eq!(object["status"]["phase"], "Completed", "{object:#}");
}

fn suspended(all: &Harness) {
    let status = status(all, "j");
    assert_eq!((&status["phase"], pods(all)), (&json!("Suspended"), 0), "{status:#}");
}

fn restored(all: &Harness) {
    let world = all.world.lock().unwrap();
    let from: Vec<_> = world.stores.values().filter_map(|store| store.restored.clone()).collect();
    assert!(from.len() == 1 && from[0].contains("savepoints"), "{from:?}");
    assert_eq!(status(all, "k")["phase"], "Running");
}

fn deleted(all: &Harness) {
    let left: Vec<_> = all.server.state().objects().keys().filter(|key| key.plural != "events").cloned().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// What runs are compared by: every object, without what may differ.
fn normalised(all: &Harness) -> BTreeMap<String, Value> {
    let state = all.server.state();
    let mut uids = BTreeMap::new();
    for (key, object) in state.objects() {
        uids.insert(object["metadata"]["uid"].as_str().unwrap_or_default().to_owned(), format!("{}/{}", key.plural, key.name));
    }
    let objects = state.objects().iter().filter(|(key, _)| key.plural != "events");
    objects.map(|(key, object)| (format!("{}/{}", key.plural, key.name), clean(object, &uids))).collect()
}

fn clean(value: &Value, uids: &BTreeMap<String, String>) -> Value {
    const LEFT_OUT: [&str; 15] = [
        "resourceVersion",
        "creationTimestamp",
        "generation",
        "since",
        "stageSince",
        "at",
        "lastTransitionTime",
        "time",
        "startedAt",
        "finishedAt",
        "digest",
        "podIP",
        "token",
        "observedGeneration",
        "recentRestarts",
    ];
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(name, _)| !LEFT_OUT.contains(&name.as_str()));
            Value::Object(kept.map(|(name, value)| (name.clone(), clean(value, uids))).collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(|item| clean(item, uids)).collect(),
        Value::String(text) => {
            let mut text = text.clone();
            for (uid, name) in uids {
                text = text.replace(uid, name);
            }
            json!(text)
        }
        other => other.clone(),
    }
}

/// Brings a scenario to where it is disturbed.
async fn prepare(scenario: &Scenario) -> Harness {
    let mut all = Harness::new(ApiServer::default(), World::default(), START);
    for act in scenario.before {
        act(&all);
        all.rest().await.unwrap_or_else(|error| panic!("{}: before: {error}", scenario.name));
    }
    all
}

struct Reference {
    prepared: Harness,
    objects: BTreeMap<String, Value>,
    stores: Vec<(u64, Option<String>)>,
    counts: BTreeMap<(&'static str, &'static str), u64>,
    writes: Vec<String>,
    events: usize,
}

fn stores(all: &Harness) -> Vec<(u64, Option<String>)> {
    all.world.lock().unwrap().stores.values().map(|store| (store.generation, store.restored.clone())).collect()
}

fn counts(all: &Harness) -> BTreeMap<(&'static str, &'static str), u64> {
    let mut counts = all.server.state().counts.clone();
    counts.retain(|(plural, _), _| *plural != "events");
    counts
}

async fn reference(scenario: &Scenario) -> Reference {
    let prepared = prepare(scenario).await;
    let mut all = prepared.fork();
    all.disturb(None, View::Fresh);
    (scenario.act)(&all);
    all.rest().await.unwrap_or_else(|error| panic!("{}: undisturbed: {error}", scenario.name));
    (scenario.check)(&all);
    assert_eq!(all.world.lock().unwrap().violations, [""; 0], "{}", scenario.name);
    let writes = all.server.faults.names();
    assert_eq!(all.idle(IDLE).await, [""; 0], "{}: it does not stay", scenario.name);
    Reference { objects: normalised(&all), stores: stores(&all), counts: counts(&all), events: all.events(), writes, prepared }
}

/// What is done to a run.
#[derive(Debug, Clone, Copy)]
struct Disturbance {
    write: Option<(usize, Position)>,
    watch: Option<(usize, WatchFault)>,
    view: View,
    bug: Option<Bug>,
}

/// One disturbed run. What is wrong with it.
async fn run(scenario: &Scenario, reference: &Reference, disturbance: Disturbance) -> Result<(), String> {
    let Disturbance { write, watch, view, bug } = disturbance;
    let mut all = reference.prepared.fork();
    all.server.state().bug = bug;
    all.disturb(watch, view);
    if let Some((nth, position)) = write {
        all.server.faults.plan(nth, position);
    }
    (scenario.act)(&all);
    all.rest().await?;
    let violations = all.world.lock().unwrap().violations.clone();
    if let Some(violation) = violations.first() {
        return Err(violation.clone());
    }
    if stores(&all) != reference.stores {
        return Err(format!("generations: {:?}, undisturbed {:?}", stores(&all), reference.stores));
    }
    let objects = normalised(&all);
    if objects != reference.objects {
        return Err(difference(&objects, &reference.objects));
    }
    if counts(&all) != reference.counts {
        return Err(format!("created and deleted: {:?}, undisturbed {:?}", counts(&all), reference.counts));
    }
    let writes = all.idle(IDLE).await;
    if writes.is_empty() { Ok(()) } else { Err(format!("it does not stay: {writes:?}")) }
}

fn difference(a: &BTreeMap<String, Value>, b: &BTreeMap<String, Value>) -> String {
    let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for name in names {
        match (a.get(name), b.get(name)) {
            (Some(_), None) => return format!("{name} is there, and is not without the fault"),
            (None, Some(_)) => return format!("{name} is not there, and is without the fault"),
            (Some(a), Some(b)) if a != b => return format!("{name}: {}", deepest("", a, b)),
            _ => {}
        }
    }
    String::new()
}

fn deepest(path: &str, a: &Value, b: &Value) -> String {
    if let (Value::Object(a), Value::Object(b)) = (a, b) {
        for name in a.keys().chain(b.keys()) {
            let (a, b) = (a.get(name).unwrap_or(&Value::Null), b.get(name).unwrap_or(&Value::Null));
            if a != b {
                return deepest(&format!("{path}.{name}"), a, b);
            }
        }
    }
    format!("{path} is {a}, without the fault {b}")
}

/// There were enough points, and none of them ended otherwise.
fn all_end_the_same(points: usize, wrong: &[String]) {
    eprintln!("{points} points, {} wrong", wrong.len());
    assert!(points >= 300, "{points} points");
    assert!(wrong.is_empty(), "{} of {points}:\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
}

#[tokio::test]
async fn every_operation_ends_the_same_wherever_the_operator_dies() {
    let (mut points, mut wrong) = (0, Vec::new());
    for scenario in &SCENARIOS {
        let reference = reference(scenario).await;
        for nth in 0..reference.writes.len() {
            for position in Position::ALL {
                for view in [View::Fresh, View::Stale] {
                    points += 1;
                    if let Err(error) =
                        run(scenario, &reference, Disturbance { write: Some((nth, position)), watch: None, view, bug: None }).await
                    {
                        let write = &reference.writes[nth];
                        wrong.push(format!("{}: {position:?} of write {nth} ({write}), {view:?} view: {error}", scenario.name));
                    }
                }
            }
        }
    }
    all_end_the_same(points, &wrong);
}

#[tokio::test]
async fn every_operation_ends_the_same_whatever_happens_to_a_watch_event() {
    let (mut points, mut wrong) = (0, Vec::new());
    for scenario in &SCENARIOS {
        let reference = reference(scenario).await;
        for nth in 0..reference.events {
            for fault in [WatchFault::Drop, WatchFault::Delay, WatchFault::Repeat] {
                points += 1;
                let disturbance = Disturbance { write: None, watch: Some((nth, fault)), view: View::Fresh, bug: None };
                if let Err(error) = run(scenario, &reference, disturbance).await {
                    wrong.push(format!("{}: event {nth} {fault:?}: {error}", scenario.name));
                }
            }
        }
    }
    all_end_the_same(points, &wrong);
}

/// The sweep finds the mistake that it is there for: acting before the intent is written shows at one of its points.
#[tokio::test]
async fn an_operator_that_acts_before_it_writes_is_found() {
    let mut found = None;
    'points: for scenario in &SCENARIOS {
        let reference = reference(scenario).await;
        for nth in 0..reference.writes.len() {
            for position in Position::ALL {
                let disturbance = Disturbance { write: Some((nth, position)), watch: None, view: View::Fresh, bug: Some(Bug::ActsFirst) };
                if let Err(error) = run(scenario, &reference, disturbance).await {
                    found = Some(format!("{}, {position:?} of {}: {error}", scenario.name, reference.writes[nth]));
                    break 'points;
                }
            }
        }
    }
    eprintln!("{found:?}");
    assert!(found.is_some(), "it was not found");
}
