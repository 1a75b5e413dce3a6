//! [pure] What watches have told, cut down to facts, found by the object that it belongs to.
//!
//! Invariants: what `apply` says has changed is all that has changed; a list that begins does not take away what is
//! known until it has ended; an event that is older than what is known changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use kube::runtime::watcher::Event;

/// A namespace and a name.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// Both parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// One object, as a cache keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct Item<F> {
    /// Which object.
    pub key: Key,
    /// What it belongs to, in the same namespace; itself for what belongs to nothing.
    pub owner: String,
    /// Its resource version.
    pub version: String,
    /// What is kept of it.
    pub fact: F,
}

#[derive(Debug)]
struct Inner<F> {
    items: BTreeMap<Key, Item<F>>,
    by_owner: BTreeMap<Key, BTreeSet<String>>,
    /// What a list that is under way has named so far.
    listed: Option<BTreeSet<Key>>,
    ready: bool,
}

/// The objects of one watch. Clones are the same one.
#[derive(Debug)]
pub struct Cache<F> {
    inner: Arc<RwLock<Inner<F>>>,
}

impl<F> Clone for Cache<F> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<F> Default for Cache<F> {
    fn default() -> Self {
        let inner = Inner { items: BTreeMap::new(), by_owner: BTreeMap::new(), listed: None, ready: false };
        Self { inner: Arc::new(RwLock::new(inner)) }
    }
}

impl<F: Clone + PartialEq> Cache<F> {
    /// Takes an event in. The owners whose facts it has changed; a `None` item is one that is not kept.
    pub fn apply(&self, event: Event<Option<Item<F>>>) -> Vec<Key> {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => {
                inner.listed = Some(BTreeSet::new());
                Vec::new()
            }
            Event::InitApply(Some(item)) => {
                if let Some(listed) = &mut inner.listed {
                    listed.insert(item.key.clone());
                }
                inner.put(item)
            }
            Event::Apply(Some(item)) => inner.put(item),
            Event::Delete(Some(item)) => inner.take(&item.key).into_iter().collect(),
            Event::InitDone => {
                inner.ready = true;
                let Some(listed) = inner.listed.take() else { return Vec::new() };
                let gone: Vec<Key> = inner.items.keys().filter(|key| !listed.contains(key)).cloned().collect();
                gone.iter().filter_map(|key| inner.take(key)).collect()
            }
            Event::InitApply(None) | Event::Apply(None) | Event::Delete(None) => Vec::new(),
        }
    }

    /// What belongs to an object, by name.
    pub fn of(&self, owner: &Key) -> Vec<F> {
        let inner = self.read();
        let names = inner.by_owner.get(owner).into_iter().flatten();
        let key = |name: &String| Key::new(owner.namespace.clone(), name.clone());
        names.filter_map(|name| inner.items.get(&key(name))).map(|item| item.fact.clone()).collect()
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Option<F> {
        self.read().items.get(key).map(|item| item.fact.clone())
    }

    /// Whether an object is there.
    pub fn contains(&self, key: &Key) -> bool {
        self.read().items.contains_key(key)
    }

    /// Whether the first list is complete.
    pub fn is_ready(&self) -> bool {
        self.read().ready
    }

    /// All objects.
    pub fn keys(&self) -> Vec<Key> {
        self.read().items.keys().cloned().collect()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Inner<F>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: PartialEq> Inner<F> {
    fn put(&mut self, item: Item<F>) -> Vec<Key> {
        let owner = Key::new(item.key.namespace.clone(), item.owner.clone());
        let mut changed = vec![owner.clone()];
        if let Some(old) = self.items.get(&item.key) {
            if is_older(&item.version, &old.version) || (old.fact == item.fact && old.owner == item.owner) {
                return Vec::new();
            }
            if old.owner != item.owner {
                changed.extend(self.take(&item.key));
            }
        }
        self.by_owner.entry(owner).or_default().insert(item.key.name.clone());
        self.items.insert(item.key.clone(), item);
        changed
    }

    fn take(&mut self, key: &Key) -> Option<Key> {
        let item = self.items.remove(key)?;
        let owner = Key::new(key.namespace.clone(), item.owner);
        if let Some(names) = self.by_owner.get_mut(&owner) {
            names.remove(&key.name);
            if names.is_empty() {
                self.by_owner.remove(&owner);
            }
        }
        Some(owner)
    }
}

/// Whether a resource version is older than another. They are numbers that rise with every write, in one cluster.
fn is_older(new: &str, known: &str) -> bool {
    match (new.parse::<u64>(), known.parse::<u64>()) {
        (Ok(new), Ok(known)) => new < known,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str, owner: &str, version: u64, fact: u32) -> Option<Item<u32>> {
        Some(Item { key: Key::new("ns", name), owner: owner.into(), version: version.to_string(), fact })
    }

    fn owners(changed: Vec<Key>) -> Vec<String> {
        changed.into_iter().map(|key| key.name).collect()
    }

    #[test]
    fn a_list_replaces_what_was_known_only_when_it_is_complete() {
        let cache = Cache::default();
        cache.apply(Event::Init);
        assert_eq!(owners(cache.apply(Event::InitApply(item("a-0", "a", 1, 10)))), ["a"]);
        assert_eq!(owners(cache.apply(Event::InitApply(item("b-0", "b", 2, 20)))), ["b"]);
        assert!(!cache.is_ready());
        assert!(cache.apply(Event::InitDone).is_empty() && cache.is_ready());
        cache.apply(Event::Init);
        assert!(cache.apply(Event::InitApply(item("a-0", "a", 1, 10))).is_empty(), "nothing new");
        assert_eq!(cache.of(&Key::new("ns", "b")), [20], "the list is not complete yet");
        assert_eq!(owners(cache.apply(Event::InitDone)), ["b"]);
        assert!(cache.of(&Key::new("ns", "b")).is_empty());
        assert_eq!(cache.of(&Key::new("ns", "a")), [10]);
    }

    #[test]
    fn old_news_change_nothing_and_a_change_of_owner_concerns_both() {
        let cache = Cache::default();
        cache.apply(Event::Apply(item("x", "a", 5, 1)));
        assert!(cache.apply(Event::Apply(item("x", "a", 4, 9))).is_empty());
        assert_eq!(cache.get(&Key::new("ns", "x")), Some(1));
        assert_eq!(owners(cache.apply(Event::Apply(item("x", "b", 6, 1)))), ["b", "a"]);
        assert!(cache.of(&Key::new("ns", "a")).is_empty());
        assert_eq!(owners(cache.apply(Event::Delete(item("x", "b", 7, 1)))), ["b"]);
        assert!(cache.apply(Event::Delete(item("x", "b", 7, 1))).is_empty());
        assert!(cache.keys().is_empty() && cache.inner.read().unwrap().by_owner.is_empty());
    }
}
