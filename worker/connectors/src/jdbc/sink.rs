//! [io] The writing half: rows staged for a transaction, or written at once.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use rheos_dataflow::changelog::KIND_COLUMN;
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::graph::OperatorId;
use rheos_dataflow::sink::{CommitPermit, Committable, Delivery, Prepared, Sink, SinkContext, SinkWriter};
use rheos_dataflow::time::Epoch;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::client::Server;
use super::commit::{self, Committer, Payload};
use super::config::SinkConfig;
use super::direct::DirectOutput;
use super::line::LineName;
use super::session::Session;
use crate::environment::Environment;
use crate::results::segment::Builder;
use crate::staged::{StagedStore, Uploads};

/// Rows of this size make an object, bytes; well below what one object may have.
const OBJECT_BYTES: usize = 8 * 1024 * 1024;

/// See [`crate::jdbc`].
pub struct JdbcSink {
    config: Arc<SinkConfig>,
    sink: OperatorId,
    server: Arc<Server>,
    staging: Option<Staging>,
    runtime: Handle,
}

/// What a sink that stages its rows has besides.
#[derive(Clone)]
struct Staging {
    store: StagedStore,
    line: Arc<LineName>,
    committer: Arc<Committer>,
}

impl JdbcSink {
    /// The sink of the node `sink`; nothing is connected yet.
    ///
    /// # Errors
    /// When a Secret is not there.
    pub fn new(config: SinkConfig, sink: &OperatorId, environment: &Environment) -> Result<Self> {
        let runtime = environment.runtime.clone();
        let server = Arc::new(Server::new(&config.connection, &environment.secrets, runtime.clone())?);
        let staging = environment.staged.clone().map(|store| {
            let line = Arc::new(LineName::new(sink, &store)?);
            let committer = Committer::new(Arc::clone(&server), store.clone(), config.flush_rows);
            Ok::<_, DataflowError>(Staging { store, line, committer })
        });
        Ok(Self { config: Arc::new(config), sink: sink.clone(), server, staging: staging.transpose()?, runtime })
    }

    fn staging(&self) -> Result<Staging> {
        self.staging.clone().ok_or_else(|| DataflowError::new("jdbc", ErrorKind::Bug, "no room for staged output was given"))
    }
}

impl Sink for JdbcSink {
    fn writer(&self, context: &SinkContext) -> Result<Box<dyn SinkWriter>> {
        let output = if context.delivery == Delivery::ExactlyOnce {
            let staging = self.staging()?;
            let begin = begin(Arc::clone(&self.config), Arc::clone(&self.server), Arc::clone(&staging.line), context.clone());
            Output::Staged(Box::new(StagedOutput {
                // One writer looks for all.
                beginning: (context.subtask.index == 0).then(|| self.runtime.spawn(begin)),
                rows: Builder::default(),
                uploads: Uploads::new(&self.sink, context, "rows", staging.store.clone(), self.runtime.clone()),
                staging,
                context: context.clone(),
                runtime: self.runtime.clone(),
            }))
        } else {
            Output::Direct(DirectOutput::new(&self.config, Arc::clone(&self.server), context.delivery, &self.runtime))
        };
        Ok(Box::new(Writer { config: Arc::clone(&self.config), schema: None, output, rows: 0 }))
    }

    fn commit(&self, permit: &CommitPermit, committables: Vec<Committable>) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> {
        let (committer, permit) = (self.staging().map(|staging| staging.committer), permit.clone());
        let place = place(&self.config);
        Box::pin(async move { committer?.commit(&permit, committables).await.map_err(|error| DataflowError { place, ..error }) })
    }

    fn gathers(&self) -> bool {
        true
    }
}

/// What a person knows the table by.
fn place(config: &SinkConfig) -> String {
    format!("table {} (jdbc)", config.table)
}

/// Looks at the target, and tells older generations that this one writes now.
async fn begin(config: Arc<SinkConfig>, server: Arc<Server>, line: Arc<LineName>, context: SinkContext) -> Result<()> {
    let mut tries = server.tries();
    loop {
        let begun = async {
            let line = line.get(&context.job_uid).await?;
            let mut session = Session::open(&server, config.flush_rows).await?;
            session.check(&config.shape).await?;
            commit::fence(&mut session, &config.commits, line, context.generation).await
        };
        match begun.await {
            Ok(()) => return Ok(()),
            Err(error) => tries.again(error).await?,
        }
    }
}

struct Writer {
    config: Arc<SinkConfig>,
    /// The columns by the target's names, of a change-log the kind column behind them.
    schema: Option<SchemaRef>,
    output: Output,
    rows: u64,
}

enum Output {
    Staged(Box<StagedOutput>),
    Direct(DirectOutput),
}

impl Writer {
    /// The rows by the target's names.
    fn named(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let columns = &self.config.shape.columns;
        let schema = self.schema.get_or_insert_with(|| {
            let kind = batch.schema_ref().fields().get(columns.fields().len());
            let kind =
                kind.filter(|field| field.name() == KIND_COLUMN).map(|field| Field::new(KIND_COLUMN, field.data_type().clone(), true));
            Arc::new(Schema::new(columns.fields().iter().cloned().chain(kind.map(FieldRef::new)).collect::<Vec<_>>()))
        });
        Ok(RecordBatch::try_new(SchemaRef::clone(schema), batch.columns()[..schema.fields().len()].to_vec())?)
    }
}

impl SinkWriter for Writer {
    fn ready(&mut self) -> Result<bool> {
        let ready = match &mut self.output {
            Output::Staged(output) => output.ready(),
            Output::Direct(output) => output.ready(),
        };
        ready.map_err(|error| DataflowError { place: place(&self.config), ..error })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let batch = self.named(batch)?;
        self.rows += batch.num_rows() as u64;
        match &mut self.output {
            Output::Staged(output) => output.push(&batch),
            Output::Direct(output) => {
                output.push(batch);
                Ok(())
            }
        }
    }

    fn end_epoch(&mut self, _epoch: Epoch) -> Result<()> {
        if let Output::Direct(output) = &mut self.output {
            output.end_epoch();
        }
        Ok(())
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<Prepared> {
        match &mut self.output {
            Output::Staged(output) => output.prepare(&self.config),
            Output::Direct(output) => Ok(output.prepare()),
        }
    }

    fn stats(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::from([("rows", self.rows)])
    }
}

/// Rows of one writer on their way to be objects.
struct StagedOutput {
    /// See [`begin`]; no row is taken before it is over.
    beginning: Option<JoinHandle<Result<()>>>,
    rows: Builder,
    uploads: Uploads,
    staging: Staging,
    context: SinkContext,
    runtime: Handle,
}

impl StagedOutput {
    fn ready(&mut self) -> Result<bool> {
        if let Some(beginning) = self.beginning.take_if(|beginning| beginning.is_finished()) {
            self.runtime.block_on(beginning).map_err(|error| DataflowError::new("jdbc", ErrorKind::Bug, error))??;
        }
        self.staging.committer.hopeless()?;
        Ok(self.beginning.is_none() && self.uploads.ready()?)
    }

    fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows.push(batch)?;
        if self.rows.size() >= OBJECT_BYTES { self.upload() } else { Ok(()) }
    }

    /// Sends off what there is.
    fn upload(&mut self) -> Result<()> {
        if let Some((bytes, _)) = self.rows.take()? {
            self.uploads.send(bytes);
        }
        Ok(())
    }

    fn prepare(&mut self, config: &SinkConfig) -> Result<Prepared> {
        self.upload()?;
        let (uploads, line, context) = (self.uploads.finish(), Arc::clone(&self.staging.line), self.context.clone());
        let (table, key, commits) = (config.shape.table.sql(), config.shape.key.clone(), config.commits.sql());
        Ok(Box::pin(async move {
            let staged = uploads.await?;
            if staged.is_empty() {
                return Ok(Vec::new());
            }
            let line = line.get(&context.job_uid).await?.to_owned();
            let payload = Payload { line, generation: context.generation, table, key, commits, staged };
            serde_json::to_value(payload).map(|payload| vec![payload]).map_err(|error| DataflowError::new("jdbc", ErrorKind::Bug, error))
        }))
    }
}
