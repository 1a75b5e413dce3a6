//! [pure] Runs futures one poll at a time, in the order that the scheduler chooses; nothing wakes, everything is polled.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use super::random::Random;

/// I/O under way. Dropping it is a crash: what it did stays done, what it did not never happens.
pub(super) struct Io<T>(Pin<Box<dyn Future<Output = T> + Send>>);

impl<T> Io<T> {
    pub(super) fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Box::pin(future))
    }

    /// Goes on to its next point of rest.
    pub(super) fn poll(&mut self) -> Option<T> {
        match self.0.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }
}

/// Makes I/O take its time: each call rests a random number of polls before and after its effect, so that a crash can
/// come before it, after it, and after it but before anybody heard.
#[derive(Debug, Clone)]
pub(super) struct Delays {
    random: Arc<Mutex<Random>>,
    longest: u64,
}

impl Delays {
    /// Rests of at most `longest` polls.
    pub(super) fn new(random: Random, longest: u64) -> Self {
        Self { random: Arc::new(Mutex::new(random)), longest }
    }

    /// Rests for some polls.
    pub(super) async fn rest(&self) {
        let polls = self.draw(self.longest + 1);
        Rest(polls).await;
    }

    /// A number below `bound`.
    pub(super) fn draw(&self, bound: u64) -> u64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).below(bound)
    }
}

struct Rest(u64);

impl Future for Rest {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0 == 0 {
            return Poll::Ready(());
        }
        self.0 -= 1;
        // Combinators poll only those of their futures that asked for it.
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
