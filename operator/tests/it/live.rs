//! [io] The controllers with their real watches, followers and queues, on the model of the apiserver.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rheos_operator::io::Operator;
use rheos_operator::io::operator::Settings;
use rheos_operator::io::token::MasterKey;
use rheos_operator::runtime::controllers::{self, Works};
use rheos_operator::runtime::health::Readiness;
use rheos_operator::runtime::leader::Leadership;
use rheos_operator::runtime::metrics::{Metrics, ResultLabels};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::apiserver::{ApiServer, Key, State};
use crate::world::{ModelWorkers, World};

/// How long something may take to come true.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked for.
const PERIOD: Duration = Duration::from_millis(5);

struct Live {
    server: ApiServer,
    metrics: Arc<Metrics>,
    stop: watch::Sender<bool>,
    controllers: JoinHandle<()>,
    world: JoinHandle<()>,
}

impl Live {
    fn start(leadership: Leadership, scopes: &[&str]) -> Self {
        let server = ApiServer::default();
        let world = Arc::new(Mutex::new(World::default()));
        let (metrics, _) = Metrics::new();
        let metrics = Arc::new(metrics);
        let workers = Arc::new(ModelWorkers { world: Arc::clone(&world), faults: server.faults.clone() });
        let settings = Settings { worker_image: "rheos/worker:test".into(), default_storage: None };
        let key = MasterKey::new(&[7; 32]).unwrap();
        let operator = Operator::new(server.client(), workers, key, settings, leadership, Arc::clone(&metrics), "operator-0".into());
        let (stop, stopped) = watch::channel(false);
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let controllers = tokio::spawn(controllers::run(Arc::new(operator), Works::default(), scopes, 8, Readiness::default(), stopped));
        let outside = server.clone();
        let world = tokio::spawn(async move {
            loop {
                world.lock().unwrap().step(&outside);
                tokio::time::sleep(PERIOD).await;
            }
        });
        Self { server, metrics, stop, controllers, world }
    }

    fn job(&self, namespace: &str, name: &str, spec: &Value) {
        let mut spec = spec.clone();
        spec["checkpoint"] = json!({"storage": {"uri": "s3://bucket/prefix"}});
        let object = json!({"metadata": {"name": name}, "spec": spec});
        self.server.state().create(&Key::new("streamjobs", namespace, name), object).unwrap();
    }

    async fn until(&self, what: &str, holds: impl Fn(&State) -> bool) {
        let waited = tokio::time::timeout(PATIENCE, async {
            while !holds(&self.server.state()) {
                tokio::time::sleep(PERIOD).await;
            }
        });
        assert!(waited.await.is_ok(), "never: {what}; jobs: {:#?}", self.server.state().list("streamjobs").collect::<Vec<_>>());
    }

    async fn end(self) {
        self.stop.send_replace(true);
        tokio::time::timeout(PATIENCE, self.controllers).await.unwrap().unwrap();
        self.world.abort();
    }
}

fn sql() -> Value {
    json!({"sql": "CREATE TABLE a (x INT) WITH ('connector' = 'datagen'); INSERT INTO b SELECT x FROM a;", "parallelism": 2})
}

fn status(state: &State, namespace: &str, name: &str) -> Value {
    state.get(&Key::new("streamjobs", namespace, name)).map(|object| object["status"].clone()).unwrap_or_default()
}

fn runs(state: &State, name: &str, workers: i64) -> bool {
    let status = status(state, "default", name);
    status["phase"] == "Running" && status["parallelism"]["running"] == workers
}

#[tokio::test]
async fn a_job_runs_and_what_others_take_away_comes_back_also_after_watches_were_cut() {
    let live = Live::start(Leadership::always(), &[""]);
    live.job("default", "j", &sql());
    live.until("it runs", |state| runs(state, "j", 2)).await;
    let service = Key::new("services", "default", "j");
    live.server.state().remove(&service);
    live.until("the Service is back", |state| state.get(&service).is_ok()).await;
    live.server.cut_watches();
    let version = live.server.state().version();
    live.server.state().compacted = version + 1;
    live.server.cut_watches();
    live.server.state().edit(&Key::new("streamjobs", "default", "j"), |job| job["spec"]["parallelism"] = json!(3));
    live.until("it runs with three workers", |state| runs(state, "j", 3)).await;
    live.server.state().delete(&Key::new("streamjobs", "default", "j"), &Value::Null).unwrap();
    live.until("all is gone", |state| state.objects().keys().all(|key| key.plural == "events")).await;
    live.end().await;
}

#[tokio::test]
async fn an_edit_of_the_sql_in_a_config_map_is_taken_before_anybody_looks_again() {
    let live = Live::start(Leadership::always(), &[""]);
    let sql = |sink: &str| json!(format!("CREATE TABLE a (x INT) WITH ('connector' = 'datagen'); INSERT INTO {sink} SELECT x FROM a;"));
    let script = Key::new("configmaps", "default", "script");
    live.server.state().create(&script, json!({"data": {"sql": sql("b")}})).unwrap();
    live.job("default", "j", &json!({"sqlFrom": {"configMapKeyRef": {"name": "script", "key": "sql"}}}));
    let stable = |state: &State| {
        let status = status(state, "default", "j");
        (runs(state, "j", 1) && status.get("rollout").is_none()).then(|| status["stable"]["revision"].clone())
    };
    live.until("it is stable", |state| stable(state).is_some()).await;
    let before = stable(&live.server.state());
    assert!(PATIENCE < rheos_operator::io::stream_job::SQL_RESYNC, "the watch, and no look by time");
    live.server.state().edit(&script, |map| map["data"]["sql"] = sql("c"));
    live.until("another revision is stable", |state| stable(state).is_some_and(|now| Some(now) != before)).await;
    live.end().await;
}

#[tokio::test]
async fn a_malformed_object_harms_nobody_and_is_told() {
    let live = Live::start(Leadership::always(), &[""]);
    live.job("default", "poisoned", &json!({"sql": 5, "parallelism": {"a": []}}));
    live.job("default", "j", &sql());
    live.until("the other runs", |state| runs(state, "j", 2)).await;
    let told =
        |state: &State| state.list("events").any(|(_, event)| event["reason"] == "Unreadable" && event["regarding"]["name"] == "poisoned");
    live.until("an event tells it", told).await;
    live.end().await;
}

#[tokio::test]
async fn what_a_quota_refuses_is_in_the_status_and_heals() {
    let live = Live::start(Leadership::always(), &[""]);
    live.server.state().deny = Some(Arc::new(|key, _| (key.plural == "pods").then(|| "exceeded quota: pods".into())));
    live.job("default", "j", &sql());
    let told = |state: &State| {
        let status = status(state, "default", "j");
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|it| it["type"] == "Degraded" && it["message"].as_str().unwrap_or("").contains("exceeded quota"))
    };
    live.until("the condition tells it", told).await;
    live.server.state().deny = None;
    live.until("it runs", |state| runs(state, "j", 2)).await;
    live.end().await;
}

#[tokio::test]
async fn a_process_that_does_not_lead_writes_nothing() {
    let live = Live::start(Leadership::none(), &[""]);
    live.job("default", "j", &sql());
    let tried = ResultLabels { kind: "StreamJob", result: "not_leading" };
    live.until("it tried", |_| live.metrics.errors.get_or_create(&tried).get() > 1).await;
    assert_eq!(live.server.faults.names(), [""; 0]);
    live.end().await;
}

#[tokio::test]
async fn only_the_namespaces_that_were_named_are_looked_after() {
    let live = Live::start(Leadership::always(), &["a", "b"]);
    for namespace in ["a", "b", "c"] {
        live.job(namespace, "j", &sql());
    }
    live.until("a and b run", |state| ["a", "b"].iter().all(|it| status(state, it, "j")["phase"] == "Running")).await;
    assert_eq!(status(&live.server.state(), "c", "j"), Value::Null);
    live.end().await;
}
