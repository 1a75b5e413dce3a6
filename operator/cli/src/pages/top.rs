//! [pure] A live table: what each operator does now, by the difference of two looks at a job.

use rheos_control_api::{JobView, OperatorView};
use serde_json::{Value, json};

use super::figures;
use super::paint::{self, Paint, Tone};
use super::table::{Table, cell};

/// A worker this many epochs behind holds the next tick up: the sources wait.
const WINDOW: u64 = 4;
/// Above this share of its workers' time an operator is what limits the job, per cent.
const HOT: f64 = 80.0;

/// Two looks at a job.
#[derive(Debug, Clone)]
pub struct Looks {
    /// The earlier one, if there is one.
    pub before: Option<JobView>,
    /// The later one.
    pub after: JobView,
    /// The time between them, ms.
    pub between_ms: f64,
    /// Ids of operators from sources to sinks, where the SQL is known.
    pub order: Vec<String>,
}

/// What an operator does, a second. None where the two looks cannot be compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Rows in.
    pub rows_in: f64,
    /// Rows out.
    pub rows_out: f64,
    /// Share of its workers' time, per cent.
    pub busy: f64,
}

impl Looks {
    /// Operators, from sources to sinks.
    pub fn operators(&self) -> Vec<(&str, &OperatorView, Option<Rates>)> {
        let place = |id: &str| self.order.iter().position(|known| known == id).unwrap_or(usize::MAX);
        let mut operators: Vec<_> = self.after.operators.iter().map(|(id, view)| (id.as_str(), view, self.rates(id, view))).collect();
        operators.sort_by_key(|(id, _, _)| (place(id), *id));
        operators
    }

    /// Counters begin anew with a generation, so looks at two generations cannot be compared.
    fn rates(&self, id: &str, after: &OperatorView) -> Option<Rates> {
        let before = self.before.as_ref().filter(|before| before.generation == self.after.generation)?.operators.get(id)?;
        if self.between_ms <= 0.0 {
            return None;
        }
        let rate = |before: u64, after: u64| Some(after.checked_sub(before)? as f64 * 1000.0 / self.between_ms);
        let workers = f64::from(self.after.parallelism.max(1));
        Some(Rates {
            rows_in: rate(before.rows_in, after.rows_in)?,
            rows_out: rate(before.rows_out, after.rows_out)?,
            busy: ((after.busy_ms - before.busy_ms) / self.between_ms / workers * 100.0).clamp(0.0, 100.0),
        })
    }
}

/// The page.
pub fn page(looks: &Looks, paint: Paint) -> String {
    let view = &looks.after;
    let phase = paint.text(paint::phase(view.state), &format!("{:?}", view.state));
    let lag = view
        .watermark_lag_ms
        .map_or_else(|| "no watermark".to_owned(), |lag| format!("watermark {} behind", figures::millis(lag.max(0) as f64)));
    let mut text = format!(
        "{}/{}  {phase}  generation {}  {} rows/s in, {} rows/s out  {lag}\n",
        view.namespace,
        view.name,
        view.generation,
        figures::count(view.rows.read_per_second),
        figures::count(view.rows.written_per_second),
    );
    text += &format!("{}\n\n", pressure(view, paint));
    let mut table = Table::new(&["OPERATOR", ">ROWS/S IN", ">ROWS/S OUT", ">BUSY", ">LATE", ">SKIPPED", ">KEYS", ">STATE", "WHAT"]);
    for (id, operator, rates) in looks.operators() {
        let rate = |read: fn(&Rates) -> f64| rates.as_ref().map_or_else(|| "-".to_owned(), |rates| figures::count(read(rates)));
        let busy = rates.map_or_else(|| "-".to_owned(), |rates| format!("{:.0} %", rates.busy));
        let tone = if rates.is_some_and(|rates| rates.busy >= HOT) { Tone::Bad } else { Tone::Plain };
        let state = operator.state_keys > 0 || operator.state_bytes > 0;
        table.row(vec![
            cell(Tone::Strong, paint::clean(id)),
            rate(|rates| rates.rows_in).into(),
            rate(|rates| rates.rows_out).into(),
            cell(tone, busy),
            operator.late_rows.to_string().into(),
            operator.skipped.to_string().into(),
            if state { figures::count(operator.state_keys as f64) } else { "-".to_owned() }.into(),
            if state { figures::bytes(operator.state_bytes) } else { "-".to_owned() }.into(),
            cell(Tone::Faint, paint::clean(&operator.title)),
        ]);
    }
    text += &table.render(paint, "");
    let mut table = Table::new(&["WORKER", ">EPOCH", ">OPEN EPOCHS", ">IN FLIGHT", ">PEAK MEMORY", "STATE"]);
    for worker in &view.workers {
        let tone = if worker.epoch_lag >= WINDOW { Tone::Bad } else { Tone::Plain };
        table.row(vec![
            worker.process.to_string().into(),
            worker.epoch.to_string().into(),
            cell(tone, worker.epoch_lag.to_string()),
            figures::bytes(worker.in_flight_bytes).into(),
            figures::bytes(worker.peak_rss_bytes).into(),
            if worker.running { cell(Tone::Good, "runs") } else { cell(Tone::Bad, "does not run") },
        ]);
    }
    text + "\n" + &table.render(paint, "")
}

/// Whether the sources are held back, and by whom.
fn pressure(view: &JobView, paint: Paint) -> String {
    let slowest = view.workers.iter().max_by_key(|worker| worker.epoch_lag);
    match slowest.filter(|worker| worker.epoch_lag >= WINDOW) {
        Some(worker) => {
            let text = format!("back-pressure: worker {} is {} epochs behind, the sources wait for it", worker.process, worker.epoch_lag);
            paint.text(Tone::Bad, &text)
        }
        None => paint.text(Tone::Faint, "no back-pressure"),
    }
}

/// The same for programs.
pub fn value(looks: &Looks) -> Value {
    let operator = |(id, view, rates): (&str, &OperatorView, Option<Rates>)| {
        json!({
            "id": id, "title": view.title,
            "rowsInPerSecond": rates.map(|rates| rates.rows_in), "rowsOutPerSecond": rates.map(|rates| rates.rows_out),
            "busyPercent": rates.map(|rates| rates.busy), "lateRows": view.late_rows, "skipped": view.skipped,
            "stateKeys": view.state_keys, "stateBytes": view.state_bytes,
        })
    };
    let view = &looks.after;
    json!({
        "name": view.name, "namespace": view.namespace, "state": view.state, "generation": view.generation,
        "rows": view.rows, "watermarkLagMs": view.watermark_lag_ms,
        "backPressure": view.workers.iter().any(|worker| worker.epoch_lag >= WINDOW),
        "operators": looks.operators().into_iter().map(operator).collect::<Vec<_>>(),
        "workers": view.workers,
    })
}

#[cfg(test)]
mod tests;
