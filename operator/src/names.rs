//! [pure] The names of a job's objects.

use rheos_api::names::{LABEL_LIMIT, SUBDOMAIN_LIMIT};

use crate::hash;

/// Digits of the hash that stands for what was cut, and the dash before it.
const HASH_DIGITS: usize = 6;
/// Characters before a savepoint's time stamp are cut to this length.
const SAVEPOINT_PREFIX: usize = 44;

/// `prefix` + `suffix` if that has at most `limit` characters; otherwise the prefix is cut and a hash of it put in.
fn cut(prefix: &str, suffix: &str, limit: usize) -> String {
    if prefix.len() + suffix.len() <= limit {
        return format!("{prefix}{suffix}");
    }
    let room = limit.saturating_sub(suffix.len() + HASH_DIGITS + 1);
    let kept: String = prefix.chars().take(room).collect();
    format!("{}-{}{suffix}", kept.trim_end_matches('-'), hash::of_text(prefix, HASH_DIGITS))
}

/// The ConfigMap that is the snapshot of a revision.
pub fn config_map(job: &str, revision: &str) -> String {
    cut(job, &format!("-{revision}"), SUBDOMAIN_LIMIT)
}

/// The Secret with the job's token. A job that is made anew under an old name has a token of its own, whatever is left
/// of the old one.
pub fn token(job: &str, uid: &str) -> String {
    cut(job, &format!("-token-{}", hash::of_text(uid, HASH_DIGITS)), SUBDOMAIN_LIMIT)
}

/// The Service; the name of one must begin with a letter.
pub fn service(job: &str) -> String {
    match job.starts_with(|first: char| first.is_ascii_digit()) {
        true => cut(&format!("job-{job}"), "", LABEL_LIMIT),
        false => cut(job, "", LABEL_LIMIT),
    }
}

/// The PodDisruptionBudget.
pub fn budget(job: &str) -> String {
    job.to_owned()
}

/// A worker pod; also its host name, so at most 63 characters.
pub fn pod(job: &str, revision: &str, index: u32, incarnation: u32) -> String {
    cut(job, &format!("-{revision}-{index}-{incarnation}"), LABEL_LIMIT)
}

/// The pod that deletes the data of a savepoint, and the ConfigMap that it reads.
pub fn disposal(savepoint: &str, uid: &str) -> String {
    let plain = savepoint.replace('.', "-");
    cut(&plain, &format!("-disposal-{}", hash::of_text(uid, HASH_DIGITS)), LABEL_LIMIT)
}

/// A name as the value of a label.
pub fn label(name: &str) -> String {
    cut(name, "", LABEL_LIMIT)
}

/// A savepoint that the operator asks for itself; `what` says why or when.
pub fn savepoint(job: &str, what: &str) -> String {
    cut(&cut(job, "", SAVEPOINT_PREFIX), &format!("-{what}"), LABEL_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_of_the_longest_job_name_fits_and_stays_unique() {
        let long = "a".repeat(44);
        let other = format!("{}b", "a".repeat(43));
        for (index, incarnation) in [(0, 1), (511, 1), (511, 99_999), (4_294_967_295, 4_294_967_295)] {
            let name = pod(&long, "0123abcd", index, incarnation);
            assert!(name.len() <= 63 && rheos_api::names::label(&name, 63).is_ok(), "{name}");
            assert_ne!(name, pod(&other, "0123abcd", index, incarnation));
        }
        assert_eq!(pod("q5", "0123abcd", 3, 2), "q5-0123abcd-3-2");
    }

    #[test]
    fn a_cut_name_has_no_two_dashes_in_a_row() {
        let name = cut("aaaa-bbbb", "-cccccccc", 17);
        assert_eq!(name, format!("a-{}-cccccccc", hash::of_text("aaaa-bbbb", 6)));
        assert_eq!(cut("a-bbbbbbbbb", "-cccccccc", 17).matches("--").count(), 0);
    }

    #[test]
    fn a_service_begins_with_a_letter() {
        assert_eq!(service("q5"), "q5");
        assert_eq!(service("5q"), "job-5q");
    }
}
