//! [pure] The objects, their versions and every change there ever was.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::patch;
use super::path::Kind;

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) plural: &'static str,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// What a change was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Added,
    Modified,
    Deleted,
}

/// One change.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) version: u64,
    pub(crate) change: Change,
    pub(crate) key: Key,
    pub(crate) object: Arc<Value>,
}

/// A refusal: HTTP code, reason, message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal(pub(crate) u16, pub(crate) &'static str, pub(crate) String);

pub(crate) type Outcome = Result<Value, Refusal>;

/// What of an object a write may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Main,
    Status,
}

/// A mistake of an operator, made for it by the server: what the sweep has to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// It acts first and writes its status at the end of the reconcile.
    ActsFirst,
}

type Deny = Arc<dyn Fn(&Key, &Value) -> Option<String> + Send + Sync>;

/// The whole server.
#[derive(Default, Clone)]
pub(crate) struct State {
    version: u64,
    uids: u64,
    /// Seconds since 1970, for `creationTimestamp`.
    pub(crate) now: i64,
    objects: BTreeMap<Key, Value>,
    wanted: BTreeMap<(Key, String, bool), Value>,
    log: Vec<Entry>,
    /// Watches from before this version get 410.
    pub(crate) compacted: u64,
    /// Refuses creations with 403, as a quota or Pod Security does.
    pub(crate) deny: Option<Deny>,
    /// The operator's mistake.
    pub(crate) bug: Option<Bug>,
    /// Statuses that are written when the reconcile has ended.
    pub(crate) deferred: Vec<(Key, String, Value)>,
    /// What the undisturbed run is compared by: creations and deletions, by kind.
    pub(crate) counts: BTreeMap<(&'static str, &'static str), u64>,
}

impl Key {
    pub(crate) fn new(plural: &str, namespace: &str, name: &str) -> Self {
        let kind = Kind::of(plural).unwrap_or_else(|| panic!("the model does not know {plural}"));
        Self { plural: kind.plural, namespace: namespace.into(), name: name.into() }
    }
}

fn not_found(key: &Key) -> Refusal {
    Refusal(404, "NotFound", format!("{} \"{}\" not found", key.plural, key.name))
}

fn conflict(key: &Key, why: &str) -> Refusal {
    Refusal(409, "Conflict", format!("Operation cannot be fulfilled on {} \"{}\": {why}", key.plural, key.name))
}

impl State {
    /// The newest version.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The changes after a version.
    pub(crate) fn after(&self, version: u64) -> &[Entry] {
        &self.log[self.log.partition_point(|entry| entry.version <= version)..]
    }

    /// All objects.
    pub(crate) fn objects(&self) -> &BTreeMap<Key, Value> {
        &self.objects
    }

    /// The objects of one kind.
    pub(crate) fn list<'a>(&'a self, plural: &'a str) -> impl Iterator<Item = (&'a Key, &'a Value)> {
        self.objects.iter().filter(move |(key, _)| key.plural == plural)
    }

    /// The objects as they were at a version.
    pub(crate) fn at(&self, version: u64) -> BTreeMap<Key, Value> {
        let mut objects = BTreeMap::new();
        for entry in self.log.iter().take_while(|entry| entry.version <= version) {
            match entry.change {
                Change::Deleted => objects.remove(&entry.key),
                Change::Added | Change::Modified => objects.insert(entry.key.clone(), (*entry.object).clone()),
            };
        }
        objects
    }

    pub(crate) fn get(&self, key: &Key) -> Outcome {
        self.objects.get(key).cloned().ok_or_else(|| not_found(key))
    }

    pub(crate) fn create(&mut self, key: &Key, mut object: Value) -> Outcome {
        if self.objects.contains_key(key) {
            let message = format!("{} \"{}\" already exists", key.plural, key.name);
            return Err(Refusal(409, "AlreadyExists", message));
        }
        if let Some(message) = self.deny.as_ref().and_then(|deny| deny(key, &object)) {
            let message = format!("{} \"{}\" is forbidden: {message}", key.plural, key.name);
            return Err(Refusal(403, "Forbidden", message));
        }
        let kind = Kind::of(key.plural).ok_or_else(|| not_found(key))?;
        self.uids += 1;
        object["apiVersion"] = json!(kind.api_version());
        object["kind"] = json!(kind.kind);
        if kind.status {
            object.as_object_mut().map(|fields| fields.remove("status"));
        }
        let created = timestamp(self.now);
        let metadata = &mut object["metadata"];
        metadata["name"] = json!(key.name);
        metadata["namespace"] = json!(key.namespace);
        metadata["uid"] = json!(format!("00000000-0000-4000-8000-{:012}", self.uids));
        metadata["creationTimestamp"] = json!(created);
        metadata["generation"] = json!(1);
        if key.plural == "pods" {
            object["status"] = json!({"phase": "Pending"});
        }
        *self.counts.entry((key.plural, "create")).or_default() += 1;
        Ok(self.store(key, Change::Added, object))
    }

    fn store(&mut self, key: &Key, change: Change, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.log.push(Entry { version: self.version, change, key: key.clone(), object: Arc::new(object.clone()) });
        if change == Change::Deleted {
            self.objects.remove(key);
            self.wanted.retain(|(owner, _, _), _| owner != key);
            *self.counts.entry((key.plural, "delete")).or_default() += 1;
        } else {
            self.objects.insert(key.clone(), object.clone());
        }
        object
    }

    /// Changes an object by `edit`; only `part` of it can change, and nothing is written when nothing does.
    pub(crate) fn update(&mut self, key: &Key, part: Part, body: &Value, edit: impl FnOnce(&mut Value)) -> Outcome {
        let old = self.get(key)?;
        for field in ["resourceVersion", "uid"] {
            let wanted = &body["metadata"][field];
            if !wanted.is_null() && *wanted != old["metadata"][field] {
                let why = "the object has been modified; please apply your changes to the latest version and try again";
                return Err(conflict(key, why));
            }
        }
        let mut edited = old.clone();
        edit(&mut edited);
        let kind = Kind::of(key.plural).ok_or_else(|| not_found(key))?;
        let mut new = if part == Part::Status && kind.status {
            let mut new = old.clone();
            set(&mut new, "status", edited.get("status"));
            new
        } else {
            if kind.status {
                set(&mut edited, "status", old.get("status"));
            }
            edited
        };
        for field in ["uid", "resourceVersion", "creationTimestamp", "generation", "deletionTimestamp", "name", "namespace"] {
            set(&mut new["metadata"], field, old["metadata"].get(field));
        }
        if new == old {
            return Ok(old);
        }
        if key.plural == "configmaps" && old["immutable"] == json!(true) && new["data"] != old["data"] {
            return Err(Refusal(422, "Invalid", format!("configmaps \"{}\": data: field is immutable", key.name)));
        }
        if kind.generation && new["spec"] != old["spec"] {
            new["metadata"]["generation"] = json!(old["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
        }
        let gone = new["metadata"].get("deletionTimestamp").is_some() && finalizers(&new) == 0 && key.plural != "pods";
        let stored = self.store(key, Change::Modified, new);
        if gone {
            self.remove(key);
        }
        Ok(stored)
    }

    /// The status, as a kubelet or another controller writes it.
    pub(crate) fn set_status(&mut self, key: &Key, status: &Value) {
        let _ = self.update(key, Part::Status, &Value::Null, |object| object["status"] = status.clone());
    }

    /// Changes an object as a person does.
    pub(crate) fn edit(&mut self, key: &Key, edit: impl FnOnce(&mut Value)) {
        self.update(key, Part::Main, &Value::Null, edit).unwrap();
    }

    /// The reconcile has ended, or its process has died.
    pub(crate) fn reconciled(&mut self, alive: bool) {
        for (key, manager, body) in std::mem::take(&mut self.deferred) {
            if alive {
                let _ = self.apply(&key, Part::Status, &manager, &body);
            }
        }
    }

    /// Server-side apply.
    pub(crate) fn apply(&mut self, key: &Key, part: Part, manager: &str, body: &Value) -> Outcome {
        let mut now = body.clone();
        for field in ["resourceVersion", "uid"] {
            now["metadata"].as_object_mut().map(|metadata| metadata.remove(field));
        }
        let slot = (key.clone(), manager.to_owned(), part == Part::Status);
        let before = self.wanted.get(&slot).cloned();
        let stored = if self.objects.contains_key(key) {
            self.update(key, part, body, |object| patch::apply(object, before.as_ref(), &now))?
        } else if part == Part::Status || !body["metadata"]["uid"].is_null() {
            return Err(not_found(key));
        } else {
            self.create(key, now.clone())?
        };
        self.wanted.insert(slot, now);
        Ok(stored)
    }

    /// Deletes: at once, or when the last finalizer is gone, or (a pod) when the kubelet says so.
    pub(crate) fn delete(&mut self, key: &Key, options: &Value) -> Outcome {
        let mut object = self.get(key)?;
        for field in ["uid", "resourceVersion"] {
            let wanted = &options["preconditions"][field];
            if !wanted.is_null() && *wanted != object["metadata"][field] {
                return Err(conflict(key, "the precondition does not hold"));
            }
        }
        let graceful = key.plural == "pods" && options["gracePeriodSeconds"] != json!(0);
        if finalizers(&object) == 0 && !graceful {
            self.remove(key);
            return Ok(object);
        }
        if object["metadata"].get("deletionTimestamp").is_some() {
            return Ok(object);
        }
        object["metadata"]["deletionTimestamp"] = json!(timestamp(self.now));
        object["metadata"]["generation"] = json!(object["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
        Ok(self.store(key, Change::Modified, object))
    }

    /// The object is gone, and what it alone owned goes with it.
    pub(crate) fn remove(&mut self, key: &Key) {
        let Some(object) = self.objects.get(key).cloned() else { return };
        let uid = object["metadata"]["uid"].clone();
        self.store(key, Change::Deleted, object);
        let owned: Vec<Key> = self
            .objects
            .iter()
            .filter(|(_, object)| {
                let owners = object["metadata"]["ownerReferences"].as_array().map_or(&[][..], Vec::as_slice);
                owners.iter().any(|owner| owner["uid"] == uid)
            })
            .map(|(key, _)| key.clone())
            .collect();
        for key in owned {
            let _ = self.delete(&key, &Value::Null);
        }
    }
}

fn set(object: &mut Value, field: &str, value: Option<&Value>) {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Value::Object(fields) = object else { return };
    match value {
        Some(value) => fields.insert(field.to_owned(), value.clone()),
        None => fields.remove(field),
    };
}

fn finalizers(object: &Value) -> usize {
    object["metadata"]["finalizers"].as_array().map_or(0, Vec::len)
}

/// RFC 3339.
pub(crate) fn timestamp(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap().to_string()
}
