//! The life of a job, step by step, without a process.

use super::*;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn life(members: usize, max_restarts: u32) -> Life {
    let restart = RestartPolicy { max_restarts, window: ms(600_000), backoff_initial: ms(1_000), backoff_max: ms(60_000) };
    Life::new(Rules { members, restart, stop_deadline: ms(30_000) })
}

fn minted(generation: u64) -> Input {
    Input::Minted(Ok(Minted { generation, start_record: generation * 10 }))
}

fn running(process: usize) -> Input {
    Input::Report { process, report: Report::Running { parts_ms: BTreeMap::new() } }
}

fn says(process: usize, report: Report) -> Input {
    Input::Report { process, report }
}

fn failed(process: usize, kind: ErrorKind, message: &str, restartable: bool) -> Input {
    says(process, Report::Failed { kind: kind.to_string(), place: "sink".into(), message: message.into(), restartable })
}

fn exited(process: usize) -> Input {
    Input::Exited { process, how: "was killed by signal 9".into() }
}

/// Brings a fresh job up with `generation` at `now`.
fn up(life: &mut Life, generation: u64, now: Duration) {
    life.handle(Input::Time, now);
    assert!(matches!(life.handle(minted(generation), now)[..], [Action::Launch(_)]));
    for process in 0..life.rules.members {
        life.handle(running(process), now);
    }
    assert!(life.is_running());
}

fn outcome(actions: &[Action]) -> Option<&Outcome> {
    actions.iter().find_map(|action| match action {
        Action::Finish(outcome) => Some(outcome),
        _ => None,
    })
}

#[test]
fn a_job_mints_launches_runs_and_finishes() {
    let mut life = life(2, 3);
    assert_eq!(life.handle(Input::Time, ms(0)), [Action::Mint]);
    assert_eq!(life.handle(Input::Time, ms(1)), [], "minting is asked for once");
    assert_eq!(life.handle(minted(1), ms(2)), [Action::Launch(Minted { generation: 1, start_record: 10 })]);
    life.handle(running(0), ms(3));
    assert!(!life.is_running(), "one of two does not run yet");
    life.handle(running(1), ms(4));
    assert!(life.is_running());
    for process in 0..2 {
        life.handle(says(process, Report::Ended { mode: StopMode::Finish }), ms(5));
    }
    assert_eq!(life.handle(exited(0), ms(6)), []);
    assert_eq!(life.handle(exited(1), ms(7)), [Action::Finish(Outcome::Finished)]);
    assert_eq!(life.wake_at(), None);
}

#[test]
fn a_lost_engine_takes_its_generation_down_and_the_next_waits_for_both_mint_and_exits() {
    for mint_first in [true, false] {
        let mut life = life(3, 3);
        up(&mut life, 1, ms(0));
        let actions = life.handle(exited(1), ms(5_000));
        assert_eq!(actions, [Action::Kill(0), Action::Kill(2), Action::Mint], "the first restart has no pause");
        assert!(life.is_failing());
        let (first, last) = if mint_first { (minted(2), [exited(0), exited(2)]) } else { (exited(0), [exited(2), minted(2)]) };
        assert_eq!(life.handle(first, ms(5_010)), []);
        let [middle, last] = last;
        assert_eq!(life.handle(middle, ms(5_020)), []);
        assert_eq!(life.handle(last, ms(5_030)), [Action::Launch(Minted { generation: 2, start_record: 20 })]);
        for process in 0..3 {
            life.handle(running(process), ms(5_040));
        }
        life.handle(says(0, Report::FirstRow), ms(5_050));
        life.handle(says(1, Report::FirstRow), ms(5_060));
        let [timing] = life.timings[..] else { panic!("one restart") };
        assert_eq!((timing.generation, timing.running_ms, timing.first_row_ms), (2, Some(40.0), Some(50.0)));
        assert_eq!((life.restart_count, life.is_failing()), (1, false));
    }
}

#[test]
fn a_first_row_before_the_last_engine_runs_is_timed_too() {
    let mut life = life(2, 3);
    up(&mut life, 1, ms(0));
    life.handle(exited(0), ms(5_000));
    life.handle(exited(1), ms(5_000));
    life.handle(minted(2), ms(5_001));
    life.handle(running(0), ms(5_002));
    life.handle(says(0, Report::FirstRow), ms(5_003));
    life.handle(running(1), ms(5_004));
    assert_eq!(life.timings[0].first_row_ms, Some(3.0));
}

#[test]
fn a_failure_that_no_restart_helps_ends_the_job_whenever_it_is_told() {
    for kind in [ErrorKind::User, ErrorKind::State, ErrorKind::Fenced] {
        let mut told_first = life(2, 3);
        up(&mut told_first, 1, ms(0));
        told_first.handle(failed(0, kind, "no", false), ms(10));
        told_first.handle(exited(0), ms(11));
        let actions = told_first.handle(exited(1), ms(12));
        assert!(matches!(outcome(&actions), Some(Outcome::Failed(failure)) if failure.kind == kind.to_string()));

        let mut told_last = life(2, 3);
        up(&mut told_last, 1, ms(0));
        told_last.handle(failed(1, ErrorKind::Transient, "lost a peer", true), ms(10));
        told_last.handle(failed(0, kind, "no", false), ms(11));
        told_last.handle(exited(0), ms(12));
        let actions = told_last.handle(exited(1), ms(13));
        assert!(matches!(outcome(&actions), Some(Outcome::Failed(failure)) if failure.kind == kind.to_string()), "{kind}");
    }
}

#[test]
fn the_same_bad_data_after_a_restart_ends_the_job() {
    let mut life = life(1, 9);
    up(&mut life, 1, ms(0));
    let bad = || failed(0, ErrorKind::Data, "line 7 is no JSON", false);
    assert_eq!(life.handle(bad(), ms(5_000)), [Action::Kill(0), Action::Mint]);
    life.handle(exited(0), ms(5_001));
    life.handle(minted(2), ms(5_002));
    life.handle(running(0), ms(5_003));
    life.handle(bad(), ms(5_004));
    let actions = life.handle(exited(0), ms(5_005));
    assert!(
        matches!(outcome(&actions), Some(Outcome::Failed(failure)) if failure.message.contains("line 7") && failure.message.contains("2 times"))
    );
}

#[test]
fn a_crash_loop_slows_down_and_ends() {
    let mut life = life(1, 3);
    let mut now = ms(0);
    let mut pauses = Vec::new();
    life.handle(Input::Time, now);
    for generation in 1.. {
        life.handle(minted(generation), now);
        let actions = life.handle(exited(0), now);
        if let Some(outcome) = outcome(&actions) {
            assert!(matches!(outcome, Outcome::Failed(failure) if failure.message.contains("3 restarts")), "{outcome:?}");
            break;
        }
        if actions.contains(&Action::Mint) {
            pauses.push(0);
        } else {
            let at = life.wake_at().unwrap();
            pauses.push((at - now).as_millis());
            assert_eq!(life.handle(Input::Time, at - ms(1)), []);
            assert_eq!(life.handle(Input::Time, at), [Action::Mint]);
            now = at;
        }
    }
    assert_eq!(pauses, [0, 1_000, 2_000]);
}

#[test]
fn a_store_that_is_away_is_tried_again_and_a_broken_one_is_not() {
    let cause = |restartable| {
        let kind = if restartable { ErrorKind::Transient } else { ErrorKind::State };
        let failure = Failure { kind: kind.to_string(), place: "store".into(), message: "away".into() };
        Input::Minted(Err(Cause { failure, restartable }))
    };
    let mut life = life(1, 3);
    life.handle(Input::Time, ms(0));
    assert_eq!(life.handle(cause(true), ms(1)), [Action::Mint]);
    assert_eq!(life.handle(cause(true), ms(2)), []);
    assert_eq!(life.wake_at(), Some(ms(1_002)));
    life.handle(Input::Time, ms(1_002));
    assert!(matches!(outcome(&life.handle(cause(false), ms(1_003))), Some(Outcome::Failed(_))));
}

#[test]
fn a_stop_waits_until_the_job_runs_and_is_sent_once() {
    let mut life = life(2, 3);
    life.handle(Input::Time, ms(0));
    assert_eq!(life.handle(Input::Stop, ms(1)), []);
    life.handle(minted(1), ms(2));
    assert_eq!(life.handle(running(0), ms(3)), []);
    assert_eq!(life.handle(running(1), ms(4)), [Action::Send(0, Command::Stop)]);
    assert_eq!(life.handle(Input::Stop, ms(5)), []);
    for process in 0..2 {
        life.handle(says(process, Report::Ended { mode: StopMode::Suspend }), ms(6));
        life.handle(exited(process), ms(7));
    }
    assert_eq!(life.phase, Phase::Over);
}

#[test]
fn a_stop_during_a_crash_is_repeated_and_one_during_a_pause_ends_at_once() {
    let mut life = life(1, 3);
    up(&mut life, 1, ms(0));
    assert_eq!(life.handle(Input::Stop, ms(100)), [Action::Send(0, Command::Stop)]);
    assert_eq!(life.handle(exited(0), ms(101)), [Action::Mint]);
    life.handle(minted(2), ms(102));
    assert_eq!(life.handle(running(0), ms(103)), [Action::Send(0, Command::Stop)]);
    assert_eq!(life.handle(exited(0), ms(104)), [], "a pause");
    assert_eq!(life.handle(Input::Stop, ms(105)), [Action::Finish(Outcome::Suspended)]);
}

#[test]
fn an_abort_kills_everything_and_ends() {
    let mut life = life(2, 3);
    up(&mut life, 1, ms(0));
    assert_eq!(life.handle(Input::Abort, ms(1)), [Action::Kill(0), Action::Kill(1)]);
    life.handle(exited(1), ms(2));
    assert_eq!(life.handle(exited(0), ms(3)), [Action::Finish(Outcome::Aborted)]);
}

#[test]
fn a_silent_engine_is_killed_at_its_deadline_and_not_before() {
    let mut life = life(2, 3);
    up(&mut life, 1, ms(0));
    let mut now = ms(0);
    // Process 1 answers, process 0 does not.
    while now < HEARTBEAT_DEADLINE - ms(1) {
        now = life.wake_at().unwrap().min(HEARTBEAT_DEADLINE - ms(1));
        let actions = life.handle(Input::Time, now);
        assert!(!actions.iter().any(|action| matches!(action, Action::Kill(_))), "{now:?}");
        life.handle(says(1, Report::Pong { nonce: 0 }), now);
    }
    assert_eq!(life.wake_at(), Some(HEARTBEAT_DEADLINE));
    let actions = life.handle(Input::Time, HEARTBEAT_DEADLINE);
    assert!(actions.starts_with(&[Action::Kill(0), Action::Kill(1)]), "{actions:?}");
    assert!(life.last_cause.unwrap().place.contains("process 0"));
}

#[test]
fn an_engine_that_never_runs_or_never_drains_is_found() {
    let mut starting = life(2, 3);
    starting.handle(Input::Time, ms(0));
    starting.handle(minted(1), ms(0));
    starting.handle(running(0), ms(0));
    let mut now = ms(0);
    while now < START_DEADLINE {
        now = starting.wake_at().unwrap();
        starting.handle(says(0, Report::Pong { nonce: 0 }), now);
        starting.handle(Input::Time, now);
    }
    assert!(starting.last_cause.unwrap().message.contains("did not start"));

    let mut draining = life(2, 3);
    up(&mut draining, 1, ms(0));
    draining.handle(says(0, Report::Ended { mode: StopMode::Finish }), ms(0));
    draining.handle(exited(0), ms(0));
    let mut now = ms(0);
    while now < END_DEADLINE {
        now = draining.wake_at().unwrap();
        draining.handle(says(1, Report::Pong { nonce: 0 }), now);
        draining.handle(Input::Time, now);
    }
    assert!(draining.last_cause.unwrap().message.contains("did not drain"));
}

#[test]
fn an_engine_that_ended_owes_no_sign_of_life() {
    let mut life = life(2, 3);
    up(&mut life, 1, ms(0));
    for process in 0..2 {
        life.handle(says(process, Report::Ended { mode: StopMode::Finish }), ms(1));
    }
    assert!(!life.handle(Input::Time, HEARTBEAT_DEADLINE + ms(10)).iter().any(|action| matches!(action, Action::Kill(_))));
}

#[test]
fn a_savepoint_survives_a_restart_and_is_answered_once() {
    let mut life = life(1, 3);
    up(&mut life, 1, ms(0));
    let wanted = [Action::Send(0, Command::Savepoint { id: "a".into() })];
    assert_eq!(life.handle(Input::Savepoint("a".into()), ms(1)), wanted);
    assert_eq!(life.handle(Input::Savepoint("a".into()), ms(2)), []);
    life.handle(exited(0), ms(2_000));
    life.handle(minted(2), ms(2_001));
    assert_eq!(life.handle(running(0), ms(2_002)), wanted);
    let savepoint = Some(("a".to_owned(), "file:///x".to_owned()));
    life.handle(says(0, Report::CheckpointCompleted { epoch: 1, record: 1, bytes: 1, duration_ms: 1.0, savepoint }), ms(2_003));
    assert_eq!(life.handle(exited(0), ms(4_000)), [Action::Mint], "nothing is owed any more");
}

#[test]
fn a_savepoint_fails_with_its_checkpoint_or_with_the_job() {
    let mut life = life(1, 0);
    up(&mut life, 1, ms(0));
    life.handle(Input::Savepoint("a".into()), ms(1));
    let actions = life.handle(says(0, Report::CheckpointFailed { epoch: 1, reason: "full".into() }), ms(2));
    assert_eq!(actions, [Action::SavepointFailed("a".into(), "full".into())]);
    life.handle(Input::Savepoint("b".into()), ms(3));
    let actions = life.handle(exited(0), ms(4));
    assert!(matches!(&actions[..], [Action::SavepointFailed(id, _), Action::Finish(Outcome::Failed(_))] if id == "b"), "{actions:?}");
}

fn move_to(members: usize, away: &[usize]) -> Input {
    Input::Move { members, away: away.iter().copied().collect() }
}

/// Brings a job of two to a drained end, as a stop or a move asks for.
fn drain(life: &mut Life, now: Duration) -> Vec<Action> {
    life.handle(says(0, Report::Ended { mode: StopMode::Suspend }), now);
    life.handle(says(1, Report::Ended { mode: StopMode::Suspend }), now);
    assert_eq!(life.handle(exited(0), now), []);
    life.handle(exited(1), now)
}

#[test]
fn a_move_drains_with_a_checkpoint_and_begins_the_next_generation_with_other_members() {
    let mut life = life(2, 0);
    up(&mut life, 1, ms(0));
    assert_eq!(life.handle(move_to(3, &[2]), ms(100)), [Action::Send(0, Command::Stop)]);
    assert!(life.is_between() && life.is_running(), "rows flow until it has drained");
    assert_eq!(drain(&mut life, ms(150)), [Action::Mint]);
    assert!(life.planned);
    assert_eq!(life.handle(minted(2), ms(160)), [], "one member is not there yet");
    assert_eq!(life.handle(Input::Here(2), ms(170)), [Action::Launch(Minted { generation: 2, start_record: 20 })]);
    life.handle(running(0), ms(180));
    life.handle(running(1), ms(180));
    assert!(!life.is_running(), "there are three now");
    life.handle(running(2), ms(190));
    assert!(life.is_running() && !life.is_between());
    assert_eq!((life.restart_count, life.timings[0].running_ms), (0, Some(90.0)), "no restart, and timed from the stop");
}

#[test]
fn a_loss_on_the_way_makes_a_move_a_restart_without_a_pause() {
    let mut life = life(2, 9);
    up(&mut life, 1, ms(0));
    life.handle(exited(0), ms(10));
    life.handle(exited(1), ms(10));
    up_again(&mut life, 2, ms(20));
    life.handle(move_to(1, &[]), ms(30));
    let actions = life.handle(exited(1), ms(40));
    assert_eq!(actions, [Action::Kill(0), Action::Mint], "the second crash in a row, and yet at once");
    assert!(!life.planned);
    life.handle(exited(0), ms(50));
    assert_eq!(life.handle(minted(3), ms(60)), [Action::Launch(Minted { generation: 3, start_record: 30 })]);
    life.handle(running(0), ms(70));
    assert!(life.is_running(), "one member is all");
    assert_eq!(life.restart_count, 2);
}

fn up_again(life: &mut Life, generation: u64, now: Duration) {
    assert!(matches!(life.handle(minted(generation), now)[..], [Action::Launch(_)]));
    (0..life.rules.members).for_each(|process| drop(life.handle(running(process), now)));
}

#[test]
fn a_move_of_what_does_not_run_yet_kills_it_and_one_in_a_pause_ends_the_pause() {
    let mut starting = life(2, 9);
    starting.handle(Input::Time, ms(0));
    starting.handle(minted(1), ms(0));
    starting.handle(running(0), ms(1));
    assert_eq!(starting.handle(move_to(1, &[]), ms(2)), [Action::Kill(0), Action::Kill(1), Action::Mint]);

    let mut pausing = life(1, 9);
    up(&mut pausing, 1, ms(0));
    pausing.handle(exited(0), ms(10));
    pausing.handle(minted(2), ms(11));
    assert_eq!(pausing.handle(exited(0), ms(12)), [], "a pause");
    assert_eq!(pausing.handle(move_to(1, &[]), ms(13)), [Action::Mint]);
}

#[test]
fn members_that_are_away_hold_the_launch_and_not_the_stop() {
    let mut life = life(2, 3);
    life.handle(Input::Time, ms(0));
    life.handle(Input::Away(1), ms(1));
    assert_eq!(life.handle(minted(1), ms(2)), []);
    assert_eq!(life.handle(Input::Time, START_DEADLINE * 2), [], "it may take any time, and counts as no failure");
    assert_eq!(life.handle(Input::Stop, START_DEADLINE * 3), [Action::Finish(Outcome::Suspended)]);
}

#[test]
fn a_stop_of_a_move_wins_and_so_does_the_end_of_all_sources() {
    let mut stopped = life(2, 3);
    up(&mut stopped, 1, ms(0));
    stopped.handle(move_to(3, &[]), ms(1));
    stopped.handle(Input::Stop, ms(2));
    assert_eq!(drain(&mut stopped, ms(3)), [Action::Finish(Outcome::Suspended)]);

    let mut finished = life(2, 3);
    up(&mut finished, 1, ms(0));
    finished.handle(move_to(3, &[]), ms(1));
    for process in 0..2 {
        finished.handle(says(process, Report::Ended { mode: StopMode::Finish }), ms(2));
    }
    finished.handle(exited(0), ms(3));
    assert_eq!(finished.handle(exited(1), ms(3)), [Action::Finish(Outcome::Finished)]);
}

#[test]
fn a_coordinator_that_is_replaced_kills_its_engines_and_rests() {
    let mut life = life(2, 3);
    up(&mut life, 1, ms(0));
    assert_eq!(life.handle(Input::Fenced("assignment 7".into()), ms(1)), [Action::Kill(0), Action::Kill(1)]);
    life.handle(exited(0), ms(2));
    let actions = life.handle(exited(1), ms(2));
    assert!(matches!(outcome(&actions), Some(Outcome::Failed(failure)) if failure.kind == "fenced"), "{actions:?}");
}
