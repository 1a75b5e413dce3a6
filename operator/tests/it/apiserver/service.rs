//! [io] The model as a tower service under a `kube::Client`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::Body;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::faults::{Faults, Heard};
use super::patch;
use super::path::{self, Target};
use super::state::{Bug, Change, Entry, Key, Outcome, Part, Refusal, State};

/// The server; clones are the same one.
#[derive(Clone)]
pub(crate) struct ApiServer {
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<u64>>,
    /// Where the operator dies.
    pub(crate) faults: Faults,
    log: Arc<Mutex<Vec<String>>>,
    /// Every watch ends when this changes.
    cut: Arc<watch::Sender<u64>>,
    /// Before every request in the log.
    tag: &'static str,
}

impl Default for ApiServer {
    fn default() -> Self {
        Self::new(Faults::default())
    }
}

impl ApiServer {
    /// An empty server.
    pub(crate) fn new(faults: Faults) -> Self {
        Self {
            state: Arc::default(),
            changed: Arc::new(watch::channel(0).0),
            faults,
            log: Arc::default(),
            cut: Arc::new(watch::channel(0).0),
            tag: "",
        }
    }

    /// Another server in the same state.
    pub(crate) fn fork(&self) -> Self {
        let fork = Self::default();
        *fork.state.lock().unwrap() = self.state.lock().unwrap().clone();
        fork
    }

    /// A client of this server. Its calls are the operator's: they are counted and can be broken.
    pub(crate) fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request| server.clone().call(request));
        Client::new(service, "default")
    }

    /// The objects, to look at or to change as somebody else than the operator does.
    pub(crate) fn state(&self) -> Guard<'_> {
        Guard { state: self.state.lock().unwrap(), changed: &self.changed }
    }

    /// Requests so far, as `PATCH streamjobs/a/b/status`.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Ends every watch.
    pub(crate) fn cut_watches(&self) {
        self.cut.send_modify(|count| *count += 1);
    }

    fn call(self, request: Request<kube::client::Body>) -> BoxFuture<'static, Result<Response<Body>, std::io::Error>> {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let bytes = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
            self.handle(parts, bytes).await
        })
    }

    /// Serves over HTTP on loopback, for an operator in a process of its own. Requests are logged after `tag`.
    pub(crate) async fn serve(&self, tag: &'static str) -> std::net::SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = self.router(tag);
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    /// The same without a listener.
    pub(crate) fn router(&self, tag: &'static str) -> axum::Router {
        let server = Self { tag, ..self.clone() };
        let handler = move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (parts, body) = request.into_parts();
                let bytes = body.collect().await.unwrap().to_bytes();
                server.handle(parts, bytes).await.unwrap()
            }
        };
        axum::Router::new().fallback(handler)
    }

    async fn handle(self, parts: http::request::Parts, bytes: bytes::Bytes) -> Result<Response<Body>, std::io::Error> {
        let body: Value = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes)? };
        let Some(target) = path::parse(parts.uri.path()) else {
            return Ok(refused(&Refusal(404, "NotFound", format!("no such path: {}", parts.uri.path()))));
        };
        let query = path::query(parts.uri.query().unwrap_or_default());
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let partial = header("accept").contains("PartialObject");
        let name = describe(&parts.method, &target);
        let dry = if query.iter().any(|(key, _)| key == "dryRun") { " (dry run)" } else { "" };
        self.log.lock().unwrap().push(format!("{}{name}{dry}", self.tag));
        if parts.method == Method::GET {
            if self.faults.read() {
                std::future::pending::<()>().await;
            }
            return Ok(self.read(&target, &query, partial));
        }
        if query.iter().any(|(key, value)| key == "dryRun" && value == "All") {
            let mut scratch = self.state().clone();
            return Ok(answer(write(&mut scratch, &parts.method, &target, &query, header("content-type"), &body)));
        }
        let verdict = self.faults.write(|| name);
        let outcome = verdict.happens.then(|| {
            let mut state = self.state();
            write(&mut state, &parts.method, &target, &query, header("content-type"), &body)
        });
        match verdict.heard {
            Heard::Nothing => std::future::pending().await,
            Heard::Error => Err(std::io::Error::other("connection reset")),
            Heard::Reply => Ok(outcome.map_or_else(
                || refused(&Refusal(500, "InternalError", "no outcome".into())),
                |outcome| answer(outcome.map(|object| if partial { metadata_only(&object) } else { object })),
            )),
        }
    }

    fn read(&self, target: &Target, query: &[(String, String)], partial: bool) -> Response<Body> {
        let shape = |object: &Value| if partial { metadata_only(object) } else { object.clone() };
        let get = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        if let Some(name) = &target.name {
            let key = Key::new(target.kind.plural, target.namespace.as_deref().unwrap_or_default(), name);
            let state = self.state();
            if target.subresource.as_deref() == Some("scale") {
                return answer(state.get(&key).map(|object| scale(&object)));
            }
            return answer(state.get(&key).map(|object| shape(&object)));
        }
        let select = Select {
            plural: target.kind.plural,
            namespace: target.namespace.clone(),
            labels: get("labelSelector").unwrap_or_default().to_owned(),
            fields: get("fieldSelector").unwrap_or_default().to_owned(),
        };
        if get("watch") == Some("true") || get("watch") == Some("1") {
            let from = get("resourceVersion").and_then(|text| text.parse().ok()).unwrap_or(0);
            return self.watch(select, from, partial, target);
        }
        let state = self.state();
        let items: Vec<Value> =
            state.objects().iter().filter(|(key, object)| select.takes(key, object)).map(|(_, object)| shape(object)).collect();
        let kind = if partial { "PartialObjectMetadataList".to_owned() } else { format!("{}List", target.kind.kind) };
        let api = if partial { "meta.k8s.io/v1".to_owned() } else { target.kind.api_version() };
        let version = state.version().to_string();
        answer(Ok(json!({"apiVersion": api, "kind": kind, "metadata": {"resourceVersion": version}, "items": items})))
    }

    fn watch(&self, select: Select, from: u64, partial: bool, target: &Target) -> Response<Body> {
        if from < self.state().compacted {
            // As the real one: the request succeeds and the stream says so.
            let gone = Refusal(410, "Expired", format!("too old resource version: {from}"));
            return Response::new(Body::from(format!("{}\n", json!({"type": "ERROR", "object": status_of(&gone)}))));
        }
        let server = self.clone();
        let (kind, api) = (target.kind.kind, target.kind.api_version());
        let (changed, cut) = (self.changed.subscribe(), self.cut.subscribe());
        let first = bookmark(kind, &api, from);
        let stream = futures::stream::unfold(Some((from, vec![first])), move |step| {
            let (server, select) = (server.clone(), select.clone());
            let (mut changed, mut cut) = (changed.clone(), cut.clone());
            async move {
                let (mut at, mut lines) = step?;
                while lines.is_empty() {
                    let news: Vec<Entry> = server.state().after(at).to_vec();
                    for entry in news {
                        at = entry.version;
                        if select.takes(&entry.key, &entry.object) {
                            lines.push(line(&entry, partial));
                        }
                    }
                    if lines.is_empty() {
                        tokio::select! {
                            _ = changed.wait_for(|version| *version > at) => {}
                            _ = cut.changed() => return None,
                        }
                    }
                }
                Some((Ok::<_, Infallible>(lines.concat()), Some((at, Vec::new()))))
            }
        });
        Response::new(Body::from_stream(stream))
    }
}

/// The state, while it is held; watchers hear of what changed when it is let go.
pub(crate) struct Guard<'a> {
    state: MutexGuard<'a, State>,
    changed: &'a watch::Sender<u64>,
}

impl std::ops::Deref for Guard<'_> {
    type Target = State;
    fn deref(&self) -> &State {
        &self.state
    }
}

impl std::ops::DerefMut for Guard<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let version = self.state.version();
        self.changed.send_if_modified(|seen| std::mem::replace(seen, version) != version);
    }
}

#[derive(Clone)]
struct Select {
    plural: &'static str,
    namespace: Option<String>,
    labels: String,
    fields: String,
}

impl Select {
    fn takes(&self, key: &Key, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        key.plural == self.plural
            && self.namespace.as_ref().is_none_or(|namespace| *namespace == key.namespace)
            && self.labels.split(',').filter(|term| !term.is_empty()).all(|term| match term.split_once('=') {
                Some((label, value)) => labels[label] == json!(value.trim_start_matches('=')),
                None => match term.strip_prefix('!') {
                    Some(label) => labels.get(label).is_none(),
                    None => labels.get(term).is_some(),
                },
            })
            && self.fields.split(',').filter(|term| !term.is_empty()).all(|term| match term.strip_prefix("metadata.name!=") {
                Some(name) => name != key.name,
                None => term == format!("metadata.name={}", key.name),
            })
    }
}

fn describe(method: &Method, target: &Target) -> String {
    let mut text = format!("{method} {}", target.kind.plural);
    for part in [&target.namespace, &target.name, &target.subresource].into_iter().flatten() {
        text = format!("{text}/{part}");
    }
    text
}

fn write(state: &mut State, method: &Method, target: &Target, query: &[(String, String)], kind: &str, body: &Value) -> Outcome {
    let namespace = target.namespace.clone().unwrap_or_default();
    let named = target.name.clone().or_else(|| body["metadata"]["name"].as_str().map(str::to_owned));
    let key = Key::new(target.kind.plural, &namespace, &named.unwrap_or_default());
    let part = if target.subresource.as_deref() == Some("status") { Part::Status } else { Part::Main };
    let get = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    if target.subresource.as_deref() == Some("scale") {
        let replicas = body["spec"]["replicas"].clone();
        return state.update(&key, Part::Main, body, |object| object["spec"]["parallelism"] = replicas).map(|new| scale(&new));
    }
    let manager = get("fieldManager").unwrap_or_default();
    if state.bug == Some(Bug::ActsFirst) && part == Part::Status && key.plural == "streamjobs" {
        let object = state.get(&key)?;
        state.deferred.push((key, manager.to_owned(), without_preconditions(body)));
        return Ok(object);
    }
    match (method.as_str(), kind) {
        ("POST", _) => state.create(&key, body.clone()),
        ("PUT", _) => state.update(&key, part, body, |object| *object = body.clone()),
        ("PATCH", "application/apply-patch+yaml") => state.apply(&key, part, get("fieldManager").unwrap_or_default(), body),
        ("PATCH", _) => state.update(&key, part, body, |object| patch::merge(object, body)),
        ("DELETE", _) => state.delete(&key, body),
        _ => Err(Refusal(405, "MethodNotAllowed", format!("the model has no {method}"))),
    }
}

fn without_preconditions(body: &Value) -> Value {
    let mut body = body.clone();
    if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("uid");
        metadata.remove("resourceVersion");
    }
    if let Some(options) = body.as_object_mut() {
        options.remove("preconditions");
    }
    body
}

fn scale(object: &Value) -> Value {
    json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale",
        "metadata": {"name": object["metadata"]["name"], "namespace": object["metadata"]["namespace"]},
        "spec": {"replicas": object["spec"]["parallelism"]},
        "status": {"replicas": object["status"]["parallelism"]["running"], "selector": object["status"]["selector"]},
    })
}

fn metadata_only(object: &Value) -> Value {
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"]})
}

fn line(entry: &Entry, partial: bool) -> String {
    let name = match entry.change {
        Change::Added => "ADDED",
        Change::Modified => "MODIFIED",
        Change::Deleted => "DELETED",
    };
    let object = if partial { metadata_only(&entry.object) } else { (*entry.object).clone() };
    format!("{}\n", json!({"type": name, "object": object}))
}

fn bookmark(kind: &str, api: &str, version: u64) -> String {
    let metadata: BTreeMap<&str, String> = [("resourceVersion", version.to_string())].into();
    format!("{}\n", json!({"type": "BOOKMARK", "object": {"apiVersion": api, "kind": kind, "metadata": metadata}}))
}

fn answer(outcome: Outcome) -> Response<Body> {
    match outcome {
        Ok(object) => Response::new(Body::from(object.to_string())),
        Err(refusal) => refused(&refusal),
    }
}

fn status_of(Refusal(code, reason, message): &Refusal) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "code": code, "reason": reason, "message": message,
    })
}

fn refused(refusal: &Refusal) -> Response<Body> {
    let mut response = Response::new(Body::from(status_of(refusal).to_string()));
    *response.status_mut() = http::StatusCode::from_u16(refusal.0).unwrap();
    response
}
