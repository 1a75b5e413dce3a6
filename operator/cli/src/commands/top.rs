//! [io] `top`: a live table, until Ctrl-C.

use std::time::Instant;

use super::Context;
use crate::args::{Form, TopArguments};
use crate::exit::{Failure, Outcome};
use crate::io::live::Live;
use crate::io::wait::ctrl_c;
use crate::pages::top::{self, Looks};
use crate::plan;

/// Looks that may fail in a row before it is given up: the coordinator may be on its way to another pod.
const FAILURES: u32 = 30;
/// Clears a terminal from the upper left corner on.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// Runs the command.
pub(super) async fn run(context: &Context, arguments: &TopArguments) -> Outcome {
    let cluster = &context.cluster;
    let job = cluster.job(&arguments.job).await?;
    let no_figures = |why: String| {
        Failure::failed(format!("{} has no live figures: {why}", arguments.job))
            .hint(format!("kubectl streamjob status {} -n {}", arguments.job, cluster.namespace))
    };
    let sql = cluster.sql(&job.spec).await.unwrap_or_default();
    let planned = plan::plan(&sql, job.spec.delivery).map(|planned| planned.graph.nodes).unwrap_or_default();
    let order: Vec<String> = planned.into_iter().map(|node| node.id.0).collect();
    let once = arguments.once || arguments.form.output != Form::Table || !context.terminal.is_terminal;
    let mut live = Live::find(cluster, &job).await.map_err(&no_figures)?;
    let mut before = live.job().await.map_err(&no_figures)?;
    let mut at = Instant::now();
    let mut failures = 0;
    let left = ctrl_c();
    tokio::pin!(left);
    loop {
        tokio::select! {
            () = &mut left => return Ok(()),
            () = tokio::time::sleep(arguments.interval) => {}
        }
        let looked = tokio::select! {
            () = &mut left => return Ok(()),
            looked = live.job() => looked,
        };
        let after = match looked {
            Ok(after) => after,
            Err(why) => {
                failures += 1;
                if once || failures > FAILURES {
                    return Err(no_figures(why));
                }
                context.terminal.note(&why);
                // Another pod may lead now.
                if let Ok(Some(job)) = cluster.find_job(&arguments.job).await
                    && let Ok(found) = Live::find(cluster, &job).await
                {
                    live = found;
                }
                continue;
            }
        };
        failures = 0;
        let between_ms = at.elapsed().as_secs_f64() * 1000.0;
        at = Instant::now();
        let looks = Looks { before: Some(std::mem::replace(&mut before, after.clone())), after, between_ms, order: order.clone() };
        if once {
            let page = || top::page(&looks, context.terminal.paint);
            return context.terminal.show(arguments.form.output, page, || top::value(&looks));
        }
        context.terminal.print(&format!("{CLEAR}{}", top::page(&looks, context.terminal.paint)))?;
    }
}
