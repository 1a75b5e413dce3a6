//! [io] One reconcile of a job: the five steps, in order.

use std::time::Duration;

use tracing::{Instrument, info_span};

use super::apply::apply;
use super::cache::Key;
use super::error::Error;
use super::followers::Followers;
use super::gather::{Gathered, gather};
use super::operator::Operator;
use super::status;
use super::workers::Workers;
use crate::reconcile::{EventKind, EventNote, decide};
use crate::runtime::backoff;
use crate::runtime::runner::Next;

/// A job is looked at this often even if nothing ever wakes us: no state without a timer.
pub const RESYNC: Duration = Duration::from_secs(600);
/// A job whose SQL is in a ConfigMap of its author is looked at this often, should the watch of those have missed an edit.
pub const SQL_RESYNC: Duration = Duration::from_secs(60);
/// The longest pause before something that was refused is tried again.
pub const REFUSED_PAUSE: Duration = Duration::from_secs(15);

/// Reconciles one job. `followers` are told whom to follow.
///
/// # Errors
/// The apiserver or a coordinator did not answer, or something has changed since it was read.
pub async fn reconcile<W: Workers>(operator: &Operator<W>, followers: Option<&Followers<W>>, key: &Key) -> Result<Next, Error> {
    operator.leadership.check()?;
    let now = (operator.clock)();
    let (observed, read, sql_from, about) = match gather(operator, key).instrument(info_span!("gather")).await? {
        Gathered::Job { observed, read, sql_from, about } => (observed, read, sql_from, about),
        Gathered::Gone => {
            operator.phases.note(&operator.metrics, key, None, now);
            operator.sources.note(key, None);
            if let Some(followers) = followers {
                followers.follow(key, "", &[]);
            }
            return Ok(Next::OnChange);
        }
        Gathered::Unreadable { about, message } => {
            let message = format!("the object breaks the schema and is left alone: {message}");
            let note = EventNote { kind: EventKind::Warning, reason: "Unreadable", message };
            operator.events.publish(&about, &[note]).await;
            return Ok(Next::OnChange);
        }
    };
    let decision = decide(&observed, now);
    let written = status::write(&operator.client, key, &read, &observed.status, &decision.status);
    let read = written.instrument(info_span!("status")).await?;
    operator.phases.note(&operator.metrics, key, Some(format!("{:?}", decision.status.phase)), now);
    if let Some(followers) = followers {
        followers.follow(key, &observed.job.uid, &observed.pods);
    }
    let outcome = apply(operator, &observed, &read, &decision.actions).await;
    operator.events.publish(&about, &decision.events).await;
    let outcome = outcome?;
    let refused = operator.refusals.note(&observed.job.uid, outcome.refused);
    if outcome.disturbed || refused == Some(0) {
        return Ok(Next::After(Duration::ZERO));
    }
    if let Some(times) = refused {
        return Ok(Next::After(backoff::delay(&observed.job.uid, times).min(REFUSED_PAUSE)));
    }
    let longest = if sql_from { SQL_RESYNC } else { RESYNC };
    Ok(Next::After(decision.requeue.unwrap_or(longest).min(longest)))
}
