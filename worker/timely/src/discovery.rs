//! [io] Looks for splits beside the coordinator (process 0) and tells it what there is.

use std::sync::Arc;

use rheos_dataflow::coordinator::Event;
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::graph::OperatorId;
use rheos_dataflow::source::Source;
use rheos_dataflow::stage::Connectors;

use crate::job::Remote;

/// Looks at every source now, and again as often as it asks. `failed` hears of a first look that fails, and of a later one
/// that no further look can mend; else it is logged and tried again. Call it within the runtime's context or with its handle.
pub fn discover(
    runtime: &tokio::runtime::Handle,
    connectors: &Connectors,
    remote: &Remote,
    failed: impl Fn(DataflowError) + Send + Sync + Clone + 'static,
) {
    for (id, source) in connectors.sources.clone() {
        let (remote, failed) = (remote.clone(), failed.clone());
        runtime.spawn(async move {
            match look(Arc::clone(&source)).await {
                Ok(found) => tell(&remote, &id, &source, found),
                Err(error) => return failed(error),
            }
            let Some(interval) = source.discovery_interval() else { return };
            loop {
                tokio::time::sleep(interval).await;
                match look(Arc::clone(&source)).await {
                    Ok(found) => tell(&remote, &id, &source, found),
                    Err(error) if matches!(error.kind, ErrorKind::Transient | ErrorKind::Denied) => {
                        tracing::warn!(%error, source = %id, "looking for new splits failed, trying again");
                    }
                    Err(error) => return failed(error),
                }
            }
        });
    }
}

fn tell(remote: &Remote, source: &OperatorId, connector: &Arc<dyn Source>, found: Vec<String>) {
    remote.send(Event::Splits { source: source.clone(), found, more: connector.discovery_interval().is_some() });
}

async fn look(source: Arc<dyn Source>) -> Result<Vec<String>> {
    match tokio::task::spawn_blocking(move || source.discover()).await {
        Ok(found) => found,
        Err(error) => Err(DataflowError::new("discovery", ErrorKind::Bug, error)),
    }
}
