//! The output of an epoch is a function of its input: whatever the interleaving, the batches and the workers.

use proptest::prelude::*;
use rheos_dataflow::sim::epochs::{Epochs, Freedom};
use rheos_dataflow::sim::expected;
use rheos_dataflow::sim::jobs::{Shape, SimJob};
use rheos_dataflow::sim::oracle::{Multiset, difference};
use rheos_dataflow::sim::source::Content;

fn jobs() -> impl Strategy<Value = Epochs> {
    let content = (any::<u64>(), 1u32..5, 1u64..60, 1u64..8);
    let content = content.prop_map(|(seed, splits, rows, keys)| Content { seed, splits, rows, keys });
    let rows = proptest::collection::vec(proptest::collection::vec(0u64..30, 1..4), 1..5);
    (proptest::sample::select(Shape::ALL.to_vec()), content, rows).prop_map(|(shape, content, rows)| Epochs { shape, content, rows })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn an_epochs_output_is_a_function_of_its_input(job in jobs(), workers in 1u32..6, first in any::<u64>(), second in any::<u64>()) {
        let alone = job.run(Freedom { workers: 1, seed: first }).unwrap();
        let shared = job.run(Freedom { workers, seed: second }).unwrap();
        let epochs: Vec<_> = alone.keys().collect();
        prop_assert_eq!(epochs, shared.keys().collect::<Vec<_>>());
        for (place, expected) in &alone {
            prop_assert_eq!(difference(expected, &shared[place]), None, "{:?}", place);
        }
    }
}

/// The property above would hold of a job that does nothing.
#[test]
fn all_epochs_together_are_the_result() {
    for shape in [Shape::Filter, Shape::Rebalance, Shape::Tumble, Shape::Hop, Shape::Cumulate, Shape::Union, Shape::Lookup] {
        let content = Content { seed: 7, splits: 3, rows: 80, keys: 5 };
        let job = Epochs { shape, content, rows: vec![vec![10, 20], vec![30, 0, 5]] };
        let outputs = job.run(Freedom { workers: 3, seed: 1 }).unwrap();
        assert!(outputs.len() > 1, "{shape:?} gave all in one epoch");
        let mut all = Multiset::new();
        for (row, times) in outputs.into_values().flatten() {
            *all.entry(row).or_default() += times;
        }
        let expected = expected::results(&SimJob::new(shape, content).unwrap()).unwrap();
        assert_eq!(difference(expected.values().next().unwrap(), &all), None, "{shape:?}");
    }
}
