//! [pure] How fence, records, manifests and savepoints are written: one header line, then JSON.
//!
//! `rheos <kind> <version> <length> <crc>\n{…}`: the length tells a truncated object from a corrupted one, the CRC-32
//! covers the header before it as well, and the version is readable whatever the body has become. Readers accept this
//! version and the one before, unknown fields are refused, and no length of the object is trusted.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::manifest::{MANIFEST_VERSION, Manifest};
use crate::protocol::fence::{FENCE_VERSION, Fence};
use crate::record::{RECORD_VERSION, Record};
use crate::savepoint::{SAVEPOINT_VERSION, Savepoint};

/// Longest header line, bytes.
const MAX_HEADER_BYTES: usize = 80;

/// Why an object cannot be used. Every variant names the object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{object} cannot be used: {reason}")]
pub struct ReadError {
    /// The object's path.
    pub object: String,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// It is not there.
    #[error("it is missing")]
    Missing,
    /// It ends early.
    #[error("it is truncated: {0}")]
    Truncated(String),
    /// Its bytes are not what was written.
    #[error("it is corrupted: {0}")]
    Corrupted(String),
    /// It belongs to another job.
    #[error("it belongs to the job with uid {found:?}, not {wanted:?}")]
    ForeignJob {
        /// Whose it is.
        found: String,
        /// Whose was wanted.
        wanted: String,
    },
    /// A newer Rheos wrote it.
    #[error("its format has version {found}, and this build reads up to {known}: use the version of Rheos that wrote it, or a newer one")]
    NewerVersion {
        /// The object's.
        found: u32,
        /// The newest that is known here.
        known: u32,
    },
    /// It is of a size that no such object has.
    #[error("{0}")]
    TooLarge(String),
}

impl ReadError {
    /// `object` is unusable for this reason.
    pub fn new(object: impl ToString, reason: Reason) -> Self {
        Self { object: object.to_string(), reason }
    }
}

/// A kind of document.
pub trait Document: Serialize + DeserializeOwned {
    /// Its word in the header.
    const KIND: &'static str;
    /// The version that is written.
    const VERSION: u32;
    /// Its largest size, bytes.
    const LIMIT: u64;

    /// The version that the body claims.
    fn version(&self) -> u32;
}

impl Document for Fence {
    const KIND: &'static str = "fence";
    const VERSION: u32 = FENCE_VERSION;
    const LIMIT: u64 = 4 * 1024;

    fn version(&self) -> u32 {
        self.version
    }
}

impl Document for Record {
    const KIND: &'static str = "record";
    const VERSION: u32 = RECORD_VERSION;
    const LIMIT: u64 = 64 * 1024 * 1024;

    fn version(&self) -> u32 {
        self.version
    }
}

impl Document for Manifest {
    const KIND: &'static str = "manifest";
    const VERSION: u32 = MANIFEST_VERSION;
    const LIMIT: u64 = 64 * 1024 * 1024;

    fn version(&self) -> u32 {
        self.version
    }
}

impl Document for Savepoint {
    const KIND: &'static str = "savepoint";
    const VERSION: u32 = SAVEPOINT_VERSION;
    const LIMIT: u64 = 128 * 1024 * 1024;

    fn version(&self) -> u32 {
        self.version
    }
}

/// Writes a document; an error tells that it is above its limit.
pub fn encode<D: Document>(object: impl ToString, document: &D) -> Result<Vec<u8>, ReadError> {
    let refuse = |message: String| Err(ReadError::new(object.to_string(), Reason::TooLarge(message)));
    let body = match serde_json::to_vec(document) {
        Ok(body) => body,
        Err(error) => return refuse(format!("a {} cannot be written as JSON: {error}", D::KIND)),
    };
    if (body.len() + MAX_HEADER_BYTES) as u64 > D::LIMIT {
        return refuse(format!("a {} of {} bytes is above the limit of {} bytes", D::KIND, body.len(), D::LIMIT));
    }
    let head = format!("rheos {} {} {} ", D::KIND, D::VERSION, body.len());
    let mut bytes = head.into_bytes();
    let crc = checksum(&bytes, &body);
    bytes.extend_from_slice(format!("{crc:08x}\n").as_bytes());
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Reads a document, checking everything that can be checked without other objects.
pub fn decode<D: Document>(object: impl ToString, bytes: &[u8]) -> Result<D, ReadError> {
    decode_inner(bytes).map_err(|reason| ReadError::new(object, reason))
}

fn decode_inner<D: Document>(bytes: &[u8]) -> Result<D, Reason> {
    let corrupted = |what: &str| Reason::Corrupted(what.to_string());
    if bytes.len() as u64 > D::LIMIT {
        return Err(Reason::TooLarge(format!("it has {} bytes, and a {} at most {}", bytes.len(), D::KIND, D::LIMIT)));
    }
    let window = &bytes[..bytes.len().min(MAX_HEADER_BYTES)];
    let Some(end) = window.iter().position(|b| *b == b'\n') else {
        let expected = format!("rheos {} ", D::KIND);
        let begun = window.len().min(expected.len());
        return Err(if bytes.len() < MAX_HEADER_BYTES && window[..begun] == expected.as_bytes()[..begun] {
            Reason::Truncated(format!("only {} bytes of its header are left", bytes.len()))
        } else {
            corrupted("it has no header line")
        });
    };
    let body = &bytes[end + 1..];
    let line = std::str::from_utf8(&window[..end]).map_err(|_| corrupted("its header is not text"))?;
    let fields: Vec<&str> = line.split(' ').collect();
    let ["rheos", kind, version, length, crc] = fields[..] else {
        return Err(corrupted("its header is not of the form `rheos kind version length crc`"));
    };
    if kind != D::KIND {
        return Err(corrupted(&format!("it is a {kind:.20} where a {} is expected", D::KIND)));
    }
    let version: u32 = version.parse().map_err(|_| corrupted("the version in its header is no number"))?;
    let length: usize = length.parse().map_err(|_| corrupted("the length in its header is no number"))?;
    if version > D::VERSION {
        return Err(Reason::NewerVersion { found: version, known: D::VERSION });
    }
    if body.len() < length {
        return Err(Reason::Truncated(format!("{} of {length} bytes are left", body.len())));
    }
    let head = &bytes[..end + 1 - "00000000\n".len().min(end + 1)];
    // Compared as text: a number has more than one spelling.
    if body.len() > length || crc != format!("{:08x}", checksum(head, body)) {
        return Err(corrupted("its checksum is wrong"));
    }
    let document: D = serde_json::from_slice(body).map_err(|error| corrupted(&format!("its JSON does not fit: {error}")))?;
    if document.version() != version {
        return Err(corrupted("header and body tell different versions"));
    }
    Ok(document)
}

fn checksum(head: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(body);
    hasher.finalize()
}
