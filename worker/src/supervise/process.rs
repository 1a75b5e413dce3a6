//! [io] One engine: spawned here and spoken to over its socket, or reached in another pod ([`super::link`]).
//!
//! Every process has one watcher task. It forwards each report, and the exit last: when the exit is seen, everything
//! that the process had to say has been seen. The process is its own group, so a Ctrl-C at the terminal reaches the
//! supervisor alone; it dies with the supervisor (see [`crate::engine::channel`]) and with the handle.

use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rheos_control_api::OUT_OF_MEMORY;
use rheos_timely::exit::{EXIT_PANIC, EXIT_PEER_LOST};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command as ProcessCommand};
use tokio::sync::{Notify, mpsc};

use crate::engine::wire::{Command, Job, LINE_LIMIT, Report, Start};
use crate::supervise::link::{self, Peer};
use crate::supervise::usage::out_of_memory_kills;

/// Lines that may wait to be sent to one engine. More: it hangs, and is killed.
const OUTBOX_LIMIT: usize = 256;
/// An engine that has closed its socket may take this long to exit.
const EXIT_GRACE: Duration = Duration::from_secs(5);

/// The signal that the kernel ends a process with when memory is short.
const KILL: i32 = Signal::KILL.as_raw();

/// What a process list calls an engine.
const NAME: &str = "rheos-worker";

/// How an engine process is started.
#[derive(Debug, Clone)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Where standard output and error of engines go, a line at a time; `None`: where the supervisor's go.
    pub output: Option<mpsc::Sender<OutputLine>>,
}

/// A line that an engine wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputLine {
    /// To standard output: results.
    Output(Vec<u8>),
    /// To standard error: log.
    Error(Vec<u8>),
}

/// Names a process over all generations.
pub type Serial = u64;

/// What a watcher tells.
#[derive(Debug)]
pub enum Notice {
    /// An engine in another pod exists, with this process id there.
    Ready(Serial, u32),
    /// The engine said something.
    Report(Serial, Report),
    /// The pod of the engine goes: it wants a checkpoint and the end of the engine.
    Leaving(Serial),
    /// The pod has heard of another coordinator, by its order; no engine was started.
    Replaced(Serial, u64),
    /// There is no connection to the pod of the engine, or none any more; nothing follows.
    Lost(Serial, String),
    /// The engine is gone; nothing follows.
    Exited(Serial, String),
}

/// Where a watcher tells it. Bounded by who sends: an engine at a time, reports by the second.
pub type Notices = mpsc::UnboundedSender<Notice>;

/// A living engine. Dropping it kills the process.
#[derive(Debug)]
pub struct Engine {
    /// Its name here.
    pub serial: Serial,
    /// Its process id, on the machine where it runs.
    pub pid: Option<u32>,
    outbox: mpsc::Sender<Outgoing>,
    means: Means,
}

/// How an engine is started and ended.
#[derive(Debug)]
enum Means {
    /// A child of this process, and the data listener to lend to it.
    Child {
        /// Names the process itself, so that a kill never hits another one under the same id.
        pidfd: OwnedFd,
        listener: Arc<TcpListener>,
    },
    /// In another pod: it ends with the connection, and has the listener there.
    Remote(Arc<Notify>),
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What waits to be sent.
#[derive(Debug)]
pub(super) enum Outgoing {
    Line(Vec<u8>),
    Listener(OwnedFd),
}

impl Engine {
    /// Starts a process and tells it about the job; it plans and waits for its generation.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn spawn(program: &Program, job: &Job, listener: &Arc<TcpListener>, serial: Serial, notices: Notices) -> io::Result<Self> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let (read, write) = UnixStream::from_std(ours)?.into_split();
        let piped = |wanted: bool| if wanted { Stdio::piped() } else { Stdio::inherit() };
        let mut child = ProcessCommand::new(&program.path)
            .arg0(NAME)
            .args(&program.arguments)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(piped(program.output.is_some()))
            .stderr(piped(program.output.is_some()))
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().unwrap_or_default();
        if let Some(output) = &program.output {
            if let Some(stdout) = child.stdout.take() {
                tokio::spawn(forward(stdout, output.clone(), OutputLine::Output));
            }
            if let Some(stderr) = child.stderr.take() {
                tokio::spawn(forward(stderr, output.clone(), OutputLine::Error));
            }
        }
        // The child is not waited for yet, so the id is still its own.
        let name = Pid::from_raw(pid.cast_signed()).ok_or_else(|| io::Error::other("the new process has no id"))?;
        let pidfd = pidfd_open(name, PidfdFlags::empty())?;
        let (outbox, lines) = mpsc::channel(OUTBOX_LIMIT);
        tokio::spawn(send_all(write, lines));
        tokio::spawn(watch(child, read, serial, notices, out_of_memory_kills()));
        let engine = Self { serial, pid: Some(pid), outbox, means: Means::Child { pidfd, listener: Arc::clone(listener) } };
        engine.line(job);
        Ok(engine)
    }

    /// Asks another pod for an engine, and tells it about the job. Whether there is one comes as a notice.
    pub fn dial(peer: &Peer, job: &Job, serial: Serial, notices: Notices) -> Self {
        let (outbox, lines) = mpsc::channel(OUTBOX_LIMIT);
        let end = Arc::new(Notify::new());
        tokio::spawn(link::run(peer.clone(), lines, Arc::clone(&end), serial, notices));
        let engine = Self { serial, pid: None, outbox, means: Means::Remote(end) };
        engine.line(job);
        engine
    }

    /// Gives the process its place in a generation, and its data listener.
    ///
    /// # Errors
    /// The listener's descriptor cannot be duplicated.
    pub fn start(&self, start: &Start) -> io::Result<()> {
        if let Means::Child { listener, .. } = &self.means {
            self.push(Outgoing::Listener(listener.as_fd().try_clone_to_owned()?));
        }
        self.line(start);
        Ok(())
    }

    /// Says something. A process that does not listen is killed.
    pub fn send(&self, command: &Command) {
        self.line(command);
    }

    /// Its process id, when it runs on this machine as a child of this process.
    pub fn child_pid(&self) -> Option<u32> {
        self.pid.filter(|_| matches!(self.means, Means::Child { .. }))
    }

    /// Kills the process; its exit is told by its watcher.
    pub fn kill(&self) {
        match &self.means {
            // An error means that it is gone already.
            Means::Child { pidfd, .. } => drop(pidfd_send_signal(pidfd, Signal::KILL)),
            Means::Remote(end) => end.notify_one(),
        }
    }

    fn line(&self, message: &impl Serialize) {
        match serde_json::to_vec(message) {
            Ok(mut line) => {
                line.push(b'\n');
                self.push(Outgoing::Line(line));
            }
            Err(error) => {
                tracing::error!(%error, "a message to an engine cannot be written as JSON");
                self.kill();
            }
        }
    }

    fn push(&self, outgoing: Outgoing) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.outbox.try_send(outgoing) {
            tracing::warn!(pid = ?self.pid, "engine does not read its commands");
            self.kill();
        }
    }
}

/// Sends lines in order until the process is gone or the handle is dropped.
async fn send_all(mut write: OwnedWriteHalf, mut lines: mpsc::Receiver<Outgoing>) {
    while let Some(outgoing) = lines.recv().await {
        let sent = match outgoing {
            Outgoing::Line(line) => write.write_all(&line).await,
            Outgoing::Listener(listener) => send_listener(&write, &listener).await,
        };
        if sent.is_err() {
            return; // the watcher tells of the exit
        }
    }
}

/// Passes the descriptor with an empty line; a line that follows finds it there.
async fn send_listener(write: &OwnedWriteHalf, listener: &OwnedFd) -> io::Result<()> {
    loop {
        write.writable().await?;
        let stream: &UnixStream = write.as_ref();
        let sent = stream.try_io(tokio::io::Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            let descriptors = [listener.as_fd()];
            if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
                return Err(io::Error::other("no room for a descriptor"));
            }
            Ok(sendmsg(stream, &[IoSlice::new(b"\n")], &mut ancillary, SendFlags::NOSIGNAL)?)
        });
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other.map(drop),
        }
    }
}

/// Forwards reports, then waits for the end of the process.
/// `kills_before`: kills for want of memory before the process was started.
async fn watch(mut child: Child, read: OwnedReadHalf, serial: Serial, notices: Notices, kills_before: u64) {
    let mut reader = BufReader::new(read);
    let mut line = Vec::new();
    let problem = loop {
        line.clear();
        match (&mut reader).take(LINE_LIMIT as u64 + 1).read_until(b'\n', &mut line).await {
            Ok(0) => break None,
            Ok(length) if length > LINE_LIMIT => break Some(format!("a line is longer than {LINE_LIMIT} bytes")),
            Ok(_) => match serde_json::from_slice(&line) {
                Ok(report) => {
                    let _ = notices.send(Notice::Report(serial, report));
                }
                // Cut off by the end of the process.
                Err(_) if !line.ends_with(b"\n") => break None,
                Err(error) => break Some(error.to_string()),
            },
            Err(error) => break Some(error.to_string()),
        }
    };
    // Without its socket it is no engine any more, whatever it still does.
    let grace = if problem.is_some() { Duration::ZERO } else { EXIT_GRACE };
    let status = match tokio::time::timeout(grace, child.wait()).await {
        Ok(status) => status,
        Err(_) => {
            let _ = child.start_kill();
            child.wait().await
        }
    };
    let starved = out_of_memory_kills() > kills_before;
    let mut how = status.map_or_else(|error| format!("cannot be waited for: {error}"), |status| describe(status, starved));
    if let Some(problem) = problem {
        how = format!("{how}, after a report that cannot be read: {problem}");
    }
    let _ = notices.send(Notice::Exited(serial, how));
}

async fn forward<R: AsyncRead + Unpin>(stream: R, output: mpsc::Sender<OutputLine>, wrap: fn(Vec<u8>) -> OutputLine) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        match (&mut reader).take(LINE_LIMIT as u64).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                if output.send(wrap(line)).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// `starved`: since the start of the process, the kernel has killed somebody in this container for want of memory.
fn describe(status: ExitStatus, starved: bool) -> String {
    use std::os::unix::process::ExitStatusExt;

    match (status.signal(), status.code()) {
        (Some(KILL), _) if starved => {
            format!("was killed because the container is {OUT_OF_MEMORY}; raise spec.worker.resources.limits.memory, or parallelism")
        }
        (Some(signal), _) => format!("was killed by signal {signal}"),
        (None, Some(0)) => "exited without saying why".to_owned(),
        (None, Some(EXIT_PEER_LOST)) => "lost a peer".to_owned(),
        (None, Some(EXIT_PANIC)) => "panicked; see the log".to_owned(),
        (None, Some(code)) => format!("exited with code {code}"),
        (None, None) => "is gone".to_owned(),
    }
}
