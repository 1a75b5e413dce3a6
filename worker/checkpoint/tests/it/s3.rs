//! [io] The S3 edge over loopback: the whole way through the client, with an endpoint that behaves, lies, or fails.

mod server;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use rheos_checkpoint::paths::ObjectPath;
use rheos_checkpoint::store::{OpenError, PutMode, StoreError, open};
use rheos_checkpoint::{Protocol, Store, conformance};

use crate::job::process;
use server::{Behaviour, Server};

const ACCESS_KEY: &str = "AKIACANARYCANARY";
const SECRET_KEY: &str = "canary-secret-canary-secret";

fn options(server: &Server) -> BTreeMap<String, String> {
    let pairs = [
        ("endpoint", server.endpoint()),
        ("allow_http", "true".to_string()),
        ("AWS_REGION", "us-east-1".to_string()),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_string()),
        ("secret_access_key", SECRET_KEY.to_string()),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}

fn store(server: &Server) -> Arc<dyn Store> {
    open("s3://bucket/some/prefix", &options(server)).unwrap()
}

fn path(text: &str) -> ObjectPath {
    ObjectPath::parse(text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_s3_endpoint_conforms() {
    let server = Server::start(Behaviour::default()).await;
    let handles: Vec<Arc<dyn Store>> = (0..3).map(|_| store(&server)).collect();
    conformance::check(&handles, &path("suite"), 250).await.unwrap();
    assert!(server.keys().iter().all(|key| key.starts_with("some/prefix/suite/") && !key.contains("probe")));
}

#[tokio::test]
async fn an_endpoint_that_ignores_conditions_is_refused_by_name() {
    for behaviour in
        [Behaviour { ignores_if_none_match: true, ..Behaviour::default() }, Behaviour { ignores_if_match: true, ..Behaviour::default() }]
    {
        let server = Server::start(behaviour).await;
        let error = process(&store(&server), 1).begin(None).await.unwrap_err().to_string();
        assert!(error.contains("does not honour conditional puts") && error.contains(&server.endpoint()), "{error}");
        assert!(server.keys().is_empty(), "nothing is left behind: {:?}", server.keys());
    }
}

#[tokio::test]
async fn puts_that_happen_but_answer_with_an_error_are_recognised() {
    for part in ["fence", "log/"] {
        let server = Server::start(Behaviour { fails_after_put: Some(part), ..Behaviour::default() }).await;
        let protocol: Protocol = process(&store(&server), 1);
        let begun = protocol.begin(None).await.unwrap();
        assert_eq!((begun.generation, begun.start_record), (1, 1), "{part}");
        assert!(server.failures() >= 1);
    }
}

#[tokio::test]
async fn errors_never_hold_credentials() {
    // The endpoint answers with what it was sent, as real ones do when a signature does not match.
    let echo = format!("<Error><AWSAccessKeyId>{ACCESS_KEY}</AWSAccessKeyId><Sent>{SECRET_KEY}</Sent></Error>");
    let server = Server::start(Behaviour { denies_with: Some(echo), ..Behaviour::default() }).await;
    let store = store(&server);
    let errors = [
        store.get(&path("a"), 10).await.unwrap_err(),
        store.put(&path("a"), Bytes::new(), PutMode::Once).await.unwrap_err(),
        store.list(&path("a")).await.unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
        let text = format!("{error} {error:?} {store:?}");
        assert!(!text.contains(ACCESS_KEY) && !text.contains(SECRET_KEY), "{text}");
    }
}

#[test]
fn options_that_would_weaken_the_store_or_are_unknown_are_refused() {
    let refused = |name: &str, value: &str| {
        let mut options = BTreeMap::from([("access_key_id", "a"), ("secret_access_key", "hunter2"), ("region", "r")]);
        options.insert(name, value);
        let options = options.into_iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        match open("s3://bucket/x", &options).expect_err(name) {
            OpenError::Option { name: refused, reason } => assert!(refused == name && !reason.contains("hunter2"), "{refused}: {reason}"),
            error => panic!("{error}"),
        }
    };
    refused("conditional_put", "disabled");
    refused("metadata_endpoint", "http://169.254.169.254");
    refused("allow_http", "hunter2");
    refused("colour", "blue");
    refused("access_key_id", "");
}
