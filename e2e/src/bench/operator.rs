//! [io] The operator's figures on a real Kubernetes: memory, start, creation, writes at rest, and how long losses last.
//!
//! Runs on whatever cluster `KUBECONFIG` names, with the operator that the chart of this repository installs there. A
//! moment is when a watch of this process hears of something. When rows flow again is the coordinator's own time stamp: the
//! clocks of the nodes have to agree with this machine's, to some milliseconds.

mod creation;
mod figures;
mod fleet;
mod losses;

use super::table::{Table, percentile};
use crate::harness::scenario_alone;

/// What can be measured, in the order in which it is.
pub const PARTS: &[&str] = &["memory", "cold-start", "idle", "creation", "kill", "rescale", "leader"];

/// Where rows of the table go.
type Print<'p> = &'p mut dyn FnMut(String);

/// Measures the parts that are wanted, all when none is named, and prints one line each.
///
/// # Errors
/// When a part has no such name.
///
/// # Panics
/// When something that is part of a measurement fails; what the cluster holds is printed first.
pub fn run(wanted: &[String], print: Print<'_>) -> Result<(), String> {
    if let Some(unknown) = wanted.iter().find(|name| !PARTS.contains(&name.as_str())) {
        return Err(format!("there is no part {unknown}; there are {}", PARTS.join(", ")));
    }
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|other| other == name);
    for line in Table::new(&["what", "figure", "aim"]).to_string().lines() {
        print(line.to_owned());
    }
    let of_fleet = ["memory", "cold-start", "idle"].map(is_wanted);
    if of_fleet.contains(&true) {
        scenario_alone("bench-fleet", async |space| fleet::measure(space, of_fleet, print).await);
    }
    if is_wanted("creation") {
        scenario_alone("bench-creation", async |space| creation::measure(space, print).await);
    }
    if is_wanted("kill") {
        scenario_alone("bench-kill", async |space| losses::kill(space, print).await);
    }
    if is_wanted("rescale") {
        scenario_alone("bench-rescale", async |space| losses::rescale(space, print).await);
    }
    if is_wanted("leader") {
        scenario_alone("bench-leader", async |space| losses::leader(space, print).await);
    }
    Ok(())
}

/// A row: what, the figure, and the aim with the word on whether it is met.
fn row(print: Print<'_>, what: &str, figure: String, aim: Option<(&str, bool)>) {
    let aim = match aim {
        Some((aim, true)) => aim.to_owned(),
        Some((aim, false)) => format!("{aim}, missed"),
        None => String::new(),
    };
    print(Table::line(&[what.to_owned(), figure, aim]));
}

/// `p50 12 ms, max 40 ms` of figures in ms.
fn spread(figures: &[f64]) -> String {
    format!("p50 {}, max {}", time(percentile(figures, 0.5)), time(percentile(figures, 1.0)))
}

/// A time in ms, in its unit.
fn time(ms: f64) -> String {
    const IN_SECONDS: f64 = 1_000.0;
    if ms < IN_SECONDS { format!("{ms:.0} ms") } else { format!("{:.1} s", ms / IN_SECONDS) }
}
