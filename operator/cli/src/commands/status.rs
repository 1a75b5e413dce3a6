//! [io] `status`: one job for a person on call.

use jiff::Timestamp;
use kube::ResourceExt;

use super::Context;
use crate::args::StatusArguments;
use crate::exit::{Failure, Outcome};
use crate::io::cluster::Cluster;
use crate::io::live;
use crate::pages::status::{self, Picture};
use crate::pages::{events, words};

/// Runs the command.
pub(super) async fn run(context: &Context, arguments: &StatusArguments) -> Outcome {
    let (picture, problems) = picture(&context.cluster, &arguments.job).await?;
    let page = || status::page(&picture, context.terminal.paint);
    context.terminal.show(arguments.form.output, page, || status::value(&picture))?;
    problems.iter().for_each(|problem| context.terminal.note(&format!("not shown: {problem}")));
    let well = picture.job.status.as_ref().is_some_and(words::is_well);
    if arguments.check && !well {
        return Err(Failure::failed(format!("{} is not well", arguments.job)));
    }
    Ok(())
}

/// All that is known of a job; and what could not be had. Only the job itself must be there.
pub(super) async fn picture(cluster: &Cluster, name: &str) -> Outcome<(Picture, Vec<String>)> {
    let job = cluster.job(name).await?;
    let (pods, savepoints, all_events, view) =
        tokio::join!(cluster.pods(name), cluster.savepoints(name), cluster.events(), live::view(cluster, &job));
    let mut problems = Vec::new();
    let mut kept = |failure: Failure| problems.push(failure.to_string());
    let pods = pods.map_err(&mut kept).unwrap_or_default();
    let savepoints = savepoints.map_err(&mut kept).unwrap_or_default();
    let all_events = all_events.map_err(&mut kept).unwrap_or_default();
    let names: Vec<String> = savepoints.iter().map(ResourceExt::name_any).collect();
    let events = events::concerning(name, &names, &all_events);
    let pods = pods.iter().map(live::line).collect();
    Ok((Picture { job, pods, savepoints, events, view, now: Timestamp::now() }, problems))
}
