//! [io] An engine in another pod, reached over TCP: the coordinator's end. The other end is [`crate::pod::relay`].
//!
//! One connection is one engine. Down: a [`Hello`], then the lines of [`crate::engine::wire`]; up: an [`Answer`], then
//! reports, and `exited` last. The end of the connection is the end of the engine, whoever closes it; a peer that is
//! silent at the level of TCP is found within [`SILENCE`].

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use crate::engine::wire::{LINE_LIMIT, Report};
use crate::supervise::process::{Notice, Notices, Outgoing, Serial};

/// Connecting may take this long.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// From the hello to the answer: the pod starts a process meanwhile.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// One write may take this long: lines are short, so the other end hangs when it does.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(5);
/// After the connection was closed, the pod may take this long to tell of the engine's end.
const CLOSE_GRACE: Duration = Duration::from_secs(5);
/// Data that nobody acknowledges for this long ends a connection; so does a connection without any sign of life.
pub const SILENCE: Duration = Duration::from_secs(5);
/// Between two signs of life of an idle connection.
const KEEPALIVE: Duration = Duration::from_secs(1);
/// Longest first line, bytes.
pub const HELLO_LIMIT: usize = 4 * 1024;

/// The first line of a connection: who calls, and by what right.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// The job's token.
    pub token: String,
    /// The job's unique id.
    pub job: String,
    /// The coordinator's pod.
    pub pod: String,
    /// The assignment that the coordinator works by: the higher one wins.
    pub assignment: u64,
    /// Differs between any two lives of a coordinator: of two with the same assignment the later one wins.
    pub session: u64,
    /// The coordinator's admin API: results are asked for there.
    #[serde(default)]
    pub admin: Option<SocketAddr>,
}

impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Hello");
        shown.field("job", &self.job).field("pod", &self.pod).field("assignment", &self.assignment).finish_non_exhaustive()
    }
}

/// What a pod says beside an engine's reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// There is an engine; lines for it may follow.
    Engine {
        /// Its process id there.
        pid: u32,
    },
    /// There is none, and why.
    Refused(String),
    /// There is none: the pod has heard of another coordinator, with this assignment.
    Replaced(u64),
    /// The pod goes.
    Leaving,
    /// The engine is gone, and how.
    Exited(String),
}

/// A line up.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Up {
    /// The engine's.
    Report(Report),
    /// The pod's.
    Answer(Answer),
}

/// A pod that can be asked for an engine.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its member port.
    pub address: SocketAddr,
    /// What it is told first.
    pub hello: Arc<Hello>,
}

/// Why there is no engine.
enum NoEngine {
    Unreachable(String),
    Replaced(u64),
}

/// How a conversation ended.
enum End {
    Exited(String),
    Lost(String),
}

/// Asks for an engine and speaks to it until it is gone. `end` ends it.
pub(super) async fn run(peer: Peer, mut lines: mpsc::Receiver<Outgoing>, end: Arc<Notify>, serial: Serial, notices: Notices) {
    let last = match engine(&peer, &mut lines, &end).await {
        Err(NoEngine::Unreachable(reason)) => Notice::Lost(serial, reason),
        Err(NoEngine::Replaced(newer)) => Notice::Replaced(serial, newer),
        Ok((stream, pid)) => {
            let _ = notices.send(Notice::Ready(serial, pid));
            match converse(stream, lines, &end, serial, &notices).await {
                End::Exited(how) => Notice::Exited(serial, how),
                End::Lost(how) => Notice::Lost(serial, how),
            }
        }
    };
    let _ = notices.send(last); // the supervisor may have ended
}

/// Connects, introduces us, sends the first line, which is the job, and hears of an engine.
async fn engine(peer: &Peer, lines: &mut mpsc::Receiver<Outgoing>, end: &Notify) -> Result<(BufReader<TcpStream>, u32), NoEngine> {
    let unreachable = |what: &str, error: &dyn fmt::Display| NoEngine::Unreachable(format!("{what}: {error}"));
    let asking = async {
        let stream = match timeout(CONNECT_DEADLINE, TcpStream::connect(peer.address)).await {
            Ok(connected) => connected.map_err(|error| unreachable("cannot be reached", &error))?,
            Err(_) => return Err(NoEngine::Unreachable(format!("did not answer in {} s", CONNECT_DEADLINE.as_secs()))),
        };
        watch_over(&stream).map_err(|error| unreachable("the connection cannot be set up", &error))?;
        let mut stream = BufReader::new(stream);
        let answer = async {
            say(&mut stream, peer.hello.as_ref()).await?;
            if let Some(Outgoing::Line(job)) = lines.recv().await {
                stream.write_all(&job).await?;
            }
            hear::<Answer>(&mut stream, HELLO_LIMIT).await
        };
        match timeout(ANSWER_DEADLINE, answer).await {
            Ok(Ok(Some(Answer::Engine { pid }))) => Ok((stream, pid)),
            Ok(Ok(Some(Answer::Replaced(newer)))) => Err(NoEngine::Replaced(newer)),
            Ok(Ok(Some(Answer::Refused(reason)))) => Err(NoEngine::Unreachable(format!("refuses: {reason}"))),
            Ok(Ok(Some(Answer::Leaving))) => Err(NoEngine::Unreachable("is leaving".to_owned())),
            Ok(Ok(Some(Answer::Exited(how)))) => Err(NoEngine::Unreachable(format!("started an engine that {how}"))),
            Ok(Ok(None)) => Err(NoEngine::Unreachable("closed the connection".to_owned())),
            Ok(Err(error)) => Err(unreachable("gave no answer", &error)),
            Err(_) => Err(NoEngine::Unreachable(format!("gave no answer in {} s", ANSWER_DEADLINE.as_secs()))),
        }
    };
    tokio::select! {
        found = asking => found,
        () = end.notified() => Err(NoEngine::Unreachable("is not wanted any more".to_owned())),
    }
}

/// Passes lines on, both ways, until the engine is gone. How it ended.
async fn converse(stream: BufReader<TcpStream>, lines: mpsc::Receiver<Outgoing>, end: &Notify, serial: Serial, notices: &Notices) -> End {
    let (read, write) = tokio::io::split(stream);
    let mut hearing = std::pin::pin!(hear_all(BufReader::new(read), serial, notices));
    tokio::select! {
        end = &mut hearing => return end,
        () = send_all(write, lines, end) => {}
    }
    timeout(CLOSE_GRACE, hearing).await.unwrap_or_else(|_| End::Lost("was given up: its pod does not answer".to_owned()))
}

async fn hear_all(mut read: impl AsyncBufRead + Unpin, serial: Serial, notices: &Notices) -> End {
    loop {
        match hear::<Up>(&mut read, LINE_LIMIT).await {
            Ok(Some(Up::Report(report))) => drop(notices.send(Notice::Report(serial, report))),
            Ok(Some(Up::Answer(Answer::Exited(how)))) => return End::Exited(how),
            Ok(Some(Up::Answer(Answer::Leaving))) => drop(notices.send(Notice::Leaving(serial))),
            Ok(Some(Up::Answer(_))) => {}
            Ok(None) => return End::Lost("was lost: the connection to its pod was closed".to_owned()),
            Err(error) => return End::Lost(format!("was lost: the connection to its pod failed: {error}")),
        }
    }
}

/// Sends until the engine is not wanted any more, then closes our half: the pod kills the engine and tells of it.
async fn send_all(mut write: impl AsyncWrite + Unpin, mut lines: mpsc::Receiver<Outgoing>, end: &Notify) {
    loop {
        let outgoing = tokio::select! {
            outgoing = lines.recv() => outgoing,
            () = end.notified() => None,
        };
        let Some(Outgoing::Line(line)) = outgoing else { break };
        if !matches!(timeout(WRITE_DEADLINE, write.write_all(&line)).await, Ok(Ok(()))) {
            break;
        }
    }
    let _ = timeout(WRITE_DEADLINE, write.shutdown()).await;
}

/// Sends one line.
///
/// # Errors
/// The connection fails, or is not read.
pub async fn say(write: &mut (impl AsyncWrite + Unpin), message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    match timeout(WRITE_DEADLINE, write.write_all(&line)).await {
        Ok(written) => written,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Hears one line; `None` at the end. Must not be cut off: what was read would be lost.
///
/// # Errors
/// The connection fails, the line is longer than `limit` or says something else.
pub async fn hear<T: DeserializeOwned>(read: &mut (impl AsyncBufRead + Unpin), limit: usize) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = (&mut *read).take(limit as u64 + 1).read_until(b'\n', &mut line).await?;
        if length > limit {
            return Err(io::Error::other(format!("a line is longer than {limit} bytes")));
        }
        if !line.ends_with(b"\n") {
            return Ok(None);
        }
        if length > 1 {
            return Ok(Some(serde_json::from_slice(&line)?));
        }
    }
}

/// Sets a connection up so that a peer that is gone without a word is found within [`SILENCE`].
///
/// # Errors
/// The kernel refuses.
pub fn watch_over(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE)?;
    sockopt::set_tcp_keepcnt(stream, (SILENCE.as_secs() / KEEPALIVE.as_secs()) as u32)?;
    sockopt::set_tcp_user_timeout(stream, SILENCE.as_millis() as u32)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_up_are_told_apart() {
        let up = |text: &str| serde_json::from_str::<Up>(text).unwrap();
        assert!(matches!(up(r#"{"report":"pong","nonce":3}"#), Up::Report(Report::Pong { nonce: 3 })));
        assert!(matches!(up(r#"{"exited":"was killed by signal 9"}"#), Up::Answer(Answer::Exited(how)) if how.ends_with('9')));
        assert!(matches!(up(r#"{"engine":{"pid":7}}"#), Up::Answer(Answer::Engine { pid: 7 })));
        assert!(matches!(up(r#""leaving""#), Up::Answer(Answer::Leaving)));
        assert!(serde_json::from_str::<Up>(r#"{"other":1}"#).is_err());
    }

    #[test]
    fn a_hello_does_not_show_its_token() {
        let hello = Hello { token: "hunter2hunter2".into(), job: "u".into(), pod: "p".into(), assignment: 3, session: 9, admin: None };
        assert!(!format!("{hello:?}").contains("hunter2"));
    }
}
