//! Upgrades, and ways back.

use rheos_api::duration::DurationText;
use rheos_api::rollout::RolloutStage;
use rheos_api::savepoint::SavepointPhase;
use rheos_api::status::Phase;
use rheos_api::stream_job::UpgradeMode;

use super::world::World;
use crate::conditions::{self, reasons};
use crate::reconcile::Action;

fn running() -> World {
    let mut world = World::new(|spec| spec.parallelism = 2);
    world.until_running();
    world
}

fn sql(world: &mut World, text: &str) {
    world.edit(|spec| spec.sql = Some(text.to_owned()));
}

#[test]
fn new_pods_first_then_a_stop_with_checkpoint_then_the_new_coordinator_then_the_old_pods_go() {
    let mut world = running();
    let old: Vec<String> = world.names().into_iter().map(str::to_owned).collect();
    sql(&mut world, "SELECT 2");
    let mut order = Vec::new();
    while !world.is_settled() {
        for action in world.reconcile().actions {
            let ours = match &action {
                Action::CreatePod(_) => "create",
                Action::Stop { pod, .. } if old.contains(pod) => "stop",
                Action::Assign { pod, .. } if !old.contains(pod) => "assign",
                Action::DeletePod { target, .. } if old.contains(&target.name) => "delete",
                _ => continue,
            };
            if order.last() != Some(&ours) {
                order.push(ours);
            }
        }
        world.tick(1);
        assert!(order.len() < 9, "{order:?}");
    }
    assert_eq!(order, ["create", "stop", "assign", "delete"]);
    assert_eq!(world.store.len(), 1);
    assert!(world.has_event(reasons::UPGRADING) && world.has_event(reasons::STABLE));
    world.assert_at_rest();
}

#[test]
fn a_new_revision_that_cannot_start_never_stops_the_old_one() {
    let mut world = running();
    sql(&mut world, "CRASH 2");
    world.until("the way back", |world| world.status.rejected.is_some());
    assert!(world.has_event(reasons::ROLLED_BACK));
    assert!(!world.done.contains(&"Stop".to_owned()), "the old job was never stopped");
    world.until("the old job alone", |world| world.pods.len() == 2 && world.status.rollout.is_none());
    assert_eq!((world.sql().as_str(), world.status.assignment), ("SELECT 1", 1));
    assert_eq!(world.condition(conditions::DEGRADED), ("True".into(), reasons::ROLLED_BACK.into()));
    assert_eq!(world.condition(conditions::READY).0, "True");
    world.assert_at_rest();
    sql(&mut world, "SELECT 3");
    world.until_running();
    assert_eq!((world.sql().as_str(), world.condition(conditions::DEGRADED).0.as_str()), ("SELECT 3", "False"));
}

#[test]
fn where_there_is_no_room_for_both_the_old_pods_make_way_with_a_checkpoint() {
    let mut world = running();
    world.room = 3;
    sql(&mut world, "SELECT 2");
    world.until("no room", |world| world.condition(conditions::DEGRADED).1 == reasons::UNSCHEDULABLE);
    assert!(!world.done.contains(&"Stop".to_owned()), "room may come");
    world.until_running();
    assert_eq!((world.sql().as_str(), world.pods.len()), ("SELECT 2", 2));
    assert!(world.done.contains(&"Stop".to_owned()) && world.has_event(reasons::MAKING_ROOM));
    assert!(world.violations.is_empty(), "{:?}", world.violations);
    world.assert_at_rest();
    // What makes way for something that cannot start comes back.
    sql(&mut world, "CRASH 3");
    world.until("the way back", |world| world.status.rejected.is_some() && world.is_settled());
    assert_eq!((world.sql().as_str(), world.pods.len()), ("SELECT 2", 2));
    world.assert_at_rest();
}

#[test]
fn a_revision_that_cannot_read_the_state_is_rolled_back() {
    for bad in ["BAD 2", "HANG 2"] {
        let mut world = running();
        sql(&mut world, bad);
        world.until("the old job again", |world| world.status.rejected.is_some() && world.is_settled());
        assert_eq!(world.sql(), "SELECT 1");
        assert_eq!(world.store.len(), 1);
        assert!(world.violations.is_empty(), "{:?}", world.violations);
        assert!(world.has_event(reasons::ROLLING_BACK));
        world.assert_at_rest();
        // The same again is not tried; going away from it and back is.
        sql(&mut world, "SELECT 1");
        world.until_running();
        assert_eq!(world.status.rejected, None);
        world.assert_at_rest();
        sql(&mut world, bad);
        world.until("the old job again", |world| world.status.rejected.is_some() && world.is_settled());
    }
}

#[test]
fn what_is_not_to_be_rolled_back_stays_and_says_why() {
    let mut world = running();
    world.edit(|spec| {
        spec.upgrade.rollback = false;
        spec.sql = Some("BAD 2".into());
    });
    world.until("the failure", |world| world.status.phase == Phase::Failed);
    assert_eq!(world.condition(conditions::DEGRADED), ("True".into(), reasons::BAD_STATE.into()));
    world.assert_at_rest();
    sql(&mut world, "SELECT 3");
    world.until_running();
}

#[test]
fn an_edit_during_an_upgrade_changes_its_goal() {
    for stage in [RolloutStage::Preparing, RolloutStage::Stopping, RolloutStage::Starting] {
        let mut world = running();
        sql(&mut world, "SELECT 2");
        world.until("the stage", |world| world.status.rollout.as_ref().is_some_and(|rollout| rollout.stage >= stage));
        sql(&mut world, "SELECT 3");
        world.until_running();
        assert_eq!((world.sql().as_str(), world.store.len()), ("SELECT 3", 1), "{stage:?}");
        world.assert_at_rest();
        assert!(world.violations.is_empty(), "{:?}", world.violations);
    }
}

#[test]
fn twenty_edits_in_a_second_end_at_the_last() {
    let mut world = running();
    for number in 2..22 {
        sql(&mut world, &format!("SELECT {number}"));
        world.reconcile();
        if number % 5 == 0 {
            world.tick(1);
        }
    }
    world.until_running();
    assert_eq!(world.sql(), "SELECT 21");
    assert!(world.snapshots.len() <= 3, "{} snapshots are kept", world.snapshots.len());
    world.assert_at_rest();
}

#[test]
fn a_stateless_upgrade_begins_anew_and_a_way_back_finds_the_old_state() {
    let mut world = running();
    world.edit(|spec| {
        spec.upgrade.mode = UpgradeMode::Stateless;
        spec.sql = Some("SELECT 2".into());
    });
    world.until_running();
    assert_eq!(world.status.assigned.as_ref().unwrap().run.state_id, "u-2");
    world.edit(|spec| {
        spec.sql = Some("HANG 3".into());
        spec.upgrade.mode = UpgradeMode::Stateless;
    });
    world.until("the way back", |world| world.status.rejected.is_some() && world.is_settled());
    assert_eq!(world.status.assigned.as_ref().unwrap().run.state_id, "u-2");
    world.edit(|spec| {
        spec.sql = Some("SELECT 4".into());
        spec.upgrade.mode = UpgradeMode::LastState;
    });
    world.until_running();
    assert_eq!(world.status.assigned.as_ref().unwrap().run.state_id, "u-2", "never stateless by itself");
}

#[test]
fn a_stateful_edit_of_a_failing_stateless_upgrade_goes_on_from_the_last_good_state() {
    let mut world = running();
    world.edit(|spec| {
        spec.sql = Some("HANG 2".into());
        spec.upgrade.mode = UpgradeMode::Stateless;
    });
    world.until("the stage", |world| world.status.rollout.as_ref().is_some_and(|rollout| rollout.stage == RolloutStage::Starting));
    world.edit(|spec| {
        spec.sql = Some("SELECT 3".into());
        spec.upgrade.mode = UpgradeMode::LastState;
    });
    world.until_running();
    assert_eq!(world.status.assigned.as_ref().unwrap().run.state_id, "u");
}

#[test]
fn a_savepoint_is_taken_before_the_upgrade_where_asked_for() {
    for mode in [UpgradeMode::Savepoint, UpgradeMode::LastState] {
        let mut world = running();
        world.edit(|spec| {
            spec.sql = Some("SELECT 2".into());
            spec.upgrade.mode = mode;
            spec.upgrade.savepoint_on_upgrade = mode == UpgradeMode::LastState;
        });
        world.until("the stop", |world| world.done.contains(&"Stop".to_owned()));
        assert!(world.savepoints.values().all(|savepoint| savepoint.status.phase == SavepointPhase::Completed));
        assert_eq!(world.savepoints.len(), 1);
        world.until_running();
    }
}

#[test]
fn a_savepoint_that_fails_takes_the_upgrade_back_before_anything_stops() {
    let mut world = running();
    world.savepoints_fail = true;
    world.edit(|spec| {
        spec.sql = Some("SELECT 2".into());
        spec.upgrade.mode = UpgradeMode::Savepoint;
    });
    world.until("the way back", |world| world.status.rejected.is_some());
    assert_eq!(world.status.rejected.as_ref().unwrap().reason, reasons::SAVEPOINT_FAILED);
    assert!(!world.done.contains(&"Stop".to_owned()));
    world.until("the old job", |world| world.is_settled());
    assert_eq!(world.sql(), "SELECT 1");
}

#[test]
fn a_job_that_never_ran_can_be_corrected() {
    for bad in ["CRASH 1", "BAD 1", "HANG 1"] {
        let mut world = World::new(|spec| spec.sql = Some(bad.into()));
        for _ in 0..100 {
            world.reconcile();
            world.tick(2);
        }
        sql(&mut world, "SELECT 2");
        world.until_running();
        world.assert_at_rest();
    }
}

#[test]
fn no_upgrade_starts_from_a_checkpoint_that_is_too_old() {
    let mut world = running();
    world.edit(|spec| spec.upgrade.max_checkpoint_age = Some(DurationText::from("1m")));
    world.until_running();
    // The job fails for good, and its last checkpoint grows old.
    for pod in world.pods.values_mut() {
        if let Some(view) = &mut pod.view {
            view.state = Phase::Failed;
            view.failure = Some(rheos_control_api::Failure { kind: "bad data".into(), place: "p".into(), message: "m".into() });
        }
    }
    world.until("the failure", |world| world.status.phase == Phase::Failed);
    world.tick(120);
    sql(&mut world, "SELECT 2");
    world.until("the reason", |world| world.condition(conditions::DEGRADED) == ("True".into(), reasons::CHECKPOINT_TOO_OLD.into()));
    for _ in 0..50 {
        world.tick(2);
        world.reconcile();
    }
    assert_eq!(world.sql(), "");
    world.edit(|spec| spec.upgrade.max_checkpoint_age = None);
    world.until_running();
}

#[test]
fn what_cannot_change_is_refused_and_the_job_goes_on() {
    for edit in [
        (|spec: &mut rheos_api::StreamJobSpec| {
            spec.max_parallelism = 64;
            spec.sql = Some("SELECT 2".into());
        }) as fn(&mut rheos_api::StreamJobSpec),
        |spec| spec.checkpoint.storage.as_mut().unwrap().uri = "s3://elsewhere/prefix".into(),
    ] {
        let mut world = running();
        let before = world.spec.clone();
        world.edit(edit);
        world.reconcile();
        assert_eq!(world.condition(conditions::DEGRADED), ("True".into(), reasons::CHANGE_REFUSED.into()));
        world.assert_at_rest();
        assert_eq!((world.sql().as_str(), world.status.assignment), ("SELECT 1", 1));
        world.edit(|spec| *spec = before);
        world.until_running();
        assert_eq!(world.condition(conditions::DEGRADED).0, "False");
    }
}

#[test]
fn an_old_job_that_does_not_stop_is_taken_away_after_a_while() {
    let mut world = running();
    world.stops_hang = true;
    sql(&mut world, "SELECT 2");
    world.until_running();
    assert!(world.has_event(reasons::STOP_TIMED_OUT));
    assert!(world.violations.is_empty(), "{:?}", world.violations);
}

#[test]
fn a_pod_of_the_old_job_that_is_lost_during_preparation_is_healed() {
    let mut world = running();
    world.room = 0;
    sql(&mut world, "SELECT 2");
    world.reconcile();
    world.tick(1);
    world.room = usize::MAX;
    let name = world.names().into_iter().find(|name| name.ends_with("-1-1")).unwrap().to_owned();
    world.pods.get_mut(&name).unwrap().facts.deleting_since = Some(world.now);
    world.until_running();
    assert_eq!(world.sql(), "SELECT 2");
}
