//! [io] `delete`: the job goes, after a last savepoint if asked for.

use kube::ResourceExt;
use kube::api::{DeleteParams, Preconditions};
use rheos_api::kube::StreamJob;
use rheos_api::savepoint::SavepointPhase;
use rheos_api::status::Phase;
use rheos_operator::labels;
use serde_json::json;

use super::{Context, look};
use crate::args::DeleteArguments;
use crate::exit::{Failure, Outcome};
use crate::io::cluster::ask;
use crate::io::wait::Wait;
use crate::progress;

/// Runs the command.
pub(super) async fn run(context: &Context, arguments: &DeleteArguments) -> Outcome {
    let (cluster, name) = (&context.cluster, arguments.job.as_str());
    let job = cluster.job(name).await?;
    let uid = job.uid().unwrap_or_default();
    // Only a job that runs can be saved. Better to hear of it now than when it is gone.
    let phase = job.status.as_ref().map(|status| status.phase).unwrap_or_default();
    if arguments.savepoint && phase != Phase::Running {
        return Err(Failure::failed(format!("{name} is {phase:?}, and only a running job can take a savepoint; it was not deleted"))
            .hint("resume it first, or delete it without --savepoint: what is in its storage stays"));
    }
    if arguments.savepoint && job.metadata.deletion_timestamp.is_none() {
        cluster.patch_job(name, &json!({"metadata": {"annotations": {labels::SAVEPOINT_ON_DELETE: "true"}}})).await?;
    }
    // Only the very job that was looked at: not one of the same name that was created meanwhile.
    let preconditions = Preconditions { uid: Some(uid.clone()), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    ask(&format!("deleting StreamJob {}/{name}", cluster.namespace), cluster.api::<StreamJob>().delete(name, &params)).await?;
    if arguments.waiting.no_wait {
        return Ok(());
    }
    let wait = Wait { terminal: &context.terminal, timeout: arguments.waiting.timeout, look: look(cluster, name) };
    let done = wait.until(|| async { Ok(progress::gone(cluster.find_job(name).await?.as_ref(), &uid)) }).await?;
    context.terminal.print(&format!("{name}: {done}\n"))?;
    // A savepoint that could not be taken is no reason for the job to stay; the person must hear of it.
    if arguments.savepoint {
        let savepoints = cluster.savepoints(name).await?;
        let mut of_this =
            savepoints.iter().filter(|savepoint| savepoint.status.as_ref().and_then(|status| status.job_uid.as_deref()) == Some(&uid));
        let last = of_this.rfind(|savepoint| savepoint.labels().get(labels::ORIGIN).is_some_and(|origin| origin == "delete"));
        let status = last.and_then(|savepoint| savepoint.status.clone()).filter(|status| status.phase == SavepointPhase::Completed);
        match (last, status.and_then(|status| status.uri)) {
            (Some(savepoint), Some(uri)) => context.terminal.print(&format!("savepoint {}: {uri}\n", savepoint.name_any()))?,
            _ => {
                return Err(Failure::failed(format!("{name} is deleted, and no last savepoint is complete"))
                    .hint(format!("kubectl streamjob events {name} -n {} says why", cluster.namespace)));
            }
        }
    }
    Ok(())
}
