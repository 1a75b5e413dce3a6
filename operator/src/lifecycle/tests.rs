//! A job's life in a small model of its pods and its coordinator: tables, and random histories.

mod history;
mod life;
mod restarts;
mod upgrades;
mod world;
