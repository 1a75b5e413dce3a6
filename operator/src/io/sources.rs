//! [pure] Which jobs take their SQL from which ConfigMap of their namespace: whom an edit of one concerns.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::cache::Key;

/// The ConfigMap of each job that has one. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    by_job: Arc<Mutex<BTreeMap<Key, String>>>,
}

impl Sources {
    /// A job takes its SQL from this ConfigMap, or from none. To be said before the ConfigMap is read: no edit is missed then.
    pub fn note(&self, job: &Key, config_map: Option<&str>) {
        let mut by_job = self.by_job.lock().unwrap_or_else(PoisonError::into_inner);
        match config_map {
            Some(name) if by_job.get(job).is_none_or(|known| known != name) => drop(by_job.insert(job.clone(), name.to_owned())),
            Some(_) => {}
            None => drop(by_job.remove(job)),
        }
    }

    /// The jobs that take their SQL from a ConfigMap.
    pub fn of(&self, config_map: &Key) -> Vec<Key> {
        let by_job = self.by_job.lock().unwrap_or_else(PoisonError::into_inner);
        let of_namespace = by_job.range(Key::new(&config_map.namespace, "")..);
        let of_namespace = of_namespace.take_while(|(job, _)| job.namespace == config_map.namespace);
        of_namespace.filter(|(_, name)| **name == config_map.name).map(|(job, _)| job.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_map_concerns_the_jobs_of_its_namespace_that_name_it() {
        let sources = Sources::default();
        let key = |namespace: &str, name: &str| Key::new(namespace, name);
        for (job, map) in
            [(key("a", "x"), "sql"), (key("b", "x"), "sql"), (key("b", "y"), "other"), (key("b", "z"), "sql"), (key("c", "x"), "sql")]
        {
            sources.note(&job, Some(map));
        }
        assert_eq!(sources.of(&key("b", "sql")), [key("b", "x"), key("b", "z")]);
        sources.note(&key("b", "x"), Some("other"));
        sources.note(&key("b", "z"), None);
        assert_eq!(sources.of(&key("b", "other")), [key("b", "x"), key("b", "y")]);
        assert!(sources.of(&key("b", "sql")).is_empty());
    }
}
