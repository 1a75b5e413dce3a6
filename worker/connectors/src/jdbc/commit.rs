//! [io] Staged rows to transactions: each checkpoint of the sink once, however often it is committed.
//!
//! What a checkpoint has written is staged as objects ([`crate::staged`]) that its committables name. All committables of
//! a sink come together ([`rheos_dataflow::sink::Sink::gathers`]), on process 0, after the record is written and before anybody else hears of
//! it; so the commit of a checkpoint is **one transaction**, with the rows of all subtasks and the line's row in the commit
//! table. Readers of the target see the state of one checkpoint or of the next, never one in between.
//!
//! A *line* is a sink of a job over one checkpoint storage. Its name holds the job's id, the sink, and a random number
//! that lies in that storage (`line`), so a job that is run again over an emptied storage, whose generations and
//! epochs begin again at 1, has a line of its own. Its row holds the **mark**, the pair (generation that staged, epoch) that
//! was committed last, and the **fence**, the newest generation that has begun to write.
//!
//! ```text
//! commit (g, e) by a process of generation p:          begin of generation p (before its first row is taken):
//!   BEGIN                                                BEGIN
//!   read the line's row, FOR UPDATE                      read the line's row, FOR UPDATE
//!   mark >= (g, e):  done already, ROLLBACK              fence > p:  exit, a newer generation runs
//!   fence > p:       exit, a newer generation runs       fence = p
//!   write the rows of (g, e)                             COMMIT
//!   mark = (g, e)
//!   COMMIT
//!   delete the staged objects
//! ```
//!
//! **Claim.** The target holds the rows of every checkpoint whose record was written, once, in the order of the records; of
//! others none.
//!
//! **Why.** (1) *None without a record*: a transaction is begun only here, and `commit` is called only with a permit.
//! (2) *In order*: marks are compared as pairs, generation first. Within a generation epochs rise. A generation commits
//! what its restored record carries before it takes new rows, so in a line pairs are committed in rising order. Epochs alone
//! would not do: a job that goes back to a savepoint gives the same epochs again, for other rows, in a newer generation.
//! (3) *At most once*: rows of (g, e) and the mark (g, e) are in one transaction, marks only rise, and whoever writes holds the
//! lock of the line's row from before it has read the mark until its transaction has ended. Of two transactions with the rows
//! of (g, e) the later one read the mark of the earlier one, and did not write.
//! (4) *At least once*: a committable is in every record until its commit was seen to succeed; a commit whose answer was lost
//! is repeated, in a new session, which waits for the lock until the old one has ended, and reads the mark: it is (g, e) exactly
//! if the rows are there. Objects are deleted only after that. A mark >= (g, e) says that (g, e) itself is committed,
//! to all that the job goes on from: pairs are committed in rising order, and a savepoint is complete only after the commit of
//! what it carries.
//! (5) *Zombies*: a process of generation p whose permit is good and who slept meanwhile (a lost node, SIGSTOP) can only have
//! what its record names. The next generation, restored from that record or a later one, has committed it: (3). One
//! that was sent back to an older savepoint has raised the fence before its first row: the sleeper's rows are not written
//! any more (it meets the fence, or a mark above its own), and if they were, then before that generation wrote anything, as if
//! the job had been sent back a moment later.
//! A sleeper within a transaction holds the row's lock; its session is ended by the server
//! (`idle_in_transaction_session_timeout`) and rolled back.
//!
//! A line that the commit table does not know, with objects that are deleted: the job's table was sent to another database
//! since. What was committed to the former one is not written to the new one.
//!
//! Subtasks: rows of an epoch are written in the order of subtasks. Changes of one key come from one subtask when the
//! query is grouped by the key, and at any rate those of a later checkpoint are written later.
//!
//! A line has one row, so old epochs leave nothing to be cleaned up. The row of a job that is gone stays, and may be deleted
//! (`committed_at` tells); that of a living job must not be, for it is all that is known of the last commit.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::sink::{CommitPermit, Committable};
use rheos_dataflow::time::Epoch;
use serde::{Deserialize, Serialize};

use super::catalog::table_oid;
use super::client::{Server, failed};
use super::name::{TableName, quoted};
use super::session::Session;
use super::statement::Shape;
use crate::failpoint;
use crate::results::segment;
use crate::staged::StagedStore;

/// What a committable says: rows of one subtask.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Payload {
    /// Whose mark tells whether it is committed.
    pub(super) line: String,
    /// The generation that staged it.
    pub(super) generation: u64,
    /// Where the rows go, and by which key; as they were then, whatever the table's options say now.
    pub(super) table: String,
    pub(super) key: Vec<String>,
    /// Where commits are remembered.
    pub(super) commits: String,
    /// Objects with the rows, in order.
    pub(super) staged: Vec<String>,
}

/// The mark of a line: generation that staged, epoch.
type Mark = (u64, Epoch);
/// The mark of a line that has committed nothing.
const NONE: Mark = (0, 0);
/// Payloads of a line in the order they are committed, by subtask.
type Work = BTreeMap<Mark, Vec<(u32, Payload)>>;

/// Commits of one sink in this process.
pub(super) struct Committer {
    server: Arc<Server>,
    staged: StagedStore,
    /// Rows of a statement.
    rows: usize,
    /// Between commits.
    session: tokio::sync::Mutex<Option<Session>>,
    /// What no later try would heal. Publishing a checkpoint tries again for ever; the writer of this process tells.
    hopeless: Mutex<Option<(ErrorKind, String)>>,
}

impl Committer {
    pub(super) fn new(server: Arc<Server>, staged: StagedStore, rows: usize) -> Arc<Self> {
        Arc::new(Self { server, staged, rows, session: tokio::sync::Mutex::new(None), hopeless: Mutex::default() })
    }

    /// An error that no try would heal, once there was one.
    pub(super) fn hopeless(&self) -> Result<()> {
        let hopeless = self.hopeless.lock().unwrap_or_else(PoisonError::into_inner);
        hopeless.as_ref().map_or(Ok(()), |(kind, message)| Err(DataflowError::new("jdbc", *kind, message)))
    }

    /// Commits what is not committed yet.
    pub(super) async fn commit(&self, permit: &CommitPermit, committables: Vec<Committable>) -> Result<()> {
        let done = self.commit_all(permit, committables).await;
        if let Err(error) = &done
            && error.kind != ErrorKind::Transient
        {
            let mut hopeless = self.hopeless.lock().unwrap_or_else(PoisonError::into_inner);
            hopeless.get_or_insert((error.kind, error.message.clone()));
        }
        done
    }

    async fn commit_all(&self, permit: &CommitPermit, committables: Vec<Committable>) -> Result<()> {
        let mut lines: BTreeMap<String, Work> = BTreeMap::new();
        for committable in committables {
            if committable.epoch > permit.epoch() {
                let message = format!("asked to commit epoch {} with a permit for {}", committable.epoch, permit.epoch());
                return Err(DataflowError::new("jdbc", ErrorKind::Bug, message));
            }
            let payload: Payload = serde_json::from_value(committable.payload).map_err(|error| {
                DataflowError::new("jdbc", ErrorKind::State, format!("a committable of {} cannot be read: {error}", committable.sink))
            })?;
            let line = lines.entry(payload.line.clone()).or_default();
            line.entry((payload.generation, committable.epoch)).or_default().push((committable.subtask, payload));
        }
        for (line, work) in &mut lines {
            for (mark, payloads) in work {
                payloads.sort_by_key(|(subtask, _)| *subtask);
                self.commit_once(permit.generation(), line, *mark, payloads).await?;
            }
        }
        Ok(())
    }

    async fn commit_once(&self, generation: u64, line: &str, mark: Mark, payloads: &[(u32, Payload)]) -> Result<()> {
        let mut tries = self.server.tries();
        failpoint::pass("jdbc.commit");
        loop {
            let mut held = self.session.lock().await;
            let session = match held.take() {
                Some(session) => Ok(session),
                None => Session::open(&self.server, self.rows).await,
            };
            let done = match session {
                // A session that failed is not used again.
                Ok(mut session) => {
                    let done = self.transact(&mut session, generation, line, mark, payloads).await;
                    *held = done.is_ok().then_some(session);
                    done
                }
                Err(error) => Err(error),
            };
            drop(held);
            match done {
                Ok(()) => break,
                Err(error) => tries.again(error).await?,
            }
        }
        failpoint::pass("jdbc.committed");
        for place in payloads.iter().flat_map(|(_, payload)| &payload.staged) {
            self.staged.delete(place).await?;
        }
        failpoint::pass("jdbc.cleaned");
        Ok(())
    }

    async fn transact(&self, session: &mut Session, generation: u64, line: &str, mark: Mark, payloads: &[(u32, Payload)]) -> Result<()> {
        let Some((_, first)) = payloads.first() else { return Ok(()) };
        let commits = name(&first.commits)?;
        ensure(session, &commits).await?;
        session.begin().await?;
        let found = lock(session, &commits, line).await?;
        if found.mark >= mark {
            return session.commit().await;
        }
        found.allow(generation, line)?;
        if found.mark == NONE && !self.all_there(payloads).await? {
            tracing::warn!(
                line,
                generation = mark.0,
                epoch = mark.1,
                "rows that were committed to another database before are not written again"
            );
        } else {
            for (_, payload) in payloads {
                self.write(session, payload).await?;
            }
        }
        failpoint::pass("jdbc.written");
        let text = format!("UPDATE {} SET generation = $2, epoch = $3, committed_at = now() WHERE line = $1", commits.sql());
        let moved = session.client().execute(&text, &[&line, &(mark.0 as i64), &(mark.1 as i64)]).await;
        moved.map_err(|error| failed("moving the mark", &error))?;
        failpoint::pass("jdbc.marked");
        session.commit().await
    }

    /// Whether no staged object was deleted: they are when their rows are known to be committed.
    async fn all_there(&self, payloads: &[(u32, Payload)]) -> Result<bool> {
        for place in payloads.iter().flat_map(|(_, payload)| &payload.staged) {
            if self.staged.get(place).await?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn write(&self, session: &mut Session, payload: &Payload) -> Result<()> {
        for place in &payload.staged {
            let bytes = self.staged.get(place).await?.ok_or_else(|| {
                let message =
                    format!("{place}: rows that are still to be written to {} are gone from the checkpoint storage", payload.table);
                DataflowError::new("jdbc", ErrorKind::State, message)
            })?;
            let batch = segment::decode(place, &bytes).map_err(|error| DataflowError::new("jdbc", error.kind, error.message))?;
            let width =
                batch.num_columns() - usize::from(batch.schema_ref().field_with_name(rheos_dataflow::changelog::KIND_COLUMN).is_ok());
            let columns = batch.schema_ref().project(&(0..width).collect::<Vec<_>>())?;
            let shape = Shape { table: name(&payload.table)?, columns: Arc::new(columns), key: payload.key.clone() };
            session.write(&shape, batch).await?;
        }
        Ok(())
    }
}

/// A table's name as a payload carries it.
fn name(sql: &str) -> Result<TableName> {
    TableName::parse(sql)
        .ok_or_else(|| DataflowError::new("jdbc", ErrorKind::State, format!("{sql} in a committable is no name of a table")))
}

/// The row of a line, locked.
struct Line {
    mark: Mark,
    fence: u64,
}

impl Line {
    /// Whether a process of this generation may write.
    fn allow(&self, generation: u64, line: &str) -> Result<()> {
        if self.fence <= generation {
            return Ok(());
        }
        let message = format!("generation {} of this job writes (line '{line}'); this is generation {generation}", self.fence);
        Err(DataflowError::new("jdbc", ErrorKind::Fenced, message))
    }
}

/// Reads the row of a line, which is made if it is not there, and keeps it from others until the transaction ends.
async fn lock(session: &Session, commits: &TableName, line: &str) -> Result<Line> {
    let wrong = |error: tokio_postgres::Error| failed(&format!("reading {commits}"), &error);
    let table = commits.sql();
    let insert = format!("INSERT INTO {table} (line, generation, epoch, fence) VALUES ($1, 0, 0, 0) ON CONFLICT (line) DO NOTHING");
    session.client().execute(&insert, &[&line]).await.map_err(wrong)?;
    let select = format!("SELECT generation, epoch, fence FROM {table} WHERE line = $1 FOR UPDATE");
    let row = session.client().query_one(&select, &[&line]).await.map_err(wrong)?;
    let number = |place| row.try_get::<_, i64>(place).map(i64::unsigned_abs).map_err(wrong);
    Ok(Line { mark: (number(0)?, number(1)?), fence: number(2)? })
}

/// Begins the writing of a generation: whoever is older may not write any more.
pub(super) async fn fence(session: &mut Session, commits: &TableName, line: &str, generation: u64) -> Result<()> {
    ensure(session, commits).await?;
    session.begin().await?;
    lock(session, commits, line).await?.allow(generation, line)?;
    let text = format!("UPDATE {} SET fence = $2 WHERE line = $1", commits.sql());
    let raised = session.client().execute(&text, &[&line, &(generation as i64)]).await;
    raised.map_err(|error| failed("raising the fence", &error))?;
    session.commit().await
}

/// Makes the commit table if there is none.
async fn ensure(session: &Session, commits: &TableName) -> Result<()> {
    let table = commits.sql();
    if table_oid(session.client(), &table).await?.is_some() {
        return Ok(());
    }
    let columns = "(line text PRIMARY KEY, generation bigint NOT NULL, epoch bigint NOT NULL, fence bigint NOT NULL, \
                   committed_at timestamptz NOT NULL DEFAULT now())";
    let Err(error) = session.client().batch_execute(&format!("CREATE TABLE IF NOT EXISTS {table} {columns}")).await else { return Ok(()) };
    // Two sessions that make it at the same time: one of them is told so.
    if table_oid(session.client(), &table).await?.is_some() {
        return Ok(());
    }
    let error = failed(&format!("creating {commits}, where commits are remembered"), &error);
    let message = format!(
        "{}. Let its owner create it: CREATE TABLE {table} {columns}; GRANT SELECT, INSERT, UPDATE ON {table} TO {}",
        error.message,
        {
            let row = session.client().query_one("SELECT current_user::text", &[]).await;
            row.and_then(|row| row.try_get::<_, String>(0)).map_or_else(|_| "the job's user".to_owned(), |user| quoted(&user))
        }
    );
    Err(DataflowError::new("jdbc", error.kind, message))
}
