//! Restarts of what runs: counted, explained, and told when they come again and again.

use std::str::FromStr;

use jiff::Timestamp;
use rheos_api::status::Phase;

use super::super::restarts;
use super::world::{World, no, yes};
use crate::conditions::{self, reasons};
use crate::time;

#[test]
fn an_engine_that_restarts_in_place_needs_no_new_pod() {
    let mut world = World::new(|_| {});
    world.until_running();
    let name = world.names()[0].to_owned();
    world.pods.get_mut(&name).unwrap().restart();
    world.reconcile();
    assert_eq!(world.status.phase, Phase::Failing);
    assert_eq!(world.condition(conditions::READY), no(reasons::RESTARTING));
    world.until_running();
    assert_eq!(world.names(), [name.as_str()]);
    assert_eq!((world.status.restarts, world.status.assignment), (1, 1));
}

#[test]
fn a_job_that_restarts_again_and_again_says_so_until_it_has_been_quiet() {
    let mut world = World::new(|_| {});
    world.until_running();
    let name = world.names()[0].to_owned();
    let restart = |world: &mut World| {
        world.pods.get_mut(&name).unwrap().restart();
        world.until_running();
        world.tick(30);
        world.reconcile();
    };
    for _ in 1..restarts::LOOP_RESTARTS {
        restart(&mut world);
        assert_eq!(world.condition(conditions::DEGRADED), no(reasons::HEALTHY));
    }
    let third_last = Timestamp::from_str(&world.status.recent_restarts[0]).unwrap();
    for _ in 0..3 {
        restart(&mut world);
        assert_eq!(world.condition(conditions::DEGRADED), yes(reasons::RESTART_LOOP));
        assert_eq!(world.condition(conditions::READY), yes(reasons::RUNNING), "rows flow meanwhile");
    }
    assert_eq!(world.status.recent_restarts.len(), restarts::LOOP_RESTARTS);
    assert_eq!(world.events.iter().filter(|event| event.reason == reasons::RESTART_LOOP).count(), 1);
    world.until("it is well again", |world| world.condition(conditions::DEGRADED) == no(reasons::HEALTHY));
    assert!(time::since(third_last, world.now) >= restarts::LOOP_WINDOW, "not before");
    world.assert_at_rest();
    // Restarts that are far apart are none.
    for _ in 0..4 {
        world.tick(400);
        restart(&mut world);
        assert_eq!(world.condition(conditions::DEGRADED), no(reasons::HEALTHY));
    }
}

#[test]
fn a_new_revision_does_not_answer_for_the_restarts_of_the_old_one() {
    let mut world = World::new(|_| {});
    world.until_running();
    for _ in 0..restarts::LOOP_RESTARTS {
        let name = world.names()[0].to_owned();
        world.pods.get_mut(&name).unwrap().restart();
        world.until_running();
    }
    assert_eq!(world.condition(conditions::DEGRADED), yes(reasons::RESTART_LOOP));
    world.edit(|spec| spec.sql = Some("SELECT 2".into()));
    world.until_running();
    assert_eq!(world.condition(conditions::DEGRADED), no(reasons::HEALTHY));
}

#[test]
fn an_end_that_was_told_is_not_told_again() {
    let mut world = World::new(|_| {});
    world.until_running();
    let name = world.names()[0].to_owned();
    let mut reason_of_a_restart = |ended_at| {
        let pod = world.pods.get_mut(&name).unwrap();
        pod.facts.container.last_end = Some(("OOMKilled".into(), 137, String::new()));
        pod.facts.container.ended_at = Some(ended_at);
        pod.restart();
        world.reconcile();
        world.until_running();
        world.status.last_restart.clone().unwrap().reason
    };
    let ended = Timestamp::from_second(0).unwrap();
    assert_eq!(reason_of_a_restart(ended), reasons::OOM_KILLED);
    assert_eq!(reason_of_a_restart(ended), reasons::RESTARTING);
    assert_eq!(reason_of_a_restart(Timestamp::MAX), reasons::OOM_KILLED);
}

#[test]
fn a_generation_that_was_asked_for_is_no_restart() {
    let mut world = World::new(|_| {});
    world.until_running();
    let name = world.names()[0].to_owned();
    let mut seen = |generation, moved| {
        let view = world.pods.get_mut(&name).unwrap().view.as_mut().unwrap();
        (view.generation, view.restarts.moved) = (generation, moved);
        world.reconcile();
        world.status.restarts
    };
    assert_eq!(seen(2, 2), 0, "a move");
    assert_eq!(seen(3, 2), 1, "a loss after it");
    assert_eq!(seen(6, 5), 3, "two losses and a move between two looks");
}
