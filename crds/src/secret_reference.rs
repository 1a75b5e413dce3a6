//! [pure] `${secret:name/key}` in the SQL of a job: the value of a key of a Kubernetes Secret in the job's namespace.
//!
//! The operator mounts the Secrets that are referred to, and the worker's connectors replace the references; both find
//! them here, so that neither knows one that the other does not.

/// Where a reference begins.
pub const OPEN: &str = "${secret:";
/// Where a reference ends.
pub const CLOSE: char = '}';
/// Secrets that one job may refer to.
pub const LIMIT: usize = 32;

/// Names of the Secrets that a text refers to, in order, each once: what to mount.
pub fn names(text: &str) -> Vec<&str> {
    let behind = text.match_indices(OPEN).map(|(at, _)| &text[at + OPEN.len()..]);
    let references = behind.filter_map(|rest| parts(rest.split_once(CLOSE)?.0));
    let mut names: Vec<&str> = references.map(|(name, _)| name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// A Secret's name and a key, by Kubernetes' rules for both: no path leads out of a folder of Secrets.
pub fn parts(reference: &str) -> Option<(&str, &str)> {
    let (name, key) = reference.split_once('/')?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_key = !key.is_empty() && key.len() <= crate::names::SUBDOMAIN_LIMIT && key.chars().all(allowed) && !key.starts_with('.');
    (is_key && crate::names::subdomain(name).is_ok()).then_some((name, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_once_and_only_those_that_a_secret_can_have() {
        assert_eq!(names("'${secret:b/x}' '${secret:a/y}' ${secret:b/z} ${secret:../c} ${secret:A/d} ${secret:open"), ["a", "b"]);
        assert_eq!(parts("kafka/tls.key"), Some(("kafka", "tls.key")));
        for none in ["kafka", "kafka/", "/key", "kafka/../key", "kafka/.key", "ka fka/key"] {
            assert_eq!(parts(none), None, "{none}");
        }
    }
}
