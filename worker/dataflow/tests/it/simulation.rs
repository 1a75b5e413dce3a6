//! Whole jobs with faults: every seed's output is what a plain computation says.
//!
//! `RHEOS_SIM_SEED=n` runs one seed and tells about it; `RHEOS_SIM_SEEDS=n` runs that many.

use std::collections::BTreeMap;

use rheos_dataflow::sim::jobs::Shape;
use rheos_dataflow::sim::scenario::{Fault, FaultKind, PlantedBug, Point, Scenario};
use rheos_dataflow::sim::{Outcome, check, run};
use rheos_dataflow::sink::Delivery;

/// Seeds of an ordinary run.
const SEEDS: u64 = 600;
/// Seeds within which each planted bug must be seen.
const SEEDS_TO_SEE_A_BUG: u64 = 1_500;
/// Distance between the steps at which the sweep crashes a job.
const SWEEP_STRIDE: u64 = 9;

#[allow(clippy::disallowed_methods, reason = "how a person asks for one seed, or more of them")]
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|value| value.parse().ok())
}

/// Runs and checks a scenario; what fails ends with the line that repeats it.
fn passes(scenario: &Scenario) -> Outcome {
    let repeat = || scenario.repeat();
    match std::panic::catch_unwind(|| check(scenario)) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(failure)) => panic!("{failure}"),
        Err(_) => panic!("the engine panicked, see above\n{}", repeat()),
    }
}

#[test]
fn seeds() {
    if let Some(seed) = number("RHEOS_SIM_SEED") {
        let scenario = Scenario::draw(seed);
        let outcome = passes(&scenario);
        eprintln!("{scenario:#?}\n{outcome:#?}");
        return;
    }
    let seeds = number("RHEOS_SIM_SEEDS").unwrap_or(SEEDS);
    let mut total = Outcome::default();
    for seed in 0..seeds {
        let outcome = passes(&Scenario::draw(seed));
        total.steps += outcome.steps;
        total.generations += outcome.generations;
        total.checkpoints += outcome.checkpoints;
        total.abandoned += outcome.abandoned;
        total.repeated_commits += outcome.repeated_commits;
        for (fault, times) in outcome.faults {
            *total.faults.entry(fault).or_default() += times;
        }
    }
    eprintln!("{seeds} seeds: {total:?}");
    // A fault that never happens proves nothing.
    for point in Point::ALL {
        let crashes = total.faults.get(&(point, FaultKind::Crash)).copied().unwrap_or(0);
        assert!(crashes * 100 >= seeds, "only {crashes} crashes at {point:?} in {seeds} seeds");
    }
    assert!(total.abandoned * 4 >= seeds && total.repeated_commits * 2 >= seeds, "{total:?}");
}

#[test]
fn one_seed_is_one_run() {
    for seed in 0..20 {
        let scenario = Scenario::draw(seed * 31);
        assert_eq!(run(&scenario).unwrap(), run(&scenario).unwrap(), "{}", scenario.repeat());
    }
    let traces: std::collections::BTreeSet<u64> = (0..20).map(|seed| run(&Scenario::draw(seed * 9)).unwrap().trace).collect();
    assert_eq!(traces.len(), 20, "seeds of one shape choose differently");
}

#[test]
fn a_crash_at_any_step_changes_nothing() {
    for (n, shape) in (0..).zip(Shape::ALL) {
        let mut scenario = Scenario { faults: Vec::new(), put_failures: 0, ..Scenario::draw(9_000 + n) };
        assert_eq!(scenario.shape, shape);
        let steps = run(&scenario).unwrap().steps.min(1_200);
        for after in (0..steps).step_by(SWEEP_STRIDE as usize) {
            let crash = |after: u64| Fault { point: Point::Anywhere, after, kind: FaultKind::Crash, workers: 1 + (after % 4) as u32 };
            // Every second time once more, soon after.
            scenario.faults = vec![crash(after), crash(after / 2 % 40)];
            scenario.faults.truncate(1 + (after % 2) as usize);
            check(&scenario).unwrap_or_else(|failure| panic!("crash at step {after}: {failure}"));
        }
    }
}

/// The seed's scenario in a job that is at most once.
fn at_most_once(seed: u64) -> Scenario {
    Scenario { delivery: Delivery::AtMostOnce, ..Scenario::draw(seed) }
}

#[test]
fn at_most_once_repeats_nothing_and_is_seen_to_lose() {
    let mut lost = BTreeMap::new();
    for seed in 0..SEEDS {
        let scenario = at_most_once(seed);
        let outcome = passes(&scenario);
        let whole = run(&Scenario { faults: Vec::new(), ..scenario.clone() }).unwrap();
        *lost.entry(scenario.shape).or_insert(0) += i64::from(outcome.results != whole.results);
    }
    eprintln!("seeds in which rows were lost, by shape: {lost:?}");
    assert!(lost.len() == Shape::ALL.len() && lost.values().all(|seeds| *seeds > 0), "{lost:?}");
}

#[test]
fn stops_on_purpose_lose_nothing_at_most_once() {
    let mut stops = 0;
    for seed in 0..SEEDS / 2 {
        let mut scenario = at_most_once(seed);
        scenario.faults.iter_mut().for_each(|fault| (fault.point, fault.kind) = (Point::Anywhere, FaultKind::Suspend));
        let (stopped, whole) = (run(&scenario).unwrap(), run(&Scenario { faults: Vec::new(), ..scenario.clone() }).unwrap());
        assert_eq!(stopped.results, whole.results, "{scenario:?}");
        stops += stopped.generations - 1;
    }
    assert!(stops >= SEEDS / 2, "only {stops} stops");
}

/// Each kind of state by itself: a change-log that fails could hide that windows repeat.
#[test]
fn sinks_behind_state_that_hold_nothing_back_or_commit_twice_are_seen_to_repeat() {
    let state = [Shape::Tumble, Shape::Hop, Shape::Cumulate, Shape::Union, Shape::Group, Shape::GroupOverGroup, Shape::TwoSinks];
    for bug in [PlantedBug::WriteAtOnce, PlantedBug::CopyOnRepeat] {
        for shape in state {
            let failure = (0..SEEDS_TO_SEE_A_BUG).filter(|seed| Scenario::draw(*seed).shape == shape).find_map(|seed| {
                let failure = check(&Scenario { bug: Some(bug), ..at_most_once(seed) }).err()?;
                Some((seed, failure.lines().next().unwrap_or_default().to_string()))
            });
            let (seed, failure) = failure.unwrap_or_else(|| panic!("{bug:?} is not seen in {shape:?}"));
            eprintln!("{bug:?}, {shape:?}: seed {seed}: {failure}");
        }
    }
}

#[test]
fn every_planted_bug_is_seen() {
    let mut seen = BTreeMap::new();
    for bug in PlantedBug::ALL {
        let found = (0..SEEDS_TO_SEE_A_BUG).find_map(|seed| {
            let mut scenario = Scenario { bug: Some(bug), ..Scenario::draw(seed) };
            if bug == PlantedBug::ForgetFailedUpload {
                // It shows only where a failed upload is followed by a crash.
                scenario.put_failures = 8;
            }
            if bug == PlantedBug::DropCarried {
                // It shows only where a commit lasts beyond the next checkpoint.
                scenario.commit_rests = 128;
            }
            if bug == PlantedBug::WriteAtOnce {
                scenario.delivery = Delivery::AtMostOnce;
            }
            let failure = check(&scenario).err()?;
            Some((seed, failure.lines().next().unwrap_or_default().to_string()))
        });
        let (seed, failure) = found.unwrap_or_else(|| panic!("{bug:?} is not seen in {SEEDS_TO_SEE_A_BUG} seeds"));
        seen.insert(format!("{bug:?}"), seed);
        eprintln!("{bug:?}: seed {seed}: {failure}");
    }
    assert_eq!(seen.len(), PlantedBug::ALL.len());
}
