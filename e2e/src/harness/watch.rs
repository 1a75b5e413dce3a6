//! [io] Waiting: for one object, or for all objects of a kind in a namespace, to look as wanted; by watches, with a limit.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use futures::{StreamExt, pin_mut};
use kube::api::DynamicObject;
use kube::core::ApiResource;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Most of an object that is shown when it does not come to look as wanted, bytes.
const SHOWN: usize = 6_000;

/// A kind of the group `rheos.dev`.
pub fn resource(kind: &str) -> ApiResource {
    ApiResource {
        group: "rheos.dev".into(),
        version: "v1alpha1".into(),
        api_version: "rheos.dev/v1alpha1".into(),
        kind: kind.into(),
        plural: format!("{}s", kind.to_lowercase()),
    }
}

/// All objects of a kind, as JSON, until they look as wanted. The predicate sees them by name.
///
/// # Panics
/// After `limit`, with what was last seen.
pub async fn until<K, T>(
    api: Api<K>,
    config: watcher::Config,
    what: &str,
    limit: Duration,
    mut wanted: impl FnMut(&BTreeMap<String, serde_json::Value>) -> Option<T>,
) -> T
where
    K: kube::Resource + Clone + Debug + Serialize + DeserializeOwned + Send + 'static,
{
    let mut seen: BTreeMap<String, serde_json::Value> = BTreeMap::new();
    let mut next: BTreeMap<String, serde_json::Value> = BTreeMap::new();
    // What is not listed is not known to be absent.
    let mut listed = false;
    let waiting = async {
        let events = watcher(api, config).default_backoff();
        pin_mut!(events);
        while let Some(event) = events.next().await {
            match event {
                // The watch is made again by itself.
                Err(_) => continue,
                Ok(Event::Init) => {
                    next.clear();
                    listed = false;
                }
                Ok(Event::InitApply(object)) => {
                    next.insert(object.name_any(), json(&object));
                }
                Ok(Event::InitDone) => {
                    seen = std::mem::take(&mut next);
                    listed = true;
                }
                Ok(Event::Apply(object)) => {
                    seen.insert(object.name_any(), json(&object));
                }
                Ok(Event::Delete(object)) => {
                    seen.remove(&object.name_any());
                }
            }
            if listed && let Some(value) = wanted(&seen) {
                return value;
            }
        }
        unreachable!("a watch does not end")
    };
    let done = tokio::time::timeout(limit, waiting).await;
    done.unwrap_or_else(|_| panic!("waited {limit:?} for {what}; last seen: {}", shown(&seen)))
}

/// One object by its name until it looks as wanted; `None` while it is not there.
///
/// # Panics
/// After `limit`, with what was last seen.
pub async fn until_object<T>(
    api: Api<DynamicObject>,
    name: &str,
    what: &str,
    limit: Duration,
    mut wanted: impl FnMut(Option<&serde_json::Value>) -> Option<T>,
) -> T {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    until(api, config, what, limit, |objects| wanted(objects.get(name))).await
}

fn json(object: &impl Serialize) -> serde_json::Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(metadata) = value["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    value
}

fn shown(objects: &BTreeMap<String, serde_json::Value>) -> String {
    let all: Vec<serde_json::Value> =
        objects.values().map(|object| serde_json::json!({"metadata": object["metadata"], "status": object["status"]})).collect();
    let mut text = serde_json::to_string_pretty(&all).unwrap_or_default();
    let cut = text.char_indices().map(|(at, _)| at).take_while(|at| *at < SHOWN).last().unwrap_or(0);
    if text.len() > SHOWN {
        text.truncate(cut);
    }
    text
}
