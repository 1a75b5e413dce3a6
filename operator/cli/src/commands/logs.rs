//! [io] `logs`: what all workers say, as one story.

use std::collections::VecDeque;
use std::time::Duration;

use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, LogParams};
use rheos_operator::build;
use tokio::sync::mpsc;

use super::Context;
use crate::args::{LogForm, LogsArguments};
use crate::exit::{self, Failure, Outcome};
use crate::io::cluster::{Cluster, ask};
use crate::io::live;
use crate::io::wait::ctrl_c;
use crate::pages::logs::{self, Line};

/// How long a line is held back while others may come that are older.
const HOLD: Duration = Duration::from_millis(300);
/// How often new pods are looked for.
const LOOK: Duration = Duration::from_secs(3);
/// Lines that wait to be printed.
const QUEUE: usize = 1024;
/// Longest log of one container that is read at once, bytes.
const LOG_LIMIT: i64 = 64 * 1024 * 1024;

/// Runs the command.
pub(super) async fn run(context: &Context, arguments: &LogsArguments) -> Outcome {
    let cluster = &context.cluster;
    let pods = chosen(cluster, arguments).await?;
    if pods.is_empty() {
        // A word that was mistyped is told as such.
        cluster.job(&arguments.job).await?;
        if !arguments.follow {
            return Err(Failure::new(exit::NOT_FOUND, format!("{} has no such pods now", arguments.job))
                .hint(format!("kubectl streamjob events {} -n {} says why", arguments.job, cluster.namespace)));
        }
    }
    if arguments.follow {
        return follow(context, arguments, pods).await;
    }
    let parameters = parameters(arguments);
    let read = futures::future::join_all(pods.iter().map(|pod| read(cluster, pod, &parameters))).await;
    let mut workers = Vec::new();
    let mut silent = Vec::new();
    for (pod, lines) in pods.iter().zip(read) {
        match lines {
            Ok(lines) => workers.push(lines),
            Err(failure) => {
                workers.push(Vec::new());
                context.terminal.note(&format!("{}: {failure}", pod.name_any()));
                silent.push(failure);
            }
        }
    }
    for (worker, line) in logs::merge(workers) {
        print(context, arguments.output, &pods[worker], &line)?;
    }
    match silent.len() == pods.len() {
        true => Err(silent.swap_remove(0)),
        false => Ok(()),
    }
}

async fn chosen(cluster: &Cluster, arguments: &LogsArguments) -> Outcome<Vec<Pod>> {
    let mut pods = cluster.pods(&arguments.job).await?;
    pods.retain(|pod| arguments.worker.is_none() || live::index(pod) == arguments.worker);
    Ok(pods)
}

fn parameters(arguments: &LogsArguments) -> LogParams {
    LogParams {
        container: Some(build::CONTAINER.to_owned()),
        follow: arguments.follow,
        previous: arguments.previous,
        limit_bytes: (!arguments.follow).then_some(LOG_LIMIT),
        since_seconds: arguments.since.map(|since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX).max(1)),
        tail_lines: Some(i64::from(arguments.tail)),
        timestamps: true,
        ..LogParams::default()
    }
}

/// The log of one pod.
async fn read(cluster: &Cluster, pod: &Pod, parameters: &LogParams) -> Outcome<Vec<Line>> {
    let name = pod.name_any();
    let text = ask(&format!("reading the log of pod {name}"), cluster.api::<Pod>().logs(&name, parameters)).await?;
    Ok(text.lines().map(logs::line).collect())
}

fn print(context: &Context, form: LogForm, pod: &Pod, line: &Line) -> Outcome {
    context.terminal.print(&match form {
        LogForm::Text => logs::text(&label(pod), line, context.terminal.paint),
        LogForm::Raw => {
            let time = line.time.map_or_else(|| "-".to_owned(), |time| time.to_string());
            format!("{time} {} {}\n", pod.name_any(), line.text)
        }
    })
}

/// `w3`, or `w3.2` for the second pod of its index.
fn label(pod: &Pod) -> String {
    let index = live::index(pod).map_or_else(|| "?".to_owned(), |index| index.to_string());
    match pod.labels().get(rheos_operator::labels::INCARNATION).map(String::as_str) {
        None | Some("1") => format!("w{index}"),
        Some(incarnation) => format!("w{index}.{incarnation}"),
    }
}

/// Goes on until Ctrl-C, also with pods that come later.
async fn follow(context: &Context, arguments: &LogsArguments, mut pods: Vec<Pod>) -> Outcome {
    let (send, mut lines) = mpsc::channel::<(usize, Line)>(QUEUE);
    let start = |number: usize, pod: &Pod, parameters: LogParams| {
        let (api, name, send) = (context.cluster.api::<Pod>(), pod.name_any(), send.clone());
        tokio::spawn(async move { tell(&api, &name, number, parameters, &send).await })
    };
    pods.iter().enumerate().for_each(|(number, pod)| drop(start(number, pod, parameters(arguments))));
    let mut held: VecDeque<(tokio::time::Instant, usize, Line)> = VecDeque::new();
    let mut look = tokio::time::interval(LOOK);
    look.tick().await;
    let left = ctrl_c();
    tokio::pin!(left);
    loop {
        let due = held.front().map(|(since, _, _)| *since + HOLD);
        let wait = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = &mut left => break,
            Some((number, line)) = lines.recv() => {
                // Into its place by time, but behind what its own worker said before.
                let mut place = held.len();
                while place > 0 && held[place - 1].1 != number && held[place - 1].2.time > line.time && line.time.is_some() {
                    place -= 1;
                }
                held.insert(place, (tokio::time::Instant::now(), number, line));
            }
            () = wait => {
                if let Some((_, number, line)) = held.pop_front() {
                    print(context, arguments.output, &pods[number], &line)?;
                }
            }
            _ = look.tick() => {
                for pod in chosen(&context.cluster, arguments).await.unwrap_or_default() {
                    if !pods.iter().any(|known| known.uid() == pod.uid()) {
                        start(pods.len(), &pod, LogParams { since_seconds: None, tail_lines: None, ..parameters(arguments) });
                        pods.push(pod);
                    }
                }
            }
        }
    }
    held.iter().try_for_each(|(_, number, line)| print(context, arguments.output, &pods[*number], line))
}

/// Follows one pod until it is gone. A container that waits to start is asked again.
async fn tell(api: &Api<Pod>, name: &str, number: usize, mut parameters: LogParams, send: &mpsc::Sender<(usize, Line)>) {
    loop {
        if let Ok(stream) = api.log_stream(name, &parameters).await {
            let mut lines = stream.lines().into_stream();
            while let Some(Ok(line)) = lines.next().await {
                let line = logs::line(&line);
                // After a restart of the container its log goes on behind what was told.
                if let Some(time) = line.time {
                    parameters = LogParams { since_time: Some(time), since_seconds: None, tail_lines: None, ..parameters };
                }
                if send.send((number, line)).await.is_err() {
                    return;
                }
            }
        }
        tokio::time::sleep(LOOK).await;
        if !matches!(api.get_opt(name).await, Ok(Some(_))) {
            return;
        }
    }
}
