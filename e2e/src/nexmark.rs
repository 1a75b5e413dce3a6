//! [pure] Nexmark's tables and queries in Flink's own text, from the examples, with their placeholders filled in.

const SOURCE: &str = include_str!("../../crds/examples/nexmark/source.sql");
const VIEWS: &str = include_str!("../../crds/examples/nexmark/views.sql");
/// The last option of `source.sql`; more follow it.
const LAST_OPTION: &str = "'bid.proportion' = '${BID_PROPORTION}'";

/// The source `datagen` and the views `person`, `auction` and `bid` over it: events of a table that advances `rate`
/// events a second, `events` in all, with more options (`, 'name' = 'value'`).
pub fn tables(rate: u64, events: u64, options: &str) -> String {
    let source = SOURCE
        .replace(LAST_OPTION, &format!("{LAST_OPTION}{options}"))
        .replace("${TPS}", &rate.to_string())
        .replace("${EVENTS_NUM}", &events.to_string())
        .replace("${PERSON_PROPORTION}", "1")
        .replace("${AUCTION_PROPORTION}", "3")
        .replace("${BID_PROPORTION}", "46");
    format!("{source}\n{}\n", VIEWS.replace("${NEXMARK_TABLE}", "datagen"))
}
