//! [pure] Committables on their way: from the snapshot that staged them until their sink says that they are committed.

use std::collections::BTreeMap;

/// Unconfirmed committables by writer (sink and subtask, say) and epoch.
#[derive(Debug, Clone)]
pub struct Carried<W, C> {
    by_writer: BTreeMap<W, BTreeMap<u64, Vec<C>>>,
}

impl<W: Ord, C> Default for Carried<W, C> {
    fn default() -> Self {
        Self { by_writer: BTreeMap::new() }
    }
}

impl<W: Ord, C> Carried<W, C> {
    /// Takes over what a writer staged for the checkpoint of `epoch`.
    pub fn add(&mut self, writer: W, epoch: u64, staged: impl IntoIterator<Item = C>) {
        self.by_writer.entry(writer).or_default().entry(epoch).or_default().extend(staged);
    }

    /// A writer knows that its committables up to and with `epoch` are committed.
    pub fn confirm(&mut self, writer: &W, epoch: u64) {
        if let Some(epochs) = self.by_writer.get_mut(writer) {
            epochs.retain(|staged, _| *staged > epoch);
            if epochs.is_empty() {
                self.by_writer.remove(writer);
            }
        }
    }

    /// All that the next record must hold, by writer, then by epoch.
    pub fn all(&self) -> impl Iterator<Item = &C> {
        self.by_writer.values().flat_map(|epochs| epochs.values().flatten())
    }

    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.by_writer.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confirmation_drops_that_writers_epochs_up_to_it_and_no_others() {
        let mut carried = Carried::default();
        for (writer, epoch) in [("a", 1), ("a", 2), ("a", 3), ("b", 1)] {
            carried.add(writer, epoch, [format!("{writer}{epoch}")]);
        }
        carried.confirm(&"a", 2);
        carried.confirm(&"c", 9);
        assert_eq!(carried.all().cloned().collect::<Vec<_>>(), ["a3", "b1"]);
        carried.confirm(&"a", 3);
        carried.confirm(&"b", 3);
        assert!(carried.is_empty());
    }
}
