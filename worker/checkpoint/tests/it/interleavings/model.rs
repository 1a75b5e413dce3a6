//! [pure] The system that the walk explores: a store, and a coordinator for each generation that asks the crate's pure
//! functions at every turn. A step of a coordinator is one access to the store, or one commit.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use rheos_checkpoint::paths::{self, JobPaths, ObjectPath};
use rheos_checkpoint::protocol::{PutOutcome, Writer, publish, retain, start};
use rheos_checkpoint::record::{ManifestRef, Record, RecordKind};
use serde_json::Value;

use crate::job::committable;

/// Generations at most.
const GENERATIONS: u64 = 3;
/// Units of input at most, one a checkpoint (or two, see [`Rules::dense`]).
const UNITS: u64 = 3;
/// Numbers in the log.
const NUMBERS: usize = 14;

/// How much happens in one run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    /// Generations that are minted.
    pub(super) generations: u64,
    /// Units of input.
    pub(super) units: u64,
    /// Answers that get lost, or puts that land late.
    pub(super) losses: u8,
    /// Whether the upload of files, the record, and the two halves of a collection are steps of their own.
    pub(super) detailed: bool,
}

/// The rules of the protocol; each can be left out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) fence_read: bool,
    pub(super) carry: bool,
    /// Records are named by number; otherwise by epoch, without start records, and coordinators differ in cadence.
    pub(super) dense: bool,
    pub(super) create_if_absent: bool,
    pub(super) retain_references: bool,
    pub(super) retain_unpublished: bool,
}

impl Rules {
    pub(super) const ALL: Self =
        Self { fence_read: true, carry: true, dense: true, create_if_absent: true, retain_references: true, retain_unpublished: true };
}

/// An interned record; 0 is none.
type RecordId = u16;

/// What a coordinator does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Phase {
    #[default]
    Off,
    Dead,
    /// Reads the log's end.
    Read,
    /// Creates this record; again, after an answer was lost, or for the first time.
    Create(RecordId),
    /// Reads the number of this record, because its creation was refused or not answered.
    Look(RecordId),
    /// Reads the fence after its start record was beaten.
    Beaten,
    /// Reads the fence after this record was written.
    Written(RecordId),
    /// Commits again what the start record carries.
    Recommit,
    Run,
    /// Deletes by this plan: first the records, then the objects.
    Collect(u16, bool),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Coordinator {
    phase: Phase,
    /// Its newest record.
    last: RecordId,
    /// The newest state file that its next manifest still references: bit of an object.
    base: u8,
    /// Input up to here is in its state.
    position: u8,
    unconfirmed: u32,
    permitted: u32,
}

/// The whole system at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    fence: u8,
    log: [RecordId; NUMBERS],
    objects: u32,
    committed: u32,
    losses: u8,
    /// The current generation was beaten while it published: safe, but it would have to start again.
    beaten: bool,
    /// A put that was not answered and may still land.
    late: RecordId,
    coordinators: [Coordinator; GENERATIONS as usize + 1],
}

/// A step's name.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Step {
    what: &'static str,
    generation: u64,
    number: u64,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.what, self.generation)?;
        if self.number > 0 { write!(f, "@{}", self.number) } else { Ok(()) }
    }
}

/// Records and plans by id: states stay small.
pub(super) struct Model {
    rules: Rules,
    size: Size,
    records: Vec<(Record, u32)>,
    record_ids: HashMap<String, RecordId>,
    next_records: HashMap<(RecordId, u64, u64, u32, u8, u32), RecordId>,
    /// Numbers and objects to delete.
    plans: Vec<(u32, u32)>,
    plan_ids: HashMap<(u32, u32), u16>,
    collections: HashMap<(u64, RecordId, [RecordId; NUMBERS], u32), u16>,
}

/// All committables: (generation, from, to), by bit.
fn committables() -> impl Iterator<Item = (u64, u64, u64)> {
    (1..=GENERATIONS).flat_map(|g| (0..UNITS).flat_map(move |from| (from + 1..=UNITS).map(move |to| (g, from, to))))
}

fn bit_of(wanted: (u64, u64, u64)) -> u32 {
    1 << committables().position(|committable| committable == wanted).unwrap()
}

fn values(bits: u32) -> Vec<Value> {
    let chosen = committables().enumerate().filter(|(bit, _)| bits & 1 << bit != 0);
    chosen.map(|(_, (generation, from, to))| committable(generation, from, to)).collect()
}

fn bits(values: &[Value]) -> u32 {
    let number = |value: &Value| value.as_u64().unwrap();
    values.iter().map(|value| bit_of((number(&value[0]), number(&value[1]), number(&value[2])))).sum()
}

/// The units that committables cover, each as often as it is covered.
fn units(bits: u32) -> impl Iterator<Item = u64> {
    committables().enumerate().filter(move |(bit, _)| bits & 1 << bit != 0).flat_map(|(_, (_, from, to))| from..to)
}

/// Bit of the state file that a generation wrote at an epoch; its manifest has the next one.
fn object_bit(generation: u64, epoch: u64) -> u8 {
    (2 * ((generation - 1) * UNITS + epoch - 1)) as u8
}

fn object_paths() -> impl Iterator<Item = (u32, ObjectPath)> {
    (1..=GENERATIONS).flat_map(|g| {
        (1..=UNITS).flat_map(move |e| {
            let bit = object_bit(g, e);
            [(1 << bit, paths::state_file(g, e, 0, 0)), (2 << bit, paths::manifest(g, e, 0))]
        })
    })
}

/// Objects that a record's checkpoint needs: the manifest's path tells the generation and epoch of its own file, its size
/// which file of before it still references (the model's way to keep a manifest in a record).
fn needs(record: &Record) -> u32 {
    let Some(manifest) = &record.manifest else { return 0 };
    let own = object_paths().find(|(_, path)| path.as_str() == manifest.path).map_or(0, |(bit, _)| bit | bit >> 1);
    own | if manifest.bytes == 0 { 0 } else { 1 << (manifest.bytes - 1) }
}

impl Model {
    pub(super) fn new(rules: Rules, size: Size) -> Self {
        let nothing = start::start_record(0, 0, &start::Origin::default(), String::new());
        Self {
            rules,
            size,
            records: vec![(nothing, 0)],
            record_ids: HashMap::new(),
            next_records: HashMap::new(),
            plans: Vec::new(),
            plan_ids: HashMap::new(),
            collections: HashMap::new(),
        }
    }

    pub(super) fn first(&self) -> State {
        State {
            fence: 0,
            log: [0; NUMBERS],
            objects: 0,
            committed: 0,
            losses: 0,
            beaten: false,
            late: 0,
            coordinators: [Coordinator::default(); GENERATIONS as usize + 1],
        }
    }

    /// Why a state is unsafe.
    pub(super) fn violation(&self, state: &State) -> Option<String> {
        let mut seen = [0; UNITS as usize];
        units(state.committed).for_each(|unit| seen[unit as usize] += 1);
        if seen.iter().any(|times| *times > 1) {
            return Some(format!("committed twice: {:?}", values(state.committed)));
        }
        let current = &state.coordinators[state.fence as usize];
        let held: BTreeSet<u64> = units(state.committed | current.unconfirmed).collect();
        if current.phase == Phase::Run && current.permitted == 0 && !(0..u64::from(current.position)).all(|unit| held.contains(&unit)) {
            let (done, carried) = (values(state.committed), values(current.unconfirmed));
            return Some(format!("lost below {}: committed {done:?}, carried {carried:?}", current.position));
        }
        if state.beaten {
            return Some("beaten: a zombie's record stands in the current generation's way".to_string());
        }
        let end = self.end(state);
        let missing = needs(&self.records[end as usize].0) & !state.objects;
        if missing != 0 {
            let gone: Vec<_> = object_paths().filter(|(bit, _)| bit & missing != 0).map(|(_, path)| path.to_string()).collect();
            return Some(format!("hole: the log's end needs {gone:?}"));
        }
        None
    }

    /// Whether all input is committed.
    pub(super) fn finished(&self, state: &State) -> bool {
        units(state.committed).count() as u64 == self.size.units
    }

    fn end(&self, state: &State) -> RecordId {
        state.log.iter().rev().find(|record| **record != 0).copied().unwrap_or(0)
    }

    fn record(&self, id: RecordId) -> &Record {
        &self.records[id as usize].0
    }

    fn intern(&mut self, record: Record) -> RecordId {
        let text = serde_json::to_string(&record).unwrap();
        let next = self.records.len() as RecordId;
        let id = *self.record_ids.entry(text).or_insert(next);
        if id == next {
            let carried = bits(&record.committables);
            self.records.push((record, carried));
        }
        id
    }

    /// The number of a record: its own, or its epoch where that rule is left out.
    fn number(&self, id: RecordId) -> u64 {
        let record = self.record(id);
        if self.rules.dense { record.seq } else { record.epoch }
    }

    /// Every step that can happen next.
    pub(super) fn steps(&mut self, state: &State, steps: &mut Vec<(Step, State)>) {
        self.all_steps(state, steps);
        for (_, then) in steps {
            self.forget(then);
        }
    }

    /// Forgets what no longer matters, so that states which only differ there are one.
    fn forget(&self, state: &mut State) {
        for generation in 1..usize::from(state.fence) {
            let zombie = &mut state.coordinators[generation];
            // It has read all input, so it makes no record any more.
            if zombie.phase == Phase::Run && u64::from(zombie.position) == self.size.units {
                (zombie.unconfirmed, zombie.base) = (zombie.permitted, 0);
            }
        }
    }

    fn all_steps(&mut self, state: &State, steps: &mut Vec<(Step, State)>) {
        if u64::from(state.fence) < self.size.generations {
            let mut then = state.clone();
            then.fence += 1;
            then.coordinators[then.fence as usize].phase = Phase::Read;
            steps.push((Step { what: "mint", generation: u64::from(then.fence), number: 0 }, then));
        }
        if state.late != 0 {
            let mut then = state.clone();
            then.late = 0;
            let number = self.number(state.late);
            self.put(&mut then, state.late);
            steps.push((Step { what: "late", generation: self.record(state.late).generation, number }, then));
        }
        for generation in 1..=self.size.generations {
            let me = state.coordinators[generation as usize];
            if matches!(me.phase, Phase::Off | Phase::Dead) {
                continue;
            }
            self.coordinator_steps(state, generation, me, steps);
        }
    }

    fn coordinator_steps(&mut self, state: &State, generation: u64, me: Coordinator, steps: &mut Vec<(Step, State)>) {
        let mut push = |what, number, then| steps.push((Step { what, generation, number }, then));
        let become_ = |me: Coordinator| {
            let mut then = state.clone();
            then.coordinators[generation as usize] = me;
            then
        };
        let dead = Coordinator { phase: Phase::Dead, ..Coordinator::default() };
        let mine = if self.rules.fence_read { u64::from(state.fence) } else { generation };
        match me.phase {
            Phase::Off | Phase::Dead => {}
            Phase::Read => {
                let end = self.end(state);
                let seen = (end != 0).then(|| self.record(end));
                let then = if !self.rules.dense || start::may_start(generation, seen) { self.start(generation, end) } else { dead };
                push("read", self.number(end), become_(then));
            }
            Phase::Create(record) => self.create(state, me, record, &mut push, generation),
            Phase::Look(record) => {
                let found = state.log[self.number(record) as usize];
                let number = self.number(record);
                let me_then = self.look(generation, me, record, found);
                let is_start = self.record(record).kind == RecordKind::Start;
                let mut then = become_(me_then);
                then.beaten = self.rules.dense && !is_start && me_then.phase == Phase::Dead && generation == u64::from(state.fence);
                push("look", number, then);
                // The look fails as well: the checkpoint is given up, and the coordinator goes on.
                if !is_start && state.losses < self.size.losses && found == 0 {
                    let mut then = become_(Coordinator { phase: Phase::Run, ..me });
                    then.losses += 1;
                    push("give-up", number, then);
                }
            }
            Phase::Beaten => match start::after_beaten(generation, u64::from(state.fence)) {
                start::BeatenDecision::ReadAgain => push("again", 0, become_(Coordinator { phase: Phase::Read, ..Coordinator::default() })),
                start::BeatenDecision::Fenced => push("fenced", 0, become_(dead)),
            },
            Phase::Written(record) => {
                let is_start = self.record(record).kind == RecordKind::Start;
                let then = match publish::permit(self.record(record), mine) {
                    Err(_) => dead,
                    Ok(permit) => {
                        assert_eq!((permit.generation(), permit.epoch()), (generation, self.record(record).epoch));
                        let phase = if is_start || me.last == 0 && !self.rules.dense { Phase::Recommit } else { Phase::Run };
                        Coordinator { phase, last: record, permitted: me.unconfirmed, ..me }
                    }
                };
                push("fence", 0, become_(then));
            }
            Phase::Recommit | Phase::Run => self.run(state, generation, me, &mut push),
            Phase::Collect(plan, objects) => {
                let (numbers, gone) = self.plans[plan as usize];
                let mut then = become_(Coordinator { phase: if objects { Phase::Run } else { Phase::Collect(plan, true) }, ..me });
                if objects {
                    then.objects &= !gone;
                } else {
                    (0..NUMBERS).filter(|number| numbers & 1 << number != 0).for_each(|number| then.log[number] = 0);
                }
                push(if objects { "delete-objects" } else { "delete-records" }, 0, then);
                self.commit(state, generation, me, &mut push);
            }
        }
    }

    /// After reading the log's end.
    fn start(&mut self, generation: u64, end: RecordId) -> Coordinator {
        let seen = self.record(end).clone();
        let origin = start::resume((end != 0).then_some(&seen));
        let carried = self.records[end as usize].1;
        let base = seen.manifest.as_ref().map_or(0, |manifest| {
            object_paths().find(|(_, path)| path.as_str() == manifest.path).map_or(0, |(bit, _)| bit.trailing_zeros() as u8)
        });
        let me =
            Coordinator { phase: Phase::Recommit, last: end, base, position: origin.epoch as u8, unconfirmed: carried, permitted: carried };
        if !self.rules.dense {
            return me;
        }
        let token = Writer::new(generation, generation).token();
        let record = self.intern(start::start_record(seen.seq, generation, &origin, token));
        Coordinator { phase: Phase::Create(record), permitted: 0, ..me }
    }

    fn put(&self, then: &mut State, record: RecordId) -> PutOutcome {
        let number = self.number(record) as usize;
        if then.log[number] != 0 && self.rules.create_if_absent {
            return PutOutcome::Refused;
        }
        then.log[number] = record;
        PutOutcome::Done
    }

    fn create(&self, state: &State, me: Coordinator, record: RecordId, push: &mut impl FnMut(&'static str, u64, State), generation: u64) {
        let number = self.number(record);
        let mut then = state.clone();
        let outcome = self.put(&mut then, record);
        let phase = match publish::after_create(outcome) {
            publish::CreateDecision::Written => Phase::Written(record),
            publish::CreateDecision::Look => Phase::Look(record),
        };
        then.coordinators[generation as usize] = Coordinator { phase, ..me };
        let refused = outcome == PutOutcome::Refused;
        push(if refused { "refused" } else { "record" }, number, then.clone());
        if refused || state.losses >= self.size.losses || state.late != 0 {
            return;
        }
        let publish::CreateDecision::Look = publish::after_create(PutOutcome::Unknown) else { return };
        then.losses += 1;
        then.coordinators[generation as usize].phase = Phase::Look(record);
        push("record-unheard", number, then);
        let mut then = state.clone();
        then.losses += 1;
        then.late = record;
        then.coordinators[generation as usize] = Coordinator { phase: Phase::Look(record), ..me };
        push("record-late", number, then);
    }

    fn look(&mut self, generation: u64, me: Coordinator, record: RecordId, found: RecordId) -> Coordinator {
        let writer = Writer::new(generation, generation);
        let mine = self.record(record).clone();
        let found_record = (found != 0).then(|| self.record(found).clone());
        match publish::after_look(&mine, &writer, found_record.as_ref()) {
            publish::LookDecision::Written => Coordinator { phase: Phase::Written(record), ..me },
            publish::LookDecision::CreateAgain => Coordinator { phase: Phase::Create(record), ..me },
            publish::LookDecision::Earlier => {
                let manifest = mine.manifest.clone().unwrap();
                let token = format!("{}-behind", mine.token);
                let next = publish::next_record(&self.record(found).clone(), mine.epoch, manifest, mine.committables, token);
                let next = self.intern(next);
                Coordinator { phase: Phase::Create(next), last: found, ..me }
            }
            publish::LookDecision::Beaten if mine.kind == RecordKind::Start => {
                Coordinator { phase: Phase::Beaten, ..Coordinator::default() }
            }
            publish::LookDecision::Beaten => Coordinator { phase: Phase::Dead, ..Coordinator::default() },
        }
    }

    fn commit(&self, state: &State, generation: u64, me: Coordinator, push: &mut impl FnMut(&'static str, u64, State)) {
        if me.permitted == 0 {
            return;
        }
        let first = 1 << me.permitted.trailing_zeros();
        let mut then = state.clone();
        then.committed |= first;
        let unconfirmed = if me.phase == Phase::Recommit { me.unconfirmed } else { me.unconfirmed & !first };
        then.coordinators[generation as usize] = Coordinator { permitted: me.permitted & !first, unconfirmed, ..me };
        push("commit", 0, then);
    }

    fn run(&mut self, state: &State, generation: u64, me: Coordinator, push: &mut impl FnMut(&'static str, u64, State)) {
        self.commit(state, generation, me, push);
        let become_ = |me: Coordinator| {
            let mut then = state.clone();
            then.coordinators[generation as usize] = me;
            then
        };
        if me.phase == Phase::Recommit {
            if me.permitted == 0 {
                push("ready", 0, become_(Coordinator { phase: Phase::Run, unconfirmed: 0, ..me }));
            }
            return;
        }
        let position = u64::from(me.position);
        let all = self.size.units;
        let cadences = if self.rules.dense { 1..=1 } else { 1..=2 };
        for to in cadences.map(|units| position + units).filter(|to| *to <= all) {
            // State file and manifest go up; then the record is made.
            let fresh = bit_of((generation, position, to));
            let unconfirmed = me.unconfirmed | fresh;
            let carried = if self.rules.carry { unconfirmed } else { fresh };
            let record = self.next_record(generation, me, to, carried);
            let own = object_bit(generation, to);
            let me = Coordinator { phase: Phase::Create(record), base: own, position: to as u8, unconfirmed, ..me };
            let mut then = become_(me);
            then.objects |= 3 << own;
            if self.size.detailed {
                push("upload", to, then);
            } else {
                self.create(&then, me, record, push, generation);
            }
        }
        let plan = self.collect(state, generation, me);
        let (numbers, gone) = self.plans[plan as usize];
        if (numbers, gone) != (0, 0) && !self.size.detailed {
            let mut then = become_(me);
            then.objects &= !gone;
            (0..NUMBERS).filter(|number| numbers & 1 << number != 0).for_each(|number| then.log[number] = 0);
            push("collect", 0, then);
        } else if (numbers, gone) != (0, 0) {
            push("collect", 0, become_(Coordinator { phase: Phase::Collect(plan, false), ..me }));
        }
    }

    fn next_record(&mut self, generation: u64, me: Coordinator, to: u64, carried: u32) -> RecordId {
        let key = (me.last, generation, to, carried, me.base, me.unconfirmed);
        if let Some(record) = self.next_records.get(&key) {
            return *record;
        }
        let path = paths::manifest(generation, to, 0).as_str().to_string();
        let last = Record { generation, ..self.record(me.last).clone() };
        // The file of the checkpoint before, if there was one.
        let based = if me.position == 0 { 0 } else { u64::from(me.base) + 1 };
        let manifest = ManifestRef { path, crc: 0, bytes: based };
        let token = format!("g{generation}-{generation:016x}-{}", to + 1);
        let record = publish::next_record(&last, to, manifest, values(carried), token);
        let record = self.intern(record);
        self.next_records.insert(key, record);
        record
    }

    /// What retention would delete now.
    fn collect(&mut self, state: &State, generation: u64, me: Coordinator) -> u16 {
        let key = (generation, me.last, state.log, state.objects);
        if let Some(plan) = self.collections.get(&key) {
            return *plan;
        }
        let job = JobPaths::new("n", "j", "u").unwrap();
        let numbers = (0..NUMBERS).filter(|number| state.log[*number] != 0);
        let records: BTreeMap<u64, Record> = numbers.map(|number| (number as u64, self.record(state.log[number]).clone())).collect();
        let first_kept = retain::first_kept(&records, 1).unwrap_or(0);
        let needed = records.range(first_kept..).fold(0, |needed, (_, record)| needed | needs(record));
        let listed = object_paths().filter(|(bit, _)| bit & state.objects != 0).map(|(_, path)| path);
        let listed: Vec<ObjectPath> = listed.chain(records.keys().filter_map(|number| job.root().relative(&job.record(*number)))).collect();
        let referenced = object_paths().filter(|(bit, _)| bit & needed != 0 && self.rules.retain_references);
        let referenced: BTreeSet<String> = referenced.map(|(_, path)| path.to_string()).collect();
        let published = if self.rules.retain_unpublished { self.record(me.last).epoch } else { u64::MAX };
        let observed = retain::Observed { generation, published, first_kept, listed: &listed, referenced: &referenced };
        let mut plan = (0, 0);
        for path in retain::retain(&observed) {
            match paths::kind_of(&path) {
                paths::Kind::Record(seq) => plan.0 |= 1 << seq,
                _ => plan.1 |= object_paths().find(|(_, known)| *known == path).map_or(0, |(bit, _)| bit),
            }
        }
        let next = self.plans.len() as u16;
        let id = *self.plan_ids.entry(plan).or_insert(next);
        if id == next {
            self.plans.push(plan);
        }
        self.collections.insert(key, id);
        id
    }
}
