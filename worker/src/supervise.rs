//! The supervisor: keeps a job's engine processes alive, one generation after the other.
//!
//! ```text
//!   signals, admin API ──► driver [io] ──► decide [pure]  (what happened, now) -> actions
//!                             │  ▲            view [pure]  what people and programs see
//!          spawn, kill, send  │  │ reports, exits
//!                             ▼  │
//!                       engines (roster: one a member, in a child of this process or in another pod)
//! ```
//!
//! Invariants: at most one generation has living engines; a generation is minted before its engines start; an engine's
//! end, however it comes, ends its whole generation. The dataflow is not here: this process holds no row.

pub mod decide;
pub mod driver;
pub mod handle;
pub mod link;
pub mod mint;
pub mod process;
pub mod restart;
pub mod roster;
pub mod usage;
pub mod view;
