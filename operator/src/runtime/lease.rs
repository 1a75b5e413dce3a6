//! [pure] Who leads: the decision over a Lease object, and how long the answer is good for.
//!
//! The rules are those of Kubernetes' own leader election. Nobody compares clocks of two machines: a follower takes over
//! when it has **seen the same record** for the holder's whole lease duration, by its own monotonic clock. The leader
//! counts from the moment it *sent* its last successful renewal and stops [`RENEW_DEADLINE`] after it, which is before
//! anybody else can have waited [`DURATION`]. A leader that was paused finds on waking that its time is over.

use std::time::Duration;

/// How long a follower waits without a renewal before it takes over.
pub const DURATION: Duration = Duration::from_secs(15);
/// How long a leader acts without a renewal.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Between two tries.
pub const RETRY: Duration = Duration::from_secs(2);

/// Time on the process's monotonic clock.
pub type Moment = Duration;

/// What a Lease says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; nobody when empty.
    pub holder: String,
    /// The holder's lease duration.
    pub duration: Duration,
    /// How often it changed hands.
    pub transitions: i32,
    /// Changes with every write of the object.
    pub resource_version: String,
}

/// What this process knows of the Lease.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sighting {
    record: Option<(Record, Moment)>,
}

/// What to do about the Lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// There is none: create it.
    Create,
    /// It is free, over or ours: write it, with the resource version that was read.
    Write {
        /// How often it changed hands, this time included.
        transitions: i32,
    },
    /// Somebody else holds it.
    Wait,
}

impl Sighting {
    /// Notes what was read at `now`. A record that is the same as before keeps its age.
    pub fn note(&mut self, read: Option<Record>, now: Moment) {
        self.record = match (read, self.record.take()) {
            (Some(new), Some((old, since))) if new == old => Some((old, since)),
            (Some(new), _) => Some((new, now)),
            (None, _) => None,
        };
    }

    /// The holder that was last seen.
    pub fn holder(&self) -> Option<&str> {
        self.record.as_ref().map(|(record, _)| record.holder.as_str()).filter(|holder| !holder.is_empty())
    }

    /// What `me` has to do at `now`.
    pub fn evaluate(&self, me: &str, now: Moment) -> Step {
        let Some((record, since)) = &self.record else { return Step::Create };
        let over = now.saturating_sub(*since) >= record.duration;
        if record.holder == me {
            Step::Write { transitions: record.transitions }
        } else if record.holder.is_empty() || over {
            Step::Write { transitions: record.transitions.saturating_add(1) }
        } else {
            Step::Wait
        }
    }
}

/// Until when a leader may act whose last successful renewal was sent at `sent`.
pub fn good_until(sent: Moment) -> Moment {
    sent + RENEW_DEADLINE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Duration::from_secs(seconds)
    }

    fn record(holder: &str, version: u64) -> Record {
        Record { holder: holder.into(), duration: DURATION, transitions: 3, resource_version: version.to_string() }
    }

    #[test]
    fn a_lease_is_taken_only_after_its_whole_duration_without_a_change() {
        let mut seen = Sighting::default();
        assert_eq!(seen.evaluate("me", at(0)), Step::Create);
        seen.note(Some(record("other", 1)), at(100));
        seen.note(Some(record("other", 1)), at(110));
        assert_eq!(seen.evaluate("me", at(114)), Step::Wait);
        assert_eq!(seen.evaluate("me", at(115)), Step::Write { transitions: 4 });
        seen.note(Some(record("other", 2)), at(115));
        assert_eq!(seen.evaluate("me", at(129)), Step::Wait);
    }

    #[test]
    fn a_lease_that_was_given_back_is_free_at_once_and_ones_own_is_renewed() {
        let mut seen = Sighting::default();
        seen.note(Some(record("", 1)), at(1));
        assert_eq!(seen.evaluate("me", at(1)), Step::Write { transitions: 4 });
        seen.note(Some(record("me", 2)), at(1));
        assert_eq!(seen.evaluate("me", at(500)), Step::Write { transitions: 3 });
    }

    #[test]
    fn the_leader_stops_before_anybody_else_can_start() {
        // Whoever reads the renewal at the earliest, reads it when it was sent.
        for sent in 0..100 {
            let mut seen = Sighting::default();
            seen.note(Some(record("leader", sent)), at(sent));
            let until = good_until(at(sent));
            assert_eq!(seen.evaluate("other", until), Step::Wait);
        }
    }
}
