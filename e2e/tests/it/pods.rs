//! A job in pods: engines, pods and coordinators are lost, replaced, moved, told to go. 0 rows lost, 0 repeated.

use std::sync::OnceLock;
use std::time::Duration;

use rheos_control_api::{ClientError, JobView, Phase, RestoreOrder, SavepointView};
use rheos_e2e::pods::{MEMBER_PORT, Pod, PodJob};
use rheos_e2e::shapes::{Settings, Shape};
use rheos_e2e::worker::{PATIENCE, binary, signal};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::support::{Outputs, assert_same, block_on, committed_until, outputs_in, reference};

/// Events of a run and their pace: about eight seconds, longer than what is done to it.
const EVENTS: u64 = 160_000;
const PACE: u64 = 20_000;
/// Between a container's crash and its next start, at the least: no condition describes a pod that is away.
const AWAY: Duration = Duration::from_millis(200);

/// One shape whose lost or doubled state shows, and one whose doubled output does.
const SHAPES: [&str; 2] = ["tumble", "filter"];

fn shape(name: &str) -> &'static Shape {
    Shape::named(name).expect("a shape")
}

/// Fault-free runs on one worker, made once for all tests.
fn expected(name: &str) -> &'static Outputs {
    static EXPECTED: [OnceLock<Outputs>; 2] = [const { OnceLock::new() }; 2];
    let index = SHAPES.iter().position(|shape| *shape == name).expect("one of the shapes");
    EXPECTED[index].get_or_init(|| {
        let mut outputs = None;
        block_on(async { outputs = Some(reference(shape(name), EVENTS).await) });
        outputs.expect("it was made")
    })
}

fn job(name: &str) -> PodJob {
    expected(name);
    PodJob::new(shape(name), &Settings { events: EVENTS, events_per_second: Some(PACE), ..Settings::default() })
}

/// Waits for the end of the job and compares what it has written.
async fn finishes_exactly(name: &str, job: &PodJob, coordinator: &Pod) -> JobView {
    let view = job.until(coordinator, "the end of the job", |job| matches!(job.state, Phase::Finished | Phase::Failed)).await;
    assert_eq!((view.state, &view.failure), (Phase::Finished, &None), "{}", job.logs());
    assert_same(shape(name), expected(name), &outputs_in(shape(name), job.folder()), &job.logs());
    view
}

fn status(result: Result<JobView, ClientError>) -> u16 {
    match result {
        Err(ClientError::Refused { status, .. }) => status,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn pods_survive_the_loss_of_an_engine_of_a_pod_and_of_the_coordinator() {
    let name = "filter";
    let job = job(name);
    block_on(async {
        let (mut first, second, mut third) = (job.pod(0), job.pod(1), job.pod(2));
        job.assign(&first, &job.assignment(1, &[&first, &second, &third])).await;
        let view = job.until_running(&first, 1, 1).await;
        assert!(view.coordinator && view.members.len() == 3 && view.members.iter().all(|member| member.away_since.is_none()));

        let engine = view.workers[1].pid.expect("the engine's process id in its pod");
        assert!(signal(engine, "KILL"));
        let view = job.until_running(&first, 1, view.generation + 1).await;
        assert_eq!(view.restarts.count, 1, "{}", job.logs());

        third.kill().await;
        let away = job.until(&first, "the third pod away", |job| job.members[2].away_since.is_some()).await;
        assert_eq!(away.members[2].pod, third.name);
        assert!(away.members[2].reason.is_some() && away.members[1].away_since.is_none(), "{:?}", away.members);
        tokio::time::timeout(AWAY, std::future::pending::<()>()).await.expect_err("it is away for a while");
        third.start();
        let view = job.until_running(&first, 1, away.generation + 1).await;
        assert!(view.members[2].away_since.is_none());

        first.kill().await;
        first.start();
        let view = job.until_running(&first, 1, view.generation + 1).await;
        assert!(view.coordinator);
        finishes_exactly(name, &job, &first).await;
        assert_eq!(first.terminate().await, Some(0));
    });
}

#[test]
fn assignments_rescale_replace_and_settle_a_running_job() {
    let name = "tumble";
    let job = job(name);
    block_on(async {
        let (first, second, mut third) = (job.pod(0), job.pod(1), job.pod(2));
        let client = first.client(&job.token());
        job.assign(&first, &job.assignment(1, &[&first])).await;
        job.until_running(&first, 1, 1).await;

        job.assign(&first, &job.assignment(2, &[&first, &second, &third])).await;
        let view = job.until_running(&first, 2, 2).await;
        assert_eq!((view.parallelism, view.restarts.count), (3, 0), "a rescale is no restart\n{}", job.logs());
        let pause = view.restarts.timings.last().and_then(|timing| timing.running_ms).expect("the pause was timed");
        println!("rescale 1 to 3: {pause:.0} ms from the stop to the last engine running");

        // The third pod is lost for good, another one takes its place at another address.
        third.kill().await;
        job.until(&first, "the third pod away", |job| job.members[2].away_since.is_some()).await;
        let fourth = job.pod(3);
        job.assign(&first, &job.assignment(3, &[&first, &second, &fourth])).await;
        let view = job.until_running(&first, 3, view.generation + 1).await;
        assert_eq!(view.members[2].pod, fourth.name);

        job.assign(&first, &job.assignment(4, &[&first, &second])).await;
        let view = job.until_running(&first, 4, view.generation + 1).await;
        assert_eq!(view.workers.len(), 2);

        // Settings change without another generation; and what says nothing new changes nothing.
        let mut settings = job.assignment(5, &[&first, &second]);
        settings.checkpoint.interval_ms = 3_600_000;
        settings.restart.max_restarts = 7;
        job.assign(&first, &settings).await;
        job.assign(&first, &settings).await;
        let quiet = job.until(&first, "the version in force", |job| job.assignment == Some(5)).await;
        assert_eq!(quiet.generation, view.generation);
        settings.version = 6;
        job.assign(&first, &settings).await;
        settings.checkpoint.retain = 9;
        assert_eq!(status(client.assign(&settings).await), 409, "the same version with other content");
        settings.version = 5;
        assert_eq!(status(client.assign(&settings).await), 409, "a stale version");
        settings.version = 7;
        settings.members.pop();
        assert_eq!(status(client.assign(&settings).await), 400, "too few members");
        let taken = client.job().await.expect("the job").checkpoints.completed;
        let view = finishes_exactly(name, &job, &first).await;
        assert_eq!((view.assignment, view.generation), (Some(6), quiet.generation), "{}", job.logs());
        // One may have been under way at the change, and the end takes one.
        assert!(view.checkpoints.completed <= taken + 2, "{} checkpoints after {taken}", view.checkpoints.completed);
    });
}

#[test]
fn an_upgrade_in_other_pods_fences_the_old_ones_stopped_or_not() {
    let name = "filter";
    let job = job(name);
    block_on(async {
        let (mut old, old_member) = (job.pod(0), job.pod(1));
        job.assign(&old, &job.assignment(1, &[&old, &old_member])).await;
        job.until_running(&old, 1, 1).await;
        old.client(&job.token()).stop().await.expect("a stop is taken");
        let stopped = job.until(&old, "the stop", |job| job.state == Phase::Suspended).await;
        assert!(stopped.checkpoints.completed > 0 && old.lives());
        // A container that comes back does not start what was stopped.
        old.kill().await;
        old.start();
        let back = job.until(&old, "the stopped pod back", |_| true).await;
        assert_eq!((back.state, back.assignment, back.generation), (Phase::Suspended, Some(1), 0));

        let (newer, newer_member) = (job.pod(2), job.pod(3));
        job.assign(&newer, &job.assignment(2, &[&newer, &newer_member])).await;
        let running = job.until_running(&newer, 2, stopped.generation + 1).await;

        // The next ones begin while these still run.
        let (newest, newest_member) = (job.pod(4), job.pod(5));
        job.assign(&newest, &job.assignment(3, &[&newest, &newest_member])).await;
        let view = job.until_running(&newest, 3, running.generation + 1).await;
        let fenced = job.until(&newer, "the fenced coordinator at rest", |job| job.state == Phase::Failed).await;
        assert_eq!(fenced.failure.as_ref().map(|failure| failure.kind.as_str()), Some("fenced"), "{}", job.logs());
        let end = finishes_exactly(name, &job, &newest).await;
        assert_eq!(end.generation, view.generation, "the fenced one has disturbed nobody\n{}", job.logs());
        let rests = newer.client(&job.token()).job().await.expect("it still answers");
        assert_eq!((rests.state, rests.generation), (Phase::Failed, running.generation));
        let text = std::fs::read_to_string(job.path(&newer.name).join("termination")).unwrap_or_default();
        assert!(text.is_empty(), "a file that is not there is not made");
    });
}

#[test]
fn pods_that_are_told_to_go_leave_with_a_checkpoint() {
    let name = "tumble";
    let job = job(name);
    block_on(async {
        let (mut first, mut second) = (job.pod(0), job.pod(1));
        job.assign(&first, &job.assignment(1, &[&first, &second])).await;
        let before = job.until_running(&first, 1, 1).await;

        assert_eq!(second.terminate().await, Some(0), "{}", job.logs());
        let away = job.until(&first, "the member away", |job| job.members[1].away_since.is_some()).await;
        assert!(away.checkpoints.completed > before.checkpoints.completed, "it left with a checkpoint\n{}", job.logs());
        assert_eq!((away.restarts.count, away.generation), (0, before.generation), "leaving is no failure\n{}", job.logs());
        second.start();
        let view = job.until_running(&first, 1, before.generation + 1).await;
        assert_eq!(view.restarts.count, 0);

        // The coordinator by the command of its preStop hook, then by SIGTERM.
        let mut leave = tokio::process::Command::new(binary());
        leave.arg("leave").arg("--token").arg(job.path("token")).arg("--admin").arg(format!("{}:7180", first.address));
        assert!(tokio::time::timeout(PATIENCE, leave.status()).await.expect("it ends").expect("it starts").success());
        let left = first.client(&job.token()).job().await.expect("the pod is there until it is ended");
        assert!(left.leaving && left.state == Phase::Suspended, "{left:?}");
        assert_eq!(status(first.client(&job.token()).assign(&job.assignment(2, &[&first])).await), 409);
        assert_eq!(first.terminate().await, Some(0));
        first.start();
        job.until_running(&first, 1, view.generation + 1).await;
        finishes_exactly(name, &job, &first).await;
    });
}

#[test]
fn a_savepoint_is_restored_in_another_place_and_disposed_of() {
    let name = "tumble";
    let job = job(name);
    block_on(async {
        let mut first = job.pod(0);
        job.assign(&first, &job.assignment(1, &[&first])).await;
        job.until_running(&first, 1, 1).await;
        job.until(&first, "committed output", |_| rheos_e2e::oracle::part_files(&job.path("out")).is_ok_and(|files| !files.is_empty()))
            .await;
        let taken = first.client(&job.token()).savepoint(Some("before")).await.expect("a savepoint");
        let SavepointView::Completed { uri, epoch } = taken.savepoint else { panic!("{taken:?}\n{}", job.logs()) };
        // The same id again, after the pod has forgotten it: the same savepoint.
        first.kill().await;
        first.start();
        job.until_running(&first, 1, 2).await;
        let again = first.client(&job.token()).savepoint(Some("before")).await.expect("the savepoint again");
        assert_eq!(again.savepoint, SavepointView::Completed { uri: uri.clone(), epoch });
        drop(first);

        let restored = self::job(name);
        committed_until(&job.path("out"), epoch, &restored.path("out"));
        let (pod, member) = (restored.pod(0), restored.pod(1));
        let mut assignment = restored.assignment(1, &[&pod, &member]);
        assignment.restore = Some(RestoreOrder { uri: uri.clone(), allow_non_restored_state: false });
        restored.assign(&pod, &assignment).await;
        finishes_exactly(name, &restored, &pod).await;

        let dispose = async |uri: &str| {
            let mut command = tokio::process::Command::new(binary());
            command.arg("dispose").arg("--job").arg(job.path("job.json")).arg("--uri").arg(uri);
            command.output().await.expect("it starts")
        };
        let folder = std::path::PathBuf::from(uri.trim_start_matches("file://"));
        assert!(folder.join("manifest").exists());
        let refused = dispose(uri.trim_end_matches("/before")).await;
        assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("no savepoint"), "{refused:?}");
        assert!(folder.join("manifest").exists());
        for _ in 0..2 {
            let done = dispose(&uri).await;
            assert!(done.status.success(), "{done:?}");
            assert!(!folder.join("manifest").exists());
        }
    });
}

#[test]
fn without_the_token_nothing_is_told_and_nothing_is_given() {
    block_on(async {
        let job = PodJob::new(shape("filter"), &Settings::default());
        let pod = job.pod(0);
        job.until(&pod, "the pod", |_| true).await;
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let get = async |path: &str, token: Option<&str>| {
            let request = http.get(format!("{}{path}", pod.base()));
            let request = token.into_iter().fold(request, |request, token| request.bearer_auth(token));
            request.send().await.expect("an answer").status().as_u16()
        };
        assert_eq!(get("/healthz", None).await, 200);
        let wrong = job.token().reveal().replace('0', "1");
        for path in ["/readyz", "/metrics", "/v1/job", "/v1/nothing"] {
            assert_eq!((get(path, None).await, get(path, Some(&wrong)).await), (401, 401), "{path}");
        }
        assert_eq!(get("/v1/job", Some(job.token().reveal())).await, 200);
        let put = http.put(format!("{}/v1/assignment", pod.base())).json(&job.assignment(1, &[&pod]));
        assert_eq!(put.send().await.expect("an answer").status().as_u16(), 401);

        let hello = format!(
            "{{\"token\":\"{wrong}\",\"job\":\"4f1c2d3e-0000-4000-8000-00000000000a\",\"pod\":\"x\",\"assignment\":9,\"session\":1}}\n"
        );
        for (line, expected) in [(hello, "{\"refused\":"), ("nonsense\n".to_owned(), ""), ("x".repeat(5_000), "")] {
            let mut stream = tokio::net::TcpStream::connect((pod.address, MEMBER_PORT)).await.expect("the member port");
            stream.write_all(line.as_bytes()).await.expect("it is read");
            let mut answer = String::new();
            // A connection that is closed with unread data is reset.
            let _ = tokio::time::timeout(PATIENCE, BufReader::new(stream).read_line(&mut answer)).await.expect("an end");
            assert!(answer.starts_with(expected) && answer.is_empty() == expected.is_empty(), "{answer}");
        }
        let view = pod.client(&job.token()).job().await.expect("the job");
        assert_eq!((view.assignment, view.coordinator), (None, false), "nothing has happened");
    });
}
