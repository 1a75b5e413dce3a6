//! [pure] What a process says of itself on `/metrics`, in Prometheus' text format.

use std::collections::BTreeMap;

/// Figures of one moment.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    samples: Vec<Sample>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

impl Figures {
    /// Reads the text format. Labels of ours hold neither quotes nor commas.
    pub fn parse(text: &str) -> Self {
        Self { samples: text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect() }
    }

    /// The metric of this name, and of this kind of object where it has one.
    pub fn of(&self, name: &str, kind: &str) -> Option<f64> {
        let fits = |sample: &&Sample| sample.labels.get("kind").is_none_or(|it| it == kind);
        self.all(name).find(fits).map(|sample| sample.value)
    }

    /// All metrics of this name.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| sample.name == name)
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let pairs = labels.trim_end_matches('}').split(',').filter_map(|pair| pair.split_once('='));
    let labels = pairs.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect();
    Some(Sample { name: name.to_owned(), labels, value: value.parse().ok()? })
}
