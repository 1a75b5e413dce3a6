//! [io] `submit`: check, apply, wait until it runs.

use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use kube::core::Status;
use rheos_api::kube::StreamJob;
use rheos_api::stream_job::DesiredState;

use super::{Context, look};
use crate::args::SubmitArguments;
use crate::exit::{self, Failure, Outcome};
use crate::io::cluster::{Cluster, refusal};
use crate::io::manifest::Manifest;
use crate::io::wait::Wait;
use crate::{FIELD_MANAGER, progress};

/// How long the cluster may take to answer.
const APPLY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// Runs the command.
pub(super) async fn run(context: &Context, arguments: &SubmitArguments) -> Outcome {
    let manifest = Manifest::read(&arguments.file)?;
    let cluster = manifest.place(&context.cluster, context.asked.as_deref())?;
    manifest.plan(Some(&cluster)).await?;
    let before = cluster.find_job(manifest.name()).await?;
    // The cluster's own rules, quotas and policies, before anything is changed.
    apply(&cluster, &manifest, arguments.force_conflicts, true).await?;
    if arguments.dry_run {
        return context.terminal.print(&format!("StreamJob {}/{} is right; nothing was changed\n", cluster.namespace, manifest.name()));
    }
    let job = apply(&cluster, &manifest, arguments.force_conflicts, false).await?;
    let generation = job.metadata.generation.unwrap_or(0);
    let what = match &before {
        None => "created",
        Some(before) if before.metadata.generation == job.metadata.generation => "unchanged",
        Some(_) => "changed",
    };
    let name = job.name_any();
    context.terminal.note(&format!("StreamJob {}/{name} {what}", cluster.namespace));
    if arguments.waiting.no_wait {
        return Ok(());
    }
    let wait = Wait { terminal: &context.terminal, timeout: arguments.waiting.timeout, look: look(&cluster, &name) };
    let suspended = job.spec.state == DesiredState::Suspended;
    let done = wait
        .until(|| async {
            let job = cluster.job(&name).await?;
            Ok(if suspended { progress::stands(&job, generation) } else { progress::runs(&job, generation) })
        })
        .await?;
    context.terminal.print(&format!("{name}: {done}\n"))
}

/// Server-side apply. A field that was last changed through this very program is taken over without a question.
pub(super) async fn apply(cluster: &Cluster, manifest: &Manifest, force: bool, dry_run: bool) -> Outcome<StreamJob> {
    let what = format!("applying StreamJob {}/{}", cluster.namespace, manifest.name());
    let mut written = manifest.written.clone();
    if let Some(metadata) = written.get_mut("metadata").and_then(serde_json::Value::as_object_mut) {
        metadata.insert("namespace".to_owned(), cluster.namespace.clone().into());
    }
    let api = cluster.api::<StreamJob>();
    let send = |force: bool| {
        let params = PatchParams { dry_run, force, field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let (api, written) = (&api, &written);
        async move { tokio::time::timeout(APPLY_TIMEOUT, api.patch(manifest.name(), &params, &Patch::Apply(written))).await }
    };
    let mut answer = send(force).await;
    if let Ok(Err(kube::Error::Api(status))) = &answer
        && status.code == 409
        && is_with_ourselves(status)
    {
        answer = send(true).await;
    }
    match answer {
        Ok(Ok(job)) => Ok(job),
        Ok(Err(kube::Error::Api(status))) if status.code == 409 && status.message.contains("conflict") => {
            Err(Failure::failed(format!("{what}: {}", status.message))
                .hint("take these fields over by --force-conflicts, or leave them out of the manifest"))
        }
        Ok(Err(error)) => Err(refusal(&what, &error)),
        Err(_) => {
            let silent = format!("{what}: the cluster did not answer within {} s", APPLY_TIMEOUT.as_secs());
            Err(Failure::new(exit::UNREACHABLE, silent))
        }
    }
}

/// Whether every field in conflict was set by this program (`rescale`, `suspend`, …): the file is the newer wish.
fn is_with_ourselves(status: &Status) -> bool {
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    let ours = format!("\"{FIELD_MANAGER}\"");
    !causes.is_empty() && causes.iter().all(|cause| cause.message.contains(&ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_fields_are_taken_over_without_a_question() {
        let status = |managers: &[&str]| {
            let causes: Vec<_> = managers
                .iter()
                .map(|manager| serde_json::json!({"reason": "FieldManagerConflict", "message": format!("conflict with \"{manager}\" using rheos.dev/v1alpha1"), "field": ".spec.parallelism"}))
                .collect();
            serde_json::from_value::<Status>(serde_json::json!({
                "status": "Failure", "code": 409, "reason": "Conflict", "message": "conflicts", "details": {"causes": causes},
            }))
            .unwrap()
        };
        assert!(is_with_ourselves(&status(&["kubectl-streamjob"])));
        assert!(!is_with_ourselves(&status(&["kubectl-streamjob", "argocd"])));
        assert!(!is_with_ourselves(&status(&["argocd"])));
        assert!(!is_with_ourselves(&status(&[])));
    }
}
