//! What sources are told of the rows that a job uses.

use arrow::util::display::array_value_to_string;
use rheos_dataflow::graph::OperatorSpec;

use crate::support::planned;

/// The lists of the only source, as text.
fn told(inserts: &str) -> Vec<String> {
    let sql = format!(
        "CREATE TABLE t (n BIGINT, s STRING, ts TIMESTAMP(3), m BIGINT METADATA FROM 'file.size' VIRTUAL, twice AS n * 2,
           WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem');
         CREATE TABLE o (n BIGINT) WITH ('connector' = 'print');
         CREATE TABLE p (n BIGINT) WITH ('connector' = 'print');
         {inserts}"
    );
    let planned = planned(&sql);
    let source = planned.graph.nodes.iter().find_map(|node| match &node.spec {
        OperatorSpec::Source(spec) => Some(spec),
        _ => None,
    });
    let shown = |list: &Vec<rheos_dataflow::graph::Comparison>| {
        let shown = list.iter().map(|one| format!("{} {:?} {}", one.column, one.comparator, array_value_to_string(&one.value, 0).unwrap()));
        shown.collect::<Vec<_>>().join(", ")
    };
    source.unwrap().pruning.0.iter().map(shown).collect()
}

#[test]
fn comparisons_with_literals_reach_the_source() {
    assert_eq!(
        told("INSERT INTO o SELECT n FROM t WHERE n > 5 AND 'x' >= s AND n + 1 < 7;"),
        ["n Greater 5, s LessOrEqual x"],
        "what is not simple says nothing"
    );
    assert_eq!(told("INSERT INTO o SELECT n FROM t WHERE n BETWEEN 3 AND 4;"), ["n GreaterOrEqual 3, n LessOrEqual 4"]);
}

#[test]
fn a_source_is_read_whole_where_any_row_may_be_needed() {
    for whole in [
        "INSERT INTO o SELECT n FROM t;",
        "INSERT INTO o SELECT n FROM t WHERE n > 5 OR n < 3;",
        "INSERT INTO o SELECT n FROM t WHERE n <> 5;",
        "INSERT INTO o SELECT n FROM t WHERE n IS NULL;",
        "INSERT INTO o SELECT n FROM t WHERE m > 5;",
        "INSERT INTO o SELECT n FROM t WHERE twice > 5;",
        "INSERT INTO o SELECT COUNT(*) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' SECOND)) WHERE n > 5 GROUP BY window_start, window_end;",
    ] {
        assert_eq!(told(whole), [""; 0], "{whole}");
    }
}

#[test]
fn a_table_that_several_read_is_told_what_any_of_them_needs() {
    let both = "EXECUTE STATEMENT SET BEGIN INSERT INTO o SELECT n FROM t WHERE n > 5; INSERT INTO p SELECT n FROM t WHERE s = 'a'; END;";
    assert_eq!(told(both), ["n Greater 5", "s Equal a"]);
    assert_eq!(told(&both.replace(" WHERE s = 'a'", "")), [""; 0]);
}
