//! [pure] Figures for people: ages, sizes, counts, rates; and a chart that fits into a line.

use std::time::Duration;

use jiff::Timestamp;

/// Heights of a column of a chart.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// How long, in at most two units: `42s`, `3m10s`, `5h2m`, `12d4h`.
pub fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    let two = |big: u64, small: u64, units: [&str; 2]| match small {
        0 => format!("{big}{}", units[0]),
        _ => format!("{big}{}{small}{}", units[0], units[1]),
    };
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => two(seconds / 60, seconds % 60, ["m", "s"]),
        3_600..86_400 => two(seconds / 3_600, seconds % 3_600 / 60, ["h", "m"]),
        _ => two(seconds / 86_400, seconds % 86_400 / 3_600, ["d", "h"]),
    }
}

/// How long ago a time was; nothing for what is no time or lies ahead by more than a blink.
pub fn since(then: &str, now: Timestamp) -> Option<String> {
    Some(age(ago(then.parse().ok()?, now)))
}

/// How long ago a time was; zero for what lies ahead: clocks differ.
pub fn ago(then: Timestamp, now: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(now.as_millisecond().saturating_sub(then.as_millisecond())).unwrap_or(0))
}

/// `3 B`, `240 KiB`, `1.2 GiB`.
pub fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB", "PiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    let digits = usize::from(unit != "B" && value < 10.0);
    format!("{value:.digits$} {unit}")
}

/// `950`, `12.3k`, `4.56M`: at most three figures that count.
pub fn count(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let mut value = value.max(0.0);
    let mut unit = "";
    for next in ["k", "M", "G", "T"] {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    let digits = match value {
        _ if unit.is_empty() && value.fract() == 0.0 => 0,
        value if value < 9.995 => 2 - usize::from(unit.is_empty()),
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$}{unit}")
}

/// Milliseconds: `3 ms`, `1.25 s`, `2m3s`.
pub fn millis(millis: f64) -> String {
    match millis {
        value if !value.is_finite() || value < 0.0 => "-".to_owned(),
        value if value < 999.5 => format!("{value:.0} ms"),
        value if value < 59_995.0 => format!("{:.2} s", value / 1000.0),
        value => age(Duration::from_millis(value as u64)),
    }
}

/// One column for each value, from nothing to the largest.
pub fn chart(values: &[f64]) -> String {
    let largest = values.iter().copied().fold(0.0, f64::max);
    let bar = |value: &f64| {
        let height = if largest > 0.0 { value / largest * (BARS.len() - 1) as f64 } else { 0.0 };
        BARS[(height.round() as usize).min(BARS.len() - 1)]
    };
    values.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_right() {
        let ages = [0, 59, 60, 61, 3_599, 3_600, 7_320, 86_400, 1_000_000].map(|seconds| age(Duration::from_secs(seconds)));
        assert_eq!(ages, ["0s", "59s", "1m", "1m1s", "59m59s", "1h", "2h2m", "1d", "11d13h"]);
        let sizes = [0, 1023, 1024, 10_240, 245_960, 1 << 20, 5 << 30].map(bytes);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "10 KiB", "240 KiB", "1.0 MiB", "5.0 GiB"]);
        let counts = [0.0, 0.25, 7.0, 999.0, 1000.0, 12_345.0, 999_600.0, 1.5e9, f64::NAN].map(count);
        assert_eq!(counts, ["0", "0.2", "7", "999", "1.00k", "12.3k", "1.00M", "1.50G", "-"]);
        let times = [0.4, 3.0, 999.4, 1_250.0, 59_990.0, 123_000.0, -1.0].map(millis);
        assert_eq!(times, ["0 ms", "3 ms", "999 ms", "1.25 s", "59.99 s", "2m3s", "-"]);
    }

    #[test]
    fn a_chart_reaches_from_the_least_to_the_most() {
        assert_eq!(chart(&[0.0, 5.0, 10.0]), "▁▅█");
        assert_eq!(chart(&[0.0, 0.0]), "▁▁");
        assert_eq!(chart(&[]), "");
    }

    #[test]
    fn what_lies_ahead_is_now() {
        let now = Timestamp::from_second(1_000).unwrap();
        assert_eq!(since("1970-01-01T00:15:40Z", now).as_deref(), Some("1m"));
        assert_eq!(since("1971-01-01T00:00:00Z", now).as_deref(), Some("0s"));
        assert_eq!(since("soon", now), None);
    }
}
