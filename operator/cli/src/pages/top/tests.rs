//! The live table.

use expect_test::expect;
use rheos_control_api::{Phase, Rows, WorkerView};

use super::*;

fn view(rows: u64, busy_ms: f64) -> JobView {
    let operator = |title: &str, rows_in: u64, busy_ms: f64, keys: u64| OperatorView {
        title: title.into(),
        rows_in,
        rows_out: rows_in / 10,
        busy_ms,
        state_keys: keys,
        state_bytes: keys * 100,
        ..OperatorView::default()
    };
    JobView {
        namespace: "shop".into(),
        name: "bids".into(),
        state: Phase::Running,
        generation: 3,
        parallelism: 2,
        watermark_lag_ms: Some(300),
        rows: Rows { read_per_second: 5_000.0, written_per_second: 500.0, ..Rows::default() },
        operators: [
            ("aggregate:2".into(), operator("COUNT(*)", rows, busy_ms, 12_345)),
            ("source:1".into(), operator("bid", rows * 2, 10.0, 0)),
        ]
        .into(),
        workers: vec![
            WorkerView {
                process: 0,
                running: true,
                epoch: 9,
                epoch_lag: 1,
                in_flight_bytes: 4096,
                peak_rss_bytes: 1 << 26,
                ..WorkerView::default()
            },
            WorkerView { process: 1, running: false, epoch: 5, epoch_lag: 5, ..WorkerView::default() },
        ],
        ..JobView::default()
    }
}

fn looks(before: Option<JobView>) -> Looks {
    Looks { before, after: view(11_000, 3_700.0), between_ms: 2_000.0, order: vec!["source:1".into(), "aggregate:2".into()] }
}

#[test]
fn rates_are_differences() {
    expect![[r#"
        shop/bids  Running  generation 3  5.00k rows/s in, 500 rows/s out  watermark 300 ms behind
        back-pressure: worker 1 is 5 epochs behind, the sources wait for it

        OPERATOR      ROWS/S IN   ROWS/S OUT   BUSY   LATE   SKIPPED    KEYS     STATE   WHAT
        source:1          10.0k        1.00k    0 %      0         0       -         -   bid
        aggregate:2       5.00k          500   90 %      0         0   12.3k   1.2 MiB   COUNT(*)

        WORKER   EPOCH   OPEN EPOCHS   IN FLIGHT   PEAK MEMORY   STATE
        0            9             1     4.0 KiB        64 MiB   runs
        1            5             5         0 B           0 B   does not run
    "#]]
    .assert_eq(&page(&looks(Some(view(1_000, 100.0))), Paint::Plain));
    let value = value(&looks(Some(view(1_000, 100.0))));
    assert_eq!((&value["operators"][1]["rowsInPerSecond"], &value["backPressure"]), (&json!(5_000.0), &json!(true)));
}

#[test]
fn looks_that_cannot_be_compared_give_no_rates() {
    let older = JobView { generation: 2, ..view(1_000, 100.0) };
    for before in [None, Some(older), Some(view(20_000, 100.0))] {
        let looks = looks(before);
        assert!(looks.operators().iter().all(|(_, _, rates)| rates.is_none()), "{looks:?}");
    }
}
