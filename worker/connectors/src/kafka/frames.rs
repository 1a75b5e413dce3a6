//! [pure] The bytes of staged messages: a header with a checksum, then one frame a message.
//!
//! ```text
//! "RKM1"  crc32 of the rest (4, little-endian)   frames: time (8), key length + 1 (4), key, value length + 1 (4), value
//! ```
//! A length of 0 is a missing key or value; a time of [`NO_TIME`] is left to the client.

use std::ops::Range;

use rheos_dataflow::error::{DataflowError, ErrorKind, Result};

const MAGIC: &[u8; 4] = b"RKM1";
const HEADER: usize = 8;
/// No time was given.
const NO_TIME: i64 = i64::MIN;

/// A message to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) time: Option<i64>,
}

/// Frames being written.
#[derive(Debug, Default)]
pub(super) struct Frames {
    bytes: Vec<u8>,
}

impl Frames {
    /// Appends a message.
    pub(super) fn push(&mut self, frame: Frame<'_>) {
        if self.bytes.is_empty() {
            self.bytes.extend_from_slice(MAGIC);
            self.bytes.extend_from_slice(&[0; HEADER - MAGIC.len()]);
        }
        self.bytes.extend_from_slice(&frame.time.unwrap_or(NO_TIME).to_le_bytes());
        for part in [frame.key, frame.value] {
            let length = part.map_or(0, |part| part.len() as u32 + 1);
            self.bytes.extend_from_slice(&length.to_le_bytes());
            self.bytes.extend_from_slice(part.unwrap_or_default());
        }
    }

    /// Bytes so far.
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// What was written, whole; begins anew.
    pub(super) fn take(&mut self) -> Option<Vec<u8>> {
        let mut bytes = std::mem::take(&mut self.bytes);
        if bytes.is_empty() {
            return None;
        }
        let sum = crc32fast::hash(&bytes[HEADER..]);
        bytes[MAGIC.len()..HEADER].copy_from_slice(&sum.to_le_bytes());
        Some(bytes)
    }
}

/// The messages in `bytes`.
///
/// # Errors
/// When they are not what [`Frames::take`] gave.
pub(super) fn read(bytes: &[u8]) -> Result<impl Iterator<Item = Frame<'_>>> {
    let bad = || DataflowError::new("kafka", ErrorKind::State, "staged messages are damaged: their checksum or form is wrong");
    let (header, rest) = bytes.split_at_checked(HEADER).ok_or_else(bad)?;
    if &header[..MAGIC.len()] != MAGIC || crc32fast::hash(rest).to_le_bytes() != header[MAGIC.len()..] {
        return Err(bad());
    }
    let mut places = Vec::new();
    let mut at = 0;
    while at < rest.len() {
        let (place, next) = place(rest, at).ok_or_else(bad)?;
        places.push(place);
        at = next;
    }
    let get = |part: Option<Range<usize>>| part.map(|range| &rest[range]);
    Ok(places.into_iter().map(move |(time, key, value)| Frame {
        key: get(key),
        value: get(value),
        time: (time != NO_TIME).then_some(time),
    }))
}

type Place = (i64, Option<Range<usize>>, Option<Range<usize>>);

fn place(bytes: &[u8], at: usize) -> Option<(Place, usize)> {
    let time = i64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?);
    let (key, at) = part(bytes, at + 8)?;
    let (value, at) = part(bytes, at)?;
    Some(((time, key, value), at))
}

fn part(bytes: &[u8], at: usize) -> Option<(Option<Range<usize>>, usize)> {
    let length = u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize;
    let start = at + 4;
    if length == 0 {
        return Some((None, start));
    }
    let end = start.checked_add(length - 1).filter(|end| *end <= bytes.len())?;
    Some((Some(start..end), end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> (Vec<Frame<'static>>, Vec<u8>) {
        let frames = vec![
            Frame { key: Some(b"k"), value: Some(b"value"), time: Some(7) },
            Frame { key: None, value: Some(b""), time: None },
            Frame { key: Some(b""), value: None, time: None },
        ];
        let mut writer = Frames::default();
        frames.iter().for_each(|frame| writer.push(*frame));
        (frames, writer.take().unwrap())
    }

    #[test]
    fn what_is_written_is_read() {
        let (frames, bytes) = written();
        assert_eq!(read(&bytes).unwrap().collect::<Vec<_>>(), frames);
        assert_eq!(Frames::default().take(), None);
    }

    #[test]
    fn no_flipped_or_missing_byte_passes() {
        let (_, bytes) = written();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(read(&flipped).is_err(), "byte {at}");
            assert!(read(&bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
