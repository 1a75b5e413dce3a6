//! [io] A client of a job's results that goes on wherever it was left, and checks the order of what it reads.

use std::time::{Duration, Instant};

use rheos_control_api::Token;
use serde_json::Value;

use crate::oracle::Multiset;

/// No client follows longer.
const PATIENCE: Duration = Duration::from_secs(240);
/// Between two tries to connect.
const RETRY: Duration = Duration::from_millis(10);

/// What a client has.
#[derive(Debug, Default)]
pub struct Copy {
    /// Rows and how often each is there.
    pub rows: Multiset,
    /// Epoch and sequence of the last row.
    pub at: Option<(u64, u64)>,
    /// The cursor of the last row, as it was sent.
    pub cursor: Option<String>,
    /// Rows with a cursor.
    pub changes: u64,
    /// Rows of the view that it began with.
    pub viewed: u64,
    /// Connections that gave something.
    pub connections: u32,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// With a last word: `end`, `cut` or `gone`, and the reason.
    Word(String, String),
    /// Without.
    Broken,
}

impl Copy {
    /// Takes in one line.
    ///
    /// # Errors
    /// A row does not stand behind the one before it, or it is no line of results.
    pub fn line(&mut self, text: &str) -> Result<Option<Ended>, String> {
        if text.is_empty() {
            return Ok(None);
        }
        let value: Value = serde_json::from_str(text).map_err(|error| format!("{error}: {text}"))?;
        for word in ["end", "cut", "gone"] {
            if let Some(reason) = value.get(word).and_then(Value::as_str) {
                return Ok(Some(Ended::Word(word.to_owned(), reason.to_owned())));
            }
        }
        let cursor = value.get("cursor").and_then(Value::as_str);
        if let Some(rows) = value.get("view").and_then(Value::as_u64) {
            if rows != self.viewed {
                return Err(format!("the view has {} rows, and says {rows}", self.viewed));
            }
            self.at = cursor.map(place);
        } else {
            let sign = match value.get("op").and_then(Value::as_str) {
                Some("-U" | "-D") => -1,
                Some("+I" | "+U") | None => 1,
                Some(other) => return Err(format!("{other}: {text}")),
            };
            let row = self.rows.entry(value["row"].to_string()).or_default();
            *row += sign;
            if *row == 0 {
                self.rows.remove(&value["row"].to_string());
            }
            match cursor.map(place) {
                None => self.viewed += 1,
                Some(at) => {
                    let follows = match self.at {
                        None => at.1 == 0,
                        Some(before) => at == (before.0, before.1 + 1) || (at.0 > before.0 && at.1 == 0),
                    };
                    if !follows {
                        return Err(format!("{at:?} does not follow {:?}", self.at));
                    }
                    self.at = Some(at);
                    self.changes += 1;
                }
            }
        }
        if let Some(cursor) = cursor {
            self.cursor = Some(cursor.to_owned());
        }
        Ok(None)
    }

    /// Reads one connection to its end; `first` is the query where there is no cursor yet.
    ///
    /// # Panics
    /// When what it reads is out of order.
    pub async fn read(&mut self, http: &reqwest::Client, base: &str, token: Option<&Token>, table: &str, first: &str) -> Ended {
        let query = match &self.cursor {
            Some(cursor) => format!("after={cursor}"),
            None => {
                // Half a view is nothing to go on from.
                *self = Self { connections: self.connections, ..Self::default() };
                first.to_owned()
            }
        };
        let mut request = http.get(format!("{base}/v1/results/{table}?{query}"));
        if let Some(token) = token {
            request = request.bearer_auth(token.reveal());
        }
        let Ok(mut response) = request.send().await else { return Ended::Broken };
        if !response.status().is_success() {
            let status = response.status().as_u16();
            let text = response.text().await.unwrap_or_default();
            assert!(matches!(status, 409 | 503), "refused ({status}): {text}");
            return Ended::Broken;
        }
        self.connections += 1;
        let mut rest = Vec::new();
        while let Ok(Some(bytes)) = response.chunk().await {
            rest.extend_from_slice(&bytes);
            let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else { continue };
            let lines: Vec<u8> = rest.drain(..=end).collect();
            for line in std::str::from_utf8(&lines).expect("text").lines() {
                if let Some(ended) = self.line(line).unwrap_or_else(|problem| panic!("{problem}")) {
                    return ended;
                }
            }
        }
        Ended::Broken
    }
}

/// Follows a table until the job has finished, whatever happens to it meanwhile.
///
/// # Panics
/// When what it reads is out of order, or it waits too long.
pub async fn follow(base: impl Fn() -> Option<String>, token: Option<Token>, table: &str, first: &str) -> Copy {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let mut copy = Copy::default();
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?}: {:?} after {} changes", copy.at, copy.changes);
        if let Some(base) = base() {
            let left = PATIENCE.saturating_sub(began.elapsed());
            match tokio::time::timeout(left, copy.read(&http, &base, token.as_ref(), table, first)).await {
                Ok(Ended::Word(word, reason)) if word == "end" && reason == "Finished" => return copy,
                Ok(Ended::Word(word, reason)) => assert!(word != "gone", "{reason}"),
                Ok(Ended::Broken) | Err(_) => {}
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

fn place(cursor: &str) -> (u64, u64) {
    let mut parts = cursor.split('-').map(|part| part.parse::<u64>());
    match (parts.next(), parts.next()) {
        (Some(Ok(epoch)), Some(Ok(sequence))) => (epoch, sequence),
        _ => panic!("{cursor} is no cursor"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cursor: &str, n: u64) -> String {
        format!("{{\"cursor\":\"{cursor}\",\"row\":{{\"n\":{n}}}}}")
    }

    #[test]
    fn rows_that_follow_are_taken_in() {
        let mut copy = Copy::default();
        for (at, n) in [("3-0-00000001", 1), ("3-1-00000001", 1), ("9-0-00000001", 2)] {
            assert_eq!(copy.line(&row(at, n)), Ok(None));
        }
        assert_eq!(copy.rows, Multiset::from([("{\"n\":1}".into(), 2), ("{\"n\":2}".into(), 1)]));
        assert_eq!(copy.line("{\"end\":\"Finished\"}"), Ok(Some(Ended::Word("end".into(), "Finished".into()))));
    }

    #[test]
    fn a_row_that_comes_twice_or_is_left_out_is_seen() {
        for next in ["3-0-00000001", "3-2-00000001", "2-0-00000001", "4-1-00000001"] {
            let mut copy = Copy::default();
            assert_eq!(copy.line(&row("3-0-00000001", 1)), Ok(None));
            assert!(copy.line(&row(next, 1)).is_err(), "{next}");
        }
    }
}
