//! The page of one job.

use expect_test::expect;
use rheos_control_api::{CheckpointView, Checkpoints, MemberView, Phase, Restarts, Rows, WorkerView};

use super::*;

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

fn job(status: Value) -> StreamJob {
    let spec = json!({"sql": "x", "parallelism": 2});
    let metadata = json!({"name": "bids", "namespace": "shop", "generation": 3});
    serde_json::from_value(
        json!({"apiVersion": "rheos.dev/v1alpha1", "kind": "StreamJob", "metadata": metadata, "spec": spec, "status": status}),
    )
    .unwrap()
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": "2026-01-01T00:48:00Z"})
}

fn pod(index: usize, state: &str, ready: bool) -> PodLine {
    PodLine {
        name: format!("bids-0123abcd-{index}-1"),
        index: index.to_string(),
        node: "node0".into(),
        state: state.into(),
        ready,
        restarts: index as i32,
        address: String::new(),
    }
}

fn view() -> JobView {
    let checkpoint = |epoch: u64, duration_ms: f64| CheckpointView {
        generation: 4,
        epoch,
        record: epoch,
        bytes: 245_960,
        duration_ms,
        completed_at: now().as_millisecond() - 8_000,
    };
    JobView {
        state: Phase::Running,
        epoch: 4_711,
        watermark_lag_ms: Some(2_100),
        rows: Rows { read: 12_500_000, written: 90_000, read_per_second: 12_345.6, written_per_second: 87.0 },
        workers: vec![
            WorkerView { process: 0, running: true, in_flight_bytes: 2_048, peak_rss_bytes: 90 << 20, ..WorkerView::default() },
            WorkerView { process: 1, running: true, epoch_lag: 2, in_flight_bytes: 0, peak_rss_bytes: 95 << 20, ..WorkerView::default() },
        ],
        checkpoints: Checkpoints {
            completed: 120,
            failed: 1,
            history: [12.0, 14.0, 90.0, 13.0, 11.0].into_iter().zip(1..).map(|(millis, epoch)| checkpoint(epoch, millis)).collect(),
            last_failure: Some("epoch 99: the store did not answer".into()),
        },
        ..JobView::default()
    }
}

#[test]
fn a_job_that_is_well() {
    let status = json!({
        "phase": "Running", "observedGeneration": 3, "generation": 4, "revision": "0123abcd", "restarts": 2,
        "lastRestart": {"time": "2026-01-01T00:40:00Z", "reason": "PodLost", "message": "node1 is gone"},
        "parallelism": {"desired": 2, "running": 2},
        "assigned": {"run": {"revision": "0123abcd", "parallelism": 2, "stateId": "s"}, "coordinator": "bids-0123abcd-0-1", "digest": "d", "since": ""},
        "conditions": [condition("Ready", "True", "Running", "rows flow"), condition("Degraded", "False", "Healthy", "")],
    });
    let savepoint = json!({
        "apiVersion": "rheos.dev/v1alpha1", "kind": "Savepoint", "metadata": {"name": "nightly"}, "spec": {"job": "bids"},
        "status": {"phase": "Completed", "uri": "s3://b/p/savepoints/x", "finishedAt": "2026-01-01T00:00:00Z", "attempts": 1},
    });
    let picture = Picture {
        job: job(status),
        pods: vec![pod(0, "Running", true), pod(1, "Running", true)],
        savepoints: vec![serde_json::from_value(savepoint).unwrap()],
        events: Vec::new(),
        view: Ok(view()),
        now: now(),
    };
    expect![[r#"
        shop/bids  Running for 12m
        rows flow

        Workers      2 of 2, revision 0123abcd, generation 4, 2 restarts, the last 20m ago: PodLost
        Throughput   12.3k rows/s read, 87 rows/s written (12.5M and 90.0k in all)
        Lag          watermark 2.10 s behind, epoch 4711 (2 open behind it)
        Checkpoints  every 10s; 120 complete, 1 failed; the last 8s ago in 11 ms, 240 KiB
                     ▂▂█▂▂  11 ms to 90 ms, newest right
        Savepoints   nightly Completed 1h ago s3://b/p/savepoints/x

        POD                   NODE    STATE     RESTARTS   OPEN EPOCHS   IN FLIGHT   PEAK MEMORY
        bids-0123abcd-0-1 *   node0   Running          0             0     2.0 KiB        90 MiB
        bids-0123abcd-1-1     node0   Running          1             2         0 B        95 MiB

        Last errors
          last failed checkpoint: epoch 99: the store did not answer
          last restart seen by the operator: PodLost: node1 is gone
    "#]]
    .assert_eq(&page(&picture, Paint::Plain));
    let value = value(&picture);
    assert_eq!((&value["well"], &value["next"]), (&json!(true), &json!([])));
}

#[test]
fn a_job_that_is_not() {
    let status = json!({
        "phase": "Failing", "observedGeneration": 3, "generation": 9, "revision": "0123abcd", "restarts": 7,
        "lastRestart": {"time": "2026-01-01T00:59:30Z", "reason": "OOMKilled", "message": "worker 1 used more than its limit of 256Mi"},
        "parallelism": {"desired": 2, "running": 0},
        "lastCheckpoint": {"epoch": 4000, "time": "2026-01-01T00:50:00Z", "bytes": 1000, "duration": "90ms"},
        "conditions": [
            condition("Ready", "False", "OOMKilled", "worker 1 used more than its limit of 256Mi"),
            condition("Degraded", "True", "OOMKilled", "worker 1 used more than its limit of 256Mi"),
        ],
    });
    let warning = |note: &str| Happening {
        time: Some("2026-01-01T00:59:00Z".parse().unwrap()),
        warning: true,
        about: "Pod/bids-0123abcd-1-1".into(),
        reason: "BackOff".into(),
        note: note.into(),
        times: 4,
    };
    let mut picture = Picture {
        job: job(status),
        pods: vec![pod(0, "Running", true), pod(1, "CrashLoopBackOff", false)],
        savepoints: Vec::new(),
        events: vec![warning("restarting failed container\u{1b}[2J"), Happening { warning: false, ..warning("pulled") }],
        view: Err("pod bids-0123abcd-0-1 did not answer within 10 s".into()),
        now: now(),
    };
    expect![[r#"
        shop/bids  Failing for 12m
        worker 1 used more than its limit of 256Mi

        Workers      0 of 2, revision 0123abcd, generation 9, 7 restarts, the last 30s ago: OOMKilled
        Throughput   not known: pod bids-0123abcd-0-1 did not answer within 10 s
        Checkpoints  every 10s; the last known 10m ago in 90ms, 1000 B

        POD                 NODE    STATE              RESTARTS   OPEN EPOCHS   IN FLIGHT   PEAK MEMORY
        bids-0123abcd-0-1   node0   Running                   0             -           -             -
        bids-0123abcd-1-1   node0   CrashLoopBackOff          1             -           -             -

        Last errors
          OOMKilled: worker 1 used more than its limit of 256Mi
          last restart seen by the operator: OOMKilled: worker 1 used more than its limit of 256Mi

        Last warnings
          AGO   REASON    ABOUT                   NOTE
           1m   BackOff   Pod/bids-0123abcd-1-1   restarting failed container[2J (x4)

        What to do next
          1. raise spec.worker.resources.limits.memory, or give the job more workers
          2. see what the workers say: kubectl streamjob logs bids -n shop
          3. pack what helps others to help: kubectl streamjob report bids -n shop
    "#]]
    .assert_eq(&page(&picture, Paint::Plain));
    assert!(!page(&picture, Paint::Plain).contains('\u{1b}') && page(&picture, Paint::Colors).contains('\u{1b}'));
    picture.view = Ok(JobView {
        restarts: Restarts { count: 7, last_cause: Some("engine 1 was killed".into()), ..Restarts::default() },
        members: vec![MemberView {
            pod: "bids-0123abcd-1-1".into(),
            away_since: Some(1),
            reason: Some("no route".into()),
            ..MemberView::default()
        }],
        ..view()
    });
    let text = page(&picture, Paint::Plain);
    assert!(text.contains("last restart: engine 1 was killed") && text.contains("away: bids-0123abcd-1-1: no route"), "{text}");
}

#[test]
fn a_job_that_nobody_has_seen() {
    let mut picture = Picture {
        job: job(Value::Null),
        pods: Vec::new(),
        savepoints: Vec::new(),
        events: Vec::new(),
        view: Err("no pod leads the job now".into()),
        now: now(),
    };
    picture.job.status = None;
    expect![[r#"
        shop/bids  Created
        the operator has not said anything yet

        Workers      0 of 2, no restarts
        Throughput   not known: no pod leads the job now
        Checkpoints  every 10s; none is complete yet

        What to do next
          1. the operator has not answered the newest spec; if that lasts: is it running? kubectl get pods -A -l app.kubernetes.io/name=rheos
    "#]].assert_eq(&page(&picture, Paint::Plain));
}
