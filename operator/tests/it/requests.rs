//! [io] What a job costs the apiserver, counted on its model: every request for a new job until its pods are there, and
//! until nothing more is written; and that other new jobs wait for no more than that.

use serde_json::json;

use crate::apiserver::{ApiServer, Key};
use crate::harness::Harness;
use crate::world::World;

/// Where the clock starts.
const START: i64 = 1_800_000_000;
/// Workers of a job.
const WORKERS: usize = 2;
/// Jobs that come at once.
const JOBS: usize = 40;

fn create(all: &Harness, name: &str) {
    let spec = json!({
        "sql": "CREATE TABLE a (x INT) WITH ('connector' = 'datagen'); INSERT INTO b SELECT x FROM a;",
        "parallelism": WORKERS,
        "checkpoint": {"storage": {"uri": "s3://bucket/prefix"}},
    });
    all.server.state().create(&Key::new("streamjobs", "default", name), json!({"metadata": {"name": name}, "spec": spec})).unwrap();
}

/// The requests of an operator that sees to `jobs`, until they have run for long.
async fn requests(jobs: usize) -> Vec<String> {
    let mut all = Harness::new(ApiServer::default(), World::default(), START);
    (0..jobs).for_each(|number| create(&all, &format!("j{number}")));
    all.rest().await.unwrap();
    let status = |number| all.server.state().get(&Key::new("streamjobs", "default", &format!("j{number}"))).unwrap()["status"].clone();
    (0..jobs).for_each(|number| assert_eq!(status(number)["phase"], "Running"));
    all.server.requests()
}

/// The requests up to the last that `is_last` fits.
fn until_last(requests: &[String], is_last: impl Fn(&str) -> bool) -> &[String] {
    &requests[..=requests.iter().rposition(|request| is_last(request)).unwrap()]
}

fn is_pod(request: &str) -> bool {
    request.starts_with("POST pods/")
}

fn is_write(request: &str) -> bool {
    !request.starts_with("GET ")
}

fn reads_and_writes(requests: &[String]) -> (usize, usize) {
    let writes = requests.iter().filter(|request| is_write(request)).count();
    (requests.len() - writes, writes)
}

#[tokio::test]
async fn a_job_costs_one_read_and_what_its_pods_need_until_they_are_there() {
    let all = requests(1).await;
    let for_pods = until_last(&all, is_pod);
    // The job is read; the snapshot, the token and the pods are made.
    assert_eq!(reads_and_writes(for_pods), (1, 2 + WORKERS), "{for_pods:#?}");
    // It is stable when that is told. Until then also: finalizer, Service and budget; a status for each of pods asked for,
    // assigned, and running (stable at once, in the model); a look for each of these and the first.
    let for_all = until_last(&all, |request| request.starts_with("POST events/"));
    assert_eq!(reads_and_writes(for_all), (4, 2 + WORKERS + 3 + 3 + 1), "{for_all:#?}");
}

#[tokio::test]
async fn what_the_operator_writes_itself_is_no_reason_to_look_again() {
    let mut all = Harness::new(ApiServer::default(), World::default(), START);
    create(&all, "j");
    all.alone().await;
    let requests = all.server.requests();
    // One look for the pods, one for status, finalizer, Service and budget; and that is all while nothing else moves.
    assert_eq!(reads_and_writes(&requests), (2, 2 + WORKERS + 4), "{requests:#?}");
    all.alone().await;
    assert_eq!(all.server.requests(), requests);
}

#[tokio::test]
async fn new_jobs_get_their_pods_before_others_get_the_rest() {
    let all = requests(JOBS).await;
    let for_pods = until_last(&all, is_pod);
    let statuses = for_pods.iter().filter(|request| request.ends_with("/status")).count();
    let bound = JOBS / rheos_operator::runtime::queue::FIRST_IN_A_ROW;
    assert!((1..=bound).contains(&statuses), "{statuses} statuses were written before the last pod; at most {bound}, and not none");
}
