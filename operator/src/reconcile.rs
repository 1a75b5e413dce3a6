//! One reconcile is five steps: **gather -> validate -> decide -> apply -> status**.
//!
//! 1. gather \[io\]: what there is, as [`Observed`]. Holds the client; decides nothing.
//! 2. validate \[pure\]: [`Wanted`] from the loose spec; a broken one is no error but a wish that cannot be met.
//! 3. decide \[pure\]: [`decide()`] compares both and gives a [`Decision`]. No clock, no client: time is a parameter.
//! 4. status \[io\]: `Decision::status` is written, with the resource version that was read, **before** anything that the
//!    decision asks for. If that fails, nothing is done and the next reconcile starts from what is there.
//! 5. apply \[io\]: executes `Decision::actions` in their order and stops at the first that fails. Decides nothing; what was
//!    refused comes back as [`Refusal`] in the next [`Observed`].
//!
//! So every act with an effect outside is written down before it is begun, whatever the decision was: a crash at any point
//! lands in an ordinary observed state. At most one act on a coordinator is asked for by one decision.

pub mod action;
pub mod decide;
pub mod decision;
pub mod observed;

pub use action::Action;
pub use decide::decide;
pub use decision::{Decision, EventKind, EventNote};
pub use observed::{Answer, Container, Identity, Observed, PodFacts, Refusal, SavepointFacts, Snapshot, Wanted};
