//! [pure] Names of things, checked.

use std::fmt;

/// Longest job name, characters: leaves room for `-<revision>-<index>-<incarnation>` in a 63-character pod name.
pub const JOB_NAME_LIMIT: usize = 44;
/// Longest DNS-1123 label, characters.
pub const LABEL_LIMIT: usize = 63;
/// Longest DNS-1123 subdomain (names of Secrets and ConfigMaps), characters.
pub const SUBDOMAIN_LIMIT: usize = 253;

/// The name of a job: a DNS-1123 label of at most [`JOB_NAME_LIMIT`] characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobName(String);

impl JobName {
    /// Checks a name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(name: &str) -> Result<Self, String> {
        label(name, JOB_NAME_LIMIT).map(|()| Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks a DNS-1123 label of at most `limit` characters.
///
/// # Errors
/// What is wrong with it.
pub fn label(name: &str, limit: usize) -> Result<(), String> {
    if name.is_empty() {
        return Err("is empty".to_owned());
    }
    if name.chars().count() > limit {
        return Err(format!("has {} characters", name.chars().count()));
    }
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !name.chars().all(inner) || !ends(name.chars().next()) || !ends(name.chars().last()) {
        return Err(format!("{name:?} is no DNS-1123 label"));
    }
    Ok(())
}

/// Checks a DNS-1123 subdomain: labels joined by dots; only the whole is bounded, as Kubernetes has it.
///
/// # Errors
/// What is wrong with it.
pub fn subdomain(name: &str) -> Result<(), String> {
    if name.len() > SUBDOMAIN_LIMIT {
        return Err(format!("has {} characters", name.chars().count()));
    }
    if name.is_empty() {
        return Err("is empty".to_owned());
    }
    match name.split('.').all(|part| label(part, SUBDOMAIN_LIMIT).is_ok()) {
        true => Ok(()),
        false => Err(format!("{name:?} is no DNS-1123 subdomain")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_name_is_a_label_with_room_behind_it() {
        assert!(JobName::new(&"a".repeat(JOB_NAME_LIMIT)).is_ok());
        assert!(JobName::new(&"a".repeat(JOB_NAME_LIMIT + 1)).is_err());
        for good in ["a", "bids-per-auction", "0", "q5"] {
            assert!(JobName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "ä", "a/b", "..", "a\n"] {
            assert!(JobName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_subdomain_is_labels_and_dots() {
        assert!(subdomain("my.secret-1").is_ok());
        for bad in ["", "a..b", ".a", "a/b", "A"] {
            assert!(subdomain(bad).is_err(), "{bad}");
        }
    }
}
