//! The checkpoint store protocol.
