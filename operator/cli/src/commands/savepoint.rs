//! [io] `savepoint`: a Savepoint is created, and waited for.

use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::PostParams;
use rheos_api::kube::Savepoint;
use rheos_api::savepoint::SavepointSpec;
use rheos_operator::names;
use serde_json::json;

use super::Context;
use crate::args::{Form, SavepointArguments};
use crate::exit::{Failure, Outcome};
use crate::io::cluster::ask;
use crate::io::wait::Wait;
use crate::{FIELD_MANAGER, progress};

/// Runs the command.
pub(super) async fn run(context: &Context, arguments: &SavepointArguments) -> Outcome {
    let (cluster, job) = (&context.cluster, &arguments.job);
    cluster.job(job).await?;
    let name = arguments.name.clone().unwrap_or_else(|| names::savepoint(job, &stamp(Timestamp::now())));
    let mut savepoint = Savepoint::new(&name, SavepointSpec { job: job.clone(), disposal: arguments.disposal });
    savepoint.metadata.namespace = Some(cluster.namespace.clone());
    let loose = rheos_api::Savepoint::from(&savepoint);
    rheos_api::validate_savepoint(&loose).map_err(|errors| Failure::mistakes(errors.iter().map(ToString::to_string).collect()))?;
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let api = cluster.api::<Savepoint>();
    ask(&format!("creating Savepoint {}/{name}", cluster.namespace), api.create(&params, &savepoint)).await?;
    context.terminal.note(&format!("Savepoint {}/{name} created", cluster.namespace));
    if !arguments.waiting.no_wait {
        let look = format!("kubectl get savepoint {name} -n {}", cluster.namespace);
        let wait = Wait { terminal: &context.terminal, timeout: arguments.waiting.timeout, look };
        let what = format!("reading Savepoint {}/{name}", cluster.namespace);
        let done = wait.until(|| async { Ok(progress::saved(&ask(&what, api.get(&name)).await?)) }).await?;
        if arguments.form.output == Form::Table {
            return context.terminal.print(&format!("{name}: {done}\n"));
        }
    }
    if arguments.form.output == Form::Table {
        return context.terminal.print(&format!("{name}\n"));
    }
    let now = ask("reading the Savepoint", api.get(&name)).await?;
    let value = || json!({"name": now.name_any(), "namespace": now.namespace(), "spec": now.spec, "status": now.status});
    context.terminal.show(arguments.form.output, String::new, value)
}

/// A time as part of a name: `20260131-235959`.
fn stamp(now: Timestamp) -> String {
    let text: String = now.to_string().chars().filter(char::is_ascii_digit).take(14).collect();
    let (day, time) = text.split_at(text.len().min(8));
    format!("{day}-{time}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_part_of_a_name() {
        assert_eq!(stamp(Timestamp::from_second(1_700_000_000).unwrap()), "20231114-221320");
    }
}
