//! The checkpoint store's conformance suite on a server that speaks S3, and a job whose checkpoints live there.
