//! [io] Standard output and error of a run, shared by results, log and the refreshed status line without tearing.
//!
//! The status line is there only while standard error is a terminal. Then everything that engines write goes through
//! this process; else they write to the same files themselves.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::supervise::process::OutputLine;

/// Lines of engines that may wait for the terminal; more make the engine wait.
const LINES_LIMIT: usize = 1_024;
/// Width of a terminal that does not tell, characters.
const DEFAULT_WIDTH: usize = 100;

/// The two streams. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Screen {
    live: bool,
    status: Arc<Mutex<String>>,
}

impl Screen {
    /// The streams of this process.
    pub fn of_this_process() -> Self {
        Self { live: stderr().is_terminal(), status: Arc::default() }
    }

    /// Whether there is a status line.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Where engines' lines go, when they must go through here. Call it in the runtime.
    pub fn lines(&self) -> Option<mpsc::Sender<OutputLine>> {
        if !self.live {
            return None;
        }
        let (sender, mut lines) = mpsc::channel(LINES_LIMIT);
        let screen = self.clone();
        tokio::spawn(async move {
            while let Some(line) = lines.recv().await {
                match line {
                    OutputLine::Output(line) => screen.output_line(&line),
                    OutputLine::Error(line) => screen.error_line(&line),
                }
            }
        });
        Some(sender)
    }

    /// A function that writes log lines.
    pub fn log(&self) -> impl Fn(&[u8]) + Clone + Send + Sync + 'static {
        let screen = self.clone();
        move |line| screen.error_line(line)
    }

    /// Replaces the status line.
    pub fn show_status(&self, text: &str) {
        let width = rustix::termios::tcgetwinsize(stderr()).map_or(0, |size| usize::from(size.ws_col));
        let width = if width == 0 { DEFAULT_WIDTH } else { width };
        let text: String = text.chars().take(width.saturating_sub(1)).collect();
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        *status = text;
        draw(&status);
    }

    /// Removes the status line.
    pub fn clear(&self) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if !status.is_empty() {
            status.clear();
            draw("");
        }
    }

    /// Writes to standard output.
    pub fn output_line(&self, line: &[u8]) {
        self.around(|| {
            let mut out = stdout().lock();
            // A closed pipe is the reader's choice; the job goes on.
            let _ = out.write_all(line).and_then(|()| out.flush());
        });
    }

    /// Writes to standard error.
    pub fn error_line(&self, line: &[u8]) {
        self.around(|| {
            let _ = stderr().lock().write_all(line);
        });
    }

    /// Writes something while the status line is away.
    fn around(&self, write: impl FnOnce()) {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if status.is_empty() {
            write();
        } else {
            draw("");
            write();
            draw(&status);
        }
    }
}

/// Carriage return, erase the line, write.
fn draw(text: &str) {
    let _ = write!(stderr().lock(), "\r\x1b[2K{text}");
}
