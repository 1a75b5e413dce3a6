//! [io] What clients of the results were given, since this process began.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::OwnedSemaphorePermit;

/// Counts; shared by all clients.
#[derive(Debug, Default)]
pub(super) struct Meter {
    sent: AtomicU64,
    cut_off: AtomicU64,
    refused: AtomicU64,
}

/// Figures of the results for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Clients that are served now.
    pub clients: u64,
    /// Bytes given to clients, without those that another pod's answer was.
    pub sent_bytes: u64,
    /// Clients that were cut off: too slow, or what came next was gone or could not be read.
    pub cut_off: u64,
    /// Clients that were refused because as many as may be were there.
    pub refused: u64,
}

impl Meter {
    pub(super) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn cut_off(&self) {
        self.cut_off.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn figures(&self, clients: u64) -> Figures {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Figures { clients, sent_bytes: read(&self.sent), cut_off: read(&self.cut_off), refused: read(&self.refused) }
    }
}

/// A place for one client; free again when dropped.
#[derive(Debug)]
pub struct Place {
    pub(super) meter: Arc<Meter>,
    pub(super) _permit: OwnedSemaphorePermit,
}
