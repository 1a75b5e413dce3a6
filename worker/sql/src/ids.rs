//! [pure] Stable names of operators, and fingerprints of their state.
//!
//! An operator with state is named after what it is: its kind, the tables and operators with state that it stems
//! from, its keys and its window. Filters and projections are not part of the name, so editing them keeps the state.
//! Aggregates are not part of it either, but of the fingerprint: changing them is found and refused on restore.

use std::collections::BTreeMap;

use rheos_dataflow::graph::OperatorId;

/// FNV-1a, 64 bit: the same on every machine and in every version.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Eight hexadecimal digits of a text.
pub(crate) fn hash8(text: &str) -> String {
    let hash = fnv1a(text);
    format!("{:08x}", (hash ^ (hash >> 32)) as u32)
}

/// Gives out ids, each once.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    taken: BTreeMap<String, usize>,
}

impl Ids {
    /// `name`, or `name#2`, `name#3`… in the order of the script.
    pub(crate) fn unique(&mut self, name: String) -> OperatorId {
        let count = self.taken.entry(name.clone()).or_default();
        *count += 1;
        OperatorId(if *count == 1 { name } else { format!("{name}#{count}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_never_changes() {
        assert_eq!(fnv1a(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(hash8("group-aggregate"), hash8("group-aggregate"));
    }

    #[test]
    fn equal_names_are_numbered() {
        let mut ids = Ids::default();
        assert_eq!(ids.unique("union:a".into()).0, "union:a");
        assert_eq!(ids.unique("union:a".into()).0, "union:a#2");
        assert_eq!(ids.unique("union:b".into()).0, "union:b");
    }
}
