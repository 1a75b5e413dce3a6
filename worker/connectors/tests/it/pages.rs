//! Every option that a connector knows stands on its page: the head of its module, or of the formats'.

use std::collections::BTreeSet;
use std::path::Path;

use rheos_dataflow::graph::{Node, OperatorSpec};
use rheos_dataflow::sink::Delivery;

use crate::{problems, sink, source};

/// An option that nobody has.
const NONE: &str = "no-option-of-anybody";

/// The head of a module.
fn page(module: &str) -> String {
    let file = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("src").join(format!("{module}.rs"));
    let text = std::fs::read_to_string(&file).unwrap();
    text.lines().take_while(|line| line.starts_with("//!")).collect::<Vec<_>>().join("\n")
}

/// All options that are known for a table, as the error about an unknown one lists them.
fn known(node: Node) -> Vec<String> {
    let found = problems(node, Delivery::ExactlyOnce);
    let list = found.iter().find_map(|problem| problem.split_once(&format!("'{NONE}'"))?.1.split_once("Known options: "));
    let (_, list) = list.unwrap_or_else(|| panic!("the unknown option is not refused: {found:?}"));
    list.split(", ").map(str::to_owned).collect()
}

fn stands_on(page: &str, option: &str) -> bool {
    let text = |name: &str| page.contains(&format!("`{name}`"));
    let column = option.replacen("fields.n.", "fields.NAME.", 1).replacen("fields.s.", "fields.NAME.", 1);
    // `a.b.c`, `.d`, `.e`
    let short = option.rsplit_once('.').is_some_and(|(before, last)| text(&format!(".{last}")) && page.contains(&format!("`{before}.")));
    // Formats of keys and values, and of change-logs, have the options of the format.
    let of_format = ["key.", "value.", "debezium-"].iter().find_map(|prefix| option.strip_prefix(prefix));
    text(option) || text(&column) || short || of_format.is_some_and(|option| stands_on(page, option))
}

#[test]
fn every_known_option_stands_on_its_page() {
    let (formats, mut seen, mut missing) = (page("format"), 0, BTreeSet::new());
    // Of the planner, for all that are read.
    let common = ["connector", "scan.watermark.idle-timeout"];
    let mut check = |module: &str, node: Node| {
        let page = page(module) + &formats;
        for option in known(node) {
            if !common.contains(&option.as_str()) && !stands_on(&page, &option) {
                missing.insert(format!("worker/connectors/src/{module}.rs: '{option}'"));
            }
            seen += 1;
        }
    };
    let with = |given: &[(&'static str, &'static str)]| [given, &[(NONE, "1")]].concat();
    check("nexmark", source(&with(&[("connector", "nexmark")])));
    check("datagen", source(&with(&[("connector", "datagen")])));
    check(
        "datagen",
        source(&with(&[("connector", "datagen"), ("fields.n.kind", "sequence"), ("fields.n.start", "1"), ("fields.n.end", "2")])),
    );
    check("print", sink(&with(&[("connector", "print")]), false));
    check("blackhole", sink(&with(&[("connector", "blackhole")]), false));
    check("results", sink(&with(&[("connector", "results")]), false));
    let postgres = with(&[("connector", "jdbc"), ("url", "postgres://h/d"), ("table-name", "t")]);
    check("jdbc", source(&postgres));
    check("jdbc", sink(&postgres, false));
    for format in ["csv", "json", "parquet", "debezium-json"] {
        let files = with(&[("connector", "filesystem"), ("path", "p"), ("format", format)]);
        check("filesystem", source(&files));
        check("filesystem", sink(&files, format == "debezium-json"));
    }
    let commits =
        with(&[("connector", "filesystem"), ("path", "p"), ("format", "csv"), ("sink.partition-commit.policy.kind", "success-file")]);
    let Node { spec: OperatorSpec::Sink(mut spec), .. } = sink(&commits, false) else { panic!("a sink") };
    spec.partition_by = vec!["s".to_owned()];
    check("filesystem", Node { spec: OperatorSpec::Sink(spec), ..sink(&commits, false) });
    let servers = ("properties.bootstrap.servers", "b:1");
    for format in ["csv", "json", "avro", "debezium-json"] {
        let topic = with(&[("connector", "kafka"), ("topic", "t"), servers, ("format", format), ("scan.startup.mode", "earliest-offset")]);
        check("kafka", source(&topic));
        check("kafka", sink(&with(&[("connector", "kafka"), ("topic", "t"), servers, ("format", format)]), format == "debezium-json"));
    }
    let Node { spec: OperatorSpec::Sink(mut spec), .. } =
        sink(&with(&[("connector", "upsert-kafka"), ("topic", "t"), servers, ("key.format", "json"), ("value.format", "json")]), true)
    else {
        panic!("a sink")
    };
    spec.primary_key = vec!["n".to_owned()];
    check("kafka", Node { spec: OperatorSpec::Sink(spec), ..sink(&[], true) });
    assert!(missing.is_empty(), "pages do not tell of {missing:#?}");
    assert!(seen > 150, "{seen} options were looked for");
}
