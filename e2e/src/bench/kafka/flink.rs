//! [io] The same query in Flink: its SQL client with everything in one process, and exactly-once.
//!
//! The process also starts a virtual machine and compiles itself while it runs. So a short run is subtracted from a long
//! one: what is left is what the rows between cost, which is in Flink's favour.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::{CHECKPOINT_MS, ORDERS, PARTITIONS, query};
use crate::bench::table::{Table, amount};
use crate::kafka::Broker;

/// Rows of the short run, of each partition.
const SHORT: i64 = ORDERS / 4 / PARTITIONS as i64;
/// Its heap, as much as the workers of the other jobs may use.
const HEAP: &str = "-Xmx2g";
/// What its own start script opens to it.
const OPENS: [&str; 5] = ["java.lang", "java.util", "java.net", "java.nio", "sun.nio.ch"];
/// Clock ticks a second, of `/proc`.
const TICKS: f64 = 100.0;

/// A line of the table.
///
/// # Errors
/// When Flink cannot be run, or says that the query failed.
pub(super) async fn throughput(broker: &Broker, libraries: &Path, slots: u32) -> Result<String, String> {
    let mut costs = Vec::new();
    for rows in [SHORT, ORDERS / i64::from(PARTITIONS)] {
        let to = format!("flink-{slots}-{rows}");
        broker.create_topic(&to, PARTITIONS, &[]).await;
        let ends = (0..PARTITIONS).map(|partition| format!("partition:{partition},offset:{rows}")).collect::<Vec<_>>().join(";");
        let source = format!(", 'scan.bounded.mode' = 'specific-offsets', 'scan.bounded.specific-offsets' = '{ends}'");
        let sink = format!(
            ", 'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = '{to}', \
             'properties.transaction.timeout.ms' = '600000'"
        );
        costs.push(run(libraries, slots, &query(broker, "throughput-in", &to, &source, &sink))?);
    }
    let (short, long) = (&costs[0], &costs[1]);
    let rows = (ORDERS - SHORT * i64::from(PARTITIONS)) as f64;
    let of = |seconds: f64| amount(rows / seconds);
    Ok(Table::line(&["ExactlyOnce".to_owned(), slots.to_string(), of(long.wall - short.wall), of(long.processor - short.processor)]))
}

/// Seconds.
struct Cost {
    wall: f64,
    processor: f64,
}

/// Runs a query to its end.
fn run(libraries: &Path, slots: u32, sql: &str) -> Result<Cost, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let settings = format!(
        "execution.target: local\nexecution.checkpointing.interval: {CHECKPOINT_MS}ms\ntable.dml-sync: true\nparallelism.default: {slots}\n\
         execution.checkpointing.dir: file://{}\n",
        folder.path().display()
    );
    let text = |error: std::io::Error| error.to_string();
    std::fs::write(folder.path().join("config.yaml"), settings).map_err(text)?;
    let file = folder.path().join("query.sql");
    std::fs::write(&file, sql).map_err(text)?;
    let mut java = Command::new("java");
    java.args(OPENS.map(|package| format!("--add-opens=java.base/{package}=ALL-UNNAMED")));
    java.arg("--add-exports=java.base/sun.net.util=ALL-UNNAMED").arg(HEAP);
    // Where it keeps what was typed.
    java.arg(format!("-Duser.home={}", folder.path().display()));
    java.arg("-cp").arg(libraries.join("*")).args(["org.apache.flink.table.client.SqlClient", "embedded", "-f"]).arg(&file);
    java.env("FLINK_CONF_DIR", folder.path()).stdin(Stdio::null());
    let (since, before) = (Instant::now(), of_children()?);
    let output = java.output().map_err(|error| format!("java: {error}"))?;
    let cost = Cost { wall: since.elapsed().as_secs_f64(), processor: of_children()? - before };
    let said = String::from_utf8_lossy(&output.stdout);
    // It ends with 0 whatever a statement came to.
    if !output.status.success() || said.contains("[ERROR]") || !said.contains("Complete execution of the SQL update statement") {
        return Err(format!("Flink: {said}\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(cost)
}

/// Processor time of the processes that this one has started and that have ended, seconds (`proc_pid_stat(5)`, fields 16
/// and 17).
fn of_children() -> Result<f64, String> {
    let stat = std::fs::read_to_string("/proc/self/stat").map_err(|error| format!("/proc/self/stat: {error}"))?;
    // The name in field 2 may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<f64>().ok());
    let (user, system) = field(16).zip(field(17)).ok_or("/proc/self/stat has not the fields that it should")?;
    Ok((user + system) / TICKS)
}
