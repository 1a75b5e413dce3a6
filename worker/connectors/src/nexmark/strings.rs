//! [pure] The strings of Nexmark events: made once, then only copied.
//!
//! The reference generators draw each letter of a string; here a string is a slice, at a drawn place, of a pool of
//! letters that was drawn once, as the reference does for `extra`. Length and alphabet are the same.

use crate::sequence::draw;

/// Size of each pool of letters, bytes; a power of two.
const POOL_BYTES: usize = 64 * 1024;
/// A slice of a pool is at most this long; the pools are longer by it, so that a slice may begin anywhere.
pub(super) const LONGEST_SLICE: usize = 20 * 1024;
/// Shortest string that is drawn with a length.
const SHORTEST: u64 = 3;
/// Channels that are not hot.
const CHANNELS: usize = 10_000;
/// Channels that get half of the bids.
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];
/// Longest channel, bytes.
pub(super) const CHANNEL_BYTES: usize = 16;
/// Longest url, bytes.
pub(super) const URL_BYTES: usize = 80;

pub(super) const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];
pub(super) const CITIES: [&str; 10] =
    ["Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"];
pub(super) const FIRST_NAMES: [&str; 11] = ["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"];
pub(super) const LAST_NAMES: [&str; 9] = ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"];

/// A list of short strings, each in `W` bytes, so that copying one is a few moves of words.
#[derive(Debug)]
pub(super) struct Table<const W: usize> {
    entries: Vec<[u8; W]>,
    lengths: Vec<u8>,
}

impl<const W: usize> Table<W> {
    fn new(strings: impl Iterator<Item = String>) -> Self {
        let mut table = Self { entries: Vec::new(), lengths: Vec::new() };
        for string in strings {
            let length = string.len().min(W);
            let mut entry = [0; W];
            entry[..length].copy_from_slice(&string.as_bytes()[..length]);
            table.entries.push(entry);
            table.lengths.push(length as u8);
        }
        table
    }

    /// The string `index`, with what fills its entry, and its length.
    #[inline]
    pub(super) fn get(&self, index: usize) -> (&[u8; W], usize) {
        (&self.entries[index], usize::from(self.lengths[index]))
    }
}

/// All strings of one seed.
#[derive(Debug)]
pub(super) struct Strings {
    letters: Vec<u8>,
    words: Vec<u8>,
    /// Channels by number; the hot ones last.
    pub(super) channels: Table<CHANNEL_BYTES>,
    /// The url of each channel.
    pub(super) urls: Table<URL_BYTES>,
}

impl Strings {
    pub(super) fn new(seed: u64) -> Self {
        let letter = |r: u64| b'a' + below(r, 26) as u8;
        let word = |r: u64| if below(r, 13) == 0 { b' ' } else { letter(r << 32) };
        let pool = |salt: u64, make: &dyn Fn(u64) -> u8| -> Vec<u8> {
            (0..(POOL_BYTES + LONGEST_SLICE) as u64).map(|n| make(draw(seed ^ salt, n))).collect()
        };
        let channels = (0..CHANNELS).map(|channel| format!("channel-{channel}")).chain(HOT_CHANNELS.map(str::to_owned));
        let urls = (0..CHANNELS + HOT_CHANNELS.len()).map(|channel| url(seed, channel));
        Self {
            letters: pool(0x6c65_7474_6572_7321, &letter),
            words: pool(0x776f_7264_7321_2121, &word),
            channels: Table::new(channels),
            urls: Table::new(urls),
        }
    }

    /// A channel's number: half of the bids come by one of the four hot ones.
    #[inline]
    pub(super) fn channel(r: u64) -> usize {
        let choice = r & 0xffff_ffff;
        if r >> 63 == 1 { CHANNELS + (choice >> 30) as usize } else { ((choice * CHANNELS as u64) >> 32) as usize }
    }

    /// Letters, exactly `length` of them (at most [`LONGEST_SLICE`]).
    #[inline]
    pub(super) fn letters(&self, r: u64, length: usize) -> &[u8] {
        let from = r as usize & (POOL_BYTES - 1);
        &self.letters[from..from + length]
    }

    /// `W` letters.
    #[inline]
    pub(super) fn window<const W: usize>(&self, r: u64) -> &[u8; W] {
        let from = r as usize & (POOL_BYTES - 1);
        // The pool is longer than any window's end, so there is always a first chunk.
        self.letters[from..].first_chunk().unwrap_or(&[b'a'; W])
    }

    /// Letters with spaces, from 3 to less than `longest` characters, trimmed.
    pub(super) fn words(&self, r: u64, longest: u64) -> &[u8] {
        let length = SHORTEST + below(r, longest - SHORTEST);
        let from = r as usize & (POOL_BYTES - 1);
        self.words[from..from + length as usize].trim_ascii()
    }
}

/// A number below `n` from the high half of `r`.
#[inline]
pub(super) fn below(r: u64, n: u64) -> u64 {
    ((r >> 32) * n) >> 32
}

/// Length of `extra`, so that events of `current` bytes get `average` bytes, give or take a fifth of what is missing.
#[inline]
pub(super) fn extra_length(r: u64, current: u64, average: u64) -> usize {
    if current > average {
        return 0;
    }
    let missing = average - current;
    let delta = (missing + 2) / 5; // rounded
    (missing - delta + below(r, 2 * delta)) as usize
}

/// Three short folders, and for nine of ten channels their number with its bits reversed.
fn url(seed: u64, channel: usize) -> String {
    let salt = seed ^ 0x7572_6c21_7572_6c21;
    let folder = |place: u64| -> String {
        let base = (channel as u64 * 4 + place) * 8;
        let length = SHORTEST + below(draw(salt, base), 2);
        let letter = |i: u64| {
            let r = draw(salt, base + 1 + i);
            if below(r, 13) == 0 { '_' } else { char::from(b'a' + below(r << 32, 26) as u8) }
        };
        (0..length).map(letter).collect()
    };
    let mut url = format!("https://www.nexmark.com/{}/{}/{}/item.htm?query=1", folder(0), folder(1), folder(2));
    if channel < CHANNELS && below(draw(salt, channel as u64 * 32 + 24), 10) > 0 {
        let id = (channel as u32).reverse_bits().cast_signed().unsigned_abs();
        url.push_str(&format!("&channel_id={id}"));
    }
    url
}
