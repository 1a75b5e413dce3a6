//! [io] Where the operator dies: at the n-th write, before it, after the server did it, or after the reply.
//!
//! One counter is shared by all that has an effect outside the operator: API writes and calls to coordinators.

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

/// What happens at the chosen write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Position {
    /// The operator dies; the server never sees the request.
    BeforeRequest,
    /// The server did it; the operator dies before it reads the reply.
    AfterRequest,
    /// The operator reads the reply and dies before its next request.
    AfterReply,
    /// The operator lives and sees an error; the server never saw the request.
    RequestLost,
    /// The operator lives and sees an error; the server did it.
    ReplyLost,
}

impl Position {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [Self::BeforeRequest, Self::AfterRequest, Self::AfterReply, Self::RequestLost, Self::ReplyLost];
}

/// What a caller has to do with its write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Whether the effect happens.
    pub(crate) happens: bool,
    /// What the operator gets to see.
    pub(crate) heard: Heard,
}

/// What the operator gets to see of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The reply.
    Reply,
    /// A broken connection.
    Error,
    /// Nothing ever again: it is dead.
    Nothing,
}

#[derive(Debug, Default)]
struct Inner {
    writes: usize,
    plan: Option<(usize, Position)>,
    dies_at_next: bool,
    dead: bool,
    names: Vec<String>,
}

/// The counter and the plan.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    inner: Arc<Mutex<Inner>>,
    died: Arc<Notify>,
}

impl Faults {
    /// Plans one fault at the `nth` write from now on, counted from 0.
    pub(crate) fn plan(&self, nth: usize, position: Position) {
        let mut inner = self.inner.lock().unwrap();
        inner.plan = Some((inner.writes + nth, position));
    }

    /// A write is about to happen.
    pub(crate) fn write(&self, name: impl FnOnce() -> String) -> Verdict {
        let mut inner = self.inner.lock().unwrap();
        if inner.dead || std::mem::take(&mut inner.dies_at_next) {
            return self.die(&mut inner, false);
        }
        let number = inner.writes;
        inner.writes += 1;
        let name = name();
        inner.names.push(name);
        let position = match inner.plan {
            Some((nth, position)) if nth == number => position,
            _ => return Verdict { happens: true, heard: Heard::Reply },
        };
        inner.plan = None;
        match position {
            Position::BeforeRequest => self.die(&mut inner, false),
            Position::AfterRequest => self.die(&mut inner, true),
            Position::AfterReply => {
                inner.dies_at_next = true;
                Verdict { happens: true, heard: Heard::Reply }
            }
            Position::RequestLost => Verdict { happens: false, heard: Heard::Error },
            Position::ReplyLost => Verdict { happens: true, heard: Heard::Error },
        }
    }

    /// A read is about to happen; whether the operator is dead.
    pub(crate) fn read(&self) -> bool {
        let mut inner = self.inner.lock().unwrap();
        if std::mem::take(&mut inner.dies_at_next) {
            self.die(&mut inner, false);
        }
        inner.dead
    }

    fn die(&self, inner: &mut Inner, happens: bool) -> Verdict {
        // Told once: requests that were on their way at the same time die with it.
        if !std::mem::replace(&mut inner.dead, true) {
            self.died.notify_one();
        }
        Verdict { happens, heard: Heard::Nothing }
    }

    /// Resolves when the operator has died.
    pub(crate) async fn died(&self) {
        self.died.notified().await;
    }

    /// A new operator process starts. Whether the old one was dead, or would have died at its next request.
    pub(crate) fn restart(&self) -> bool {
        let mut inner = self.inner.lock().unwrap();
        let dying = std::mem::take(&mut inner.dies_at_next);
        std::mem::take(&mut inner.dead) || dying
    }

    /// Writes so far.
    pub(crate) fn writes(&self) -> usize {
        self.inner.lock().unwrap().writes
    }

    /// The writes so far, in words.
    pub(crate) fn names(&self) -> Vec<String> {
        self.inner.lock().unwrap().names.clone()
    }
}
