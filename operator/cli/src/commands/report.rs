//! [io] `report`: everything that helps to understand a job, in a tar file, without secrets.
//!
//! No Secret is read but the job's token, for the live figures; it is not written, and taken out of everything else.
//! What cannot be had is named in the file `missing.txt`: a report with holes is better than none.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;
use kube::api::{ListParams, LogParams};
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use rheos_operator::{build, labels};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Context, status};
use crate::args::ReportArguments;
use crate::exit::{Failure, Outcome};
use crate::io::cluster::{Cluster, ask};
use crate::io::live::Live;
use crate::pages::paint::Paint;
use crate::pages::redact::Redactor;
use crate::pages::{events, status as status_page};
use crate::plan;

/// Readable by its owner only: a report is about a system of theirs.
const MODE: u32 = 0o600;

/// What was gathered.
struct Report {
    files: Vec<(String, Vec<u8>)>,
    missing: Vec<String>,
    redactor: Redactor,
}

impl Report {
    fn text(&mut self, name: &str, text: &str) {
        let text = self.redactor.text(text);
        self.files.push((name.to_owned(), text.into_bytes()));
    }

    fn object(&mut self, name: &str, object: &impl Serialize) {
        match serde_json::to_value(object) {
            Ok(mut value) => {
                self.redactor.value(&mut value);
                let text = serde_saphyr::to_string(&value).unwrap_or_else(|_| format!("{value:#}"));
                self.files.push((name.to_owned(), text.into_bytes()));
            }
            Err(error) => self.missing.push(format!("{name}: {error}")),
        }
    }

    fn miss<T>(&mut self, name: &str, outcome: Result<T, impl std::fmt::Display>) -> Option<T> {
        outcome.map_err(|why| self.missing.push(format!("{name}: {why}"))).ok()
    }
}

/// Runs the command.
pub(super) async fn run(context: &Context, arguments: &ReportArguments) -> Outcome {
    let now = Timestamp::now();
    let stamp: String = now.to_string().chars().filter(char::is_ascii_digit).take(14).collect();
    let name = format!("{}-report-{stamp}", arguments.job);
    let path = arguments.file.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.tar")));
    let report = gather(&context.cluster, &arguments.job, arguments.tail, now, context).await?;
    write(&path, &name, &report, now).map_err(|error| {
        Failure::failed(format!("{}: {error}", path.display())).hint("name another file by --file; none that exists is written over")
    })?;
    report.missing.iter().for_each(|missing| context.terminal.note(&format!("not in it: {missing}")));
    context.terminal.note("secrets were taken out as far as a program can know them: look it through before you pass it on");
    context.terminal.print(&format!("{}\n", path.display()))
}

async fn gather(cluster: &Cluster, job_name: &str, tail: u32, now: Timestamp, context: &Context) -> Outcome<Report> {
    context.terminal.note("gathering the job, its pods, events and logs");
    let (picture, problems) = status::picture(cluster, job_name).await?;
    let live = Live::find(cluster, &picture.job).await;
    let known = live.as_ref().map(|live| vec![live.secret().to_owned()]).unwrap_or_default();
    let redactor = Redactor::new(known).map_err(|error| Failure::failed(error.to_string()))?;
    let mut report = Report { files: Vec::new(), missing: problems, redactor };
    report.text("status.txt", &status_page::page(&picture, Paint::Plain));
    report.object("status.yaml", &status_page::value(&picture));
    report.object("job.yaml", &raw(cluster, job_name).await.unwrap_or_else(|_| json!(picture.job)));
    picture.savepoints.iter().for_each(|savepoint| report.object(&format!("savepoints/{}.yaml", savepoint.name_any()), savepoint));
    report.text("events.txt", &events::table(&picture.events, now, Paint::Plain, ""));
    match cluster.sql(&picture.job.spec).await {
        Ok(sql) => {
            report.text("job.sql", &sql);
            let planned = plan::plan(&sql, picture.job.spec.delivery).map_err(|problems| problems.join("; "));
            if let Some(planned) = report.miss("plan.txt", planned) {
                report.text("plan.txt", &rheos_sql::explain(&planned));
            }
        }
        Err(failure) => report.missing.push(format!("job.sql: {failure}")),
    }
    revisions(cluster, job_name, &mut report).await;
    match live {
        Ok(live) => {
            if let Some(view) = report.miss("live/job.json", live.job().await) {
                report.object("live/job.yaml", &view);
            }
            if let Some(metrics) = report.miss("live/metrics.txt", live.metrics().await) {
                report.text("live/metrics.txt", &metrics);
            }
        }
        Err(why) => report.missing.push(format!("live/: {why}")),
    }
    pods(cluster, job_name, tail, &mut report).await;
    report.text("about.txt", &about(cluster, now).await);
    let missing = if report.missing.is_empty() { "nothing\n".to_owned() } else { report.missing.join("\n") + "\n" };
    report.text("missing.txt", &missing);
    Ok(report)
}

/// The job as the apiserver has it, with whatever fields this program does not know.
async fn raw(cluster: &Cluster, name: &str) -> Outcome<Value> {
    let resource = ApiResource::erase::<rheos_api::kube::StreamJob>(&());
    let api: kube::Api<DynamicObject> = kube::Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource);
    let object = ask("reading the job", api.get(name)).await?;
    Ok(serde_json::to_value(object).unwrap_or_default())
}

/// The snapshots of the job's revisions. Their JSON is unfolded, so that its fields are seen as fields.
async fn revisions(cluster: &Cluster, job: &str, report: &mut Report) {
    let selector = format!("{}={job},{}", labels::JOB, labels::REVISION);
    let maps = cluster.list("the revisions", &cluster.api::<ConfigMap>(), ListParams::default().labels(&selector)).await;
    for map in report.miss("revisions/", maps).unwrap_or_default() {
        let text = map.data.as_ref().and_then(|data| data.get(build::config_map::JOB_KEY)).cloned().unwrap_or_default();
        let value = serde_json::from_str::<Value>(&text).unwrap_or_default();
        report.object(&format!("revisions/{}.yaml", map.name_any()), &value);
    }
}

async fn pods(cluster: &Cluster, job: &str, tail: u32, report: &mut Report) {
    let pods = cluster.pods(job).await;
    for pod in report.miss("pods/", pods).unwrap_or_default() {
        let name = pod.name_any();
        report.object(&format!("pods/{name}.yaml"), &pod);
        for previous in [false, true] {
            let restarted = pod_restarted(&pod);
            if previous && !restarted {
                continue;
            }
            let file = format!("pods/{name}{}.log", if previous { ".previous" } else { "" });
            let parameters = LogParams {
                container: Some(build::CONTAINER.to_owned()),
                previous,
                tail_lines: Some(i64::from(tail)),
                timestamps: true,
                ..LogParams::default()
            };
            let text = ask("reading the log", cluster.api::<Pod>().logs(&name, &parameters)).await;
            if let Some(text) = report.miss(&file, text) {
                report.text(&file, &text);
            }
        }
    }
}

fn pod_restarted(pod: &Pod) -> bool {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    statuses.iter().any(|container| container.restart_count > 0)
}

async fn about(cluster: &Cluster, now: Timestamp) -> String {
    let version = cluster.client.apiserver_version().await;
    let version = version.map_or_else(|error| error.to_string(), |version| version.git_version);
    format!("kubectl-streamjob {}\nKubernetes {version}\nnamespace {}\n{now}\n", env!("CARGO_PKG_VERSION"), cluster.namespace)
}

fn write(path: &std::path::Path, folder: &str, report: &Report, now: Timestamp) -> std::io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
    let mut archive = tar::Builder::new(std::io::BufWriter::new(file));
    for (name, bytes) in &report.files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(MODE);
        header.set_mtime(u64::try_from(now.as_second()).unwrap_or(0));
        archive.append_data(&mut header, format!("{folder}/{name}"), bytes.as_slice())?;
    }
    archive.into_inner()?.flush()
}
