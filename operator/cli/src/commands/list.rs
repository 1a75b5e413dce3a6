//! [io] `list`: all jobs, a line each.

use jiff::Timestamp;

use super::Context;
use crate::args::{Form, ListArguments};
use crate::exit::Outcome;
use crate::pages::list;

/// Runs the command.
pub(super) async fn run(context: &Context, arguments: &ListArguments) -> Outcome {
    let (jobs, problems) = context.cluster.jobs(arguments.all_namespaces, arguments.selector.as_deref()).await?;
    problems.iter().for_each(|problem| context.terminal.note(problem));
    if jobs.is_empty() && arguments.form.output == Form::Table {
        let place = if arguments.all_namespaces { "the cluster".to_owned() } else { format!("namespace {}", context.cluster.namespace) };
        context.terminal.note(&format!("there are no StreamJobs in {place}"));
        return Ok(());
    }
    let page = || list::table(&jobs, arguments.all_namespaces, Timestamp::now(), context.terminal.paint);
    context.terminal.show(arguments.form.output, page, || list::value(&jobs))
}
