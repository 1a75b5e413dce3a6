//! [io] `explain`: the dataflow graph of a manifest. A cluster is asked only for SQL that is in a ConfigMap.

use crate::args::{ExplainArguments, General, GraphForm};
use crate::exit::Outcome;
use crate::io::cluster::Cluster;
use crate::io::manifest::Manifest;
use crate::io::terminal::Terminal;
use crate::pages::graph;

/// Runs the command.
pub(super) async fn run(terminal: &Terminal, general: &General, arguments: &ExplainArguments) -> Outcome {
    let manifest = Manifest::read(&arguments.file)?;
    let cluster = match manifest.job.spec.sql {
        Some(_) => None,
        None => Some(manifest.place(&Cluster::connect(general).await?, general.namespace.as_deref())?),
    };
    let (_, planned) = manifest.plan(cluster.as_ref()).await?;
    terminal.print(&match arguments.output {
        GraphForm::Text => rheos_sql::explain(&planned),
        GraphForm::Mermaid => graph::mermaid(&planned.graph),
        GraphForm::Svg => graph::svg(&planned.graph),
        GraphForm::Json => format!("{:#}\n", graph::value(&planned.graph)),
    })
}
