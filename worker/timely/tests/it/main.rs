//! Runs whole jobs on timely: several workers in one process, and several processes' worth over loopback sockets.

mod harness;
mod runs;
