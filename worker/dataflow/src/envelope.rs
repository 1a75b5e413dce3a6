//! [pure] What travels between stages: batches and watermarks, stamped with their sender.

use arrow::array::RecordBatch;

use crate::time::Watermark;

/// One message on an exchange edge, within one epoch.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// The sending subtask's index.
    pub sender: u32,
    /// Rises by one with each message of the sender on this edge within the epoch (over all targets).
    pub seq: u32,
    /// What is sent.
    pub payload: Payload,
}

/// The content of an [`Envelope`].
#[derive(Debug, Clone)]
pub enum Payload {
    /// Rows. The schema is the edge's, known to both ends from the plan.
    Rows(RecordBatch),
    /// The sender's watermark as of the end of this epoch. Sent to every target in the sender's first epoch and
    /// whenever it changes; in effect when the epoch closes at the receiver.
    Watermark(Watermark),
}
