//! Seeds: one run each, compared with the same job without faults.

use rheos_dataflow::sim::check;
use rheos_dataflow::sim::scenario::Scenario;

#[test]
fn seeds() {
    let mut failures = Vec::new();
    let only: Option<u64> = std::env::var("RHEOS_SIM_SEED").ok().and_then(|s| s.parse().ok());
    for seed in only.map_or(0..300, |s| s..s + 1) {
        let scenario = Scenario::draw(seed);
        let shape = scenario.shape;
        let start = std::time::Instant::now();
        match std::panic::catch_unwind(|| check(&scenario)).unwrap_or_else(|_| Err(format!("{seed} panicked"))) {
            Ok(o) => eprintln!(
                "{seed} {shape:?} {:?} {:?}",
                (o.steps, o.generations, o.checkpoints, o.abandoned, o.repeated_commits, o.faults),
                start.elapsed()
            ),
            Err(e) => {
                eprintln!("{seed} {shape:?} FAILED {e}");
                failures.push(seed)
            }
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
}
