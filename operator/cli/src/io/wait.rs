//! [io] Waiting with progress. The cluster goes on by itself, so Ctrl-C only ends the watching.

use std::time::{Duration, Instant};

use crate::exit::{self, Failure, Outcome};
use crate::io::terminal::Terminal;
use crate::pages::{figures, paint};
use crate::progress::Progress;

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(500);
/// After this long without an answer of the operator a word about it is due.
const OPERATOR_PATIENCE: Duration = Duration::from_secs(15);
/// Looks that may fail in a row: an apiserver that is away for a moment ends no wait.
const FAILURES: u32 = 20;

/// What is waited for.
pub struct Wait<'a> {
    /// Where progress is shown.
    pub terminal: &'a Terminal,
    /// At most so long.
    pub timeout: Option<Duration>,
    /// What a person types to see how it goes on.
    pub look: String,
}

impl Wait<'_> {
    /// Looks until it has come about. Gives what it came to.
    ///
    /// # Errors
    /// It will not come about, not in time, or the wait was left.
    pub async fn until<F>(&self, mut look: impl FnMut() -> F) -> Outcome<String>
    where
        F: Future<Output = Outcome<Progress>>,
    {
        let started = Instant::now();
        let (mut before, mut failures, mut warned) = (String::new(), 0, false);
        let left = ctrl_c();
        tokio::pin!(left);
        loop {
            let looked = tokio::select! {
                looked = look() => looked,
                () = &mut left => return Err(self.left()),
            };
            match looked {
                Ok(Progress::Done(done)) => {
                    self.terminal.progress_ends();
                    return Ok(done);
                }
                Ok(Progress::Fails(why)) => {
                    self.terminal.progress_ends();
                    return Err(Failure::failed(why).hint(&self.look));
                }
                Ok(Progress::Waits(why)) => {
                    failures = 0;
                    let why = paint::clean(&why);
                    self.terminal.progress(&why, &figures::age(started.elapsed()), why != before);
                    if !warned && started.elapsed() > OPERATOR_PATIENCE && why.contains("operator has not answered") {
                        warned = true;
                        self.terminal.progress_ends();
                        self.terminal.note("is the operator running? kubectl get pods -A -l app.kubernetes.io/name=rheos");
                    }
                    before = why;
                }
                Err(failure) if failure.code == exit::UNREACHABLE && failures < FAILURES => failures += 1,
                Err(failure) => {
                    self.terminal.progress_ends();
                    return Err(failure);
                }
            }
            if self.timeout.is_some_and(|timeout| started.elapsed() >= timeout) {
                self.terminal.progress_ends();
                let waited = format!("not within {}: {before}", figures::age(started.elapsed()));
                return Err(Failure::new(exit::TIMED_OUT, waited).hint(format!("it goes on in the cluster; {}", self.look)));
            }
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = &mut left => return Err(self.left()),
            }
        }
    }

    fn left(&self) -> Failure {
        self.terminal.progress_ends();
        Failure::new(exit::LEFT, "left while waiting; what was asked for goes on in the cluster").hint(&self.look)
    }
}

/// Resolves at Ctrl-C, and when the process is told to end.
pub async fn ctrl_c() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
