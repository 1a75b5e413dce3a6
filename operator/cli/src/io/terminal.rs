//! [io] The person's terminal: what goes to it, and whether it is one.
//!
//! Results go to standard output, progress and errors to standard error: a script that reads the one is not disturbed by
//! the other.

use std::io::{IsTerminal, Write};

use serde_json::Value;

use crate::args::{ColorChoice, Form};
use crate::exit::{Failure, Outcome};
use crate::pages::paint::{Paint, Tone};

/// Where output goes.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    /// Colours of standard output.
    pub paint: Paint,
    /// Whether standard output is a terminal.
    pub is_terminal: bool,
    /// Whether standard error is one.
    progress_is_terminal: bool,
    progress_paint: Paint,
}

impl Terminal {
    /// The process's own.
    pub fn new(choice: ColorChoice) -> Self {
        let (out, err) = (std::io::stdout().is_terminal(), std::io::stderr().is_terminal());
        let wanted =
            std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let paint = |terminal: bool| match choice {
            ColorChoice::Always => Paint::Colors,
            ColorChoice::Auto if terminal && wanted => Paint::Colors,
            ColorChoice::Auto | ColorChoice::Never => Paint::Plain,
        };
        Self { paint: paint(out), is_terminal: out, progress_is_terminal: err, progress_paint: paint(err) }
    }

    /// Writes a result.
    ///
    /// # Errors
    /// Nobody reads it, or it cannot be written.
    pub fn print(&self, text: &str) -> Outcome {
        let mut out = std::io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure::unread()),
            Err(error) => Err(Failure::failed(format!("the output cannot be written: {error}"))),
        }
    }

    /// Writes a result in the form that was asked for.
    ///
    /// # Errors
    /// As [`Terminal::print`].
    pub fn show(&self, form: Form, page: impl FnOnce() -> String, value: impl FnOnce() -> Value) -> Outcome {
        match form {
            Form::Table => self.print(&page()),
            Form::Json => self.print(&format!("{:#}\n", value())),
            Form::Yaml => {
                let text = serde_saphyr::to_string(&value()).map_err(|error| Failure::failed(format!("no YAML: {error}")))?;
                self.print(&format!("{}\n", text.trim_end()))
            }
        }
    }

    /// A word beside the result.
    pub fn note(&self, text: &str) {
        self.progress_line(&format!("{text}\n"));
    }

    /// A failure and what to do about it.
    pub fn failure(&self, failure: &Failure) {
        let label = self.progress_paint.text(Tone::Bad, "error:");
        for problem in &failure.problems {
            self.progress_line(&format!("{label} {problem}\n"));
        }
        if let Some(hint) = &failure.hint {
            self.progress_line(&format!("{} {hint}\n", self.progress_paint.text(Tone::Strong, "hint:")));
        }
    }

    /// Progress: on a terminal one line that is written over, elsewhere a line for each thing that is new.
    pub fn progress(&self, text: &str, elapsed: &str, is_new: bool) {
        if self.progress_is_terminal {
            let width = rustix::termios::tcgetwinsize(std::io::stderr()).map_or(80, |size| usize::from(size.ws_col)).max(20);
            let line: String = format!("{elapsed}  {text}").chars().take(width - 1).collect();
            self.progress_line(&format!("\r\u{1b}[K{}", self.progress_paint.text(Tone::Faint, &line)));
        } else if is_new {
            self.progress_line(&format!("{text}\n"));
        }
    }

    /// Takes the line of progress away.
    pub fn progress_ends(&self) {
        if self.progress_is_terminal {
            self.progress_line("\r\u{1b}[K");
        }
    }

    /// Nobody may be reading; that is no reason to stop.
    fn progress_line(&self, text: &str) {
        let mut err = std::io::stderr().lock();
        let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
    }
}
