//! [io] `kubectl` as a person uses it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::shell::output;

/// A request's own limit.
const REQUEST_TIMEOUT: &str = "--request-timeout=60s";
/// How long a forwarded port may take to listen.
const FORWARD_LIMIT: Duration = Duration::from_secs(20);

/// Runs it.
///
/// # Errors
/// When it fails: what it said.
pub fn kubectl(arguments: &[&str]) -> Result<String, String> {
    output(Command::new("kubectl").arg(REQUEST_TIMEOUT).args(arguments))
}

/// Runs a command whose success is part of the scenario.
///
/// # Panics
/// When it fails.
pub fn must(arguments: &[&str]) -> String {
    kubectl(arguments).unwrap_or_else(|error| panic!("{error}"))
}

/// `kubectl apply` of a text.
///
/// # Errors
/// When the apiserver refuses: what it said.
pub fn apply(manifest: &str) -> Result<String, String> {
    let text = |error: std::io::Error| format!("kubectl: {error}");
    let mut child = Command::new("kubectl")
        .args([REQUEST_TIMEOUT, "apply", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(text)?;
    child.stdin.take().map_or(Ok(()), |mut input| input.write_all(manifest.as_bytes())).map_err(text)?;
    let done = child.wait_with_output().map_err(text)?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    Err(String::from_utf8_lossy(&done.stderr).into_owned())
}

/// A local port that leads to a port of a pod; closed when dropped.
#[derive(Debug)]
pub struct Forward {
    child: Child,
    port: u16,
}

impl Forward {
    /// Opens one to `target` (`pod/x`, `service/y`).
    ///
    /// # Errors
    /// When it does not listen in time.
    pub fn open(namespace: &str, target: &str, port: u16) -> Result<Self, String> {
        let text = |error: std::io::Error| format!("kubectl port-forward: {error}");
        let mut child = Command::new("kubectl")
            .args(["port-forward", "-n", namespace, target, &format!(":{port}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(text)?;
        let Some(stdout) = child.stdout.take() else { return Err("kubectl port-forward: no output".into()) };
        let mut forward = Self { child, port: 0 };
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
            let _ = send.send(lines.next());
            // Read on, so that it never waits for a reader.
            lines.for_each(drop);
        });
        let line = receive.recv_timeout(FORWARD_LIMIT).ok().flatten();
        let line = line.ok_or_else(|| format!("kubectl port-forward to {target} does not listen"))?;
        // "Forwarding from 127.0.0.1:40001 -> 7070"
        let local = line.split(' ').find_map(|word| word.strip_prefix("127.0.0.1:")?.parse().ok());
        forward.port = local.ok_or_else(|| format!("kubectl port-forward said: {line}"))?;
        Ok(forward)
    }

    /// `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
