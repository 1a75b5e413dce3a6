//! [io] The model of the API server behaves as the real one does, as far as the operator leans on it.

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::{Client, ResourceExt};
use serde_json::json;

use crate::apiserver::{ApiServer, Key, Position};

fn config_map(name: &str, owner: Option<&ConfigMap>) -> ConfigMap {
    let mut object: ConfigMap = serde_json::from_value(json!({"metadata": {"name": name, "labels": {"a": "b"}}})).unwrap();
    object.metadata.owner_references = owner.map(|owner| {
        let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": owner.name_any(), "uid": owner.uid()});
        vec![serde_json::from_value(owner).unwrap()]
    });
    object
}

fn maps(client: &Client) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), "default")
}

fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn apply_owns_fields_and_preconditions_hold() {
    let server = ApiServer::default();
    let maps = maps(&server.client());
    let params = PatchParams::apply("tests").force();
    let first = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "1", "b": "2"}});
    let made = maps.patch("m", &params, &Patch::Apply(&first)).await.unwrap();
    let again = maps.patch("m", &params, &Patch::Apply(&first)).await.unwrap();
    assert_eq!(made.resource_version(), again.resource_version(), "no change writes nothing");
    maps.patch("m", &PatchParams::default(), &Patch::Merge(json!({"data": {"c": "3"}}))).await.unwrap();
    let second = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"b": "2"}});
    let left = maps.patch("m", &params, &Patch::Apply(&second)).await.unwrap();
    assert_eq!(json!(left.data), json!({"b": "2", "c": "3"}), "a goes with its manager, c is somebody else's");

    let stale = json!({"metadata": {"resourceVersion": made.resource_version()}, "data": {"b": "9"}});
    let error = maps.patch("m", &params, &Patch::Apply(&stale)).await.unwrap_err();
    assert_eq!(code(&error), 409);
    let wrong = DeleteParams::default().preconditions(Preconditions { uid: Some("other".into()), resource_version: None });
    assert_eq!(code(&maps.delete("m", &wrong).await.unwrap_err()), 409);
    maps.delete("m", &DeleteParams::default()).await.unwrap();
    assert_eq!(code(&maps.delete("m", &DeleteParams::default()).await.unwrap_err()), 404);
}

#[tokio::test]
async fn finalizers_hold_and_owned_objects_go_with_their_owner() {
    let server = ApiServer::default();
    let maps = maps(&server.client());
    let mut owner = config_map("owner", None);
    owner.metadata.finalizers = Some(vec!["rheos.dev/test".into()]);
    let owner = maps.create(&PostParams::default(), &owner).await.unwrap();
    maps.create(&PostParams::default(), &config_map("owned", Some(&owner))).await.unwrap();
    maps.delete("owner", &DeleteParams::default()).await.unwrap();
    assert!(maps.get("owner").await.unwrap().metadata.deletion_timestamp.is_some());
    let free = json!({"metadata": {"finalizers": null}});
    maps.patch("owner", &PatchParams::default(), &Patch::Merge(&free)).await.unwrap();
    assert!(maps.get_opt("owner").await.unwrap().is_none() && maps.get_opt("owned").await.unwrap().is_none());
}

#[tokio::test]
async fn a_subresource_changes_nothing_else_and_only_a_spec_raises_the_generation() {
    let server = ApiServer::default();
    let pods: Api<Pod> = Api::namespaced(server.client(), "default");
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": []}, "status": {"phase": "Running"}});
    let made = pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    assert_eq!(made.status.unwrap().phase.as_deref(), Some("Pending"), "status is a subresource");
    let both = json!({"metadata": {"labels": {"x": "y"}}, "spec": {"nodeName": "n"}, "status": {"phase": "Running"}});
    let params = PatchParams::default();
    let status = pods.patch_status("p", &params, &Patch::Merge(&both)).await.unwrap();
    assert!(status.labels().is_empty() && status.spec.unwrap().node_name.is_none());
    assert_eq!((status.status.unwrap().phase.as_deref(), status.metadata.generation), (Some("Running"), Some(1)));
    let main = pods.patch("p", &params, &Patch::Merge(&both)).await.unwrap();
    assert_eq!(main.metadata.generation, Some(2));
    pods.delete("p", &DeleteParams::default()).await.unwrap();
    assert!(pods.get("p").await.unwrap().metadata.deletion_timestamp.is_some(), "the kubelet has to end it first");
}

#[tokio::test]
async fn a_watch_tells_every_change_also_after_it_was_cut_and_lists_again_after_410() {
    let server = ApiServer::default();
    let maps = maps(&server.client());
    maps.create(&PostParams::default(), &config_map("a", None)).await.unwrap();
    let watched: Api<PartialObjectMeta<ConfigMap>> = Api::namespaced(server.client(), "default");
    let mut events = std::pin::pin!(watcher(watched, watcher::Config::default().labels("a=b")));
    let mut seen = Vec::new();
    for step in 0..8 {
        let event = tokio::time::timeout(std::time::Duration::from_secs(5), events.next()).await.unwrap().unwrap();
        match event {
            Ok(watcher::Event::InitDone) => {
                maps.create(&PostParams::default(), &config_map(&format!("b{step}"), None)).await.unwrap();
                seen.push("done".to_owned());
            }
            Ok(watcher::Event::Apply(object)) if step < 4 => {
                seen.push(object.name_any());
                server.cut_watches();
                maps.delete("a", &DeleteParams::default()).await.unwrap();
            }
            Ok(watcher::Event::Delete(object)) => {
                seen.push(format!("-{}", object.name_any()));
                maps.create(&PostParams::default(), &config_map("c", None)).await.unwrap();
                server.state().compacted = 1000;
                server.cut_watches();
            }
            Ok(watcher::Event::InitApply(object)) => seen.push(format!("+{}", object.name_any())),
            Ok(watcher::Event::Apply(object)) => seen.push(object.name_any()),
            Ok(watcher::Event::Init) => seen.push("init".to_owned()),
            Err(_) => seen.push("error".to_owned()),
        }
    }
    assert_eq!(seen[..5], ["init", "+a", "done", "b2", "-a"], "{seen:?}");
    assert!(seen[5..].iter().any(|event| event == "error" || event == "c"), "{seen:?}");
}

#[tokio::test]
async fn faults_come_where_they_were_planned() {
    for position in Position::ALL {
        let server = ApiServer::default();
        let maps = maps(&server.client());
        server.faults.plan(1, position);
        maps.create(&PostParams::default(), &config_map("a", None)).await.unwrap();
        let post = PostParams::default();
        let b = config_map("b", None);
        let outcome = tokio::select! {
            outcome = maps.create(&post, &b) => Some(outcome.is_ok()),
            () = server.faults.died() => None,
        };
        let (heard, happened) = match position {
            Position::BeforeRequest => (None, false),
            Position::AfterRequest => (None, true),
            Position::AfterReply => (Some(true), true),
            Position::RequestLost => (Some(false), false),
            Position::ReplyLost => (Some(false), true),
        };
        assert_eq!(outcome, heard, "{position:?}");
        assert_eq!(server.state().get(&Key::new("configmaps", "default", "b")).is_ok(), happened, "{position:?}");
        let dies = matches!(position, Position::BeforeRequest | Position::AfterRequest | Position::AfterReply);
        assert_eq!(server.faults.restart(), dies, "{position:?}");
        assert_eq!(maps.list(&ListParams::default()).await.unwrap().items.len(), 1 + usize::from(happened));
    }
}
