//! [pure] What watches have told, cut down to facts, found by the object that it belongs to.
//!
//! Invariants: what `apply` says has changed is all that has changed in a way that matters to decisions; a list that begins
//! does not take away what is known until it has ended; an event that is older than what is known changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use kube::runtime::watcher::Event;

mod own;

pub use own::Writing;

/// What is kept of an object.
pub trait Fact: Clone {
    /// Whether a decision could tell it from `old`. Another resource version alone is no news.
    fn is_news(&self, old: &Self) -> bool;
}

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
    /// What the lists that are under way have named so far, by scope.
    listed: BTreeMap<String, BTreeSet<Key>>,
    /// The scopes whose first list is complete.
    complete: BTreeSet<String>,
    own: own::Own,
}

/// What an event has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The object.
    pub key: Key,
    /// What it belongs to.
    pub owner: Key,
    /// Whether it was not known before.
    pub new: bool,
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
        let inner = Inner {
            items: BTreeMap::new(),
            by_owner: BTreeMap::new(),
            listed: BTreeMap::new(),
            complete: BTreeSet::new(),
            own: own::Own::default(),
        };
        Self { inner: Arc::new(RwLock::new(inner)) }
    }
}

impl<F: Fact> Cache<F> {
    /// Takes an event in: of the watch over the namespace `scope`, or over all when it is empty. What it has changed; a
    /// `None` item is one that is not kept.
    pub fn apply(&self, scope: &str, event: Event<Option<Item<F>>>) -> Vec<Changed> {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => {
                inner.listed.insert(scope.to_owned(), BTreeSet::new());
                inner.release(scope)
            }
            Event::InitApply(Some(item)) => {
                if let Some(listed) = inner.listed.get_mut(scope) {
                    listed.insert(item.key.clone());
                }
                inner.hear(scope, item)
            }
            Event::Apply(Some(item)) => inner.hear(scope, item),
            Event::Delete(Some(item)) => {
                inner.own.told(scope, &item.version);
                inner.own.forget(&item.key);
                inner.take(&item.key).into_iter().collect()
            }
            Event::InitDone => {
                inner.complete.insert(scope.to_owned());
                let mut changed = inner.release(scope);
                let Some(listed) = inner.listed.remove(scope) else { return changed };
                let within = |key: &&Key| scope.is_empty() || key.namespace == scope;
                let gone: Vec<Key> = inner.items.keys().filter(within).filter(|key| !listed.contains(key)).cloned().collect();
                changed.extend(gone.iter().filter_map(|key| inner.take(key)));
                changed
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

    /// Whether the first list of every scope is complete.
    pub fn is_ready(&self, scopes: &[String]) -> bool {
        let inner = self.read();
        scopes.iter().all(|scope| inner.complete.contains(scope))
    }

    /// All objects.
    pub fn keys(&self) -> Vec<Key> {
        self.read().items.keys().cloned().collect()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Inner<F>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Fact> Inner<F> {
    fn put(&mut self, item: Item<F>) -> Vec<Changed> {
        let owner = Key::new(item.key.namespace.clone(), item.owner.clone());
        let mut changed = vec![Changed { key: item.key.clone(), owner: owner.clone(), new: !self.items.contains_key(&item.key) }];
        if let Some(old) = self.items.get_mut(&item.key) {
            if is_older(&item.version, &old.version) {
                return Vec::new();
            }
            if old.owner == item.owner && !item.fact.is_news(&old.fact) {
                *old = item;
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

    fn take(&mut self, key: &Key) -> Option<Changed> {
        let item = self.items.remove(key)?;
        let owner = Key::new(key.namespace.clone(), item.owner);
        if let Some(names) = self.by_owner.get_mut(&owner) {
            names.remove(&key.name);
            if names.is_empty() {
                self.by_owner.remove(&owner);
            }
        }
        Some(Changed { key: item.key, owner, new: false })
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

    impl Fact for u32 {
        fn is_news(&self, old: &Self) -> bool {
            self != old
        }
    }

    pub(super) fn item(name: &str, owner: &str, version: u64, fact: u32) -> Option<Item<u32>> {
        Some(Item { key: Key::new("ns", name), owner: owner.into(), version: version.to_string(), fact })
    }

    pub(super) fn owners(changed: Vec<Changed>) -> Vec<String> {
        changed.into_iter().map(|changed| changed.owner.name).collect()
    }

    #[test]
    fn a_list_replaces_what_was_known_only_when_it_is_complete_and_only_in_its_namespace() {
        let cache = Cache::default();
        let other = Item { key: Key::new("other", "c-0"), owner: "c".into(), version: "1".into(), fact: 30 };
        cache.apply("other", Event::Apply(Some(other)));
        cache.apply("ns", Event::Init);
        assert_eq!(owners(cache.apply("ns", Event::InitApply(item("a-0", "a", 1, 10)))), ["a"]);
        assert_eq!(owners(cache.apply("ns", Event::InitApply(item("b-0", "b", 2, 20)))), ["b"]);
        assert!(!cache.is_ready(&["ns".into()]));
        assert!(cache.apply("ns", Event::InitDone).is_empty() && cache.is_ready(&["ns".into()]));
        assert!(!cache.is_ready(&["ns".into(), "other".into()]));
        cache.apply("ns", Event::Init);
        assert!(cache.apply("ns", Event::InitApply(item("a-0", "a", 1, 10))).is_empty(), "nothing new");
        assert_eq!(cache.of(&Key::new("ns", "b")), [20], "the list is not complete yet");
        assert_eq!(owners(cache.apply("ns", Event::InitDone)), ["b"]);
        assert!(cache.of(&Key::new("ns", "b")).is_empty());
        assert_eq!(cache.of(&Key::new("ns", "a")), [10]);
        assert_eq!(cache.of(&Key::new("other", "c")), [30]);
    }

    #[test]
    fn old_news_change_nothing_and_a_change_of_owner_concerns_both() {
        let cache = Cache::default();
        cache.apply("", Event::Apply(item("x", "a", 5, 1)));
        assert!(cache.apply("", Event::Apply(item("x", "a", 4, 9))).is_empty());
        assert_eq!(cache.get(&Key::new("ns", "x")), Some(1));
        assert!(cache.apply("", Event::Apply(item("x", "a", 6, 1))).is_empty(), "a version alone is no news");
        assert_eq!(owners(cache.apply("", Event::Apply(item("x", "b", 6, 1)))), ["b", "a"]);
        assert!(cache.of(&Key::new("ns", "a")).is_empty());
        assert_eq!(owners(cache.apply("", Event::Delete(item("x", "b", 7, 1)))), ["b"]);
        assert!(cache.apply("", Event::Delete(item("x", "b", 7, 1))).is_empty());
        assert!(cache.keys().is_empty() && cache.inner.read().unwrap().by_owner.is_empty());
    }
}
