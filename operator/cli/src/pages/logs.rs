//! [pure] Log lines of several workers as one story: merged by the time that the kubelet stamped on them.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::paint::{self, Paint, Tone};

/// Longest line that is shown, characters.
const LINE_LIMIT: usize = 4_000;

/// A line of one worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When the kubelet got it.
    pub time: Option<Timestamp>,
    /// The line.
    pub text: String,
}

/// Splits what the apiserver sends with `timestamps=true`.
pub fn line(raw: &str) -> Line {
    let parsed = raw.split_once(' ').and_then(|(time, text)| Some((time.parse().ok()?, text)));
    match parsed {
        Some((time, text)) => Line { time: Some(time), text: text.to_owned() },
        None => Line { time: None, text: raw.to_owned() },
    }
}

/// All lines by time, each with the index of its worker. Lines of one worker keep their order; one without a time belongs
/// to the line before it.
pub fn merge(workers: Vec<Vec<Line>>) -> Vec<(usize, Line)> {
    let mut stamped: Vec<(Option<Timestamp>, usize, Line)> = Vec::new();
    for (worker, lines) in workers.into_iter().enumerate() {
        let mut last = None;
        for line in lines {
            // The kubelet's times may go back by a little within a worker; the order of a worker's lines may not.
            last = last.max(line.time);
            stamped.push((last, worker, line));
        }
    }
    stamped.sort_by_key(|(time, _, _)| *time);
    stamped.into_iter().map(|(_, worker, line)| (worker, line)).collect()
}

/// A line for people: time, worker, level, message, and the rest as `name=value`. What is no log object of a worker is shown
/// as it is.
pub fn text(worker: &str, line: &Line, paint: Paint) -> String {
    let time = line.time.map_or_else(|| "-".to_owned(), |time| time.strftime("%H:%M:%S%.3f").to_string());
    let head = format!("{} {}", paint.text(Tone::Faint, &time), paint.text(Tone::Strong, worker));
    let (level, message) = match serde_json::from_str::<Map<String, Value>>(&line.text) {
        Ok(object) if object.contains_key("level") => structured(object),
        _ => (String::new(), line.text.clone()),
    };
    let tone = match level.as_str() {
        "ERROR" => Tone::Bad,
        "WARN" => Tone::Watch,
        _ => Tone::Plain,
    };
    let message: String = paint::clean(&message).chars().take(LINE_LIMIT).collect();
    let level = if level.is_empty() { String::new() } else { format!("{} ", paint.text(tone, &format!("{:<5}", paint::clean(&level)))) };
    format!("{head} {level}{}\n", paint.text(tone, &message))
}

fn structured(mut object: Map<String, Value>) -> (String, String) {
    let mut take = |name: &str| object.remove(name).map(|value| show(&value)).unwrap_or_default();
    let (level, message) = (take("level"), take("message"));
    for known in ["timestamp", "target"] {
        take(known);
    }
    let fields = object.iter().map(|(name, value)| format!(" {name}={}", show(value)));
    (level, format!("{message}{}", fields.collect::<String>()))
}

fn show(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u32, text: &str) -> Line {
        line(&format!("2026-01-01T00:00:{second:02}.5Z {text}"))
    }

    #[test]
    fn lines_are_merged_by_time_and_a_workers_own_order_is_kept() {
        let workers = vec![
            vec![at(1, "a1"), at(5, "a5"), line("no time"), at(4, "a4, late stamp"), at(9, "a9")],
            vec![at(2, "b2"), at(5, "b5"), at(6, "b6")],
        ];
        let merged: Vec<String> = merge(workers).into_iter().map(|(worker, line)| format!("{worker} {}", line.text)).collect();
        assert_eq!(merged, ["0 a1", "1 b2", "0 a5", "0 no time", "0 a4, late stamp", "1 b5", "1 b6", "0 a9"]);
    }

    #[test]
    fn a_workers_log_object_is_shown_as_a_sentence() {
        let object = at(1, r#"{"timestamp":"x","level":"WARN","message":"a member is away","pod":"q-1","since":7}"#);
        assert_eq!(text("w0", &object, Paint::Plain), "00:00:01.500 w0 WARN  a member is away pod=q-1 since=7\n");
        assert_eq!(text("w1", &at(2, "thread panicked\u{1b}[2J"), Paint::Plain), "00:00:02.500 w1 thread panicked[2J\n");
        assert_eq!(text("w1", &line("loose"), Paint::Plain), "- w1 loose\n");
        assert!(text("w0", &object, Paint::Colors).contains("\u{1b}[33m"));
    }
}
