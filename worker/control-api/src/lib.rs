//! What operator, driver and worker say to each other: the types of the admin API and a client for it.
//!
//! One contract for both sides: the server serialises the very types that the client reads. Requests carry ids and
//! nothing that names a file. Fields may be added; readers ignore what they do not know.

pub mod assignment;
pub mod client;
pub mod limits;
pub mod paths;
pub mod token;
pub mod view;

pub use assignment::{Assignment, CheckpointSettings, Judgement, MemberAddress, RestartSettings, RestoreOrder, judge};
pub use client::{Client, ClientError};
pub use token::Token;
pub use view::*;
