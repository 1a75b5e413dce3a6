//! [pure] What this process writes itself: it is known as soon as the reply is there, and to hear of it again is no news.
//!
//! Invariants: what somebody else changes is news, also while we write; nothing comes back into the cache that the watch
//! has told the end of. The second one leans on resource versions, which rise with every write: what is not newer than
//! what the watch has told is the watch's to tell.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use super::{Cache, Changed, Fact, Inner, Item, Key};

/// What is being written, and how far the watches have come.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// Objects that are being written, and the version of what was heard of them meanwhile.
    writing: BTreeMap<Key, Option<String>>,
    /// The newest version that the watch of a scope has told.
    told: BTreeMap<String, u64>,
}

impl Own {
    pub(super) fn told(&mut self, scope: &str, version: &str) {
        let version = version.parse().unwrap_or(0);
        let told = self.told.entry(scope.to_owned()).or_default();
        *told = version.max(*told);
    }

    /// Whether a watch may already have told what an object with this version became.
    fn may_have_told(&self, key: &Key, version: &str) -> bool {
        let told = self.told.get(&key.namespace).or_else(|| self.told.get(""));
        version.parse::<u64>().map_or(true, |version| told.is_some_and(|told| version <= *told))
    }

    /// The object is gone: what our write gave is not to be kept.
    pub(super) fn forget(&mut self, key: &Key) {
        self.writing.remove(key);
    }
}

impl<F: Fact> Inner<F> {
    /// What the watch tells of one object. What changes while we write it is told by [`Writing::end`].
    pub(super) fn hear(&mut self, scope: &str, item: Item<F>) -> Vec<Changed> {
        self.own.told(scope, &item.version);
        let (key, version) = (item.key.clone(), item.version.clone());
        let changed = self.put(item);
        match self.own.writing.get_mut(&key) {
            Some(heard) if changed.len() == 1 => {
                *heard = Some(version);
                Vec::new()
            }
            _ => changed,
        }
    }

    /// A list begins or ends: it tells of all objects, and no write that it overlaps does.
    pub(super) fn release(&mut self, scope: &str) -> Vec<Changed> {
        let writing = std::mem::take(&mut self.own.writing);
        let (ends, stays): (BTreeMap<_, _>, BTreeMap<_, _>) =
            writing.into_iter().partition(|(key, _)| scope.is_empty() || key.namespace == scope);
        self.own.writing = stays;
        let heard = ends.into_iter().filter(|(_, heard)| heard.is_some());
        let owner = |key: &Key| self.items.get(key).map(|item| Key::new(key.namespace.clone(), item.owner.clone()));
        heard.filter_map(|(key, _)| Some(Changed { owner: owner(&key)?, key, new: false })).collect()
    }
}

/// A write that is under way. Dropped before its end, it leaves everything to the watch.
#[derive(Debug)]
pub struct Writing<F: Fact> {
    cache: Cache<F>,
    key: Key,
}

impl<F: Fact> Cache<F> {
    /// An object is going to be written.
    pub fn writing(&self, key: Key) -> Writing<F> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner).own.writing.insert(key.clone(), None);
        Writing { cache: self.clone(), key }
    }
}

impl<F: Fact> Writing<F> {
    /// It was written, and is now `made`; nothing, if that was not said. Whether somebody else changed it meanwhile.
    pub fn end(self, made: Option<Item<F>>) -> bool {
        let mut inner = self.cache.inner.write().unwrap_or_else(PoisonError::into_inner);
        let Some(heard) = inner.own.writing.remove(&self.key) else { return false };
        match (made, heard) {
            (Some(made), Some(heard)) if made.version == heard => false,
            (made, Some(_)) => {
                if let Some(made) = made {
                    inner.put(made);
                }
                true
            }
            (Some(made), None) => {
                if !inner.own.may_have_told(&self.key, &made.version) {
                    inner.put(made);
                }
                false
            }
            (None, None) => false,
        }
    }
}

impl<F: Fact> Drop for Writing<F> {
    fn drop(&mut self) {
        self.cache.inner.write().unwrap_or_else(PoisonError::into_inner).own.forget(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;

    use super::super::tests::{item, owners};
    use super::*;

    fn key() -> Key {
        Key::new("ns", "x")
    }

    fn known(cache: &Cache<u32>) -> Vec<u32> {
        cache.of(&Key::new("ns", "a"))
    }

    #[test]
    fn our_own_write_is_known_at_once_and_is_no_news_before_or_after_the_reply() {
        for heard_first in [true, false] {
            let cache = Cache::default();
            cache.apply("", Event::Apply(item("other", "a", 4, 7)));
            let writing = cache.writing(key());
            let event = || cache.apply("", Event::Apply(item("x", "a", 5, 1)));
            if heard_first {
                assert!(event().is_empty());
            }
            assert!(!writing.end(item("x", "a", 5, 1)));
            assert_eq!(known(&cache), [7, 1]);
            assert!(event().is_empty());
            assert_eq!(owners(cache.apply("", Event::Apply(item("x", "a", 6, 2)))), ["a"], "somebody else's change");
        }
    }

    #[test]
    fn what_somebody_else_changes_meanwhile_is_told_at_the_end() {
        for (made, expected) in [(item("x", "a", 5, 1), 2), (item("x", "a", 8, 3), 3), (None, 2)] {
            let cache = Cache::default();
            let writing = cache.writing(key());
            assert!(cache.apply("", Event::Apply(item("x", "a", 6, 2))).is_empty());
            assert!(writing.end(made));
            assert_eq!(known(&cache), [expected]);
        }
    }

    #[test]
    fn what_has_gone_or_was_listed_meanwhile_does_not_come_back() {
        // It was made and is gone before we have the reply; the watch says so before or has come further already.
        let cache = Cache::default();
        let writing = cache.writing(key());
        assert!(cache.apply("", Event::Apply(item("x", "a", 5, 1))).is_empty());
        assert_eq!(owners(cache.apply("", Event::Delete(item("x", "a", 6, 1)))), ["a"]);
        assert!(!writing.end(item("x", "a", 5, 1)));
        assert!(known(&cache).is_empty());

        let writing = cache.writing(key());
        cache.apply("", Event::Apply(item("other", "b", 9, 1)));
        assert!(!writing.end(item("x", "a", 8, 1)));
        assert!(known(&cache).is_empty(), "the watch was at 9: it has told all of 8");

        // A list that overlaps tells everything.
        let writing = cache.writing(key());
        assert!(cache.apply("", Event::Apply(item("x", "a", 10, 1))).is_empty());
        assert_eq!(owners(cache.apply("", Event::Init)), ["a"]);
        cache.apply("", Event::InitDone);
        assert!(!writing.end(item("x", "a", 20, 1)));
        assert!(known(&cache).is_empty());
    }

    #[test]
    fn a_write_that_is_cut_off_leaves_everything_to_the_watch() {
        let cache = Cache::default();
        drop(cache.writing(key()));
        assert_eq!(owners(cache.apply("", Event::Apply(item("x", "a", 5, 1)))), ["a"]);
    }
}
