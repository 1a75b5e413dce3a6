//! [pure] Results of a job: the lines that its coordinator sends, and how they are shown.

use serde_json::{Map, Value};

use super::paint::{Paint, Tone, clean};

/// Between two columns.
const GAP: &str = "   ";
/// A column is at most so wide; longer values stand out of it.
const WIDEST: usize = 40;

/// A line of the stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// A row.
    Row {
        /// Where it stands; none: it is of the view.
        cursor: Option<String>,
        /// How it changes the result.
        op: Option<String>,
        /// Its columns.
        row: Map<String, Value>,
    },
    /// The view is whole: changes come behind this cursor.
    Ready(String),
    /// Nothing will follow, in these words.
    End(String),
    /// We were too slow, or the job has moved: ask again.
    Cut(String),
    /// What comes next is not kept any more.
    Gone(String),
    /// A sign of life.
    Alive,
}

/// Reads a line.
///
/// # Errors
/// It is none of these.
pub fn line(text: &str) -> Result<Said, String> {
    if text.trim().is_empty() {
        return Ok(Said::Alive);
    }
    let strange = || format!("a line that cannot be understood: {:?}", text.chars().take(120).collect::<String>());
    let value: Value = serde_json::from_str(text).map_err(|_| strange())?;
    let word = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    if let Some(Value::Object(row)) = value.get("row") {
        return Ok(Said::Row { cursor: word("cursor"), op: word("op"), row: row.clone() });
    }
    let ready = value.get("view").and(word("cursor")).map(Said::Ready);
    let last = word("end").map(Said::End).or_else(|| word("cut").map(Said::Cut)).or_else(|| word("gone").map(Said::Gone));
    ready.or(last).ok_or_else(strange)
}

/// A table that grows: each line is printed when its row comes, in columns that widen as they must.
#[derive(Debug, Clone)]
pub struct Growing {
    names: Vec<String>,
    changelog: bool,
    widths: Vec<usize>,
    begun: bool,
}

impl Growing {
    /// Of these columns.
    pub fn new(names: &[String], changelog: bool) -> Self {
        let widths = names.iter().map(|name| clean(name).chars().count()).collect();
        Self { names: names.to_vec(), changelog, widths, begun: false }
    }

    /// Some rows at once, with the header before the first: they make the columns wide enough for all of them.
    pub fn rows(&mut self, rows: &[(Option<String>, Map<String, Value>)], paint: Paint) -> String {
        let cells: Vec<Vec<String>> = rows.iter().map(|(_, row)| self.names.iter().map(|name| cell(row.get(name))).collect()).collect();
        for row in &cells {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count()).min(WIDEST.max(*width));
            }
        }
        let mut text = String::new();
        if !std::mem::replace(&mut self.begun, true) && !rows.is_empty() {
            let names: Vec<String> = self.names.iter().map(|name| clean(name)).collect();
            let op = self.changelog.then_some("OP");
            text += &format!("{}\n", paint.text(Tone::Faint, &self.line(op, &names)));
        }
        for ((op, _), row) in rows.iter().zip(&cells) {
            let op = self.changelog.then(|| op.as_deref().unwrap_or_default());
            text += &format!("{}\n", self.line(op, row));
        }
        text
    }

    fn line(&self, op: Option<&str>, cells: &[String]) -> String {
        let mut line = op.map(|op| format!("{op:<2}{GAP}")).unwrap_or_default();
        for (cell, width) in cells.iter().zip(&self.widths) {
            line += cell;
            line += &" ".repeat(width.saturating_sub(cell.chars().count()));
            line += GAP;
        }
        line.trim_end().to_owned()
    }
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => clean(text),
        Some(other) => clean(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn lines_are_told_apart() {
        let row = |text: &str| match line(text).unwrap() {
            Said::Row { cursor, op, row } => (cursor, op, row.len()),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            row(r#"{"cursor":"1-2-00000003","op":"+U","row":{"view":1,"end":"x"}}"#),
            (Some("1-2-00000003".into()), Some("+U".into()), 2)
        );
        assert_eq!(row(r#"{"row":{}}"#), (None, None, 0));
        assert_eq!(line(r#"{"cursor":"1-2-00000003","view":7}"#), Ok(Said::Ready("1-2-00000003".into())));
        assert_eq!(line(r#"{"end":"Finished"}"#), Ok(Said::End("Finished".into())));
        assert_eq!(line(r#"{"cut":"slow"}"#), Ok(Said::Cut("slow".into())));
        assert_eq!(line(r#"{"gone":"late"}"#), Ok(Said::Gone("late".into())));
        assert_eq!(line(""), Ok(Said::Alive));
        for strange in ["{", "7", "{}", r#"{"row":7}"#] {
            assert!(line(strange).is_err(), "{strange}");
        }
    }

    #[test]
    fn columns_widen_as_they_must() {
        let rows = |text: &str| {
            let read = |text: &str| match line(text).unwrap() {
                Said::Row { op, row, .. } => (op, row),
                other => panic!("{other:?}"),
            };
            text.lines().map(read).collect::<Vec<_>>()
        };
        let mut table = Growing::new(&["name".into(), "n".into()], true);
        let first = table.rows(
            &rows("{\"op\":\"+I\",\"row\":{\"name\":\"a\",\"n\":1}}\n{\"op\":\"+I\",\"row\":{\"name\":\"longer\",\"n\":null}}"),
            Paint::Plain,
        );
        let second = table.rows(&rows(r#"{"op":"-U","row":{"name":"a\u001b[2J","n":12345}}"#), Paint::Plain);
        expect![[r#"
            OP   name     n
            +I   a        1
            +I   longer   -
            -U   a[2J     12345
        "#]]
        .assert_eq(&(first + &second));
        assert_eq!(Growing::new(&["n".into()], false).rows(&[], Paint::Plain), "");
    }
}
