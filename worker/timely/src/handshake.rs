//! [io] Connects the processes of a generation, and lets no other in.
//!
//! Each process dials those with a lower index and accepts those with a higher one, all in parallel. Before timely sees a
//! socket both ends say who they are: magic, protocol version, job, generation, process. A dialler of an older generation
//! is sent away and waited past; one that meets a newer generation knows that it is fenced.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// First bytes on every connection.
const MAGIC: [u8; 8] = *b"rheos/dp";
/// Version of what follows, including the form of parcels. Both ends must have the same.
pub const PROTOCOL_VERSION: u32 = 1;
/// A job's uid may be this long, bytes.
pub const MAX_UID_BYTES: usize = 512;
/// How long whoever connects to us may take to introduce itself.
const HELLO_TIMEOUT: Duration = Duration::from_secs(2);
/// Wait before a refused connection is tried again; doubled up to [`MAX_RETRY`].
const FIRST_RETRY: Duration = Duration::from_millis(1);
const MAX_RETRY: Duration = Duration::from_millis(20);

/// Who this process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The job's unique id.
    pub uid: String,
    /// Its generation.
    pub generation: u64,
    /// This process's index.
    pub process: usize,
}

/// Connects to all of `addresses` (by process index). Gives the sockets by index, `None` at our own.
///
/// # Errors
/// A peer is not there before `timeout` is over ([`ErrorKind::Transient`]), or runs a newer generation
/// ([`ErrorKind::Fenced`]).
pub fn connect(identity: &Identity, listener: &TcpListener, addresses: &[SocketAddr], timeout: Duration) -> Result<Vec<Option<TcpStream>>> {
    let deadline = Instant::now() + timeout;
    let own = identity.process;
    let mut peers: Vec<Option<TcpStream>> = addresses.iter().map(|_| None).collect();
    let (sender, receiver) = mpsc::channel();
    // Threads of their own, so that the first error need not wait for the slowest; they end at the deadline.
    for (index, address) in addresses.iter().copied().enumerate().take(own) {
        let (sender, identity) = (sender.clone(), identity.clone());
        std::thread::spawn(move || {
            let _ = sender.send((index, dial(&identity, index, address, deadline)));
        });
    }
    let higher = own + 1..addresses.len();
    if !higher.is_empty() {
        let identity = identity.clone();
        let listener = listener.try_clone().map_err(|error| late(format!("cannot accept: {error}")))?;
        std::thread::spawn(move || accept(&identity, &listener, higher, deadline, &sender));
    }
    for _ in 1..addresses.len() {
        let (index, result) = receiver.recv().map_err(|_| late("connecting ended early".to_owned()))?;
        peers[index] = Some(result?);
    }
    Ok(peers)
}

type Connected = (usize, Result<TcpStream>);

fn late(message: String) -> DataflowError {
    DataflowError::new("data connection", ErrorKind::Transient, message)
}

fn dial(identity: &Identity, index: usize, address: SocketAddr, deadline: Instant) -> Result<TcpStream> {
    let mut wait = FIRST_RETRY;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late(format!("process {index} at {address} did not answer in time")));
        }
        // Once connected, wait to the end: a connection given up would still wait at the peer, and look alive to it.
        match TcpStream::connect_timeout(&address, left).and_then(|stream| introduce(identity, stream, left)) {
            Ok((stream, peer)) => match verdict(identity, &peer, |process| process == index) {
                Verdict::Welcome => return Ok(stream),
                Verdict::Newer => return Err(fenced(peer.generation)),
                Verdict::Stranger => {}
            },
            Err(error) => tracing::debug!(%error, process = index, "data connection failed, trying again"),
        }
        std::thread::sleep(wait.min(left));
        wait = (wait * 2).min(MAX_RETRY);
    }
}

fn accept(identity: &Identity, listener: &TcpListener, expected: Range<usize>, deadline: Instant, results: &mpsc::Sender<Connected>) {
    let mut missing: BTreeSet<usize> = expected.collect();
    while let Some(first) = missing.first().copied() {
        let left = deadline.saturating_duration_since(Instant::now());
        let next = match next_connection(listener, left) {
            Ok(Some(stream)) => introduce(identity, stream, HELLO_TIMEOUT.min(left)),
            Ok(None) => {
                let _ = results.send((first, Err(late(format!("process {first} did not connect in time")))));
                return;
            }
            Err(error) => {
                let _ = results.send((first, Err(late(format!("cannot accept: {error}")))));
                return;
            }
        };
        // A connection that breaks or stays silent is nobody's: who means us tries again.
        let Ok((stream, peer)) = next else { continue };
        match verdict(identity, &peer, |process| missing.contains(&process)) {
            Verdict::Welcome => {
                missing.remove(&peer.process);
                let _ = results.send((peer.process, Ok(stream)));
            }
            Verdict::Newer => {
                let _ = results.send((first, Err(fenced(peer.generation))));
                return;
            }
            Verdict::Stranger => tracing::warn!(?peer, "sent a data connection away"),
        }
    }
}

/// The next connection that waits, `None` if none comes within `left`.
fn next_connection(listener: &TcpListener, left: Duration) -> io::Result<Option<TcpStream>> {
    let timeout = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
    loop {
        match poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Ok(None),
            Ok(_) => return listener.accept().map(|(stream, _)| Some(stream)),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

enum Verdict {
    /// Whom we wait for.
    Welcome,
    /// The same job in a newer generation: ours is over.
    Newer,
    /// Another job, an older generation, or a process that is not expected.
    Stranger,
}

fn verdict(own: &Identity, peer: &Identity, expected: impl Fn(usize) -> bool) -> Verdict {
    if peer.uid != own.uid || peer.generation < own.generation {
        return Verdict::Stranger;
    }
    if peer.generation > own.generation {
        return Verdict::Newer;
    }
    if expected(peer.process) { Verdict::Welcome } else { Verdict::Stranger }
}

fn fenced(generation: u64) -> DataflowError {
    let message = format!("generation {generation} of this job is running; this process belongs to an older one");
    DataflowError::new("data connection", ErrorKind::Fenced, message)
}

/// Says who we are and hears who the other is. Leaves the socket ready for timely.
fn introduce(identity: &Identity, mut stream: TcpStream, timeout: Duration) -> io::Result<(TcpStream, Identity)> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    let timeout = Some(timeout.max(Duration::from_millis(1)));
    stream.set_read_timeout(timeout)?;
    stream.set_write_timeout(timeout)?;
    stream.write_all(&hello(identity)?)?;
    let peer = read_hello(&mut stream)?;
    stream.set_read_timeout(None)?;
    stream.set_write_timeout(None)?;
    Ok((stream, peer))
}

/// Magic, version (u32), generation (u64), process (u32), length of the uid (u32), uid; little-endian.
fn hello(identity: &Identity) -> io::Result<Vec<u8>> {
    if identity.uid.len() > MAX_UID_BYTES {
        return Err(io::Error::other(format!("the job's uid is longer than {MAX_UID_BYTES} bytes")));
    }
    let mut bytes = MAGIC.to_vec();
    bytes.extend(PROTOCOL_VERSION.to_le_bytes());
    bytes.extend(identity.generation.to_le_bytes());
    bytes.extend((identity.process as u32).to_le_bytes());
    bytes.extend((identity.uid.len() as u32).to_le_bytes());
    bytes.extend(identity.uid.as_bytes());
    Ok(bytes)
}

fn read_hello(stream: &mut impl Read) -> io::Result<Identity> {
    let refused = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let magic: [u8; 8] = read(stream)?;
    if magic != MAGIC {
        return Err(refused("not a data connection of Rheos"));
    }
    if u32::from_le_bytes(read(stream)?) != PROTOCOL_VERSION {
        return Err(refused("another version of the data protocol"));
    }
    let generation = u64::from_le_bytes(read(stream)?);
    let process = u32::from_le_bytes(read(stream)?) as usize;
    let length = u32::from_le_bytes(read(stream)?) as usize;
    if length > MAX_UID_BYTES {
        return Err(refused("a uid that is too long"));
    }
    let mut uid = vec![0; length];
    stream.read_exact(&mut uid)?;
    let uid = String::from_utf8(uid).map_err(|_| refused("a uid that is no text"))?;
    Ok(Identity { uid, generation, process })
}

fn read<const N: usize>(stream: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
