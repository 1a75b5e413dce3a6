//! [pure] How a command ends: exit codes that scripts can use, and failures that carry one.

use std::fmt;

/// Done.
pub const GOOD: u8 = 0;
/// The job failed, or what was asked for was refused or did not come about.
pub const FAILED: u8 = 1;
/// The command line, the manifest or the SQL is wrong; nothing was changed.
pub const INVALID: u8 = 2;
/// There is no such object, or Rheos is not installed in the cluster.
pub const NOT_FOUND: u8 = 3;
/// No cluster answers.
pub const UNREACHABLE: u8 = 4;
/// The rights do not suffice.
pub const FORBIDDEN: u8 = 5;
/// What was waited for did not come about in time; it goes on in the cluster.
pub const TIMED_OUT: u8 = 6;
/// A wait was left by Ctrl-C; what was asked for goes on in the cluster.
pub const LEFT: u8 = 130;

/// Why a command did not end well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// One of the codes above.
    pub code: u8,
    /// What is wrong, a line each; none when there is nobody to tell.
    pub problems: Vec<String>,
    /// What to do.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure with one line.
    pub fn new(code: u8, problem: impl Into<String>) -> Self {
        Self { code, problems: vec![problem.into()], hint: None }
    }

    /// [`FAILED`].
    pub fn failed(problem: impl Into<String>) -> Self {
        Self::new(FAILED, problem)
    }

    /// [`INVALID`].
    pub fn invalid(problem: impl Into<String>) -> Self {
        Self::new(INVALID, problem)
    }

    /// [`INVALID`], with every mistake that was found.
    pub fn mistakes(problems: Vec<String>) -> Self {
        Self { code: INVALID, problems, hint: None }
    }

    /// The reader of the output has gone: nothing to say, and nobody to say it to.
    pub fn unread() -> Self {
        Self { code: GOOD, problems: Vec::new(), hint: None }
    }

    /// The same, with what to do.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

impl std::error::Error for Failure {}

/// How a command ends.
pub type Outcome<T = ()> = Result<T, Failure>;
