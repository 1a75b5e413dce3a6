//! [io] `suspend`, `resume`, `rescale`, `restart`: one field is changed, and the operator does the rest.

use jiff::Timestamp;
use rheos_api::kube::StreamJob;
use rheos_api::status::Phase;
use serde_json::{Value, json};

use super::{Context, look};
use crate::args::{ChangeArguments, RescaleArguments, Waiting};
use crate::exit::{Failure, Outcome};
use crate::io::wait::Wait;
use crate::progress::Progress;
use crate::{plan, progress};

/// Annotation of the worker pods: when a restart was last asked for. A change of the pods' template is a new revision.
const RESTARTED_AT: &str = "rheos.dev/restarted-at";

/// Stops a job with a checkpoint.
pub(super) async fn suspend(context: &Context, arguments: &ChangeArguments) -> Outcome {
    let job = context.cluster.job(&arguments.job).await?;
    if is_over(&job) {
        return Err(Failure::failed(format!("{} has ended; there is nothing to suspend", arguments.job)));
    }
    change(context, &arguments.job, &json!({"spec": {"state": "Suspended"}}), &arguments.waiting, progress::stands).await
}

/// Lets a job go on.
pub(super) async fn resume(context: &Context, arguments: &ChangeArguments) -> Outcome {
    context.cluster.job(&arguments.job).await?;
    change(context, &arguments.job, &json!({"spec": {"state": "Running"}}), &arguments.waiting, progress::runs).await
}

/// Changes the number of workers.
pub(super) async fn rescale(context: &Context, arguments: &RescaleArguments) -> Outcome {
    let job = context.cluster.job(&arguments.job).await?;
    let mut wanted = rheos_api::StreamJob::from(&job);
    wanted.spec.parallelism = arguments.parallelism;
    let mut problems: Vec<String> = match rheos_api::validate(&wanted) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().filter(|error| error.path == "spec.parallelism").map(ToString::to_string).collect(),
    };
    if problems.is_empty() {
        problems.extend(plan::spread(&wanted.spec));
    }
    if !problems.is_empty() {
        return Err(Failure::mistakes(problems));
    }
    if job.spec.autoscaling.is_some() {
        context.terminal.note("spec.autoscaling is set: it will change the number of workers again with the load");
    }
    let patch = json!({"spec": {"parallelism": arguments.parallelism}});
    if job.spec.state == rheos_api::stream_job::DesiredState::Suspended {
        context.terminal.note("the job is suspended: it will have this many workers when it is resumed");
        return change(context, &arguments.job, &patch, &arguments.waiting, progress::stands).await;
    }
    change(context, &arguments.job, &patch, &arguments.waiting, progress::runs).await
}

/// Replaces the pods.
pub(super) async fn restart(context: &Context, arguments: &ChangeArguments) -> Outcome {
    let job = context.cluster.job(&arguments.job).await?;
    if job.spec.state == rheos_api::stream_job::DesiredState::Suspended {
        return Err(Failure::failed(format!("{} is suspended", arguments.job))
            .hint(format!("kubectl streamjob resume {} -n {}", arguments.job, context.cluster.namespace)));
    }
    if job.status.as_ref().is_some_and(|status| status.phase == Phase::Finished) {
        context.terminal.note("the job had finished: it goes on from its last checkpoint and will find the end of its sources again");
    }
    let annotations = json!({RESTARTED_AT: Timestamp::now().to_string()});
    let patch = json!({"spec": {"worker": {"podTemplate": {"metadata": {"annotations": annotations}}}}});
    change(context, &arguments.job, &patch, &arguments.waiting, progress::runs).await
}

fn is_over(job: &StreamJob) -> bool {
    job.status.as_ref().is_some_and(|status| matches!(status.phase, Phase::Finished | Phase::Failed))
}

async fn change(context: &Context, name: &str, patch: &Value, waiting: &Waiting, judge: impl Fn(&StreamJob, i64) -> Progress) -> Outcome {
    let cluster = &context.cluster;
    let generation = cluster.patch_job(name, patch).await?.metadata.generation.unwrap_or(0);
    if waiting.no_wait {
        return Ok(());
    }
    let wait = Wait { terminal: &context.terminal, timeout: waiting.timeout, look: look(cluster, name) };
    let done = wait.until(|| async { Ok(judge(&cluster.job(name).await?, generation)) }).await?;
    context.terminal.print(&format!("{name}: {done}\n"))
}
