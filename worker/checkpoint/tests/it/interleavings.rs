//! [pure] Every interleaving of the protocol's own decisions: three generations, three units of input, crashes, zombies,
//! lost replies, puts that land late, retention in steps. Breadth first, so a run that breaks it is a shortest one. A
//! crash is no step: a coordinator that is never scheduled again has crashed, and the walk has all such runs.
//!
//! A committable is (generation, from, to). Safety: no unit is committed twice; what lies below a current coordinator's
//! position is committed or carried; the log's end never names what is gone. Then each rule is left out in turn, and the
//! walk must find the run that needs it.

mod model;

use model::{Model, Rules, Size};

/// States that the walk may visit before it counts as out of hand.
const STATES_MAX: usize = 3_000_000;

/// What a walk found.
struct Walk {
    states: usize,
    /// Why safety is broken, and the steps that lead there.
    violation: Option<(String, Vec<String>)>,
    /// Whether some run commits all input.
    finishes: bool,
}

/// Walks until safety is broken in a way that `wanted` is part of.
fn walk(rules: Rules, size: Size, wanted: &str) -> Walk {
    let mut model = Model::new(rules, size);
    let mut states = states::States::default();
    let mut came: Vec<(u32, model::Step)> = Vec::new();
    states.insert(model.first());
    came.push((0, model::Step::default()));
    let mut finishes = false;
    let mut next = 0;
    let mut steps = Vec::new();
    while next < states.len() {
        let state = states.get(next);
        if let Some(why) = model.violation(&state).filter(|why| why.contains(wanted)) {
            let mut run = Vec::new();
            let mut at = next;
            while at != 0 {
                let (from, step) = came[at];
                run.push(step.to_string());
                at = from as usize;
            }
            run.reverse();
            return Walk { states: states.len(), violation: Some((why, run)), finishes };
        }
        finishes |= model.finished(&state);
        steps.clear();
        model.steps(&state, &mut steps);
        for (step, then) in steps.drain(..) {
            if states.insert(then) {
                came.push((next as u32, step));
            }
        }
        assert!(states.len() < STATES_MAX, "the walk is out of hand: {} states", states.len());
        next += 1;
    }
    Walk { states: states.len(), violation: None, finishes }
}

/// A set of states that remembers their order.
mod states {
    use std::collections::HashSet;
    use std::hash::{BuildHasherDefault, Hasher};
    use std::rc::Rc;

    use super::model::State;

    /// Multiply and rotate: the states are ours, nobody attacks this table.
    #[derive(Default)]
    pub(super) struct Quick(u64);

    impl Hasher for Quick {
        fn finish(&self) -> u64 {
            self.0
        }

        fn write(&mut self, bytes: &[u8]) {
            bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
        }

        fn write_u8(&mut self, n: u8) {
            self.write_u64(n.into());
        }

        fn write_u16(&mut self, n: u16) {
            self.write_u64(n.into());
        }

        fn write_u32(&mut self, n: u32) {
            self.write_u64(n.into());
        }

        fn write_u64(&mut self, n: u64) {
            self.0 = (self.0.rotate_left(5) ^ n).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
    }

    #[derive(Default)]
    pub(super) struct States {
        seen: HashSet<Rc<State>, BuildHasherDefault<Quick>>,
        order: Vec<Rc<State>>,
    }

    impl States {
        pub(super) fn insert(&mut self, state: State) -> bool {
            if self.seen.contains(&state) {
                return false;
            }
            let state = Rc::new(state);
            self.seen.insert(Rc::clone(&state));
            self.order.push(state);
            true
        }

        pub(super) fn get(&self, index: usize) -> Rc<State> {
            Rc::clone(&self.order[index])
        }

        pub(super) fn len(&self) -> usize {
            self.order.len()
        }
    }
}

fn holds(size: Size, least: usize) {
    let walk = walk(Rules::ALL, size, "");
    println!("{size:?}: {} states", walk.states);
    if let Some((why, run)) = walk.violation {
        panic!("{why} by {}", run.join(" "));
    }
    assert!(walk.finishes, "no run commits all input");
    assert!(walk.states > least, "only {} states: the walk does not walk", walk.states);
}

const THREE_BY_THREE: Size = Size { generations: 3, units: 3, losses: 0, detailed: false };

#[test]
fn every_interleaving_of_three_generations_and_three_checkpoints_is_safe() {
    holds(THREE_BY_THREE, 50_000);
}

#[test]
fn every_interleaving_of_uploads_and_half_collections_is_safe() {
    holds(Size { generations: 3, units: 1, losses: 0, detailed: true }, 1_000);
    holds(Size { generations: 2, units: 3, losses: 0, detailed: true }, 10_000);
}

#[test]
fn every_interleaving_with_lost_answers_and_late_puts_is_safe() {
    holds(Size { generations: 2, units: 2, losses: 2, detailed: true }, 10_000);
    holds(Size { generations: 3, units: 2, losses: 1, detailed: false }, 10_000);
}

fn finds(rules: Rules, size: Size, hole: &str) {
    let walk = walk(rules, size, hole);
    let Some((why, run)) = walk.violation else { panic!("{rules:?} breaks nothing in {} states", walk.states) };
    println!("{} states: {why} by {}", walk.states, run.join(" "));
}

#[test]
fn without_the_fence_read_a_zombie_reuses_a_number_and_commits_again() {
    finds(Rules { fence_read: false, ..Rules::ALL }, THREE_BY_THREE, "committed twice");
}

#[test]
fn a_record_that_carries_only_its_own_committables_loses_the_ones_before() {
    finds(Rules { carry: false, ..Rules::ALL }, THREE_BY_THREE, "lost");
}

#[test]
fn records_named_by_epoch_let_a_zombie_write_where_its_successor_skipped() {
    finds(Rules { dense: false, ..Rules::ALL }, THREE_BY_THREE, "committed twice");
}

#[test]
fn records_that_overwrite_let_a_late_put_replace_a_permitted_record() {
    let size = Size { generations: 2, units: 2, losses: 2, detailed: true };
    finds(Rules { create_if_absent: false, ..Rules::ALL }, size, "committed twice");
}

#[test]
fn retention_that_forgets_what_records_reference_leaves_a_hole() {
    finds(Rules { retain_references: false, ..Rules::ALL }, THREE_BY_THREE, "hole");
}

#[test]
fn retention_that_forgets_what_is_on_its_way_leaves_a_hole() {
    let size = Size { generations: 1, units: 2, losses: 2, detailed: true };
    finds(Rules { retain_unpublished: false, ..Rules::ALL }, size, "hole");
}
