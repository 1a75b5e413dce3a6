//! Tables and properties of the coordinator.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::source::SplitAssignment;

const WORKERS: u32 = 2;

fn pacing() -> Pacing {
    Pacing { epoch_min: 10, epoch_max: 200, checkpoint_interval: 1_000, checkpoint_timeout: 5_000, window: 4 }
}

fn id(name: &str) -> OperatorId {
    OperatorId(name.into())
}

fn job() -> JobFacts {
    let facts = OperatorFacts { title: "count by key".into(), state_schema: "s1".into() };
    JobFacts {
        job_uid: "uid".into(),
        generation: 3,
        parallelism: WORKERS,
        max_parallelism: 16,
        operators: BTreeMap::from([(id("agg"), facts)]),
        sources: BTreeMap::from([(id("src"), 0)]),
        reporters: (0..2).flat_map(|stage| (0..WORKERS).map(move |worker| (stage, worker))).collect(),
    }
}

fn permit(epoch: Epoch) -> CommitPermit {
    serde_json::from_value(serde_json::json!({"generation": 3, "record": epoch, "epoch": epoch})).unwrap()
}

fn committable(subtask: u32, epoch: Epoch) -> Committable {
    Committable { sink: id("sink"), subtask, epoch, payload: format!("{subtask}-{epoch}").into() }
}

fn file(path: &str) -> StateFile {
    StateFile { path: path.into(), bytes: 1, blocks: Vec::new() }
}

fn report(stage: usize, subtask: u32, epoch: Epoch, parts: SnapshotParts) -> Event {
    Event::Report(SnapshotReport { stage, subtask, epoch, outcome: Ok(parts) })
}

fn failed(epoch: Epoch) -> Event {
    Event::Report(SnapshotReport { stage: 1, subtask: 1, epoch, outcome: Err("the store is away".into()) })
}

/// A coordinator with the world around it: workers that close every tick at once, parts that need no upload.
struct Rig {
    coordinator: Coordinator,
    now: Millis,
    ticks: Vec<Tick>,
    /// Ticks that [`Rig::checkpoint`] has looked at.
    seen: usize,
}

impl Rig {
    fn new() -> Self {
        Self::restored(Restored::default())
    }

    fn restored(restored: Restored) -> Self {
        Self { coordinator: Coordinator::new(pacing(), job(), restored), now: 1_000_000, ticks: Vec::new(), seen: 0 }
    }

    fn tell(&mut self, event: Event) -> Vec<Action> {
        let actions = self.coordinator.handle(event, self.now);
        self.ticks.extend(actions.iter().filter_map(|action| match action {
            Action::Tick(tick) => Some(tick.clone()),
            _ => None,
        }));
        actions
    }

    /// Lets time pass in steps; every tick is closed at once.
    fn pass(&mut self, span: Millis) -> Vec<Action> {
        let mut all = Vec::new();
        for _ in 0..span {
            self.now += 1;
            all.extend(self.tell(Event::Time));
            all.extend(self.tell(Event::Progress(self.coordinator.next_epoch())));
        }
        all
    }

    /// Lets time pass until the next tick that asks for a checkpoint.
    fn checkpoint(&mut self) -> Tick {
        for _ in 0..10_000 {
            while self.seen < self.ticks.len() {
                self.seen += 1;
                if self.ticks[self.seen - 1].checkpoint {
                    return self.ticks[self.seen - 1].clone();
                }
            }
            self.pass(1);
        }
        panic!("no checkpoint");
    }

    /// Every subtask reports; stage 1 has staged something.
    fn report_all(&mut self, epoch: Epoch) -> Vec<Action> {
        for stage in 0..2 {
            for subtask in 0..WORKERS {
                let committables = if stage == 1 { vec![committable(subtask, epoch)] } else { Vec::new() };
                self.tell(report(stage, subtask, epoch, SnapshotParts { committables, ..SnapshotParts::default() }));
            }
        }
        self.tell(Event::Snapshots(epoch + 1))
    }

    fn publish(&mut self, epoch: Epoch) -> Publication {
        published(&self.report_all(epoch)).unwrap_or_else(|| panic!("epoch {epoch} is not published"))
    }
}

fn published(actions: &[Action]) -> Option<Publication> {
    actions.iter().find_map(|action| match action {
        Action::Publish(publication) => Some((**publication).clone()),
        _ => None,
    })
}

fn has(actions: &[Action], wanted: impl Fn(&Action) -> bool) -> bool {
    actions.iter().any(wanted)
}

#[test]
fn epochs_follow_the_restored_one_without_a_gap() {
    let mut rig = Rig::restored(Restored { epoch: 41, wall_time: 2_000_000, ..Restored::default() });
    rig.pass(500);
    let epochs: Vec<Epoch> = rig.ticks.iter().map(|tick| tick.epoch).collect();
    assert_eq!(epochs, (42..42 + epochs.len() as u64).collect::<Vec<_>>());
    assert!(epochs.len() > 3);
    assert!(rig.ticks.iter().all(|tick| tick.wall_time == 2_000_000), "processing time goes on from the checkpoint's");
}

#[test]
fn an_idle_job_ticks_at_the_longest_epoch_and_a_busy_one_at_the_shortest() {
    let mut rig = Rig::new();
    rig.pass(2_000);
    let before = rig.ticks.len();
    rig.pass(2_000);
    assert!((8..=11).contains(&(rig.ticks.len() - before)), "{} idle ticks in 2 s", rig.ticks.len() - before);
    let before = rig.ticks.len();
    for _ in 0..100 {
        rig.tell(Event::Load { rows: 5 });
        rig.pass(10);
    }
    assert!((90..=110).contains(&(rig.ticks.len() - before)), "{} busy ticks in 1 s", rig.ticks.len() - before);
}

#[test]
fn ticks_wait_for_the_slowest_worker() {
    let mut rig = Rig::new();
    for _ in 0..1_000 {
        rig.now += 10;
        rig.tell(Event::Time);
    }
    assert_eq!(rig.ticks.len(), pacing().window as usize);
    rig.tell(Event::Progress(2));
    assert_eq!(rig.ticks.len(), pacing().window as usize + 1);
}

#[test]
fn wall_time_never_falls_and_ticks_go_on_when_the_clock_steps_back() {
    let mut rig = Rig::new();
    rig.pass(1_000);
    rig.now -= 3_600_000;
    let before = rig.ticks.len();
    rig.pass(1_000);
    assert!(rig.ticks.len() > before + 3);
    assert!(rig.ticks.windows(2).all(|pair| pair[0].wall_time <= pair[1].wall_time));
}

#[test]
fn a_wake_up_is_asked_for_once_and_not_in_the_past() {
    let mut rig = Rig::new();
    let mut wakes = Vec::new();
    let mut woken = 0;
    for _ in 0..1_000 {
        rig.now += 1;
        let event = if wakes.contains(&rig.now) {
            woken += 1;
            Event::Time
        } else {
            Event::Load { rows: 0 }
        };
        let actions = rig.tell(event);
        rig.tell(Event::Progress(rig.coordinator.next_epoch()));
        wakes.extend(actions.iter().filter_map(|action| match action {
            Action::WakeAt(at) => Some(*at),
            _ => None,
        }));
        assert!(wakes.iter().all(|at| *at > 1_000_000));
    }
    assert!(woken > 3 && wakes.len() < 40, "{} wake-ups", wakes.len());
}

#[test]
fn a_complete_checkpoint_is_published_then_committed() {
    let mut rig = Rig::new();
    let tick = rig.checkpoint();
    let publication = rig.publish(tick.epoch);
    assert_eq!(publication.manifest.wall_time, tick.wall_time);
    assert_eq!(publication.committables.len(), 2);
    let actions = rig.tell(Event::Published { epoch: tick.epoch, result: Ok(permit(tick.epoch)) });
    assert!(has(&actions, |action| matches!(action, Action::Commit(p) if p.epoch() == tick.epoch)));
    assert_eq!(rig.coordinator.in_flight(), None);
}

#[test]
fn the_frontier_makes_it_complete_not_the_reports() {
    let mut rig = Rig::new();
    let epoch = rig.checkpoint().epoch;
    for stage in 0..2 {
        for subtask in 0..WORKERS {
            assert!(published(&rig.tell(report(stage, subtask, epoch, SnapshotParts::default()))).is_none());
        }
    }
    assert!(published(&rig.tell(Event::Snapshots(epoch))).is_none());
    assert!(published(&rig.tell(Event::Snapshots(epoch + 1))).is_some());
}

#[test]
fn a_missing_report_abandons_the_checkpoint() {
    let mut rig = Rig::new();
    let epoch = rig.checkpoint().epoch;
    rig.tell(report(0, 0, epoch, SnapshotParts::default()));
    let actions = rig.tell(Event::Snapshots(epoch + 1));
    assert!(has(&actions, |action| matches!(action, Action::Abandoned { reason, .. } if reason.contains("stage 0 on worker 1"))));
}

#[test]
fn a_failed_report_abandons_and_the_next_interval_tries_again() {
    let mut rig = Rig::new();
    let first = rig.checkpoint().epoch;
    let actions = rig.tell(failed(first));
    assert!(has(&actions, |action| matches!(action, Action::Abandoned { epoch, .. } if *epoch == first)));
    let actions = rig.report_all(first);
    assert!(published(&actions).is_none(), "a late completion is ignored");
    rig.pass(1);
    let second = rig.checkpoint().epoch;
    let publication = rig.publish(second);
    let staged: BTreeSet<Epoch> = publication.committables.iter().map(|c| c.epoch).collect();
    assert_eq!(staged, BTreeSet::from([first, second]), "what was staged for the abandoned one goes with the next");
}

#[test]
fn a_checkpoint_that_takes_too_long_is_given_up_and_says_who_is_missing() {
    let mut rig = Rig::new();
    let epoch = rig.checkpoint().epoch;
    rig.tell(report(0, 0, epoch, SnapshotParts::default()));
    let actions = rig.pass(5_001);
    let given_up = actions.iter().find_map(|action| match action {
        Action::Abandoned { epoch, reason, .. } => Some((*epoch, reason.clone())),
        _ => None,
    });
    let (abandoned, reason) = given_up.unwrap();
    assert_eq!(abandoned, epoch);
    assert!(reason.contains("stage 0 on worker 1"), "{reason}");
}

#[test]
fn a_timeout_wakes_even_while_ticks_are_held() {
    let mut rig = Rig::new();
    let epoch = rig.checkpoint().epoch;
    for _ in 0..5_001 {
        rig.now += 1;
        rig.tell(Event::Time);
    }
    assert!(rig.ticks.iter().filter(|tick| tick.epoch > epoch).count() as u64 <= pacing().window);
    assert_eq!(rig.coordinator.in_flight(), None);
}

#[test]
fn a_record_that_is_being_written_is_waited_for() {
    let mut rig = Rig::new();
    let epoch = rig.checkpoint().epoch;
    rig.publish(epoch);
    rig.pass(20_000);
    assert_eq!(rig.coordinator.in_flight(), Some(epoch));
    let failure = PublishFailure { fenced: false, message: "the store is away".into() };
    let actions = rig.tell(Event::Published { epoch, result: Err(failure) });
    assert!(has(&actions, |action| matches!(action, Action::Abandoned { .. })));
    rig.pass(1);
    let next = rig.checkpoint().epoch;
    assert_eq!(rig.publish(next).committables.len(), 4, "carried and new");
}

#[test]
fn a_fenced_generation_says_so_and_nothing_more() {
    let mut rig = Rig::new();
    let epoch = rig.checkpoint().epoch;
    rig.publish(epoch);
    let failure = PublishFailure { fenced: true, message: "generation 4 runs".into() };
    let actions = rig.tell(Event::Published { epoch, result: Err(failure) });
    assert!(matches!(actions.as_slice(), [Action::Fenced]));
    assert!(rig.pass(2_000).is_empty());
}

#[test]
fn what_a_sink_confirmed_is_no_longer_carried() {
    let mut rig = Rig::new();
    let first = rig.checkpoint().epoch;
    rig.publish(first);
    rig.tell(Event::Published { epoch: first, result: Ok(permit(first)) });
    rig.pass(1);
    let second = rig.checkpoint().epoch;
    let confirmed = BTreeMap::from([(id("sink"), first)]);
    rig.tell(report(1, 0, second, SnapshotParts { confirmed, committables: vec![committable(0, second)], ..SnapshotParts::default() }));
    for (stage, subtask) in [(0, 0), (0, 1), (1, 1)] {
        rig.tell(report(stage, subtask, second, SnapshotParts::default()));
    }
    let publication = published(&rig.tell(Event::Snapshots(second + 1))).unwrap();
    assert_eq!(publication.committables, [committable(0, second), committable(1, first)]);
}

#[test]
fn restored_committables_are_committed_again_before_the_first_tick() {
    let carried = vec![committable(5, 7)];
    let mut rig = Rig::restored(Restored { epoch: 7, committables: carried.clone(), ..Restored::default() });
    let actions = rig.tell(Event::Time);
    assert!(has(&actions, |action| matches!(action, Action::Recommit(c) if *c == carried)));
    assert!(!has(&rig.pass(1_000), |action| matches!(action, Action::Recommit(_))), "asked for once");
    assert!(rig.ticks.is_empty());
    rig.tell(Event::Recommitted);
    let epoch = rig.checkpoint().epoch;
    assert_eq!(rig.publish(epoch).committables.len(), 2, "only those of this checkpoint");
}

#[test]
fn manifests_do_not_depend_on_the_order_of_reports() {
    let compose = |order: &[(usize, u32)]| {
        let mut rig = Rig::new();
        let epoch = rig.checkpoint().epoch;
        for (stage, subtask) in order {
            let mut parts = SnapshotParts::default();
            if *stage == 1 {
                let files = vec![file(&format!("{subtask}/a")), file(&format!("{subtask}/b"))];
                parts.files.insert(id("agg"), BTreeMap::from([("t".to_string(), files)]));
                parts.facts.insert(id("agg"), BTreeMap::from([("w".to_string(), (*subtask).into())]));
            } else {
                let assignment = SplitAssignment { source: id("src"), split: format!("s{subtask}"), ordinal: *subtask, late: false };
                parts.splits.push(SplitState { assignment, offset: None, finished: false, watermark: None });
            }
            rig.tell(report(*stage, *subtask, epoch, parts));
        }
        published(&rig.tell(Event::Snapshots(epoch + 1))).unwrap().manifest
    };
    let manifest = compose(&[(0, 0), (0, 1), (1, 0), (1, 1)]);
    assert_eq!(manifest, compose(&[(1, 1), (0, 1), (1, 0), (0, 0)]));
    let paths: Vec<_> = manifest.operators["agg"].tables["t"].iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["0/a", "0/b", "1/a", "1/b"]);
    assert_eq!(manifest.operators["agg"].facts.len(), 2);
    assert_eq!(manifest.splits.len(), 2);
}

#[test]
fn stop_waits_for_the_checkpoint_in_flight_then_ends_with_its_own() {
    let mut rig = Rig::new();
    let first = rig.checkpoint().epoch;
    rig.tell(Event::Stop);
    rig.pass(300);
    assert!(rig.ticks.iter().all(|tick| tick.stop.is_none()));
    rig.publish(first);
    rig.tell(Event::Published { epoch: first, result: Ok(permit(first)) });
    let stop = rig.ticks.last().cloned().unwrap();
    assert_eq!((stop.stop, stop.checkpoint), (Some(StopMode::Suspend), true));
    rig.pass(1_000);
    assert_eq!(rig.ticks.last(), Some(&stop), "no tick behind a stop");
    rig.publish(stop.epoch);
    let actions = rig.tell(Event::Published { epoch: stop.epoch, result: Ok(permit(stop.epoch)) });
    assert!(matches!(actions.as_slice(), [Action::Commit(_), Action::End(StopMode::Suspend)]));
    assert!(rig.pass(1_000).is_empty());
}

#[test]
fn a_stop_whose_checkpoints_fail_is_reported_and_the_job_goes_on() {
    let mut rig = Rig::new();
    rig.tell(Event::Stop);
    for attempt in 1..=STOP_ATTEMPTS {
        let stop = rig.ticks.last().cloned().unwrap();
        assert_eq!(stop.stop, Some(StopMode::Suspend));
        let actions = rig.tell(failed(stop.epoch));
        assert_eq!(has(&actions, |action| matches!(action, Action::StopFailed { .. })), attempt == STOP_ATTEMPTS);
        rig.tell(Event::Progress(rig.coordinator.next_epoch()));
    }
    rig.pass(500);
    assert!(rig.ticks.last().unwrap().stop.is_none());
}

#[test]
fn the_job_finishes_when_every_source_subtask_has_ended_since_its_last_split() {
    let mut rig = Rig::new();
    let finished = |subtask, epoch| Event::SourcesFinished { stage: 0, subtask, epoch };
    rig.tell(finished(0, 0));
    rig.tell(finished(1, 0));
    rig.pass(50);
    assert!(rig.ticks.iter().all(|tick| tick.stop.is_none()), "nobody knows the splits yet");
    rig.tell(Event::Splits { source: id("src"), found: vec!["a".into(), "b".into()], more: false });
    rig.pass(400);
    let given = rig.ticks.iter().find(|tick| !tick.new_splits.is_empty()).cloned().unwrap();
    let ordinals: Vec<_> = given.new_splits.iter().map(|split| (split.split.as_str(), split.ordinal)).collect();
    assert_eq!(ordinals, [("a", 0), ("b", 1)]);
    assert!(rig.ticks.iter().all(|tick| tick.stop.is_none()), "they said so before they got their splits");
    rig.tell(finished(0, given.epoch));
    rig.tell(finished(1, given.epoch + 1));
    assert_eq!(rig.ticks.last().unwrap().stop, Some(StopMode::Finish));
}

#[test]
fn an_empty_source_is_told_once_and_the_job_waits_until_its_subtasks_know() {
    let mut rig = Rig::new();
    let nothing = |more| Event::Splits { source: id("src"), found: Vec::new(), more };
    rig.tell(nothing(true));
    rig.tell(nothing(false));
    rig.pass(400);
    let told: Vec<_> = rig.ticks.iter().filter(|tick| !tick.empty_sources.is_empty()).cloned().collect();
    assert_eq!(told.len(), 1);
    assert_eq!(*told[0].empty_sources, [id("src")]);
    assert!(rig.ticks.iter().all(|tick| tick.stop.is_none()), "the last windows have not fired yet");
    for subtask in 0..WORKERS {
        rig.tell(Event::SourcesFinished { stage: 0, subtask, epoch: told[0].epoch + 1 });
    }
    assert_eq!(rig.ticks.last().unwrap().stop, Some(StopMode::Finish));
}

#[test]
fn known_splits_are_not_given_out_again_and_ordinals_go_on() {
    let assignment = SplitAssignment { source: id("src"), split: "a".into(), ordinal: 4, late: false };
    let split = SplitState { assignment, offset: None, finished: false, watermark: None };
    let mut rig = Rig::restored(Restored { epoch: 3, splits: vec![split], ..Restored::default() });
    rig.tell(Event::Splits { source: id("src"), found: vec!["a".into(), "b".into()], more: true });
    rig.pass(300);
    let given: Vec<_> = rig.ticks.iter().flat_map(|tick| tick.new_splits.iter().cloned()).collect();
    assert_eq!(given, [SplitAssignment { source: id("src"), split: "b".into(), ordinal: 5, late: true }]);
}

#[test]
fn savepoints_wait_in_line_up_to_a_limit() {
    let mut rig = Rig::new();
    rig.tell(Event::Savepoint("first".into()));
    assert_eq!(rig.ticks.last().unwrap().savepoint.as_deref(), Some("first"));
    assert!(rig.ticks.last().unwrap().checkpoint);
    for n in 0..SAVEPOINT_QUEUE_LIMIT {
        assert!(!has(&rig.tell(Event::Savepoint(format!("s{n}"))), |action| matches!(action, Action::Refused { .. })));
        rig.tell(Event::Savepoint(format!("s{n}")));
    }
    assert!(has(&rig.tell(Event::Savepoint("one-more".into())), |action| matches!(action, Action::Refused { .. })));
    let epoch = rig.coordinator.in_flight().unwrap();
    assert_eq!(rig.publish(epoch).savepoint.as_deref(), Some("first"));
    rig.tell(Event::Published { epoch, result: Ok(permit(epoch)) });
    assert_eq!(rig.ticks.last().unwrap().savepoint.as_deref(), Some("s0"));
}

/// One event of a random history.
#[derive(Debug, Clone)]
enum Op {
    Pass(Millis),
    Progress,
    Report { who: usize, fails: bool },
    Frontier,
    Publish { outcome: u8 },
    Savepoint,
    Checkpoint,
    Stop,
    Load(u64),
    Stray,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (0i64..400).prop_map(Op::Pass),
        6 => Just(Op::Progress),
        12 => (0usize..16, 0u8..20).prop_map(|(who, fails)| Op::Report { who, fails: fails == 0 }),
        6 => Just(Op::Frontier),
        6 => (0u8..8).prop_map(|outcome| Op::Publish { outcome }),
        1 => Just(Op::Savepoint),
        2 => Just(Op::Checkpoint),
        1 => Just(Op::Stop),
        2 => (0u64..3).prop_map(Op::Load),
        1 => Just(Op::Stray),
    ];
    proptest::collection::vec(op, 0..400)
}

/// What the history has seen; checks every action against it.
struct Watch {
    window: u64,
    next_epoch: Epoch,
    progress: Epoch,
    wall_time: Millis,
    checkpoint: Option<Epoch>,
    publishing: Option<Publication>,
    ended: bool,
    /// Reports to deliver: each subtask reports every checkpoint tick that it closed.
    due: Vec<(usize, u32, Epoch)>,
    /// Staged and told to the coordinator, not confirmed.
    staged: Vec<Committable>,
    /// Permits that the sinks of a subtask acted on.
    committed: BTreeMap<u32, Epoch>,
}

impl Watch {
    fn see(&mut self, actions: Vec<Action>) -> Result<(), TestCaseError> {
        for action in actions {
            prop_assert!(!self.ended, "{action:?} behind the end");
            match action {
                Action::Tick(tick) => {
                    prop_assert_eq!(tick.epoch, self.next_epoch);
                    prop_assert!(tick.epoch < self.progress + self.window, "too far ahead");
                    prop_assert!(tick.wall_time >= self.wall_time);
                    prop_assert!(tick.checkpoint || (tick.stop.is_none() && tick.savepoint.is_none()));
                    if tick.checkpoint {
                        prop_assert_eq!(self.checkpoint, None, "two checkpoints in flight");
                        self.checkpoint = Some(tick.epoch);
                        self.due.extend((0..2).flat_map(|stage| (0..WORKERS).map(move |w| (stage, w, tick.epoch))));
                    }
                    (self.next_epoch, self.wall_time) = (tick.epoch + 1, tick.wall_time);
                }
                Action::Publish(publication) => {
                    prop_assert!(self.publishing.is_none(), "two publications at once");
                    prop_assert_eq!(Some(publication.epoch), self.checkpoint);
                    for staged in &self.staged {
                        prop_assert!(publication.committables.contains(staged), "{staged:?} is missing");
                    }
                    prop_assert_eq!(publication.committables.len(), self.staged.len());
                    self.publishing = Some(*publication);
                }
                Action::Commit(permit) => self.committed.extend((0..WORKERS).map(|worker| (worker, permit.epoch()))),
                Action::Abandoned { epoch, .. } => prop_assert_eq!(self.checkpoint.take(), Some(epoch)),
                Action::End(_) | Action::Fenced => self.ended = true,
                Action::WakeAt(_) | Action::Recommit(_) | Action::Refused { .. } | Action::StopFailed { .. } => {}
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order: see the module's invariants.
    #[test]
    fn invariants_hold_in_every_history(ops in ops(), window in 1u64..5) {
        let pacing = Pacing { window, checkpoint_timeout: 900, ..pacing() };
        let mut coordinator = Coordinator::new(pacing, job(), Restored::default());
        let (mut now, mut savepoints) = (1_000_000, 0);
        let mut watch = Watch {
            window, next_epoch: 1, progress: 1, wall_time: 0, checkpoint: None, publishing: None, ended: false,
            due: Vec::new(), staged: Vec::new(), committed: BTreeMap::new(),
        };
        for op in ops {
            let event = match op {
                Op::Pass(span) => {
                    now += span;
                    Event::Time
                }
                Op::Progress => {
                    watch.progress = watch.next_epoch.min(watch.progress + 1);
                    Event::Progress(watch.progress)
                }
                Op::Report { who, fails } => {
                    if watch.due.is_empty() {
                        continue;
                    }
                    let (stage, subtask, epoch) = watch.due.remove(who % watch.due.len());
                    if fails {
                        Event::Report(SnapshotReport { stage, subtask, epoch, outcome: Err("failed".into()) })
                    } else {
                        let mut parts = SnapshotParts::default();
                        if stage == 1 {
                            if let Some(confirmed) = watch.committed.get(&subtask) {
                                parts.confirmed.insert(id("sink"), *confirmed);
                                watch.staged.retain(|c| c.subtask != subtask || c.epoch > *confirmed);
                            }
                            parts.committables.push(committable(subtask, epoch));
                            watch.staged.push(committable(subtask, epoch));
                        }
                        report(stage, subtask, epoch, parts)
                    }
                }
                Op::Frontier => {
                    let due = watch.due.iter().map(|(_, _, epoch)| *epoch).min();
                    Event::Snapshots(due.unwrap_or(watch.next_epoch))
                }
                Op::Publish { outcome } => {
                    let Some(publication) = watch.publishing.take() else { continue };
                    let epoch = publication.epoch;
                    let failure = |fenced| PublishFailure { fenced, message: "failed".into() };
                    let result = match outcome {
                        0 => Err(failure(true)),
                        1 | 2 => Err(failure(false)),
                        _ => {
                            watch.checkpoint = None;
                            Ok(permit(epoch))
                        }
                    };
                    Event::Published { epoch, result }
                }
                Op::Savepoint => {
                    savepoints += 1;
                    Event::Savepoint(format!("s{savepoints}"))
                }
                Op::Checkpoint => Event::Checkpoint,
                Op::Stop => Event::Stop,
                Op::Load(rows) => Event::Load { rows },
                Op::Stray => Event::Published { epoch: 0, result: Ok(permit(0)) },
            };
            watch.see(coordinator.handle(event, now))?;
        }
    }
}
