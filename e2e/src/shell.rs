//! [io] Programs run to their end, and conditions waited for.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(50);
/// Most of a failed program's output that is repeated, bytes.
const SHOWN: usize = 4_096;

/// Runs a program and returns what it printed.
///
/// # Errors
/// When it cannot be started or fails; its standard error is repeated.
pub fn output(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command.stdin(Stdio::null()).output().map_err(|error| format!("{name}: {error}; it must be installed for this command"))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
    let said = [done.stdout, done.stderr].concat();
    let said = String::from_utf8_lossy(&said[said.len().saturating_sub(SHOWN)..]).into_owned();
    Err(format!("{name} {} ended with {}: {}", arguments.join(" "), done.status, said.trim()))
}

/// [`output`] of a program with these arguments.
///
/// # Errors
/// As [`output`].
pub fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    output(Command::new(program).args(arguments))
}

/// Runs a program that shows what it does on this terminal.
///
/// # Errors
/// When it cannot be started or fails.
pub fn show(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|error| format!("{name}: {error}; it must be installed for this command"))?;
    if status.success() { Ok(()) } else { Err(format!("{name} ended with {status}")) }
}

/// Looks until there is a value.
///
/// # Errors
/// After `limit`, or at once when `look` fails for good.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<Option<T>, String>) -> Result<T, String> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = look()? {
            return Ok(value);
        }
        if Instant::now() > deadline {
            return Err(format!("waited {limit:?} for {what}"));
        }
        std::thread::park_timeout(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_program_is_named_with_its_arguments_and_last_words() {
        let error = run("sh", &["-c", "echo gone wrong >&2; exit 3"]).unwrap_err();
        assert!(error.contains("exit 3") && error.contains("gone wrong"), "{error}");
        assert!(run("no-such-program", &[]).unwrap_err().contains("must be installed"));
    }

    #[test]
    fn waiting_ends_with_the_value_the_failure_or_the_limit() {
        let mut looks = 0;
        let third = until("three", Duration::from_secs(5), || {
            looks += 1;
            Ok((looks == 3).then_some(looks))
        });
        assert_eq!(third, Ok(3));
        assert_eq!(until::<()>("it", Duration::from_secs(5), || Err("broken".into())), Err("broken".into()));
        assert!(until::<()>("it", Duration::ZERO, || Ok(None)).unwrap_err().contains("it"));
    }
}
