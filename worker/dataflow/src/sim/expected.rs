//! [pure] What each job's result must be, computed plainly from its whole input: no epochs, no state, no operators.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};

use super::jobs::{Shape, SimJob};
use super::lookup::rows_of;
use super::oracle::{Multiset, apply};
use super::source::Row;
use crate::error::Result;
use crate::graph::OperatorId;
use crate::time::Millis;

#[derive(Debug, Clone)]
enum Value {
    Int(Option<i64>),
    Float(Option<f64>),
    Text(Option<String>),
    Time(Millis),
}

/// The result of every sink.
///
/// # Errors
/// None that an input can cause.
pub fn results(job: &SimJob) -> Result<BTreeMap<OperatorId, Multiset>> {
    let rows: Vec<Row> = job.sources.values().flat_map(|content| content.all().collect::<Vec<_>>()).collect();
    let tables: Vec<Vec<Vec<Value>>> = match job.shape {
        Shape::Filter | Shape::Rebalance => vec![filter(&rows)],
        Shape::Tumble | Shape::Union => vec![windows(&rows, |row| vec![Value::Int(Some(row.k))], tumble)],
        Shape::Hop => vec![windows(&rows, |row| vec![Value::Text(Some(row.s.clone()))], hop)],
        Shape::Cumulate => vec![windows(&rows, |_| Vec::new(), cumulate)],
        Shape::Group => vec![group(&rows)],
        Shape::GroupOverGroup => vec![group_over(&rows)],
        Shape::TwoSinks => vec![filter(&rows), group(&rows)],
        Shape::Lookup => vec![lookups(&rows)],
    };
    let mut results = BTreeMap::new();
    for (sink, table) in job.sinks.iter().zip(tables) {
        let mut result = Multiset::new();
        if !table.is_empty() {
            apply(&mut result, &batch(&table)?)?;
        }
        results.insert(sink.clone(), result);
    }
    Ok(results)
}

fn batch(rows: &[Vec<Value>]) -> Result<RecordBatch> {
    let columns = (0..rows[0].len()).map(|column| {
        let values = || rows.iter().map(move |row| &row[column]);
        let array: ArrayRef = match rows[0][column] {
            Value::Int(_) => Arc::new(values().map(|v| if let Value::Int(v) = v { *v } else { None }).collect::<Int64Array>()),
            Value::Float(_) => Arc::new(values().map(|v| if let Value::Float(v) = v { *v } else { None }).collect::<Float64Array>()),
            Value::Text(_) => Arc::new(values().map(|v| if let Value::Text(v) = v { v.as_ref() } else { None }).collect::<StringArray>()),
            Value::Time(_) => {
                Arc::new(values().map(|v| if let Value::Time(v) = v { Some(*v) } else { None }).collect::<TimestampMillisecondArray>())
            }
        };
        (format!("c{column}"), array)
    });
    Ok(RecordBatch::try_from_iter(columns)?)
}

fn filter(rows: &[Row]) -> Vec<Vec<Value>> {
    let kept = rows.iter().filter(|row| row.v.is_some_and(|v| v > 0));
    kept.map(|row| vec![Value::Int(Some(row.id)), Value::Int(Some(row.k)), Value::Int(row.v)]).collect()
}

fn lookups(rows: &[Row]) -> Vec<Vec<Value>> {
    let mut results = Vec::new();
    for row in rows {
        let mut outer: Vec<_> = row.v.map(rows_of).unwrap_or_default().into_iter().map(Some).collect();
        if outer.is_empty() {
            outer.push(None);
        }
        for first in outer {
            for (label, n) in rows_of(row.k) {
                let of_v = first.clone().map_or((None, None), |(label, n)| (Some(label), n));
                results.push(vec![
                    Value::Int(Some(row.id)),
                    Value::Int(Some(row.k)),
                    Value::Int(row.v),
                    Value::Float(Some(row.x)),
                    Value::Text(Some(row.s.clone())),
                    Value::Time(row.ts),
                    Value::Text(of_v.0),
                    Value::Int(of_v.1),
                    Value::Text(Some(label)),
                    Value::Int(n),
                ]);
            }
        }
    }
    results
}

fn tumble(ts: Millis) -> Vec<(Millis, Millis)> {
    let start = (ts - 30).div_euclid(200) * 200 + 30;
    vec![(start, start + 200)]
}

fn hop(ts: Millis) -> Vec<(Millis, Millis)> {
    let last = ts.div_euclid(100) * 100;
    (0..3).map(|n| (last - n * 100, last - n * 100 + 300)).collect()
}

fn cumulate(ts: Millis) -> Vec<(Millis, Millis)> {
    let start = ts.div_euclid(400) * 400;
    (1..=4).map(|n| (start, start + n * 100)).filter(|(_, end)| ts < *end).collect()
}

fn windows(rows: &[Row], keys: fn(&Row) -> Vec<Value>, windows_of: fn(Millis) -> Vec<(Millis, Millis)>) -> Vec<Vec<Value>> {
    let mut groups: BTreeMap<(String, Millis, Millis), Vec<&Row>> = BTreeMap::new();
    for row in rows {
        for (start, end) in windows_of(row.ts) {
            groups.entry((format!("{:?}", keys(row)), start, end)).or_default().push(row);
        }
    }
    let result = |((_, start, end), rows): ((String, Millis, Millis), Vec<&Row>)| {
        let sum = exact_sum(rows.iter().map(|row| row.x));
        let mut out = keys(rows[0]);
        out.push(Value::Int(Some(rows.len() as i64)));
        out.push(Value::Int(sum_v(&rows)));
        out.push(Value::Float(Some(sum / rows.len() as f64)));
        out.push(Value::Float(Some(sum)));
        out.push(Value::Int(rows.iter().filter_map(|row| row.v).min()));
        out.push(Value::Float(rows.iter().map(|row| row.x).reduce(f64::max)));
        out.push(Value::Int(Some(distinct(&rows))));
        out.extend([Value::Time(start), Value::Time(end), Value::Time(end - 1)]);
        out
    };
    groups.into_iter().map(result).collect()
}

fn by_key(rows: &[Row]) -> BTreeMap<i64, Vec<&Row>> {
    let mut groups: BTreeMap<i64, Vec<&Row>> = BTreeMap::new();
    rows.iter().for_each(|row| groups.entry(row.k).or_default().push(row));
    groups
}

fn group(rows: &[Row]) -> Vec<Vec<Value>> {
    let result = |(k, rows): (i64, Vec<&Row>)| {
        vec![
            Value::Int(Some(k)),
            Value::Int(Some(rows.len() as i64)),
            Value::Int(sum_v(&rows)),
            Value::Float(Some(exact_sum(rows.iter().map(|row| row.x)))),
            Value::Int(rows.iter().filter_map(|row| row.v).max()),
            Value::Int(Some(distinct(&rows))),
        ]
    };
    by_key(rows).into_iter().map(result).collect()
}

fn group_over(rows: &[Row]) -> Vec<Vec<Value>> {
    let mut groups: BTreeMap<i64, Vec<(i64, Option<i64>)>> = BTreeMap::new();
    for (k, rows) in by_key(rows) {
        groups.entry(rows.len() as i64).or_default().push((k, rows.iter().filter_map(|row| row.v).max()));
    }
    let result = |(n, keys): (i64, Vec<(i64, Option<i64>)>)| {
        let sum = keys.iter().filter_map(|(_, max)| *max).reduce(|a, b| a + b);
        let min = keys.iter().map(|(k, _)| *k).min();
        vec![Value::Int(Some(n)), Value::Int(Some(keys.len() as i64)), Value::Int(sum), Value::Int(min)]
    };
    groups.into_iter().map(result).collect()
}

fn sum_v(rows: &[&Row]) -> Option<i64> {
    rows.iter().filter_map(|row| row.v).reduce(|a, b| a + b)
}

fn distinct(rows: &[&Row]) -> i64 {
    rows.iter().map(|row| &row.s).collect::<BTreeSet<_>>().len() as i64
}

/// The sum rounded once: a list of floats without overlap that adds up to it exactly (Shewchuk, *Adaptive Precision
/// Floating-Point Arithmetic*, 1997), rounded from its largest part down.
fn exact_sum(values: impl Iterator<Item = f64>) -> f64 {
    let mut parts: Vec<f64> = Vec::new();
    for mut x in values {
        let mut kept = 0;
        for i in 0..parts.len() {
            let mut y = parts[i];
            if x.abs() < y.abs() {
                std::mem::swap(&mut x, &mut y);
            }
            let high = x + y;
            let low = y - (high - x);
            if low != 0.0 {
                parts[kept] = low;
                kept += 1;
            }
            x = high;
        }
        parts.truncate(kept);
        parts.push(x);
    }
    let Some(mut sum) = parts.pop() else { return 0.0 };
    let mut low = 0.0;
    while let Some(part) = parts.pop() {
        let high = sum;
        sum = high + part;
        low = part - (sum - high);
        if low != 0.0 {
            break;
        }
    }
    // Half-way cases: the rest decides to which side.
    if parts.last().is_some_and(|rest| (low < 0.0 && *rest < 0.0) || (low > 0.0 && *rest > 0.0)) {
        let (twice, rounded) = (low * 2.0, sum + low * 2.0);
        if twice == rounded - sum {
            sum = rounded;
        }
    }
    sum
}
