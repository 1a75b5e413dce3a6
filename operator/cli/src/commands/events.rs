//! [io] `events`: what happened to a job.

use jiff::Timestamp;
use kube::ResourceExt;

use super::Context;
use crate::args::{EventsArguments, Form};
use crate::exit::Outcome;
use crate::pages::events;

/// Runs the command. The job itself may be gone: its events outlive it.
pub(super) async fn run(context: &Context, arguments: &EventsArguments) -> Outcome {
    let cluster = &context.cluster;
    let savepoints = cluster.savepoints(&arguments.job).await?;
    let names: Vec<String> = savepoints.iter().map(ResourceExt::name_any).collect();
    let found = events::concerning(&arguments.job, &names, &cluster.events().await?);
    if found.is_empty() && arguments.form.output == Form::Table {
        // A word that was mistyped is told as such.
        cluster.job(&arguments.job).await?;
        context.terminal.note("nothing was told of this job lately; Kubernetes keeps events for an hour");
        return Ok(());
    }
    let page = || events::table(&found, Timestamp::now(), context.terminal.paint, "");
    context.terminal.show(arguments.form.output, page, || events::value(&found))
}
