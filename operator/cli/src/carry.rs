//! [pure] Whether state carries over from one SQL to another: a checkpoint is restored operator by operator, by id and
//! layout. The rules are those of the engine's restore (`worker/dataflow/src/snapshot/restore.rs`).

use rheos_dataflow::graph::{DataflowGraph, Node};

/// What becomes of the state of an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It carries over.
    Kept,
    /// The operator is new and begins empty.
    New,
    /// No operator takes it.
    Dropped,
    /// Its layout has changed.
    Changed {
        /// Before.
        from: String,
        /// After.
        to: String,
    },
}

/// An operator with state, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorFate {
    /// Its id.
    pub id: String,
    /// For people.
    pub title: String,
    /// What becomes of its state.
    pub fate: Fate,
}

/// The fates of all state: of the new graph's operators in their order, then of what is dropped.
pub fn fates(old: &DataflowGraph, new: &DataflowGraph) -> Vec<OperatorFate> {
    let stateful = |node: &&Node| node.state_schema.is_some();
    let fate = |node: &Node, fate: Fate| OperatorFate { id: node.id.0.clone(), title: node.title.clone(), fate };
    let mut fates = Vec::new();
    for node in new.nodes.iter().filter(stateful) {
        let before = old.nodes.iter().find(|other| other.id == node.id).and_then(|other| other.state_schema.clone());
        let after = node.state_schema.clone().unwrap_or_default();
        fates.push(match before {
            None => fate(node, Fate::New),
            Some(before) if before == after => fate(node, Fate::Kept),
            Some(before) => fate(node, Fate::Changed { from: before, to: after }),
        });
    }
    let gone = old.nodes.iter().filter(stateful).filter(|node| !new.nodes.iter().any(|other| other.id == node.id));
    fates.extend(gone.map(|node| fate(node, Fate::Dropped)));
    fates
}

/// Whether a checkpoint of the old graph can be restored into the new one.
pub fn is_restorable(fates: &[OperatorFate]) -> bool {
    fates.iter().all(|operator| matches!(operator.fate, Fate::Kept | Fate::New))
}

#[cfg(test)]
mod tests {
    use rheos_api::stream_job::Delivery;

    use super::*;

    fn graph(query: &str) -> DataflowGraph {
        let sql = format!(
            "CREATE TABLE bid (auction BIGINT, price BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'datagen');
             CREATE TABLE o (a BIGINT, n BIGINT) WITH ('connector' = 'print');
             {query}"
        );
        crate::plan::plan(&sql, Delivery::ExactlyOnce).unwrap().graph
    }

    fn fate_of<'a>(fates: &'a [OperatorFate], kind: &str) -> Vec<&'a Fate> {
        fates.iter().filter(|operator| operator.id.starts_with(kind)).map(|operator| &operator.fate).collect()
    }

    #[test]
    fn the_same_sql_carries_all_state() {
        let graph = graph("INSERT INTO o SELECT auction, COUNT(*) FROM bid GROUP BY auction;");
        let fates = fates(&graph, &graph);
        assert!(fates.len() >= 3 && is_restorable(&fates), "{fates:?}");
    }

    #[test]
    fn another_aggregation_drops_the_old_state_and_a_filter_keeps_the_sources() {
        let old = graph("INSERT INTO o SELECT auction, COUNT(*) FROM bid GROUP BY auction;");
        let fates = fates(&old, &graph("INSERT INTO o SELECT price, SUM(auction) FROM bid GROUP BY price;"));
        assert!(!is_restorable(&fates), "{fates:?}");
        assert_eq!(fate_of(&fates, "source"), [&Fate::Kept]);
        let aggregates = fate_of(&fates, "group-aggregate");
        assert!(aggregates.contains(&&Fate::Dropped) || aggregates.iter().any(|fate| matches!(fate, Fate::Changed { .. })), "{fates:?}");
    }

    #[test]
    fn what_is_added_begins_empty() {
        let old = graph("INSERT INTO o SELECT auction, price FROM bid;");
        let new = graph("INSERT INTO o SELECT auction, price FROM bid; INSERT INTO o SELECT auction, COUNT(*) FROM bid GROUP BY auction;");
        let fates = fates(&old, &new);
        assert_eq!(fate_of(&fates, "group-aggregate"), [&Fate::New], "{fates:?}");
    }
}
