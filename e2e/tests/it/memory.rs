//! Memory stays under a stated bound, whatever a sink or a fan-out does.

use rheos_e2e::shapes::{Settings, Shape, manifest};
use rheos_e2e::worker::Job;

use crate::support::block_on;

/// The bound that the README states, for all processes of a two-worker job, bytes.
const BOUND: u64 = 512 * 1024 * 1024;

fn stays_below(name: &str, table: &str, insert: &str, events: u64) {
    block_on(async {
        let settings = Settings { events, checkpoint_ms: 1_000, ..Settings::default() };
        let source = Shape::named("filter").expect("a shape").sql(&settings);
        let source = source.split("CREATE TABLE out").next().expect("the source's part").to_owned();
        let job = Job::new(&manifest(name, &format!("{source}\n{table}\n{insert}"), &settings));
        let mut run = job.start();
        let code = run.wait().await;
        assert_eq!(code, 0, "{}", run.log());
        let summary = run.summary();
        assert!(summary.peak_rss_bytes > 1024 * 1024, "the peak was measured");
        assert!(summary.peak_rss_bytes < BOUND, "{name}: {} MiB held\n{}", summary.peak_rss_bytes >> 20, run.log());
    });
}

#[test]
fn a_slow_sink_holds_the_sources_back() {
    // A fast generator against 400,000 rows a second: without back-pressure it would run hundreds of megabytes ahead.
    stays_below(
        "slow-sink",
        "CREATE TABLE out (auction BIGINT, url VARCHAR, extra VARCHAR, num BIGINT) WITH ('connector' = 'blackhole', 'throttle.rows-per-second' = '400000');",
        "INSERT INTO out SELECT auction, url, extra, price FROM bid;",
        3_000_000,
    );
}

#[test]
fn a_hundredfold_fan_out_stays_bounded() {
    // Each bid is in a hundred windows. One sink takes all of these rows, slowly; the other counts them by few keys, so
    // that the fan-out crosses the exchange and the state stays small.
    stays_below(
        "fan-out",
        "CREATE VIEW spread AS SELECT MOD(auction, 10) AS id, url, extra, window_start
           FROM TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '1' SECOND, INTERVAL '100' SECOND));
         CREATE TABLE all_rows (id BIGINT, url VARCHAR, extra VARCHAR, starttime TIMESTAMP(3))
           WITH ('connector' = 'blackhole', 'throttle.rows-per-second' = '1000000');
         CREATE TABLE counts (id BIGINT, starttime TIMESTAMP(3), longest VARCHAR, num BIGINT) WITH ('connector' = 'blackhole');",
        "INSERT INTO all_rows SELECT id, url, extra, window_start FROM spread;
         INSERT INTO counts SELECT id, window_start, MAX(url), COUNT(*) FROM spread GROUP BY id, window_start;",
        100_000,
    );
}
