//! Starting, running, resting, ending.

use std::time::Duration;

use rheos_api::duration::DurationText;
use rheos_api::savepoint::{Disposal, SavepointPhase, SavepointSpec};
use rheos_api::status::{Phase, StreamJobStatus};
use rheos_api::stream_job::{DesiredState, Restore, RestoreFrom};
use rheos_control_api::Failure;

use super::world::{World, no, yes};
use crate::conditions::{self, reasons};
use crate::labels;
use crate::reconcile::{Action, Decision, Refusal};

#[test]
fn a_job_comes_to_run_and_then_nothing_is_done() {
    let mut world = World::new(|spec| spec.parallelism = 2);
    world.until_running();
    assert_eq!(world.names().len(), 2);
    assert!(world.names()[0].ends_with("-0-1") && world.names()[1].ends_with("-1-1"));
    assert_eq!(world.condition(conditions::READY), yes(reasons::RUNNING));
    assert_eq!(world.condition(conditions::PROGRESSING), no(reasons::SETTLED));
    assert_eq!(world.condition(conditions::DEGRADED), no(reasons::HEALTHY));
    assert_eq!(world.condition(conditions::RESTORABLE), yes(reasons::CHECKPOINT_AVAILABLE));
    assert_eq!(world.condition(conditions::CHECKPOINT_HEALTHY), yes(reasons::CHECKPOINTING));
    assert_eq!(world.condition(conditions::SUSPENDED), no(reasons::NOT_SUSPENDED));
    assert_eq!(world.store["u"].generation, 1);
    assert_eq!(world.done.iter().filter(|name| *name == "Assign").count(), 1);
    world.assert_at_rest();
}

#[test]
fn a_new_job_gets_its_pods_before_anything_else_is_written_and_only_at_the_first_look() {
    let mut world = World::new(|spec| spec.parallelism = 2);
    let decision = world.reconcile();
    let names = |decision: &Decision| decision.actions.iter().map(Action::name).collect::<Vec<_>>();
    assert_eq!(names(&decision), ["CreateConfigMap", "CreateToken", "CreatePod", "CreatePod"]);
    assert_eq!((decision.status, decision.requeue), (StreamJobStatus::default(), Some(Duration::ZERO)));
    let pods = world.pods.clone();
    let decision = world.reconcile();
    assert_eq!(names(&decision), ["AddFinalizer", "CreateService", "CreatePdb"]);
    assert_eq!(decision.status.phase, Phase::Deploying);
    assert_eq!(world.names(), pods.keys().collect::<Vec<_>>());
    // An operator that does not see the pods that were made makes the same ones, and writes the status first.
    let mut blind = World::new(|spec| spec.parallelism = 2);
    blind.first_look = false;
    let decision = blind.reconcile();
    assert!(names(&decision).contains(&"AddFinalizer") && decision.status.phase == Phase::Deploying);
    assert_eq!(blind.names(), pods.keys().collect::<Vec<_>>());
}

#[test]
fn status_is_written_before_the_coordinator_is_told() {
    let mut world = World::new(|_| {});
    loop {
        let before = world.status.assignment;
        let decision = world.reconcile();
        if let Some(Action::Assign { assignment, .. }) = decision.actions.iter().find(|action| action.is_act()) {
            assert!(decision.status.assignment == assignment.version && assignment.version == before + 1);
            assert_eq!(decision.status.pending.as_ref().map(|pending| pending.kind.as_str()), Some("Generation"));
            break;
        }
        world.tick(1);
    }
}

#[test]
fn a_healthy_job_writes_its_figures_once_a_minute() {
    let mut world = World::new(|_| {});
    world.until_running();
    world.assert_at_rest();
    let (mut writes, mut before) = (0, world.status.clone());
    for _ in 0..300 {
        world.tick(1);
        world.reconcile();
        writes += usize::from(world.status != before);
        before.clone_from(&world.status);
    }
    assert!((4..=6).contains(&writes), "{writes} writes in five minutes");
}

#[test]
fn a_lost_pod_is_replaced_at_once_under_a_new_name() {
    for index in [0, 1] {
        let mut world = World::new(|spec| spec.parallelism = 2);
        world.until_running();
        let name = world.names()[index].to_owned();
        world.pods.get_mut(&name).unwrap().lost = true;
        world.pods.get_mut(&name).unwrap().facts.deleting_since = Some(world.now);
        let decision = world.reconcile();
        assert!(decision.actions.iter().any(|action| matches!(action, Action::CreatePod(_))), "{:?}", decision.actions);
        assert!(world.has_event(reasons::POD_LOST));
        world.until("another pod in its place", |world| world.status.assignment == 2 && world.status.phase == Phase::Running);
        assert!(world.names().iter().any(|name| name.ends_with(&format!("-{index}-2"))));
        assert!(world.store["u"].generation > 1);
        // The node is given up, and the pod with it.
        world.pods.remove(&name);
        world.assert_at_rest();
        assert!(world.violations.is_empty(), "{:?}", world.violations);
    }
}

#[test]
fn an_evicted_pod_is_replaced_and_removed() {
    let mut world = World::new(|spec| spec.parallelism = 2);
    world.until_running();
    let name = world.names()[1].to_owned();
    let pod = &mut world.pods.get_mut(&name).unwrap().facts;
    (pod.phase, pod.reason, pod.ready) = ("Failed".into(), Some("Evicted".into()), false);
    world.reconcile();
    assert!(world.has_event(reasons::EVICTED));
    world.tick(1);
    assert!(!world.pods.contains_key(&name));
    world.until_running();
    assert_eq!(world.status.last_restart.as_ref().map(|restart| restart.reason.as_str()), Some(reasons::EVICTED));
}

#[test]
fn a_coordinator_that_lost_its_files_is_told_again() {
    let mut world = World::new(|_| {});
    world.until_running();
    let name = world.names()[0].to_owned();
    world.pods.get_mut(&name).unwrap().forget();
    world.until_running();
    assert_eq!((world.status.assignment, world.store["u"].generation), (1, 2));
}

#[test]
fn more_workers_are_waited_for_beside_the_running_job() {
    let mut world = World::new(|spec| spec.parallelism = 2);
    world.until_running();
    world.room = 2;
    world.edit(|spec| spec.parallelism = 4);
    world.until("no room", |world| world.condition(conditions::DEGRADED) == yes(reasons::UNSCHEDULABLE));
    assert_eq!((world.status.phase, world.status.parallelism.running, world.status.assignment), (Phase::Running, 2, 1));
    assert_eq!(world.condition(conditions::PROGRESSING), yes(reasons::RESCALING));
    world.room = 4;
    world.until_running();
    assert_eq!((world.status.parallelism.running, world.status.assignment), (4, 2));
    world.edit(|spec| spec.parallelism = 1);
    world.until_running();
    assert_eq!(world.names().len(), 1);
    assert_eq!(world.condition(conditions::DEGRADED), no(reasons::HEALTHY));
    world.assert_at_rest();
}

#[test]
fn settings_are_told_without_a_new_generation() {
    let mut world = World::new(|_| {});
    world.until_running();
    world.edit(|spec| spec.checkpoint.interval = DurationText::from("1s"));
    world.until("the new interval", |world| world.status.assignment == 2);
    world.until_running();
    assert_eq!(world.store["u"].generation, 1);
    world.assert_at_rest();
}

#[test]
fn a_suspended_job_has_a_checkpoint_and_no_pods_and_goes_on_from_there() {
    let mut world = World::new(|spec| spec.parallelism = 2);
    world.until_running();
    world.edit(|spec| spec.state = DesiredState::Suspended);
    let decision = world.reconcile();
    assert!(matches!(decision.actions.as_slice(), [Action::Stop { .. }]), "{:?}", decision.actions);
    assert_eq!(world.status.pending.as_ref().map(|pending| pending.kind.as_str()), Some("Stop"));
    world.until("no pods", |world| world.pods.is_empty());
    assert_eq!((world.status.phase, world.condition(conditions::SUSPENDED).0.as_str()), (Phase::Suspended, "True"));
    world.assert_at_rest();
    let epoch = world.store["u"].epoch;
    world.edit(|spec| spec.state = DesiredState::Running);
    world.until_running();
    world.until("another checkpoint", |world| world.store["u"].epoch > epoch);
    assert_eq!(world.store.len(), 1);
    world.assert_at_rest();
}

#[test]
fn a_job_that_does_not_stop_in_time_is_suspended_from_its_last_checkpoint() {
    let mut world = World::new(|spec| spec.checkpoint.timeout = DurationText::from("30s"));
    world.until_running();
    world.stops_hang = true;
    world.edit(|spec| spec.state = DesiredState::Suspended);
    world.until("no pods", |world| world.status.phase == Phase::Suspended && world.pods.is_empty());
    assert!(world.has_event(reasons::STOP_TIMED_OUT));
    world.assert_at_rest();
}

#[test]
fn a_finished_job_keeps_its_outcome_and_loses_its_pods() {
    let mut world = World::new(|spec| spec.sql = Some("END 1".into()));
    world.until("the end", |world| world.status.phase == Phase::Finished);
    assert_eq!(world.names().len(), 1);
    assert_eq!(world.condition(conditions::READY), no(reasons::FINISHED));
    world.assert_at_rest();
    world.until("no pods", |world| world.pods.is_empty());
    world.assert_at_rest();
    world.edit(|spec| spec.upgrade.rollback = false);
    world.reconcile();
    world.assert_at_rest();
    assert_eq!(world.status.phase, Phase::Finished);
    world.edit(|spec| spec.sql = Some("SELECT 2".into()));
    world.until_running();
}

#[test]
fn a_job_that_fails_for_good_says_why_and_starts_again_when_edited() {
    let mut world = World::new(|spec| spec.sql = Some("BAD 1".into()));
    world.until("the failure", |world| world.status.phase == Phase::Failed);
    assert_eq!(world.condition(conditions::DEGRADED), yes(reasons::BAD_STATE));
    assert_eq!(world.condition(conditions::READY), no(reasons::BAD_STATE));
    world.assert_at_rest();
    world.tick(3600);
    world.until("no pods", |world| world.pods.is_empty());
    assert_eq!(world.condition(conditions::DEGRADED), yes(reasons::BAD_STATE), "the cause outlives the pods");
    let message = conditions::get(&world.status.conditions, conditions::DEGRADED).unwrap().message.clone();
    assert!(message.contains("kubectl streamjob restart q5 -n ns"), "{message}");
    world.assert_at_rest();
    world.edit(|spec| spec.sql = Some("SELECT 2".into()));
    world.until_running();
    assert_eq!(world.condition(conditions::DEGRADED), no(reasons::HEALTHY));
}

#[test]
fn a_failed_job_goes_on_from_its_last_checkpoint_when_its_restart_is_asked_for() {
    let mut world = World::new(|_| {});
    world.until_running();
    let (name, place) = (world.names()[0].to_owned(), world.store["u"].clone());
    let view = world.pods.get_mut(&name).unwrap().view.as_mut().unwrap();
    view.state = Phase::Failed;
    view.failure = Some(Failure { kind: "transient failure".into(), place: "bid".into(), message: "no broker answers".into() });
    world.until("the failure", |world| world.status.phase == Phase::Failed);
    assert_eq!(world.condition(conditions::DEGRADED), yes(reasons::TRANSIENT_FAILURE));
    world.assert_at_rest();
    // What `kubectl streamjob restart` writes.
    let annotations = serde_json::json!({"metadata": {"annotations": {"rheos.dev/restarted-at": "now"}}});
    world.edit(|spec| spec.worker.pod_template = annotations.as_object().cloned());
    world.until_running();
    assert!(!world.names().contains(&name.as_str()), "new pods read anew what was corrected beside the spec");
    let now = &world.store["u"];
    assert!(now.generation > place.generation && now.epoch > place.epoch, "{now:?} after {place:?}");
    assert_eq!(world.condition(conditions::DEGRADED), no(reasons::HEALTHY));
}

#[test]
fn a_broken_spec_leaves_the_job_alone_and_healing() {
    let mut world = World::new(|spec| spec.parallelism = 2);
    world.until_running();
    world.edit(|spec| spec.parallelism = 0);
    world.reconcile();
    assert_eq!(world.condition(conditions::DEGRADED), yes(reasons::INVALID_SPEC));
    assert_eq!((world.status.phase, world.status.parallelism.running), (Phase::Running, 2));
    let name = world.names()[1].to_owned();
    world.pods.remove(&name);
    world.until("the same job", |world| world.status.phase == Phase::Running && world.pods.len() == 2);
    world.edit(|spec| spec.parallelism = 2);
    world.until_running();
    world.assert_at_rest();
}

#[test]
fn a_spec_that_was_never_good_starts_nothing() {
    let mut world = World::new(|spec| spec.sql = None);
    world.reconcile();
    assert_eq!((world.status.phase, world.condition(conditions::DEGRADED)), (Phase::Created, yes(reasons::INVALID_SPEC)));
    assert_eq!(world.condition(conditions::READY), no(reasons::INVALID_SPEC));
    world.assert_at_rest();
    world.edit(|spec| spec.sql = Some("SELECT 1".into()));
    world.until_running();
}

#[test]
fn nothing_is_done_to_a_paused_job() {
    let mut world = World::new(|_| {});
    world.until_running();
    world.job.annotations.insert(labels::PAUSED.into(), "true".into());
    world.pods.clear();
    let decision = world.reconcile();
    assert!(decision.actions.is_empty());
    assert_eq!(world.condition(conditions::RECONCILIATION_PAUSED), yes(reasons::PAUSED));
    world.assert_at_rest();
    world.job.annotations.clear();
    world.until_running();
    assert_eq!(world.condition(conditions::RECONCILIATION_PAUSED), no(reasons::NOT_PAUSED));
}

#[test]
fn the_first_start_waits_for_the_savepoint_it_names() {
    let from = RestoreFrom { savepoint: Some("old".into()), uri: None };
    let mut world = World::new(|spec| spec.restore = Some(Restore { from, allow_non_restored_state: false, nonce: 0 }));
    world.until("the missing savepoint", |world| world.condition(conditions::DEGRADED) == yes(reasons::RESTORE_SOURCE_MISSING));
    world.savepoint("old", Default::default(), SavepointSpec { job: "other".into(), disposal: Disposal::Retain });
    let savepoint = world.savepoints.get_mut("old").unwrap();
    savepoint.status.phase = SavepointPhase::Completed;
    savepoint.status.uri = Some("s3://bucket/old".into());
    world.until_running();
    assert_eq!(world.store["u"].from.as_deref(), Some("s3://bucket/old"));
    world.assert_at_rest();
}

#[test]
fn a_risen_nonce_restores_into_a_place_of_its_own_once() {
    let mut world = World::new(|_| {});
    world.until_running();
    let from = RestoreFrom { savepoint: None, uri: Some("s3://bucket/x".into()) };
    world.edit(|spec| spec.restore = Some(Restore { from, allow_non_restored_state: true, nonce: 1 }));
    world.until_running();
    assert_eq!(world.store["u-2"].from.as_deref(), Some("s3://bucket/x"));
    assert_eq!(world.status.restore_nonce, Some(1));
    world.edit(|spec| spec.restore = None);
    world.until_running();
    assert_eq!(world.store.len(), 2);
    world.assert_at_rest();
}

#[test]
fn refusals_of_the_namespace_are_told_and_heal() {
    let mut world = World::new(|_| {});
    world.reconcile_until(2);
    let message = "pods \"x\" is forbidden: exceeded quota: tight";
    world.refusals =
        vec![Refusal { action: "CreatePod", object: "x".into(), code: 403, reason: "Forbidden".into(), message: message.into() }];
    world.reconcile_until(1);
    assert_eq!(world.condition(conditions::DEGRADED), yes(reasons::QUOTA_EXCEEDED));
    assert!(world.has_event(reasons::QUOTA_EXCEEDED));
    world.until_running();
    assert_eq!(world.condition(conditions::DEGRADED), no(reasons::HEALTHY));
}

#[test]
fn a_deleted_job_lets_its_pods_leave_and_then_goes() {
    let mut world = World::new(|spec| spec.parallelism = 2);
    world.until_running();
    world.job.deleting_since = Some(world.now);
    world.reconcile();
    assert!(world.job.finalizer && world.pods.values().all(|pod| pod.facts.deleting_since.is_some()));
    assert_eq!(world.condition(conditions::PROGRESSING), yes(reasons::DELETING));
    world.until("the end", |world| !world.job.finalizer);
    assert!(world.pods.is_empty());
}

#[test]
fn pods_that_never_leave_do_not_hold_a_deletion_up_for_ever() {
    let mut world = World::new(|_| {});
    world.until_running();
    world.job.deleting_since = Some(world.now);
    world.pods.values_mut().for_each(|pod| pod.lost = true);
    world.reconcile();
    world.tick(60);
    world.reconcile();
    assert!(world.job.finalizer);
    world.tick(400);
    world.reconcile();
    assert!(!world.job.finalizer);
}

#[test]
fn a_last_savepoint_is_taken_before_the_pods_leave() {
    for fails in [false, true] {
        let mut world = World::new(|spec| spec.savepoints.on_delete = true);
        world.until_running();
        world.savepoints_fail = fails;
        world.job.deleting_since = Some(world.now);
        world.until("the end", |world| !world.job.finalizer);
        let expected = if fails { SavepointPhase::Failed } else { SavepointPhase::Completed };
        assert_eq!(world.phase_of("q5-final-u"), Some(expected));
        assert_eq!(world.has_event(reasons::SAVEPOINT_FAILED), fails);
    }
}

#[test]
fn force_lets_a_job_go_at_once() {
    let mut world = World::new(|_| {});
    world.until_running();
    world.job.deleting_since = Some(world.now);
    world.job.annotations.insert(labels::FORCE_DELETE.into(), "true".into());
    world.reconcile();
    assert!(!world.job.finalizer);
}

#[test]
fn one_savepoint_is_in_flight_and_failures_are_tried_again() {
    let mut world = World::new(|_| {});
    world.until_running();
    for name in ["a", "b"] {
        world.savepoint(name, Default::default(), SavepointSpec { job: "q5".into(), disposal: Disposal::Retain });
    }
    world.reconcile();
    let flying = |world: &World| world.savepoints.values().filter(|savepoint| savepoint.status.phase == SavepointPhase::InProgress).count();
    assert_eq!(flying(&world), 1);
    world.savepoints_fail = true;
    let begun = world.now;
    world.until("all tries", |world| {
        assert!(flying(world) <= 1);
        world.phase_of("a") == Some(SavepointPhase::Failed) && world.phase_of("b") == Some(SavepointPhase::Failed)
    });
    assert_eq!(world.savepoints["a"].status.attempts, 3);
    assert!(Duration::try_from(world.now - begun).is_ok_and(|took| took >= Duration::from_secs(30)), "with pauses");
    world.savepoints_fail = false;
    world.savepoint("c", Default::default(), SavepointSpec { job: "q5".into(), disposal: Disposal::Retain });
    world.until("a savepoint", |world| world.phase_of("c") == Some(SavepointPhase::Completed));
    assert_eq!(world.status.last_savepoint.as_ref().map(|last| &last.uri), world.savepoints["c"].status.uri.as_ref());
    assert_eq!(world.savepoints["c"].status.storage.as_ref().map(|storage| storage.uri.as_str()), Some("s3://bucket/prefix"));
    world.until_running();
    world.assert_at_rest();
}

#[test]
fn periodic_savepoints_come_and_old_ones_go() {
    let mut world = World::new(|spec| {
        spec.savepoints.every = Some(DurationText::from("1m"));
        spec.savepoints.history_limit = 2;
    });
    for _ in 0..300 {
        world.reconcile();
        world.tick(2);
    }
    let complete = world.savepoints.values().filter(|savepoint| savepoint.status.phase == SavepointPhase::Completed).count();
    assert!((2..=3).contains(&complete), "{complete}");
    let made = world.done.iter().filter(|name| *name == "CreateSavepoint").count();
    assert!((8..=10).contains(&made), "{made} in ten minutes");
}
