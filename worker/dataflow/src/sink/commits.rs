//! [pure] What one worker's sinks have staged, what is being committed, and what is known to be visible.
//!
//! Invariants:
//! - One commit of a sink at a time: what is said to be confirmed up to an epoch is visible up to that epoch, however
//!   long each commit takes. (Side by side, a later one that ends first would make the coordinator drop committables
//!   of an earlier one from the records.)
//! - Nothing is handed out for a commit before a permit of its epoch or a later one.

use std::collections::BTreeMap;

use rheos_checkpoint::CommitPermit;

use super::Committable;
use crate::graph::OperatorId;
use crate::time::Epoch;

/// A commit to run; tell [`Commits::done`] when its output is visible.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    /// The sink.
    pub sink: OperatorId,
    /// What allows it.
    pub permit: CommitPermit,
    /// What to commit; not empty.
    pub committables: Vec<Committable>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Commits(BTreeMap<OperatorId, SinkCommits>);

#[derive(Debug, Default)]
struct SinkCommits {
    /// By the checkpoint that reported it.
    staged: BTreeMap<Epoch, Vec<Committable>>,
    running: bool,
    /// The newest permit that has not been acted on.
    permit: Option<CommitPermit>,
    confirmed: Option<Epoch>,
}

impl Commits {
    /// Nothing staged yet for these sinks.
    pub fn new(sinks: impl IntoIterator<Item = OperatorId>) -> Self {
        Self(sinks.into_iter().map(|sink| (sink, SinkCommits::default())).collect())
    }

    /// The report of checkpoint `epoch` names these.
    pub fn staged(&mut self, epoch: Epoch, committables: impl IntoIterator<Item = Committable>) {
        for committable in committables {
            let sink = self.0.entry(committable.sink.clone()).or_default();
            sink.staged.entry(epoch).or_default().push(committable);
        }
    }

    /// A record was written: the commits to start now.
    pub fn permit(&mut self, permit: &CommitPermit) -> Vec<Commit> {
        self.0.iter_mut().filter_map(|(id, sink)| sink.permitted(id, permit.clone())).collect()
    }

    /// A commit of this sink has ended well: the next one to start, if a permit waits.
    pub fn done(&mut self, sink: &OperatorId, epoch: Epoch) -> Option<Commit> {
        let state = self.0.get_mut(sink)?;
        state.running = false;
        state.confirmed = state.confirmed.max(Some(epoch));
        let permit = state.permit.take()?;
        state.permitted(sink, permit)
    }

    /// Whether a commit runs.
    pub fn running(&self) -> bool {
        self.0.values().any(|sink| sink.running)
    }

    /// Up to which epoch the output of each of these sinks is visible.
    pub fn confirmed<'a>(&self, sinks: impl IntoIterator<Item = &'a OperatorId>) -> BTreeMap<OperatorId, Epoch> {
        sinks.into_iter().filter_map(|sink| Some((sink.clone(), self.0.get(sink)?.confirmed?))).collect()
    }
}

impl SinkCommits {
    fn permitted(&mut self, id: &OperatorId, permit: CommitPermit) -> Option<Commit> {
        if self.running {
            // A later permit covers what an earlier one does.
            self.permit = Some(permit);
            return None;
        }
        let later = self.staged.split_off(&(permit.epoch() + 1));
        let committables: Vec<_> = std::mem::replace(&mut self.staged, later).into_values().flatten().collect();
        if committables.is_empty() {
            self.confirmed = self.confirmed.max(Some(permit.epoch()));
            return None;
        }
        self.running = true;
        Some(Commit { sink: id.clone(), permit, committables })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permit(epoch: Epoch) -> CommitPermit {
        serde_json::from_value(serde_json::json!({"generation": 1, "record": epoch, "epoch": epoch})).unwrap()
    }

    fn committable(epoch: Epoch) -> Committable {
        Committable { sink: OperatorId("out".into()), subtask: 0, epoch, payload: epoch.into() }
    }

    fn epochs(commit: Option<Commit>) -> Vec<Epoch> {
        commit.into_iter().flat_map(|commit| commit.committables).map(|committable| committable.epoch).collect()
    }

    #[test]
    fn nothing_is_confirmed_past_a_commit_that_still_runs() {
        let out = OperatorId("out".into());
        let mut commits = Commits::new([out.clone()]);
        commits.staged(3, [committable(3)]);
        assert_eq!(epochs(commits.permit(&permit(3)).pop()), [3]);
        // An epoch without output, then one with output, while the first commit runs.
        assert!(commits.permit(&permit(5)).is_empty());
        commits.staged(7, [committable(7)]);
        assert!(commits.permit(&permit(7)).is_empty());
        assert_eq!(commits.confirmed([&out]), BTreeMap::new());
        assert_eq!(epochs(commits.done(&out, 3)), [7]);
        assert_eq!(commits.confirmed([&out]), BTreeMap::from([(out.clone(), 3)]));
        assert!(commits.running());
        assert_eq!(commits.done(&out, 7), None);
        assert_eq!(commits.confirmed([&out]), BTreeMap::from([(out.clone(), 7)]));
        assert!(!commits.running());
    }

    #[test]
    fn what_is_staged_for_a_later_checkpoint_waits_for_its_permit() {
        let out = OperatorId("out".into());
        let mut commits = Commits::new([out.clone()]);
        commits.staged(3, [committable(3)]);
        commits.staged(4, [committable(4)]);
        assert_eq!(epochs(commits.permit(&permit(3)).pop()), [3]);
        assert_eq!(commits.done(&out, 3), None);
        assert_eq!(epochs(commits.permit(&permit(4)).pop()), [4]);
    }
}
