//! [io] Rows that are written without waiting for a checkpoint's record, by a task that each writer has.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::sink::{Delivery, Prepared};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

use super::client::Server;
use super::config::SinkConfig;
use super::session::Session;
use super::statement::Shape;

/// Flushes of a writer on their way; then the writer takes no more rows.
const FLUSHES: usize = 4;

/// What the writer's task is to do, in order. The channel has no bound of its own: [`FLUSHES`] bounds what is in it.
enum Work {
    Rows(Vec<RecordBatch>),
    /// Says when all before it is written.
    Told(oneshot::Sender<()>),
}

/// Rows of one writer that go out at once.
pub(super) struct DirectOutput {
    flush_rows: usize,
    flush_interval: std::time::Duration,
    work: mpsc::UnboundedSender<Work>,
    on_their_way: Arc<AtomicUsize>,
    /// Why nothing is written any more.
    failed: watch::Receiver<Option<(ErrorKind, String)>>,
    /// Rows that wait for more, and since when.
    waiting: Vec<RecordBatch>,
    rows: usize,
    since: Option<Instant>,
}

impl DirectOutput {
    pub(super) fn new(config: &SinkConfig, server: Arc<Server>, delivery: Delivery, runtime: &Handle) -> Self {
        let (work, orders) = mpsc::unbounded_channel();
        let (fail, failed) = watch::channel(None);
        let on_their_way = Arc::new(AtomicUsize::new(0));
        let task = Task {
            server,
            shape: config.shape.clone(),
            rows: config.flush_rows,
            repeats: delivery != Delivery::AtMostOnce,
            session: None,
            on_their_way: Arc::clone(&on_their_way),
        };
        runtime.spawn(async move {
            if let Err(error) = task.run(orders).await {
                let _ = fail.send(Some((error.kind, error.message)));
            }
        });
        Self {
            flush_rows: config.flush_rows,
            flush_interval: config.flush_interval,
            work,
            on_their_way,
            failed,
            waiting: Vec::new(),
            rows: 0,
            since: None,
        }
    }

    /// Whether few enough flushes are on their way.
    pub(super) fn ready(&mut self) -> Result<bool> {
        if let Some((kind, message)) = &*self.failed.borrow() {
            return Err(DataflowError::new("jdbc", *kind, message));
        }
        Ok(self.on_their_way.load(Ordering::Acquire) < FLUSHES)
    }

    pub(super) fn push(&mut self, batch: RecordBatch) {
        self.rows += batch.num_rows();
        self.waiting.push(batch);
        self.since.get_or_insert_with(Instant::now);
        if self.rows >= self.flush_rows {
            self.flush();
        }
    }

    /// Lets no row wait longer than it may.
    pub(super) fn end_epoch(&mut self) {
        if self.since.is_some_and(|since| since.elapsed() >= self.flush_interval) {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.rows = 0;
        self.since = None;
        if !self.waiting.is_empty() {
            self.on_their_way.fetch_add(1, Ordering::AcqRel);
            // A task that is gone has said why.
            let _ = self.work.send(Work::Rows(std::mem::take(&mut self.waiting)));
        }
    }

    /// All that was written so far, acknowledged.
    pub(super) fn prepare(&mut self) -> Prepared {
        self.flush();
        let (told, all) = oneshot::channel();
        let _ = self.work.send(Work::Told(told));
        let mut failed = self.failed.clone();
        Box::pin(async move {
            if all.await.is_ok() {
                return Ok(Vec::new());
            }
            // A task that fails lets go of its orders first, and says why then.
            let said = failed.wait_for(Option::is_some).await.ok().and_then(|said| said.clone());
            let (kind, message) = said.unwrap_or((ErrorKind::Bug, "the writer's task ended".to_owned()));
            Err(DataflowError::new("jdbc", kind, message))
        })
    }
}

struct Task {
    server: Arc<Server>,
    shape: Shape,
    /// Rows of a statement.
    rows: usize,
    /// Whether rows of which nobody knows if they were written are written again.
    repeats: bool,
    session: Option<Session>,
    on_their_way: Arc<AtomicUsize>,
}

impl Task {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Work>) -> Result<()> {
        // Looks at the target before the first row comes.
        let session = self.session().await?;
        self.session = Some(session);
        while let Some(work) = orders.recv().await {
            match work {
                Work::Rows(batches) => {
                    let Some(first) = batches.first() else { continue };
                    let batch = concat_batches(first.schema_ref(), &batches)?;
                    self.write(batch).await?;
                    self.on_their_way.fetch_sub(1, Ordering::AcqRel);
                }
                // Nobody waits any more: the checkpoint was given up.
                Work::Told(told) => drop(told.send(())),
            }
        }
        Ok(())
    }

    /// A session that has looked at its target. To make one repeats nothing, so it is tried again in any case.
    async fn session(&self) -> Result<Session> {
        let mut tries = self.server.tries();
        loop {
            match self.open().await {
                Ok(session) => return Ok(session),
                Err(error) => tries.again(error).await?,
            }
        }
    }

    async fn open(&self) -> Result<Session> {
        let mut session = Session::open(&self.server, self.rows).await?;
        session.check(&self.shape).await?;
        Ok(session)
    }

    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        let mut tries = self.server.tries();
        loop {
            let mut session = match self.session.take() {
                Some(session) => session,
                None => self.session().await?,
            };
            match transact(&mut session, &self.shape, batch.clone()).await {
                Ok(()) => {
                    self.session = Some(session);
                    return Ok(());
                }
                // The session goes, and what it had open with it.
                Err(error) if self.repeats => tries.again(error).await?,
                Err(error) => return Err(error),
            }
        }
    }
}

async fn transact(session: &mut Session, shape: &Shape, batch: RecordBatch) -> Result<()> {
    session.begin().await?;
    session.write(shape, batch).await?;
    session.commit().await
}
