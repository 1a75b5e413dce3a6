//! [io] What is asked of any server that speaks S3: the store's conformance suite, and a job that lives on it.

use std::sync::Arc;

use rheos_checkpoint::conformance::Broken;
use rheos_checkpoint::paths::ObjectPath;
use rheos_checkpoint::{Store, conformance, open};

use crate::oracle::{Difference, compare, read_folder};
use crate::s3::{ACCESS_KEY, BUCKET, SECRET_KEY, client_options};
use crate::shapes::{Settings, Shape};
use crate::worker::{Job, signal};

/// Objects of the listing check: more than one page of S3.
const MANY: usize = 1_100;

/// Every guarantee that the checkpoint protocol needs, with several clients at once.
///
/// # Panics
/// When one does not hold.
pub async fn conforms(endpoint: &str) {
    conformance_of(endpoint).await.expect("the server keeps the guarantees");
}

/// The outcome of the suite, with several clients at once.
///
/// # Errors
/// The first guarantee that the server breaks.
///
/// # Panics
/// When no client can be made.
pub async fn conformance_of(endpoint: &str) -> Result<(), Broken> {
    let client = || open(&format!("s3://{BUCKET}/conformance"), &client_options(endpoint)).expect("a client");
    let clients: Vec<Arc<dyn Store>> = (0..3).map(|_| client()).collect();
    let folder = ObjectPath::parse("suite").expect("a path");
    conformance::check(&clients, &folder, MANY).await
}

/// A job with its checkpoints on the server, killed three times, stopped, and gone on with at another parallelism.
///
/// # Panics
/// When its output differs from a fault-free run's.
pub async fn carries_a_job(endpoint: &str) {
    const EVENTS: u64 = 120_000;
    const KILLS: u64 = 3;
    let shape = Shape::named("distinct").expect("a shape");
    let calm = Job::new(&shape.manifest(&Settings { events: EVENTS, parallelism: 1, ..Settings::default() }));
    assert_eq!(calm.run(&[]).await, 0, "the fault-free run");
    let expected = read_folder(&calm.path("out")).expect("its output");
    assert!(expected.len() > 10);

    let storage = Some(format!("{{uri: \"s3://{BUCKET}/jobs\", endpoint: \"{endpoint}\", region: us-east-1}}"));
    let settings = Settings { events: EVENTS, events_per_second: Some(20_000), storage, ..Settings::default() };
    let job = Job::new(&shape.manifest(&settings));
    let environment = [("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned())];
    let mut run = job.start_with(&[], &environment);
    let client = run.client().await;
    for kill in 0..KILLS {
        let view = run
            .until_job(&client, "a checkpoint of this generation", |job| {
                job.restarts.count >= kill
                    && job.workers.iter().all(|worker| worker.running)
                    && job.checkpoints.history.last().is_some_and(|checkpoint| checkpoint.generation == job.generation)
            })
            .await;
        assert!(signal(view.workers[kill as usize % view.workers.len()].pid.expect("a process id"), "KILL"));
    }
    run.until_job(&client, "the last restart", |job| job.restarts.count >= KILLS && job.workers.iter().all(|worker| worker.running)).await;
    client.stop().await.expect("a stop is taken");
    assert_eq!(run.wait().await, 0, "{}", run.log());
    assert!(!run.log().contains(SECRET_KEY), "the log shows a secret");

    let mut run = job.start_with(&["--parallelism", "3"], &environment);
    assert_eq!(run.wait().await, 0, "{}", run.log());
    let difference = compare(&expected, &read_folder(&job.path("out")).expect("the output"));
    assert_eq!(difference, Difference::default(), "{}", run.log());
}
