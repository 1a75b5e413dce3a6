//! [io] A session that writes: it looks at its target, prepares statements, and sends columns.
//!
//! After any error a session is dropped, and with its connection the server rolls back what was open.

use std::sync::Arc;

use arrow::array::RecordBatch;
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use super::arrays::{self, Param};
use super::catalog;
use super::client::{Server, failed};
use super::settle::settle;
use super::statement::Shape;

/// See the module's documentation.
pub(super) struct Session {
    client: Client,
    plan: Option<(Shape, Arc<Plan>)>,
    /// Rows of a statement.
    rows: usize,
}

/// What writes rows of one shape.
struct Plan {
    insert: Statement,
    delete: Option<Statement>,
}

impl Session {
    pub(super) async fn open(server: &Server, rows: usize) -> Result<Self> {
        Ok(Self { client: server.connect().await?, plan: None, rows })
    }

    /// For other statements.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Looks whether the target can take rows of this shape.
    ///
    /// # Errors
    /// `User`, `Denied`: what is wrong with it, all at once.
    pub(super) async fn check(&mut self, shape: &Shape) -> Result<()> {
        self.plan(shape).await.map(drop)
    }

    async fn plan(&mut self, shape: &Shape) -> Result<Arc<Plan>> {
        if let Some((_, plan)) = self.plan.as_ref().filter(|(known, _)| known == shape) {
            return Ok(Arc::clone(plan));
        }
        let target = catalog::target(&self.client, shape).await?;
        let problems = shape.problems(&target);
        if !problems.is_empty() {
            let message = format!("table {} cannot take the rows: {}", shape.table, problems.join("; "));
            return Err(DataflowError::new("jdbc", ErrorKind::User, message));
        }
        if !target.missing_rights.is_empty() {
            return Err(DataflowError::new("jdbc", ErrorKind::Denied, target.missing_rights.join("; ")));
        }
        let statements = shape.statements(&target);
        let doing = format!("preparing to write to {}", shape.table);
        let insert = self.client.prepare(&statements.insert).await.map_err(|error| failed(&doing, &error))?;
        let delete = match &statements.delete {
            Some(text) => Some(self.client.prepare(text).await.map_err(|error| failed(&doing, &error))?),
            None => None,
        };
        let plan = Arc::new(Plan { insert, delete });
        self.plan = Some((shape.clone(), Arc::clone(&plan)));
        Ok(plan)
    }

    /// Begins a transaction. It ends with [`Session::commit`] or the session.
    pub(super) async fn begin(&self) -> Result<()> {
        self.client.batch_execute("BEGIN").await.map_err(|error| failed("beginning a transaction", &error))
    }

    /// After an error nobody knows whether the transaction is committed.
    pub(super) async fn commit(&self) -> Result<()> {
        self.client.batch_execute("COMMIT").await.map_err(|error| failed("committing a transaction", &error))
    }

    /// Writes rows: the columns of `shape`, of a change-log the kind column behind them.
    pub(super) async fn write(&mut self, shape: &Shape, batch: RecordBatch) -> Result<()> {
        let plan = self.plan(shape).await?;
        let (of, rows) = (shape.clone(), self.rows);
        // Work for a processor, not for the threads that wait for the network.
        let settled = blocking(move || settle(&of, &batch)).await?;
        if let Some(delete) = &plan.delete {
            self.send(shape, delete, &settled.deletes, rows).await?;
        }
        self.send(shape, &plan.insert, &settled.upserts, rows).await
    }

    async fn send(&self, shape: &Shape, statement: &Statement, batch: &RecordBatch, rows: usize) -> Result<()> {
        for at in (0..batch.num_rows()).step_by(rows) {
            let part = batch.slice(at, rows.min(batch.num_rows() - at));
            let params = blocking(move || -> Result<Vec<Param>> {
                let schema = part.schema();
                schema.fields().iter().zip(part.columns()).map(|(field, column)| arrays::encode(field, column.as_ref())).collect()
            });
            let params = params.await?;
            let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|param| param as _).collect();
            let sent = self.client.execute(statement, &params).await;
            sent.map_err(|error| failed(&format!("writing to {}", shape.table), &error))?;
        }
        Ok(())
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| DataflowError::new("jdbc", ErrorKind::Bug, error))?
}
