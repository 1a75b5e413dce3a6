//! Stop and go on with other workers, savepoints, and edits of the SQL: state survives or the start is refused by name.

use rheos_control_api::view::SavepointView;
use rheos_e2e::oracle::{Multiset, part_files};
use rheos_e2e::shapes::{Settings, Shape};
use rheos_e2e::worker::{Job, Run};

use crate::support::{Outputs, assert_same, block_on, committed_until, outputs, reference};

const EVENTS: u64 = 120_000;
const PACE: u64 = 30_000;

fn paced(parallelism: u32) -> Settings {
    Settings { events: EVENTS, events_per_second: Some(PACE), parallelism, ..Settings::default() }
}

/// Runs until there is a checkpoint in this run, then stops by the admin API.
async fn run_a_while_and_stop(job: &Job, arguments: &[&str]) {
    let mut run = job.start_with(arguments, &[]);
    let client = run.client().await;
    run.until_job(&client, "a checkpoint", |job| job.checkpoints.completed > 1).await;
    client.stop().await.expect("a stop is taken");
    let code = run.wait().await;
    assert_eq!(code, 0, "stopping failed\n{}", run.log());
    assert_eq!(run.summary().state, "Suspended", "{}", run.log());
}

fn goes_on_at_other_parallelisms(name: &str) {
    block_on(async {
        let shape = Shape::named(name).expect("a shape");
        let expected = reference(shape, EVENTS).await;
        let job = Job::new(&shape.manifest(&paced(2)));
        run_a_while_and_stop(&job, &[]).await;
        run_a_while_and_stop(&job, &["--parallelism", "3"]).await;
        let mut run = job.start_with(&["--parallelism", "1"], &[]);
        let code = run.wait().await;
        assert_eq!(code, 0, "{}", run.log());
        assert_same(shape, &expected, &outputs(shape, &job), &run.log());
    });
}

#[test]
fn windows_go_on_at_2_then_3_then_1_workers() {
    goes_on_at_other_parallelisms("hop");
}

#[test]
fn an_updating_group_goes_on_at_2_then_3_then_1_workers() {
    goes_on_at_other_parallelisms("group");
}

#[test]
fn distinct_counts_go_on_at_2_then_3_then_1_workers() {
    goes_on_at_other_parallelisms("distinct");
}

/// Takes a savepoint of a running job, then kills everything. Returns its URI and epoch.
async fn savepoint_then_kill(job: &Job) -> (String, u64) {
    let mut run = job.start();
    let client = run.client().await;
    let out = job.path("out");
    run.until("committed output", async || part_files(&out).ok().filter(|files| !files.is_empty())).await;
    client.savepoint(Some("before")).await.expect("a savepoint is taken");
    let savepoint = run
        .until("the savepoint", async || match client.job().await.ok()?.savepoints.get("before")? {
            SavepointView::Completed { uri, epoch } => Some((uri.clone(), *epoch)),
            SavepointView::Failed { reason } => panic!("the savepoint failed: {reason}"),
            SavepointView::Pending => None,
        })
        .await;
    run.kill().await;
    savepoint
}

async fn finish_from(job: &Job, uri: &str) -> Run {
    let mut run = job.start_with(&["--from", uri], &[]);
    let code = run.wait().await;
    assert_eq!(code, 0, "{}", run.log());
    run
}

#[test]
fn a_savepoint_of_a_running_job_restores_and_so_does_an_edit_that_leaves_the_state_alone() {
    block_on(async {
        let shape = Shape::named("tumble").expect("a shape");
        let expected = reference(shape, EVENTS).await;
        let job = Job::new(&shape.manifest(&paced(2)));
        let (uri, epoch) = savepoint_then_kill(&job).await;

        // The same SQL, and one with another sink, a filter behind the windows that lets all pass, and other workers.
        let edited = shape.sql(&paced(3)).replace("GROUP BY auction", "WHERE auction >= 0 GROUP BY auction")
            + "\nCREATE TABLE extra (price BIGINT) WITH ('connector' = 'blackhole');\nINSERT INTO extra SELECT price FROM bid WHERE price > 100;";
        let plain = shape.manifest(&paced(3));
        for manifest in [plain, rheos_e2e::shapes::manifest(shape.name, &edited, &paced(3))] {
            let restored = Job::new(&manifest);
            committed_until(&job.path("out"), epoch, &restored.path("out"));
            let run = finish_from(&restored, &uri).await;
            assert_same(shape, &expected, &outputs(shape, &restored), &run.log());
        }
    });
}

#[test]
fn an_edit_that_does_not_fit_the_state_is_refused_by_the_operators_name_and_harms_nothing() {
    block_on(async {
        let shape = Shape::named("tumble").expect("a shape");
        let expected = reference(shape, EVENTS).await;
        let manifest = shape.manifest(&paced(2));
        let job = Job::new(&manifest);
        run_a_while_and_stop(&job, &[]).await;
        let before: Outputs = outputs(shape, &job);

        // Another aggregate in the same place: the state's layout differs.
        job.edit(&manifest.replace("MAX(price)", "COUNT(DISTINCT bidder)"));
        let mut run = job.start();
        let code = run.wait().await;
        assert_ne!(code, 0, "an incompatible edit must not run");
        let log = run.log();
        assert!(log.contains("TUMBLE") && log.contains("state"), "the refusal names the operator and the state\n{log}");
        assert_eq!(outputs(shape, &job), before, "the refused start changed the output");

        // Another maxParallelism: key groups cannot be cut anew.
        job.edit(&manifest.replace("maxParallelism: 64", "maxParallelism: 32"));
        let mut run = job.start();
        assert_ne!(run.wait().await, 0);
        assert!(run.log().contains("maxParallelism"), "{}", run.log());

        job.edit(&manifest);
        let mut run = job.start();
        let code = run.wait().await;
        assert_eq!(code, 0, "going on with the first SQL\n{}", run.log());
        assert_same(shape, &expected, &outputs(shape, &job), &run.log());
        let total: i64 = Multiset::values(&outputs(shape, &job)["out"]).sum();
        assert!(total > 0);
    });
}
