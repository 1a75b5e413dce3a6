//! The one integration test binary of this crate.

mod corruption;
mod interleavings;
mod job;
mod protocol;
mod s3;
mod stores;
mod sweep;
