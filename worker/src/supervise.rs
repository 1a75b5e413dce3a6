//! The supervisor: keeps a job's engine processes alive, one generation after the other.
//!
//! ```text
//!   signals, admin API ──► driver [io] ──► decide [pure]  (what happened, now) -> actions
//!                             │  ▲            view [pure]  what people and programs see
//!          spawn, kill, send  │  │ reports, exits
//!                             ▼  │
//!                       engine processes (roster: one a member; here all on this machine)
//! ```
//!
//! Invariants: at most one generation has living engines; a generation is minted before its engines start; an engine's
//! end, however it comes, ends its whole generation. The dataflow is not here: this process holds no row.

pub mod decide;
pub mod driver;
pub mod mint;
pub mod process;
pub mod restart;
pub mod usage;
pub mod view;
