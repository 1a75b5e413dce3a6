//! [pure] Times as status fields hold them: RFC 3339, whole seconds, UTC.

use std::time::Duration;

use jiff::Timestamp;

/// A time, cut to the second.
pub(crate) fn text(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

/// The time that a text says; nothing for what is no time.
pub(crate) fn read(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// How long ago something was; zero for what is in the future.
pub(crate) fn since(then: Timestamp, now: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(now.as_millisecond().saturating_sub(then.as_millisecond())).unwrap_or(0))
}

/// How long ago the time in a status field was; for ever for what is no time.
pub(crate) fn since_text(then: &str, now: Timestamp) -> Duration {
    read(then).map_or(Duration::MAX, |then| since(then, now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_seconds_come_back_as_they_were() {
        let time = Timestamp::from_millisecond(1_700_000_000_999).unwrap();
        assert_eq!(text(time), "2023-11-14T22:13:20Z");
        assert_eq!(read(&text(time)), Timestamp::from_second(1_700_000_000).ok());
        assert_eq!(since_text(&text(time), Timestamp::from_second(1_700_000_010).unwrap()), Duration::from_secs(10));
        assert_eq!(since_text("yesterday", time), Duration::MAX);
        assert_eq!(since(time, Timestamp::from_second(0).unwrap()), Duration::ZERO);
    }
}
