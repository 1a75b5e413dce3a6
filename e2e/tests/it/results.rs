//! Clients that follow a job's results: nothing missed, nothing twice, whatever happens to the job meanwhile.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rheos_control_api::Phase;
use rheos_e2e::figures::Figures;
use rheos_e2e::oracle::{Difference, compare};
use rheos_e2e::pods::PodJob;
use rheos_e2e::results::{Copy, Ended, follow};
use rheos_e2e::shapes::{Settings, Shape, manifest};
use rheos_e2e::worker::{Job, Run, signal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use crate::support::{Outputs, Random, block_on, reference};

/// Events of a run and their pace: about eight seconds, longer than what is done to it.
const EVENTS: u64 = 160_000;
const PACE: u64 = 20_000;

fn shape(name: &str) -> &'static Shape {
    Shape::named(name).expect("a shape")
}

fn settings() -> Settings {
    Settings { events: EVENTS, events_per_second: Some(PACE), results: true, ..Settings::default() }
}

/// Where a run in this folder serves, as long as it does.
fn address(data: PathBuf) -> impl Fn() -> Option<String> {
    move || {
        let address = std::fs::read_to_string(data.join("admin.addr")).ok()?;
        Some(format!("http://{}", address.trim())).filter(|_| address.ends_with('\n'))
    }
}

fn assert_whole(expected: &Outputs, copy: &Copy, log: &str) {
    let difference = compare(&expected["out"], &copy.rows);
    assert_eq!(difference, Difference::default(), "the client's copy differs, of {} connections\n{log}", copy.connections);
}

async fn running(run: &mut Run, restarts: u64) -> Vec<u32> {
    let client = run.client().await;
    let up = |job: &rheos_control_api::JobView| {
        job.restarts.count >= restarts && job.workers.iter().all(|worker| worker.running) && !job.workers.is_empty()
    };
    let view = run.until_job(&client, "all engines running", up).await;
    view.workers.iter().filter_map(|worker| worker.pid).collect()
}

async fn moment(random: &mut Random) {
    let wait = Duration::from_millis(random.below(400));
    tokio::time::timeout(wait, std::future::pending::<()>()).await.expect_err("a random moment is no condition");
}

/// Kills engines, the supervisor, stops, rescales, finishes. `begun` is called while the first run runs.
async fn through_everything(job: &Job, random: &mut Random, mut begun: impl FnMut()) -> String {
    let mut run = job.start();
    for kill in 0..3 {
        let pids = running(&mut run, kill).await;
        moment(random).await;
        assert!(signal(pids[random.below(pids.len() as u64) as usize], "KILL"), "{}", run.log());
        if kill == 1 {
            begun();
        }
    }
    running(&mut run, 3).await;
    moment(random).await;
    run.kill().await;
    // Another parallelism after a kill.
    let mut run = job.start_with(&["--parallelism", "3"], &[]);
    running(&mut run, 0).await;
    moment(random).await;
    let client = run.client().await;
    client.stop().await.expect("a stop is taken");
    assert_eq!(run.wait().await, 0, "{}", run.log());
    assert_eq!(run.summary().state, "Suspended", "the runs were too short\n{}", run.log());
    // And after a stop.
    let mut run = job.start_with(&["--parallelism", "1"], &[]);
    let pids = running(&mut run, 0).await;
    moment(random).await;
    signal(pids[0], "KILL");
    assert_eq!(run.wait().await, 0, "{}", run.log());
    run.log()
}

fn follows_through_everything(name: &'static str, seed: u64) {
    block_on(async {
        let shape = shape(name);
        let expected = reference(shape, EVENTS).await;
        let job = Job::new(&shape.manifest(&settings()));
        let from_the_start = tokio::spawn(follow(address(job.path("data")), None, "out", ""));
        let mut later: Option<JoinHandle<Copy>> = None;
        let data = job.path("data");
        let log = through_everything(&job, &mut Random(seed), || {
            // Of a change-log, one that begins in the middle with what is there then.
            later = shape.changelog.then(|| tokio::spawn(follow(address(data.clone()), None, "out", "view=true")));
        })
        .await;
        let copy = from_the_start.await.expect("the client's checks hold");
        assert_whole(&expected, &copy, &log);
        assert!(copy.connections >= 3, "the client was never thrown off\n{log}");
        if let Some(later) = later {
            let later = later.await.expect("the client's checks hold");
            assert_whole(&expected, &later, &log);
            assert!(later.viewed > 0 && later.changes < copy.changes, "it began with a view: {} rows", later.viewed);
        }
    });
}

#[test]
fn a_client_of_new_rows_misses_nothing_and_sees_nothing_twice() {
    follows_through_everything("filter", 21);
}

#[test]
fn a_client_of_a_changelog_has_the_result_from_the_start_and_from_a_view() {
    follows_through_everything("group", 22);
}

/// The process ends at each of `places` once, as if killed there; a client follows all the while.
fn survives_ends_at(name: &'static str, options: &str, first: &'static str, places: &[&str]) {
    block_on(async {
        let shape = shape(name);
        let expected = reference(shape, EVENTS).await;
        let text = shape.manifest(&Settings { checkpoint_ms: 100, ..settings() });
        let job = Job::new(&text.replace("'connector' = 'results'", &format!("'connector' = 'results'{options}")));
        let failpoints: Vec<String> = places.iter().map(|place| format!("{place}={}", job.path(place).display())).collect();
        let copy = tokio::spawn(follow(address(job.path("data")), None, "out", first));
        let mut run = job.start_with(&[], &[(rheos_connectors::failpoint::VARIABLE, failpoints.join(";"))]);
        run.until("an end at each place", async || places.iter().all(|place| job.path(place).exists()).then_some(())).await;
        assert_eq!(run.wait().await, 0, "{}", run.log());
        assert!(run.summary().restarts >= places.len() as u64, "each end is a restart\n{}", run.log());
        assert_whole(&expected, &copy.await.expect("the client's checks hold"), &run.log());
    });
}

#[test]
fn an_end_before_and_after_an_epoch_is_shown_changes_nothing() {
    survives_ends_at("filter", "", "", &["results.index"]);
    survives_ends_at("filter", "", "", &["results.indexed"]);
    survives_ends_at("filter", "", "", &["results.index", "results.indexed"]);
}

#[test]
fn an_end_before_the_next_view_is_told_changes_nothing() {
    // About a quarter of the changes: the view has to move.
    survives_ends_at("group", ", 'results.retain-rows' = '80000'", "view=true", &["results.view"]);
}

#[test]
fn results_of_pods_need_the_token_and_outlive_the_coordinator_and_a_rescale() {
    block_on(async {
        let shape = shape("filter");
        let expected = reference(shape, EVENTS).await;
        let job = PodJob::new(shape, &settings());
        let (mut first, second) = (job.pod(0), job.pod(1));
        job.assign(&first, &job.assignment(1, &[&first])).await;
        let base = first.base();
        let copy = tokio::spawn(follow(move || Some(base.clone()), Some(job.token()), "out", ""));
        // Through a pod that only gives engines it is the same.
        let base = second.base();
        let other = tokio::spawn(follow(move || Some(base.clone()), Some(job.token()), "out", ""));
        let view = job.until_running(&first, 1, 1).await;
        let refused = reqwest::get(format!("{}/v1/results/out", first.base())).await.expect("an answer");
        assert_eq!(refused.status().as_u16(), 401);
        first.kill().await;
        first.start();
        let view = job.until_running(&first, 1, view.generation + 1).await;
        job.assign(&first, &job.assignment(2, &[&first, &second])).await;
        job.until_running(&first, 2, view.generation + 1).await;
        let view = job.until(&first, "the end of the job", |job| matches!(job.state, Phase::Finished | Phase::Failed)).await;
        assert_eq!(view.state, Phase::Finished, "{}", job.logs());
        assert_whole(&expected, &copy.await.expect("the client's checks hold"), &job.logs());
        assert_whole(&expected, &other.await.expect("the client's checks hold"), &job.logs());
        // What is kept outlives the run, and the container.
        first.kill().await;
        first.start();
        job.until(&first, "the end that it remembers", |job| job.state == Phase::Finished).await;
        let base = first.base();
        let again = follow(move || Some(base.clone()), Some(job.token()), "out", "").await;
        assert_whole(&expected, &again, &job.logs());
    });
}

/// Numbers without end.
fn endless(options: &str, pace: u64, columns: &str, select: &str) -> String {
    let sql = format!(
        "CREATE TABLE numbers (id BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '{pace}', 'fields.id.kind' = 'sequence', 'fields.id.start' = '0', 'fields.id.end' = '1000000000');
        CREATE TABLE out ({columns}) WITH ('connector' = 'results'{options});
        INSERT INTO out {select};"
    );
    manifest("endless", &sql, &Settings::default())
}

async fn get(base: &str, query: &str) -> (u16, String) {
    let response = reqwest::get(format!("{base}/v1/results/{query}")).await.expect("an answer");
    (response.status().as_u16(), response.text().await.unwrap_or_default())
}

#[test]
fn a_cursor_that_is_too_old_is_told_so_and_so_is_one_that_never_was() {
    block_on(async {
        let job = Job::new(&endless(", 'results.retain-rows' = '300'", 1_000, "id BIGINT", "SELECT id FROM numbers"));
        let mut run = job.start();
        run.client().await;
        let base = address(job.path("data"))().expect("an address");
        let first = run
            .until("a row", async || get(&base, "out?follow=false").await.1.lines().find(|line| line.contains("cursor")).map(str::to_owned))
            .await;
        let cursor = serde_json::from_str::<serde_json::Value>(&first).expect("a row")["cursor"].as_str().expect("a cursor").to_owned();
        let (status, text) = run
            .until("the row's end", async || {
                Some(get(&base, &format!("out?follow=false&after={cursor}")).await).filter(|(status, _)| *status != 200)
            })
            .await;
        assert_eq!(status, 410, "{text}");
        assert!(text.contains("the oldest that is has") && text.contains("results.retain-rows"), "{text}");
        let (_, kept) = get(&base, "out?follow=false").await;
        // From any row on, also in the middle of what is sent at once.
        let rows: Vec<&str> = kept.lines().filter(|line| line.contains("cursor")).collect();
        let place =
            |row: &str| serde_json::from_str::<serde_json::Value>(row).expect("a row")["cursor"].as_str().expect("a cursor").to_owned();
        let (_, rest) = get(&base, &format!("out?follow=false&after={}", place(rows[rows.len() - 5]))).await;
        assert!(rest.starts_with(&rows[rows.len() - 4..].join("\n")), "{rest}\nafter {}", rows[rows.len() - 5]);
        // The same as events, from where an interrupted reader was, and as Arrow.
        let after = place(rows[rows.len() - 2]);
        let events = reqwest::Client::new().get(format!("{base}/v1/results/out?follow=false&format=sse")).header("last-event-id", &after);
        let events = events.send().await.expect("an answer").text().await.expect("a text");
        let first = events.lines().find(|line| line.starts_with("id: ")).expect("an event");
        assert_eq!(first, format!("id: {}", place(rows[rows.len() - 1])));
        assert!(events.ends_with("event: end\ndata: {\"end\":\"newest\"}\n\n"), "{events}");
        let arrow = reqwest::get(format!("{base}/v1/results/out?follow=false&format=arrow&after={after}")).await.expect("an answer");
        assert_eq!(arrow.headers()["content-type"], "application/vnd.apache.arrow.stream");
        assert_eq!(arrow.headers()["rheos-cursor"].to_str().expect("a text"), after);
        let arrow = arrow.bytes().await.expect("it ends well");
        assert!(arrow.starts_with(&[0xff; 4]) && arrow.ends_with(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]), "{} bytes", arrow.len());
        let newest = kept.lines().rfind(|line| line.contains("cursor")).expect("rows are kept");
        let line = serde_json::from_str::<serde_json::Value>(newest).expect("a row")["cursor"].as_str().expect("a cursor").to_owned();
        let line = line.rsplit('-').next().expect("a line");
        for (query, expected) in [
            ("nothing", 404),
            ("out?after=7", 400),
            ("out?view=true", 400),
            (&format!("out?after=99999999-0-{line}"), 400),
            ("out?after=1-0-00000000", 410),
        ] {
            let (status, text) = get(&base, query).await;
            assert_eq!(status, expected, "{query}: {text}");
        }
        let list = reqwest::get(format!("{base}/v1/results")).await.expect("an answer").text().await.expect("a text");
        assert!(list.contains(r#""name":"out""#) && list.contains(r#""columns":["id"]"#), "{list}");
        run.kill().await;
    });
}

/// Opens a stream without reading it, with little room for what comes.
async fn idle_client(base: &str) -> tokio::net::TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(8_192).expect("a small buffer");
    let address = base.trim_start_matches("http://");
    let mut stream = socket.connect(address.parse().expect("an address")).await.expect("it listens");
    let request = format!("GET /v1/results/out HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it is sent");
    stream
}

#[test]
fn a_client_that_does_not_read_is_cut_off_with_a_reason_and_others_go_on() {
    block_on(async {
        let text = "id, REPEAT('0123456789', 40)";
        let job = Job::new(&endless(
            ", 'results.slow-client-timeout' = '500 ms'",
            50_000,
            "id BIGINT, text STRING",
            &format!("SELECT {text} FROM numbers"),
        ));
        let mut run = job.start();
        run.client().await;
        let base = address(job.path("data"))().expect("an address");
        run.until("rows", async || get(&base, "out?follow=false").await.1.contains("cursor").then_some(())).await;
        let mut idle = idle_client(&base).await;
        // Meanwhile another reads more than any buffer on the way holds.
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let mut response = http.get(format!("{base}/v1/results/out")).send().await.expect("an answer");
        let (began, mut bytes) = (Instant::now(), 0);
        while bytes < 60_000_000 && began.elapsed() < Duration::from_secs(30) {
            bytes += response.chunk().await.expect("it goes on").expect("it does not end").len();
        }
        let log = run.log();
        assert!(log.contains("was cut off") && log.contains("slow-client-timeout"), "{log}");
        let mut all = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(30), idle.read_to_end(&mut all)).await;
        ended.expect("its connection ends").expect("it can be read to its end");
        let text = String::from_utf8_lossy(&all);
        let last = text.lines().rfind(|line| line.starts_with('{')).unwrap_or_default();
        assert!(last.starts_with("{\"cut\":\"nothing was taken for 500 ms"), "{last}");
        assert!(response.chunk().await.expect("it goes on").is_some(), "the other one still reads");
        let metrics = http.get(format!("{base}/metrics")).send().await.expect("an answer").text().await.expect("text");
        let figure = |name: &str| Figures::parse(&metrics).of(name, "");
        assert_eq!(figure("rheos_results_clients_cut_off_total"), Some(1.0), "{metrics}");
        assert_eq!(figure("rheos_results_clients"), Some(1.0), "{metrics}");
        assert!(figure("rheos_results_sent_bytes_total") >= Some(bytes as f64), "{metrics}");
        run.kill().await;
    });
}

#[test]
fn a_thousand_clients_at_once_all_get_the_same() {
    const CLIENTS: usize = 1_000;
    const ROWS: u64 = 300;
    block_on(async {
        let job = Job::new(&endless("", 100, "id BIGINT, n BIGINT", "SELECT MOD(id, 10), COUNT(*) FROM numbers GROUP BY MOD(id, 10)"));
        let mut run = job.start();
        let client = run.client().await;
        let base = address(job.path("data"))().expect("an address");
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let began = Instant::now();
        let counted = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
        let clients: Vec<JoinHandle<(Copy, Option<Ended>)>> = (0..CLIENTS)
            .map(|_| {
                let (http, url, counted) = (http.clone(), format!("{base}/v1/results/out"), std::sync::Arc::clone(&counted));
                tokio::spawn(async move {
                    let mut response = http.get(url).send().await.expect("an answer");
                    assert!(response.status().is_success(), "{}", response.status());
                    let (mut copy, mut rest, mut ended) = (Copy::default(), Vec::new(), None);
                    while let Ok(Some(bytes)) = response.chunk().await {
                        rest.extend_from_slice(&bytes);
                        let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else { continue };
                        let lines: Vec<u8> = rest.drain(..=end).collect();
                        let before = copy.changes;
                        for line in std::str::from_utf8(&lines).expect("text").lines() {
                            ended = copy.line(line).expect("rows in order").or(ended);
                        }
                        if before < ROWS && copy.changes >= ROWS {
                            counted.add_permits(1);
                        }
                    }
                    (copy, ended)
                })
            })
            .collect();
        let all = tokio::time::timeout(Duration::from_secs(60), counted.acquire_many(CLIENTS as u32)).await;
        drop(all.expect("all clients get rows").expect("it is open"));
        println!("{CLIENTS} clients have {ROWS} rows each after {:?}", began.elapsed());
        let view = client.job().await.expect("the job");
        assert_eq!(view.restarts.count, 0, "the job is not disturbed");
        client.stop().await.expect("a stop is taken");
        let mut first: Option<Copy> = None;
        for client in clients {
            let (copy, ended) = client.await.expect("the client's checks hold");
            assert_eq!(ended, Some(Ended::Word("end".into(), "Suspended".into())), "each is told the end");
            match &first {
                None => first = Some(copy),
                Some(first) => assert_eq!((&first.rows, first.at), (&copy.rows, copy.at)),
            }
        }
        assert_eq!(run.wait().await, 0, "{}", run.log());
    });
}
