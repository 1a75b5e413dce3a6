//! [io] What the operator that leads says of itself, read from its `/metrics` through a forwarded port.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::figures::Figures;
use crate::harness::install::NAMESPACE;
use crate::harness::kubectl::Forward;
use crate::harness::operator::leader;

/// Port of the operator's metrics.
const PORT: u16 = 8080;
/// One question's limit.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long it may take until one leads: a lease that was not given back, and the start of a pod.
const LEADER_LIMIT: Duration = Duration::from_secs(90);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// Without a write for this long, the operator has nothing left to do.
const QUIET: Duration = Duration::from_secs(4);
/// How long it may take until it has nothing left to do.
const QUIET_LIMIT: Duration = Duration::from_secs(300);

impl Figures {
    /// Resident memory, bytes.
    ///
    /// # Panics
    /// When the operator does not say it.
    pub(super) fn memory(&self) -> f64 {
        self.of("process_resident_memory_bytes", "").expect("the operator says how much memory it holds")
    }

    /// Requests to the apiserver so far whose verb is among `verbs`, by verb and kind; those about the lease are left out.
    pub(super) fn requests(&self, verbs: &[&str]) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for sample in self.all("rheos_operator_kubernetes_request_duration_seconds_count") {
            let label = |name: &str| sample.labels.get(name).map_or("", String::as_str);
            if verbs.contains(&label("verb")) && label("resource") != "leases" {
                *counts.entry(format!("{} {}", label("verb"), label("resource"))).or_default() += sample.value as u64;
            }
        }
        counts
    }

    /// Writes so far.
    pub(super) fn writes(&self) -> BTreeMap<String, u64> {
        self.requests(&["CREATE", "UPDATE", "PATCH", "DELETE"])
    }
}

/// The operator's pod that leads.
pub(super) struct Leader {
    /// Its name.
    pub(super) pod: String,
    forward: Forward,
    http: reqwest::Client,
}

impl Leader {
    /// Waits for one.
    ///
    /// # Panics
    /// When none leads in time.
    pub(super) async fn wait() -> Self {
        let deadline = tokio::time::Instant::now() + LEADER_LIMIT;
        loop {
            match Self::find().await {
                Ok(leader) => return leader,
                Err(error) => assert!(tokio::time::Instant::now() < deadline, "no operator leads: {error}"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn find() -> Result<Self, String> {
        let pod = leader()?;
        let http = reqwest::Client::builder().no_proxy().timeout(ANSWER_LIMIT).build().map_err(|error| error.to_string())?;
        let found = Self { forward: Forward::open(NAMESPACE, &format!("pod/{pod}"), PORT)?, pod, http };
        match found.ask().await?.of("rheos_operator_leading", "") {
            Some(1.0) => Ok(found),
            _ => Err(format!("{} does not lead", found.pod)),
        }
    }

    async fn ask(&self) -> Result<Figures, String> {
        let answer = self.http.get(format!("{}/metrics", self.forward.endpoint())).send().await;
        let text = answer.and_then(reqwest::Response::error_for_status).map_err(|error| error.to_string())?.text().await;
        text.map(|text| Figures::parse(&text)).map_err(|error| error.to_string())
    }

    /// Its figures now.
    ///
    /// # Panics
    /// When it does not answer.
    pub(super) async fn figures(&self) -> Figures {
        self.ask().await.unwrap_or_else(|error| panic!("{}: {error}", self.pod))
    }

    /// Waits until its figures hold this.
    ///
    /// # Panics
    /// When they do not in time.
    pub(super) async fn until<T>(&self, what: &str, wanted: impl Fn(&Figures) -> Option<T>) -> T {
        let deadline = tokio::time::Instant::now() + LEADER_LIMIT;
        loop {
            if let Some(value) = wanted(&self.figures().await) {
                return value;
            }
            assert!(tokio::time::Instant::now() < deadline, "{}: waited for {what}", self.pod);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until it has nothing left to do.
    ///
    /// # Panics
    /// When it does not come to rest in time.
    pub(super) async fn until_quiet(&self) {
        let deadline = tokio::time::Instant::now() + QUIET_LIMIT;
        let mut before = self.figures().await.writes();
        loop {
            tokio::time::sleep(QUIET).await;
            let figures = self.figures().await;
            let now = figures.writes();
            if now == before && figures.of("rheos_operator_queue_depth", "StreamJob") == Some(0.0) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{} goes on writing: {now:?}", self.pod);
            before = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_name_and_labels() {
        let figures = Figures::parse(
            "# TYPE a gauge\na{kind=\"Savepoint\"} 1\na{kind=\"StreamJob\"} 2.5\nb 7\n\
             rheos_operator_kubernetes_request_duration_seconds_count{verb=\"PATCH\",resource=\"pods\",code=\"200\"} 3\n\
             rheos_operator_kubernetes_request_duration_seconds_count{verb=\"PATCH\",resource=\"pods\",code=\"409\"} 1\n\
             rheos_operator_kubernetes_request_duration_seconds_count{verb=\"UPDATE\",resource=\"leases\",code=\"200\"} 9\n\
             rheos_operator_kubernetes_request_duration_seconds_count{verb=\"LIST\",resource=\"pods\",code=\"200\"} 2\n# EOF\n",
        );
        assert_eq!((figures.of("a", "StreamJob"), figures.of("b", ""), figures.of("c", "")), (Some(2.5), Some(7.0), None));
        assert_eq!(figures.writes(), BTreeMap::from([("PATCH pods".to_owned(), 4)]));
    }
}
