//! [io] One client: a position, and a task that gives it what comes behind.

use std::future::poll_fn;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::Stream;
use rheos_connectors::results::encode::{Last, ResultFormat};
use rheos_connectors::results::index::{At, BadCursor, Cursor, Entry};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::cache::Chunk;
use super::meter::{Meter, Place};
use super::table::{State, Table};
use super::{Ask, From, Refusal};

/// Chunks that wait for a client: its buffer.
const CHUNKS_WAITING: usize = 1;
/// A client that waits for rows gets a sign of life so often.
const ALIVE: Duration = Duration::from_secs(15);
/// The storage is asked again so often, and so long after each failure.
const READ_TRIES: u32 = 5;
const READ_PAUSE: Duration = Duration::from_millis(200);

/// What a client is given.
#[derive(Debug)]
pub struct Subscription {
    /// Changes come behind this; rows of a view come before them.
    pub cursor: Cursor,
    /// Rows of the view, if it was asked for.
    pub view_rows: Option<usize>,
    /// Its media type.
    pub format: ResultFormat,
    /// The rest.
    pub chunks: Chunks,
}

/// What a client reads.
#[derive(Debug)]
pub struct Chunks {
    coming: mpsc::Receiver<Bytes>,
    /// What comes last, once that is known: the last word, or that there is none and the connection is broken off.
    last: Arc<OnceLock<Option<Bytes>>>,
    _place: Place,
}

impl Chunks {
    /// As a body.
    pub fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        futures::stream::unfold(Some(self), |this| async move {
            let mut this = this?;
            if let Some(bytes) = poll_fn(|context| this.coming.poll_recv(context)).await {
                return Some((Ok(bytes), Some(this)));
            }
            match this.last.get() {
                Some(Some(bytes)) => Some((Ok(bytes.clone()), None)),
                _ => Some((Err(io::Error::other("broken off")), None)),
            }
        })
    }
}

/// Begins to feed a client.
pub(super) async fn begin(
    table: Arc<Table>,
    ask: Ask,
    ended: watch::Receiver<Option<Last>>,
    place: Place,
) -> Result<Subscription, Refusal> {
    let states = table.watch();
    let page = match ask.from {
        From::View if !table.config.changelog => {
            return Err(Refusal::Bad(format!("{} only gets new rows, it has no view; leave view=true away", table.config.table)));
        }
        From::View => Some(table.page(ask.format).await?),
        _ => None,
    };
    let (line, position, cursor) = {
        let state = states.borrow();
        match &page {
            Some(page) => (Some(page.line), page.position, page.cursor),
            None => {
                let position = start(&table, &state, ask.from)?;
                (state.line, position, table.cursor(state.line, state.chain.before(position)))
            }
        }
    };
    let head = ask.format.head(&table.config.schema, table.config.changelog);
    let head = head.map_err(|error| Refusal::Bad(format!("this table cannot be had so: {}", error.message)))?;
    let (out, coming) = mpsc::channel(CHUNKS_WAITING);
    let last = Arc::new(OnceLock::new());
    let fresh = ask.from == From::Oldest;
    let meter = Arc::clone(&place.meter);
    let feed = Feed { table, states, ended, line, position, fresh, format: ask.format, follow: ask.follow, out, meter };
    let view_rows = page.as_ref().map(|page| page.rows);
    let mut first = vec![Bytes::from(head)];
    if let Some(page) = page {
        first.extend(page.chunks.iter().cloned());
        first.push(ask.format.ready(&page.cursor, page.rows).into());
    }
    tokio::spawn({
        let last = Arc::clone(&last);
        async move {
            let (format, table, meter) = (feed.format, Arc::clone(&feed.table), Arc::clone(&feed.meter));
            // The sender outlives the last word: the body looks for it when the sender is gone.
            let (word, _out) = feed.run(first).await;
            if let Some(Last::Cut(reason) | Last::Gone(reason)) = &word {
                meter.cut_off();
                tracing::info!(table = table.config.table, reason, "a client of the results was cut off");
            }
            let _ = last.set(word.and_then(|word| format.last(&word)).map(Bytes::from));
        }
    });
    Ok(Subscription { cursor, view_rows, format: ask.format, chunks: Chunks { coming, last, _place: place } })
}

/// The row to begin with.
fn start(table: &Table, state: &State, from: From) -> Result<u64, Refusal> {
    match from {
        From::Oldest | From::View => Ok(state.chain.start()),
        From::Newest => Ok(state.chain.end()),
        From::After(cursor) => {
            let here = table.cursor(state.line, (0, 0)).line;
            if here.is_some() && cursor.line.is_some() && cursor.line != here {
                return Err(Refusal::Gone(format!(
                    "the cursor {cursor} is of another life of the job: it began anew, or from a savepoint; begin without a cursor"
                )));
            }
            match state.chain.behind(cursor.epoch, cursor.sequence) {
                Ok(position) => Ok(position),
                Err(BadCursor::Gone) => Err(Refusal::Gone(gone(table, state, &cursor))),
                Err(BadCursor::Unknown) => Err(Refusal::Bad(format!("no row of {} has the cursor {cursor}", table.config.table))),
            }
        }
    }
}

fn gone(table: &Table, state: &State, cursor: &Cursor) -> String {
    let oldest = state.chain.oldest().map(|oldest| table.cursor(state.line, (oldest.epoch, 0)).to_string()).unwrap_or_default();
    format!(
        "rows behind the cursor {cursor} are not kept any more, the oldest that is has {oldest}; begin without a cursor, and raise \
         'results.retain-rows', 'results.retain-bytes' or 'results.retain-checkpoints'"
    )
}

struct Feed {
    table: Arc<Table>,
    states: watch::Receiver<State>,
    ended: watch::Receiver<Option<Last>>,
    line: Option<u32>,
    position: u64,
    /// Begins with whatever is the oldest row when the first one is sent.
    fresh: bool,
    format: ResultFormat,
    follow: bool,
    out: mpsc::Sender<Bytes>,
    meter: Arc<Meter>,
}

/// What a look at the kept results gives.
enum Look {
    Chunk(Entry, u64),
    Wait,
    Over(Last),
}

impl Feed {
    /// Sends until nothing follows; the last word, or none where the client has gone or the storage has failed.
    async fn run(mut self, first: Vec<Bytes>) -> (Option<Last>, mpsc::Sender<Bytes>) {
        let word = self.feed(first).await.err().flatten();
        (word, self.out)
    }

    /// Never ends well.
    async fn feed(&mut self, first: Vec<Bytes>) -> Result<(), Option<Last>> {
        for bytes in first {
            self.send(bytes).await?;
        }
        loop {
            match self.look() {
                Look::Chunk(entry, sequence) => {
                    let chunk = self.read(entry, sequence).await?;
                    let Some(chunk) = chunk else {
                        if self.fresh {
                            self.position = entry.end();
                            continue;
                        }
                        return Err(Some(self.gone()));
                    };
                    self.fresh = false;
                    self.send(chunk.bytes).await?;
                    self.position = entry.start + sequence + chunk.rows;
                }
                Look::Wait => self.wait().await?,
                Look::Over(last) => return Err(Some(last)),
            }
        }
    }

    fn look(&mut self) -> Look {
        let ended = self.ended.borrow_and_update().clone();
        if let Some(cut @ Last::Cut(_)) = ended {
            return Look::Over(cut);
        }
        let state = self.states.borrow_and_update();
        if self.line.is_some() && state.line != self.line {
            let reason = "the job has begun another life, from a savepoint; begin without a cursor";
            return Look::Over(Last::Gone(reason.to_owned()));
        }
        self.line = state.line;
        if self.fresh {
            self.position = self.position.max(state.chain.start());
        }
        match (state.chain.at(self.position), ended) {
            (At::Row(entry, sequence), _) => Look::Chunk(entry, sequence),
            (At::Gone, _) => {
                let cursor = self.table.cursor(state.line, (0, 0));
                let oldest = state.chain.oldest().map_or(0, |oldest| oldest.epoch);
                let reason = format!("what comes next is not kept any more, the oldest that is has {}", Cursor { epoch: oldest, ..cursor });
                Look::Over(Last::Gone(reason))
            }
            (At::End, Some(last)) => Look::Over(last),
            (At::End, None) if !self.follow => Look::Over(Last::End("newest".to_owned())),
            (At::End, None) => Look::Wait,
        }
    }

    fn gone(&self) -> Last {
        Last::Gone("what comes next is not kept any more: this client was too slow".to_owned())
    }

    /// The rows at the position; the storage may be away for a moment.
    async fn read(&self, entry: Entry, sequence: u64) -> Result<Option<Chunk>, Option<Last>> {
        let Some(line) = self.line else { return Err(None) };
        let mut tries = 1;
        loop {
            match self.table.chunk(line, entry, sequence, self.format).await {
                Ok(chunk) => return Ok(chunk),
                Err(error) if tries < READ_TRIES => {
                    tracing::debug!(%error, "results cannot be read, trying again");
                    tries += 1;
                    tokio::time::sleep(READ_PAUSE).await;
                }
                Err(error) => {
                    tracing::warn!(%error, table = self.table.config.table, "results cannot be read: a client is cut off");
                    return Err(Some(Last::Cut(format!("the results cannot be read: {}", error.message))));
                }
            }
        }
    }

    async fn send(&self, bytes: Bytes) -> Result<(), Option<Last>> {
        if bytes.is_empty() {
            return Ok(());
        }
        let (limit, size) = (self.table.config.slow_client, bytes.len());
        match timeout(limit, self.out.send(bytes)).await {
            Ok(sent) => {
                self.meter.sent(size);
                sent.map_err(|_| None)
            }
            Err(_) => {
                let reason =
                    format!("nothing was taken for {} ms ('results.slow-client-timeout'); go on with the last cursor", limit.as_millis());
                Err(Some(Last::Cut(reason)))
            }
        }
    }

    /// Waits for something new, with signs of life.
    async fn wait(&mut self) -> Result<(), Option<Last>> {
        let mut alive = interval(ALIVE);
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        alive.tick().await; // the first comes at once
        loop {
            tokio::select! {
                // An error means that the source is gone, which `ended` tells first.
                changed = self.states.changed() => return changed.map_err(|_| None),
                changed = self.ended.changed() => return changed.map_err(|_| Some(Last::Cut("this process ends".to_owned()))),
                () = self.out.closed() => return Err(None),
                _ = alive.tick() => self.send(Bytes::from_static(self.format.alive())).await?,
            }
        }
    }
}
