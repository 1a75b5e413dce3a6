//! [io] A cluster for one test: the model of the API server with pods that have logs and a forwarded admin port, and
//! the program as a process with a kubeconfig for it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::{SinkExt, StreamExt};
use http::{StatusCode, header};
use hyper_util::rt::TokioIo;
use rheos_control_api::{CheckpointView, Checkpoints, JobView, OperatorView, Phase, Rows, WorkerView};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Message, handshake::derive_accept_key, protocol::Role};

use crate::apiserver::{ApiServer, Key};

/// How long something may take to come true.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked for.
const PERIOD: Duration = Duration::from_millis(5);
/// The job's token.
pub(crate) const TOKEN: &str = "f00dfeedf00dfeedf00dfeedf00dfeed";
/// The SQL of the jobs here.
pub(crate) const SQL: &str = "CREATE TABLE bid (auction BIGINT, price BIGINT) WITH ('connector' = 'datagen');
CREATE TABLE counts (auction BIGINT, n BIGINT) WITH ('connector' = 'print');
INSERT INTO counts SELECT auction, COUNT(*) FROM bid GROUP BY auction;
";

/// A cluster.
pub(crate) struct Cluster {
    pub(crate) server: ApiServer,
    pub(crate) pods: Pods,
    address: SocketAddr,
    pub(crate) home: TempDir,
}

/// What is behind the subresources of pods.
#[derive(Clone)]
pub(crate) struct Pods {
    /// Log text by pod.
    pub(crate) logs: Arc<Mutex<BTreeMap<String, String>>>,
    /// Requests with such a path are refused.
    pub(crate) forbidden: Arc<Mutex<Vec<&'static str>>>,
    admin: SocketAddr,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let pods = Pods { logs: Arc::default(), forbidden: Arc::default(), admin: admin(Arc::new(Mutex::new(view()))).await };
        let server = ApiServer::default();
        let router = Router::new()
            .route("/api/v1/namespaces/{namespace}/pods/{pod}/log", get(log))
            .route("/api/v1/namespaces/{namespace}/pods/{pod}/portforward", get(forward))
            .route("/version", get(|| async { json!({"major": "1", "minor": "34", "gitVersion": "v1.34.0", "gitCommit": "", "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": ""}).to_string() }))
            .with_state(pods.clone())
            .merge(server.router(""))
            .layer(from_fn_with_state(pods.clone(), rights));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let home = TempDir::new().unwrap();
        Self { server, pods, address, home }
    }

    /// A running job with two workers, as the operator would leave it.
    pub(crate) async fn with_job(name: &str) -> Self {
        let cluster = Self::start().await;
        cluster.add_job(name, "Running");
        cluster
    }

    pub(crate) fn add_job(&self, name: &str, phase: &str) {
        let mut state = self.server.state();
        state.now = 1_700_000_000;
        let job = Key::new("streamjobs", "shop", name);
        let spec =
            json!({"sql": SQL, "parallelism": 2, "checkpoint": {"storage": {"uri": "s3://b/p", "credentialsSecretRef": {"name": "s3"}}}});
        state
            .create(&job, json!({"apiVersion": "rheos.dev/v1alpha1", "kind": "StreamJob", "metadata": {"name": name}, "spec": spec}))
            .unwrap();
        state.set_status(&job, &status(name, phase, 1));
        let uid = state.get(&job).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
        let secret = Key::new("secrets", "shop", &rheos_operator::names::token(name, &uid));
        state.create(&secret, json!({"metadata": {}, "data": {"token": base64(TOKEN)}})).unwrap();
        for index in 0..2 {
            let pod = Key::new("pods", "shop", &format!("{name}-0123abcd-{index}-1"));
            let labels = json!({
                "app.kubernetes.io/name": "rheos-worker", "rheos.dev/job": name, "rheos.dev/index": index.to_string(), "rheos.dev/incarnation": "1",
            });
            let environment = json!([{"name": "PLAIN", "value": "hunter2-env"}]);
            let spec = json!({"nodeName": "node0", "containers": [{"name": "worker", "image": "w", "env": environment}]});
            state.create(&pod, json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": labels}, "spec": spec})).unwrap();
            let container =
                json!({"name": "worker", "ready": true, "restartCount": 0, "image": "", "imageID": "", "state": {"running": {}}});
            state.set_status(&pod, &json!({"phase": "Running", "podIP": "10.0.0.1", "containerStatuses": [container]}));
        }
    }

    /// Sets a job's status.
    pub(crate) fn set_status(&self, name: &str, status: &Value) {
        self.server.state().set_status(&Key::new("streamjobs", "shop", name), status);
    }

    pub(crate) fn job(&self, name: &str) -> Value {
        self.server.state().get(&Key::new("streamjobs", "shop", name)).unwrap_or_default()
    }

    /// A file for the program.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.home.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Starts the program.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        let config = self.home.path().join("config");
        let server = format!("http://{}", self.address);
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "model",
            "clusters": [{"name": "model", "cluster": {"server": server}}],
            "users": [{"name": "model", "user": {}}],
            "contexts": [{"name": "model", "context": {"cluster": "model", "user": "model", "namespace": "shop"}}],
        });
        std::fs::write(&config, text.to_string()).unwrap();
        start(
            Command::new(env!("CARGO_BIN_EXE_kubectl-streamjob")).env("KUBECONFIG", &config).current_dir(self.home.path()).args(arguments),
        )
    }

    /// Runs the program to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        end(self.spawn(arguments)).await
    }

    /// Waits until a write with these words reached the server.
    pub(crate) async fn until_asked(&self, words: &str) {
        self.until(words, || self.server.requests().iter().any(|request| request == words)).await;
    }

    pub(crate) async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let waited = tokio::time::timeout(PATIENCE, async {
            while !holds() {
                tokio::time::sleep(PERIOD).await;
            }
        });
        assert!(waited.await.is_ok(), "never: {what}; requests: {:?}", self.server.requests());
    }

    /// Requests that change something.
    pub(crate) fn writes(&self) -> Vec<String> {
        self.server.requests().into_iter().filter(|request| !request.starts_with("GET") && !request.ends_with("(dry run)")).collect()
    }
}

fn start(command: &mut Command) -> Child {
    command.env_remove("NO_COLOR").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
}

/// Runs the program without any cluster.
pub(crate) async fn alone(arguments: &[&str]) -> Ran {
    let nowhere = "/nonexistent/kubeconfig";
    end(start(Command::new(env!("CARGO_BIN_EXE_kubectl-streamjob")).env("KUBECONFIG", nowhere).env("HOME", "/nonexistent").args(arguments)))
        .await
}

pub(crate) async fn end(child: Child) -> Ran {
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("the program does not end").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// A status of the operator.
pub(crate) fn status(name: &str, phase: &str, generation: i64) -> Value {
    let running = phase == "Running";
    let condition = |kind: &str, status: bool, reason: &str, message: &str| {
        let status = if status { "True" } else { "False" };
        json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": "2023-11-14T22:13:20Z"})
    };
    json!({
        "phase": phase, "observedGeneration": generation, "generation": 1, "revision": "0123abcd", "restarts": 0, "assignment": 1,
        "parallelism": {"desired": 2, "running": if running { 2 } else { 0 }},
        "assigned": {
            "run": {"revision": "0123abcd", "parallelism": 2, "stateId": "s"}, "coordinator": format!("{name}-0123abcd-0-1"),
            "digest": "d", "since": "2023-11-14T22:13:20Z",
        },
        "lastCheckpoint": {"epoch": 7, "time": "2023-11-14T22:13:30Z", "bytes": 2048, "duration": "30ms"},
        "conditions": [
            condition("Ready", running, if running { "Running" } else { "Deploying" }, if running { "rows flow" } else { "pods start" }),
            condition("Degraded", false, "Healthy", ""),
        ],
    })
}

/// The same with something wrong.
pub(crate) fn degraded(name: &str, phase: &str, generation: i64, reason: &str, message: &str) -> Value {
    let mut status = status(name, phase, generation);
    status["conditions"][1] =
        json!({"type": "Degraded", "status": "True", "reason": reason, "message": message, "lastTransitionTime": "2023-11-14T22:13:20Z"});
    status
}

fn view() -> JobView {
    let operator = |title: &str, rows: u64, keys: u64| OperatorView {
        title: title.into(),
        rows_in: rows,
        rows_out: rows,
        busy_ms: rows as f64 / 10.0,
        state_keys: keys,
        state_bytes: keys * 64,
        ..OperatorView::default()
    };
    let checkpoint = |epoch: u64, duration_ms: f64| CheckpointView {
        generation: 1,
        epoch,
        record: epoch,
        bytes: 2048,
        duration_ms,
        completed_at: 1_700_000_000_000,
    };
    JobView {
        version: 1,
        namespace: "shop".into(),
        name: "bids".into(),
        uid: "u".into(),
        state: Phase::Running,
        generation: 1,
        epoch: 42,
        parallelism: 2,
        watermark_lag_ms: Some(1_500),
        rows: Rows { read: 1_000_000, written: 5_000, read_per_second: 12_345.0, written_per_second: 50.0 },
        workers: (0..2)
            .map(|process| WorkerView {
                process,
                running: true,
                epoch: 42,
                in_flight_bytes: 1024,
                peak_rss_bytes: 64 << 20,
                ..WorkerView::default()
            })
            .collect(),
        operators: [
            ("source:bid:1".into(), operator("bid", 1_000_000, 0)),
            ("group-aggregate:bid:2".into(), operator("COUNT(*)", 1_000_000, 5_000)),
        ]
        .into(),
        checkpoints: Checkpoints {
            completed: 3,
            failed: 0,
            history: vec![checkpoint(5, 10.0), checkpoint(6, 40.0), checkpoint(7, 30.0)],
            last_failure: None,
        },
        coordinator: true,
        ..JobView::default()
    }
}

/// An admin API that knows the token. With every look rows have gone on.
async fn admin(view: Arc<Mutex<JobView>>) -> SocketAddr {
    let authorized =
        |request: &Request| request.headers().get(header::AUTHORIZATION).is_some_and(|value| value == &format!("Bearer {TOKEN}"));
    let job = move |request: Request| {
        let view = Arc::clone(&view);
        async move {
            if !authorized(&request) {
                return (StatusCode::UNAUTHORIZED, json!({"error": "this needs the job's token"}).to_string()).into_response();
            }
            let mut view = view.lock().unwrap();
            for operator in view.operators.values_mut() {
                operator.rows_in += 1_000;
                operator.rows_out += 1_000;
                operator.busy_ms += 1.0;
            }
            serde_json::to_string(&*view).unwrap().into_response()
        }
    };
    let results = crate::results::routes();
    let router = Router::new()
        .merge(results)
        .route("/v1/job", get(job))
        .route("/metrics", get(|| async { format!("rheos_job_running 1\n# {TOKEN}\n") }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn rights(State(pods): State<Pods>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    if pods.forbidden.lock().unwrap().iter().any(|part| path.contains(part)) {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403, "reason": "Forbidden", "message": format!("you may not: {path}")});
        return (StatusCode::FORBIDDEN, status.to_string()).into_response();
    }
    next.run(request).await
}

async fn log(State(pods): State<Pods>, Path((_, pod)): Path<(String, String)>, request: Request) -> Response {
    let text = pods.logs.lock().unwrap().get(&pod).cloned();
    let Some(text) = text else {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 400, "reason": "BadRequest", "message": "container is waiting to start"});
        return (StatusCode::BAD_REQUEST, status.to_string()).into_response();
    };
    if request.uri().query().unwrap_or_default().contains("follow=true") {
        let rest = futures::stream::once(async move { Ok::<_, std::io::Error>(text) }).chain(futures::stream::pending());
        return Response::new(Body::from_stream(rest));
    }
    text.into_response()
}

/// A port-forward over a WebSocket, as the apiserver serves it: two channels for a port, each begins with its number.
async fn forward(State(pods): State<Pods>, mut request: Request) -> Response {
    let port: u16 = request.uri().query().unwrap_or_default().split("ports=").nth(1).unwrap().parse().unwrap();
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY).unwrap().as_bytes().to_vec();
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let upgraded = TokioIo::new(upgrade.await.unwrap());
        let socket = WebSocketStream::from_raw_socket(upgraded, Role::Server, None).await;
        let (mut out, mut into) = socket.split();
        for channel in [0_u8, 1] {
            let [low, high] = port.to_le_bytes();
            out.send(Message::binary(vec![channel, low, high])).await.unwrap();
        }
        let (mut from_pod, mut to_pod) = TcpStream::connect(pods.admin).await.unwrap().into_split();
        let back = async {
            let mut bytes = vec![0_u8; 4096];
            while let Ok(count @ 1..) = from_pod.read(&mut bytes).await {
                let framed = [&[0_u8][..], &bytes[..count]].concat();
                if out.send(Message::binary(framed)).await.is_err() {
                    return;
                }
            }
        };
        let forth = async {
            while let Some(Ok(message)) = into.next().await {
                if let Message::Binary(bytes) = message
                    && bytes.first() == Some(&0)
                {
                    to_pod.write_all(&bytes[1..]).await.unwrap();
                }
            }
        };
        tokio::select! {
            () = back => {}
            () = forth => {}
        }
    });
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, "websocket".parse().unwrap());
    headers.insert(header::CONNECTION, "Upgrade".parse().unwrap());
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(&key).parse().unwrap());
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, "v4.channel.k8s.io".parse().unwrap());
    response
}

fn base64(text: &str) -> String {
    serde_json::to_value(k8s_openapi::ByteString(text.as_bytes().to_vec())).unwrap().as_str().unwrap().to_owned()
}
