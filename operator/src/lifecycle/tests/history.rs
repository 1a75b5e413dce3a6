//! Random histories: people edit, pods and nodes go, the operator dies between two writes. Then everybody leaves it alone.
//!
//! Never do two coordinators that answer lead the same state. In the end the job runs as its spec says, and twenty more
//! decisions do nothing and write nothing.

use proptest::prelude::*;
use rheos_api::duration::DurationText;
use rheos_api::savepoint::{Disposal, SavepointSpec};
use rheos_api::stream_job::{DesiredState, Restore, RestoreFrom, UpgradeMode};

use super::world::World;

#[derive(Debug, Clone)]
enum Event {
    Parallelism(i64),
    Sql(usize),
    State(DesiredState),
    Mode(UpgradeMode, bool),
    Interval(u8),
    Nonce,
    Break,
    DeletePod(usize),
    EvictPod(usize),
    LoseNode(usize),
    RestartContainer(usize),
    ForgetFiles(usize),
    RemovePod(usize),
    Savepoint(u8),
    /// So many pods find room.
    Room(usize),
    /// The operator decides, and dies after so many writes.
    Die(usize),
    Reconcile,
    Wait(i64),
}

const SQLS: [&str; 6] = ["SELECT 1", "SELECT 2", "SELECT 3", "BAD 4", "HANG 5", "CRASH 6"];

fn event() -> impl Strategy<Value = Event> {
    let pod = 0..6_usize;
    prop_oneof![
        2 => (1..5_i64).prop_map(Event::Parallelism),
        3 => (0..SQLS.len()).prop_map(Event::Sql),
        1 => prop_oneof![Just(DesiredState::Running), Just(DesiredState::Suspended)].prop_map(Event::State),
        1 => (prop_oneof![Just(UpgradeMode::LastState), Just(UpgradeMode::Savepoint), Just(UpgradeMode::Stateless)], any::<bool>())
            .prop_map(|(mode, savepoint)| Event::Mode(mode, savepoint)),
        1 => (1..9_u8).prop_map(Event::Interval),
        1 => Just(Event::Nonce),
        1 => Just(Event::Break),
        2 => pod.clone().prop_map(Event::DeletePod),
        1 => pod.clone().prop_map(Event::EvictPod),
        1 => pod.clone().prop_map(Event::LoseNode),
        1 => pod.clone().prop_map(Event::RestartContainer),
        1 => pod.clone().prop_map(Event::ForgetFiles),
        1 => pod.prop_map(Event::RemovePod),
        1 => (0..3_u8).prop_map(Event::Savepoint),
        1 => (0..9_usize).prop_map(Event::Room),
        3 => (0..6_usize).prop_map(Event::Die),
        4 => Just(Event::Reconcile),
        6 => (0..20_i64).prop_map(Event::Wait),
        1 => (20..400_i64).prop_map(Event::Wait),
    ]
}

fn happen(world: &mut World, event: &Event) {
    let nth = |world: &World, n: usize| world.names().get(n % world.pods.len().max(1)).map(|name| (*name).to_owned());
    match event {
        Event::Parallelism(parallelism) => world.edit(|spec| spec.parallelism = *parallelism),
        Event::Sql(number) => world.edit(|spec| spec.sql = Some(SQLS[*number].to_owned())),
        Event::State(state) => world.edit(|spec| spec.state = *state),
        Event::Mode(mode, savepoint) => world.edit(|spec| {
            spec.upgrade.mode = *mode;
            spec.upgrade.savepoint_on_upgrade = *savepoint;
        }),
        Event::Interval(seconds) => world.edit(|spec| spec.checkpoint.interval = DurationText(format!("{seconds}s"))),
        Event::Nonce => world.edit(|spec| {
            let nonce = spec.restore.as_ref().map_or(0, |restore| restore.nonce) + 1;
            let from = RestoreFrom { savepoint: None, uri: Some("s3://bucket/x".into()) };
            spec.restore = Some(Restore { from, allow_non_restored_state: false, nonce });
        }),
        Event::Break => world.edit(|spec| spec.parallelism = 0),
        Event::DeletePod(n) => {
            let now = world.now;
            if let Some(pod) = nth(world, *n).and_then(|name| world.pods.get_mut(&name)) {
                pod.facts.deleting_since.get_or_insert(now);
            }
        }
        Event::EvictPod(n) => {
            if let Some(pod) = nth(world, *n).and_then(|name| world.pods.get_mut(&name)) {
                (pod.facts.phase, pod.facts.reason, pod.facts.ready) = ("Failed".into(), Some("Evicted".into()), false);
                pod.forget();
            }
        }
        Event::LoseNode(n) => {
            let now = world.now;
            if let Some(pod) = nth(world, *n).and_then(|name| world.pods.get_mut(&name)) {
                pod.lost = true;
                pod.facts.ready = false;
                pod.facts.deleting_since.get_or_insert(now);
            }
        }
        Event::RestartContainer(n) => {
            if let Some(pod) = nth(world, *n).and_then(|name| world.pods.get_mut(&name)) {
                pod.restart();
            }
        }
        Event::ForgetFiles(n) => {
            if let Some(pod) = nth(world, *n).and_then(|name| world.pods.get_mut(&name)) {
                pod.forget();
            }
        }
        Event::RemovePod(n) => {
            if let Some(name) = nth(world, *n) {
                world.pods.remove(&name);
            }
        }
        Event::Savepoint(number) => {
            world.savepoint(&format!("sp-{number}"), Default::default(), SavepointSpec { job: "q5".into(), disposal: Disposal::Retain });
        }
        Event::Room(pods) => world.room = *pods,
        Event::Die(steps) => {
            world.reconcile_until(*steps);
        }
        Event::Reconcile => {
            world.reconcile();
        }
        Event::Wait(seconds) => {
            world.tick(*seconds);
            world.reconcile();
        }
    }
}

fn check(events: &[Event]) -> Result<(), TestCaseError> {
    let mut world = World::new(|spec| {
        spec.checkpoint.timeout = DurationText::from("30s");
        spec.checkpoint.interval = DurationText::from("10s");
    });
    world.leave = 5;
    for event in events {
        happen(&mut world, event);
        prop_assert!(world.violations.is_empty(), "{:?}", world.violations);
    }
    // Everybody goes away; what they leave behind can run.
    world.pods.retain(|_, pod| !pod.lost);
    world.room = usize::MAX;
    world.edit(|spec| {
        spec.state = DesiredState::Running;
        spec.parallelism = spec.parallelism.max(1);
        spec.sql = Some("SELECT 9".to_owned());
    });
    world.until_running();
    prop_assert!(world.violations.is_empty(), "{:?}", world.violations);
    world.until("no savepoint is under way", |world| {
        use rheos_api::savepoint::SavepointPhase::{Completed, Failed};
        world.savepoints.values().all(|savepoint| matches!(savepoint.status.phase, Completed | Failed))
    });
    world.until_running();
    world.assert_at_rest();
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_job_runs_in_the_end_and_never_twice(events in proptest::collection::vec(event(), 1..40)) {
        check(&events)?;
    }
}
