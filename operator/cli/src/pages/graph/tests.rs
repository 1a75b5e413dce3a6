//! Pictures of a graph.

use expect_test::expect;
use rheos_api::stream_job::Delivery;

use super::*;

fn graph() -> DataflowGraph {
    let sql = "CREATE TABLE bid (auction BIGINT, price BIGINT) WITH ('connector' = 'datagen');
        CREATE TABLE n (auction BIGINT, n BIGINT) WITH ('connector' = 'print');
        CREATE TABLE raw (auction BIGINT) WITH ('connector' = 'blackhole');
        INSERT INTO n SELECT auction, COUNT(*) FROM bid GROUP BY auction;
        INSERT INTO raw SELECT auction FROM bid WHERE price > 5 AND price < 10;";
    crate::plan::plan(sql, Delivery::ExactlyOnce).unwrap().graph
}

#[test]
fn a_flowchart_has_every_node_and_edge() {
    expect![[r#"
        flowchart TD
          n0[("source:bid<br/>source bid (datagen): auction, price")]
          n1["calc:bid:3331467b<br/>auction"]
          n2["local-group-aggregate:bid:dd78a4de<br/>partial COUNT(*) by auction"]
          n3["group-aggregate:bid:27cfed68<br/>COUNT(*) by auction<br/>changes"]
          n4["calc:bid:2100c5bd<br/>auction, EXPR$1 AS n<br/>changes"]
          n5[/"sink:n<br/>sink n (print)<br/>changes"/]
          n6["calc:bid:d0641ed6<br/>auction WHERE (price &gt; 5) AND (price &lt; 10)"]
          n7[/"sink:raw<br/>sink raw (blackhole)"/]
          n0 --> n1
          n1 --> n2
          n2 -->|"hash(auction)"| n3
          n3 --> n4
          n4 --> n5
          n0 --> n6
          n6 --> n7
    "#]]
    .assert_eq(&mermaid(&graph()));
}

#[test]
fn a_picture_has_boxes_that_do_not_overlap_and_edges_that_go_down() {
    let graph = graph();
    let places = places(&graph);
    for (index, (x, y)) in places.iter().enumerate() {
        for (other_x, other_y) in &places[index + 1..] {
            assert!(y != other_y || x.abs_diff(*other_x) >= BOX_WIDTH + GAP_X, "{places:?}");
        }
    }
    assert!(graph.edges.iter().all(|edge| places[edge.from].1 < places[edge.to].1));
    let picture = svg(&graph);
    assert_eq!(picture.matches("<g>").count(), graph.nodes.len());
    assert_eq!(picture.matches("marker-end").count(), graph.edges.len());
    assert!(picture.contains("&gt; ") && picture.ends_with("</svg>\n"), "{picture}");
    assert_eq!(picture.matches('<').count(), picture.matches('>').count(), "text is escaped");
}

#[test]
fn programs_get_nodes_and_edges() {
    let value = value(&graph());
    assert_eq!(value["nodes"].as_array().unwrap().len(), graph().nodes.len());
    assert!(value["edges"].as_array().unwrap().iter().any(|edge| edge["exchange"] == "hash(auction)"), "{value:#}");
    assert!(value["nodes"].as_array().unwrap().iter().any(|node| node["kind"] == "sink" && node["changes"] == true), "{value:#}");
}
