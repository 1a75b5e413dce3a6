//! [io] The engine's end of the socket to its supervisor.
//!
//! The socket is standard input, both ways. The data listener arrives on it as a passed descriptor (`SCM_RIGHTS`), so no
//! descriptor is inherited by number and none leaks into another process.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde::de::DeserializeOwned;

use super::wire::{Command, Job, LINE_LIMIT, Report, Start};

/// Descriptors that may wait for their line; one a process is what the protocol needs.
const PASSED_LIMIT: usize = 4;

/// Reads the supervisor's lines. Every method blocks; `None` means that the supervisor is gone.
#[derive(Debug)]
pub struct Channel {
    reader: BufReader<Passing>,
    reports: Reports,
}

/// Sends reports; cheap to clone, usable from any thread.
#[derive(Debug, Clone)]
pub struct Reports {
    stream: Arc<Mutex<UnixStream>>,
}

impl Channel {
    /// Takes the socket that the supervisor gave as standard input, and asks the kernel to end this process with its
    /// supervisor, stopped or not.
    ///
    /// # Errors
    /// Standard input is not usable.
    pub fn open() -> io::Result<Self> {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        Self::over(UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?))
    }

    /// The same over any socket, for tests.
    ///
    /// # Errors
    /// The descriptor cannot be duplicated.
    pub fn over(stream: UnixStream) -> io::Result<Self> {
        let reports = Reports { stream: Arc::new(Mutex::new(stream.try_clone()?)) };
        Ok(Self { reader: BufReader::new(Passing { stream, passed: VecDeque::new() }), reports })
    }

    /// The way back.
    pub fn reports(&self) -> Reports {
        self.reports.clone()
    }

    /// The first line.
    ///
    /// # Errors
    /// The socket fails, or the line is not a [`Job`].
    pub fn job(&mut self) -> io::Result<Option<Job>> {
        self.line()
    }

    /// The second line, with the data listener. May come much later: until then this process is a standby.
    ///
    /// # Errors
    /// The socket fails, the line is not a [`Start`], or no descriptor came with it.
    pub fn start(&mut self) -> io::Result<Option<(Start, TcpListener)>> {
        let Some(start) = self.line()? else { return Ok(None) };
        let listener = self.reader.get_mut().passed.pop_front();
        let listener = listener.ok_or_else(|| io::Error::other("no data listener came with the start line"))?;
        Ok(Some((start, TcpListener::from(listener))))
    }

    /// The next command.
    ///
    /// # Errors
    /// The socket fails, or the line is not a [`Command`].
    pub fn command(&mut self) -> io::Result<Option<Command>> {
        self.line()
    }

    fn line<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut self.reader).take(LINE_LIMIT as u64 + 1).read_until(b'\n', &mut line)?;
            if read == 0 {
                return Ok(None);
            }
            if read > LINE_LIMIT {
                return Err(io::Error::other(format!("a line from the supervisor is longer than {LINE_LIMIT} bytes")));
            }
            if !line.ends_with(b"\n") {
                return Ok(None); // cut by the supervisor's end
            }
            if line.len() > 1 {
                return Ok(Some(serde_json::from_slice(&line)?));
            }
        }
    }
}

impl Reports {
    /// Sends one report. An error means that the supervisor is gone: exit.
    ///
    /// # Errors
    /// The socket fails.
    pub fn send(&self, report: &Report) -> io::Result<()> {
        let mut line = serde_json::to_vec(report)?;
        line.push(b'\n');
        self.stream.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line)
    }
}

/// A stream that keeps the descriptors passed on it.
#[derive(Debug)]
struct Passing {
    stream: UnixStream,
    passed: VecDeque<OwnedFd>,
}

impl Read for Passing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PASSED_LIMIT))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(&self.stream, &mut [IoSliceMut::new(buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.passed.extend(descriptors.take(PASSED_LIMIT - self.passed.len().min(PASSED_LIMIT)));
            }
        }
        Ok(received.bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

    use super::*;

    #[test]
    fn the_listener_comes_with_the_start_line_and_accepts() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut channel = Channel::over(theirs).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();

        let start = Start { generation: 3, start_record: 9, process: 0, addresses: vec![address] };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = [listener.as_fd()];
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        sendmsg(&ours, &[io::IoSlice::new(b"\n")], &mut ancillary, SendFlags::empty()).unwrap();
        writeln!(&ours, "{}", serde_json::to_string(&start).unwrap()).unwrap();
        drop(listener);

        let (received, listener) = channel.start().unwrap().unwrap();
        assert_eq!(received, start);
        let _client = TcpStream::connect(address).unwrap();
        assert!(listener.accept().is_ok());

        writeln!(&ours, r#"{{"command":"ping","nonce":7}}"#).unwrap();
        assert_eq!(channel.command().unwrap(), Some(Command::Ping { nonce: 7 }));
        channel.reports().send(&Report::Pong { nonce: 7 }).unwrap();
        drop(channel);
        let mut line = String::new();
        BufReader::new(&ours).read_line(&mut line).unwrap();
        assert_eq!(line, "{\"report\":\"pong\",\"nonce\":7}\n");
    }

    #[test]
    fn a_supervisor_that_is_gone_is_no_error_even_in_the_middle_of_a_line() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut channel = Channel::over(theirs).unwrap();
        (&ours).write_all(br#"{"command":"st"#).unwrap();
        drop(ours);
        assert_eq!(channel.command().unwrap(), None);
    }
}
