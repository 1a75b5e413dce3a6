//! [io] `diff`: what applying a manifest would change.

use rheos_api::StreamJobSpec;

use super::{Context, submit};
use crate::args::{DiffArguments, Form};
use crate::exit::{self, Failure, Outcome};
use crate::io::cluster::Cluster;
use crate::io::manifest::Manifest;
use crate::pages::diff;
use crate::{carry, plan};

/// Runs the command.
pub(super) async fn run(context: &Context, arguments: &DiffArguments) -> Outcome {
    let manifest = Manifest::read(&arguments.file)?;
    let cluster = manifest.place(&context.cluster, context.asked.as_deref())?;
    let (_, planned) = manifest.plan(Some(&cluster)).await?;
    let Some(job) = cluster.find_job(manifest.name()).await? else {
        let page = || format!("StreamJob {}/{} is new: it would be created\n", cluster.namespace, manifest.name());
        return context.terminal.show(arguments.form.output, page, || serde_json::json!({"changed": true, "class": "Created"}));
    };
    // What the cluster would make of it: with the fields that others set, and its own defaults.
    let wanted = match submit::apply(&cluster, &manifest, true, true).await {
        Ok(job) => job.spec,
        Err(failure) if failure.code == exit::FORBIDDEN => {
            context.terminal.note("compared with the file alone: the right to try it in the cluster (patch streamjobs) is missing");
            manifest.job.spec.clone()
        }
        Err(failure) => return Err(failure),
    };
    let old = in_place(&cluster, &job.spec).await;
    let new = in_place(&cluster, &wanted).await?;
    let fates = match &old {
        Ok(old) => match plan::plan(old.sql.as_deref().unwrap_or_default(), old.delivery) {
            Ok(old) => Ok(carry::fates(&old.graph, &planned.graph)),
            Err(_) => Err("the SQL that is in the cluster now cannot be planned".to_owned()),
        },
        Err(failure) => Err(failure.to_string()),
    };
    let acted = job.status.as_ref().and_then(|status| status.restore_nonce).unwrap_or(0);
    let change = diff::change(&old.unwrap_or_else(|_| job.spec.clone()), &new, acted, fates);
    context.terminal.show(arguments.form.output, || diff::page(&change, context.terminal.paint), || diff::value(&change))?;
    match (&change.refused, arguments.form.output) {
        (Some(refused), Form::Table) => Err(Failure::failed(format!("it would be refused: {refused}"))),
        (Some(_), _) => Err(Failure { code: exit::FAILED, problems: Vec::new(), hint: None }),
        (None, _) => Ok(()),
    }
}

/// The spec with its SQL in it.
async fn in_place(cluster: &Cluster, spec: &StreamJobSpec) -> Outcome<StreamJobSpec> {
    let sql = cluster.sql(spec).await?;
    Ok(StreamJobSpec { sql: Some(sql), sql_from: None, ..spec.clone() })
}
