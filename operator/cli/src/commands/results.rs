//! [io] `results`: the rows of a job as they come.
//!
//! A connection that is lost is made anew, from the cursor of the last row that was printed: what is printed has every
//! row once. The rows of a view are held back until it is whole, for half a view cannot be gone on from.

use std::time::Duration;

use serde_json::{Map, Value};

use super::Context;
use crate::args::{ResultsArguments, ResultsForm};
use crate::exit::{self, Failure, Outcome};
use crate::io::live::{Live, Refused, Streaming};
use crate::io::wait::ctrl_c;
use crate::pages::paint;
use crate::pages::results::{self, Growing, Said};

/// Before a lost connection is made anew; doubled up to [`PAUSE_LONGEST`].
const PAUSE_FIRST: Duration = Duration::from_millis(200);
/// The longest such pause.
const PAUSE_LONGEST: Duration = Duration::from_secs(5);
/// It is tried so often in a row, unless it is to be followed and worked before.
const TRIES: u32 = 5;
/// The coordinator gives a sign of life every 15 s; after this silence it is asked anew.
const SILENCE: Duration = Duration::from_secs(45);
/// The longest line, bytes.
const LINE_LIMIT: usize = 16 * 1024 * 1024;

/// Runs the command.
pub(super) async fn run(context: &Context, arguments: &ResultsArguments) -> Outcome {
    let left = ctrl_c();
    tokio::pin!(left);
    let mut printer = None;
    let mut reader =
        Reader { context, arguments, cursor: arguments.after.clone(), held: Vec::new(), view: arguments.view, connected: false };
    let outcome = tokio::select! {
        () = &mut left => Ok(()),
        outcome = reader.follow(&mut printer) => outcome,
    };
    if let Some(cursor) = reader.cursor.filter(|cursor| arguments.after.as_ref() != Some(cursor)) {
        context.terminal.note(&format!("--after {cursor} goes on from here"));
    }
    outcome
}

struct Reader<'a> {
    context: &'a Context,
    arguments: &'a ResultsArguments,
    /// Of the last row that was printed.
    cursor: Option<String>,
    /// Rows of a view that is not whole.
    held: Vec<(String, Option<String>, Map<String, Value>)>,
    /// Whether the view is still to come.
    view: bool,
    /// Whether rows were to be had at all.
    connected: bool,
}

/// How a connection ended.
enum Ended {
    /// There is nothing more to come.
    Done,
    /// For this reason: it is made anew.
    Lost(String),
}

/// How rows are printed.
struct Printer {
    table: String,
    growing: Growing,
}

impl Reader<'_> {
    /// Until nothing more comes.
    async fn follow(&mut self, printer: &mut Option<Printer>) -> Outcome {
        let (mut pause, mut tries, mut told) = (PAUSE_FIRST, 0, String::new());
        loop {
            let before = self.cursor.clone();
            let why = match self.connection(printer).await? {
                Ended::Done => return Ok(()),
                Ended::Lost(why) => why,
            };
            if self.cursor != before {
                (pause, tries) = (PAUSE_FIRST, 0);
                told.clear();
            }
            tries += 1;
            // What never worked will hardly begin to.
            if tries >= TRIES && !(self.arguments.follow && self.connected) {
                return Err(self.failure(why));
            }
            if why != told {
                self.context.terminal.note(&format!("{}; trying again", paint::clean(&why)));
                told = why;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_LONGEST);
        }
    }

    fn failure(&self, why: String) -> Failure {
        let job = &self.arguments.job;
        Failure::failed(format!("{job} gives no results: {}", paint::clean(&why))).hint(super::look(&self.context.cluster, job))
    }

    /// One connection.
    async fn connection(&mut self, printer: &mut Option<Printer>) -> Outcome<Ended> {
        let cluster = &self.context.cluster;
        let job = cluster.job(&self.arguments.job).await?;
        let live = match Live::find(cluster, &job).await {
            Ok(live) => live,
            Err(why) => return Ok(Ended::Lost(why)),
        };
        let table = match printer {
            Some(printer) => printer.table.clone(),
            None => match live.results().await {
                Ok(view) => {
                    let table = self.choose(&view.tables)?;
                    *printer = Some(Printer { table: table.name.clone(), growing: Growing::new(&table.columns, table.changelog) });
                    table.name.clone()
                }
                Err(refused) => return self.refused(refused),
            },
        };
        self.held.clear();
        let from = match &self.cursor {
            Some(cursor) => format!("&after={cursor}"),
            None if self.view => "&view=true".to_owned(),
            None if self.arguments.new => "&from=newest".to_owned(),
            None => String::new(),
        };
        let opened = live.stream(&table, &format!("follow={}{from}", self.arguments.follow)).await;
        let mut stream = match opened {
            Ok(stream) => stream,
            Err(refused) => return self.refused(refused),
        };
        self.connected = true;
        if self.cursor.is_none() && !self.view && self.arguments.new {
            // Where the newest was: a connection that is lost before the first row goes on from there.
            self.cursor.clone_from(&stream.cursor);
        }
        let Some(printer) = printer.as_mut() else { return Ok(Ended::Lost("no table".to_owned())) };
        self.read(&mut stream, printer).await
    }

    fn choose<'t>(&self, tables: &'t [rheos_control_api::ResultsTable]) -> Outcome<&'t rheos_control_api::ResultsTable> {
        let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
        let job = &self.arguments.job;
        match (&self.arguments.table, tables) {
            (_, []) => Err(Failure::new(exit::NOT_FOUND, format!("{job} has no table with 'connector' = 'results'"))),
            (None, [only]) => Ok(only),
            (None, _) => Err(Failure::invalid(format!("{job} has several results tables: name one of {}", names.join(", ")))),
            (Some(name), _) => {
                let missing = || Failure::new(exit::NOT_FOUND, format!("{job} has no results table {name}; it has {}", names.join(", ")));
                tables.iter().find(|table| table.name == *name).ok_or_else(missing)
            }
        }
    }

    /// Whether another try can help.
    fn refused(&self, refused: Refused) -> Outcome<Ended> {
        match refused.status {
            Some(400 | 404) => Err(Failure::invalid(refused.why)),
            Some(410) => Err(self.failure(refused.why).hint("begin without --after: rows between are lost to this client")),
            // Too many different rows for a view.
            Some(409) if self.view && refused.why.contains("the view of") => Err(self.failure(refused.why)),
            _ => Ok(Ended::Lost(refused.why)),
        }
    }

    async fn read(&mut self, stream: &mut Streaming, printer: &mut Printer) -> Outcome<Ended> {
        let mut rest: Vec<u8> = Vec::new();
        loop {
            let bytes = match tokio::time::timeout(SILENCE, stream.next()).await {
                Err(_) => return Ok(Ended::Lost(format!("nothing was heard for {} s", SILENCE.as_secs()))),
                Ok(None) => return Ok(Ended::Lost("the connection was closed".to_owned())),
                Ok(Some(Err(why))) => return Ok(Ended::Lost(why)),
                Ok(Some(Ok(bytes))) => bytes,
            };
            rest.extend_from_slice(&bytes);
            let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else {
                if rest.len() > LINE_LIMIT {
                    return Err(self.failure(format!("a row is longer than {LINE_LIMIT} bytes")));
                }
                continue;
            };
            let lines: Vec<u8> = rest.drain(..=end).collect();
            if let Some(ended) = self.lines(&String::from_utf8_lossy(&lines), printer)? {
                return Ok(ended);
            }
        }
    }

    /// Whole lines.
    fn lines(&mut self, text: &str, printer: &mut Printer) -> Outcome<Option<Ended>> {
        let mut rows = Vec::new();
        let mut ended = None;
        let mut cursor = None;
        for text in text.lines() {
            match results::line(text).map_err(|why| self.failure(why))? {
                Said::Row { cursor: None, op, row } => self.held.push((text.to_owned(), op, row)),
                Said::Row { cursor: at, op, row } => {
                    rows.push((text.to_owned(), op, row));
                    cursor = at;
                }
                Said::Ready(at) => {
                    rows.append(&mut self.held);
                    (cursor, self.view) = (Some(at), false);
                }
                Said::Alive => {}
                Said::End(how) => ended = Some(self.end(how)),
                Said::Cut(why) => ended = Some(Ok(Ended::Lost(why))),
                Said::Gone(why) => ended = Some(Err(self.failure(why).hint("begin without --after: rows between are lost to this client"))),
            }
        }
        self.print(rows, printer)?;
        self.cursor = cursor.or(self.cursor.take());
        ended.transpose()
    }

    fn end(&self, how: String) -> Outcome<Ended> {
        match how.as_str() {
            "Finished" | "newest" => Ok(Ended::Done),
            "Failed" => {
                Err(Failure::failed(format!("{} has failed", self.arguments.job))
                    .hint(super::look(&self.context.cluster, &self.arguments.job)))
            }
            _ if !self.arguments.follow => Ok(Ended::Done),
            _ => Ok(Ended::Lost(format!("the job is {how}"))),
        }
    }

    fn print(&self, rows: Vec<(String, Option<String>, Map<String, Value>)>, printer: &mut Printer) -> Outcome {
        if rows.is_empty() {
            return Ok(());
        }
        let terminal = &self.context.terminal;
        match self.arguments.output {
            ResultsForm::Json => terminal.print(&rows.into_iter().map(|(text, ..)| text + "\n").collect::<String>()),
            ResultsForm::Table => {
                let rows: Vec<_> = rows.into_iter().map(|(_, op, row)| (op, row)).collect();
                terminal.print(&printer.growing.rows(&rows, terminal.paint))
            }
        }
    }
}
