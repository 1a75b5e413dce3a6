//! [io] What a job's coordinator says: finer and sooner than the status, which is for decisions and people.

use std::time::Duration;

use serde_json::Value;

use super::kubectl::{Forward, kubectl};
use super::space::{LIMIT, Space};

/// Port of the admin API.
const ADMIN_PORT: u16 = 7180;
/// One question's limit.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Between two questions.
const LOOK: Duration = Duration::from_millis(100);

/// A way to the admin API of a pod, with the job's token.
struct Coordinator {
    forward: Forward,
    http: reqwest::Client,
    token: String,
}

impl Coordinator {
    /// The pod that leads: of index 0, and of the newest revision that does.
    async fn of(namespace: &str, job: &str) -> Result<Self, String> {
        let selector = format!("rheos.dev/job={job},rheos.dev/index=0");
        let words = ["get", "pods", "-n", namespace, "-l", &selector, "--field-selector=status.phase=Running", "-o", "name"];
        for pod in kubectl(&words)?.lines() {
            let mounted = r#"jsonpath={.spec.volumes[?(@.name=="token")].secret.secretName}"#;
            let secret = kubectl(&["get", "-n", namespace, pod, "-o", mounted])?;
            let token = kubectl(&["get", "secret", "-n", namespace, &secret, "-o", "go-template={{.data.token|base64decode}}"])?;
            let http = reqwest::Client::builder().no_proxy().timeout(ANSWER_LIMIT).build().map_err(|error| error.to_string())?;
            let coordinator = Self { forward: Forward::open(namespace, pod, ADMIN_PORT)?, http, token };
            if coordinator.view().await.is_ok_and(|view| view["coordinator"] == true) {
                return Ok(coordinator);
            }
        }
        Err("no pod leads".into())
    }

    async fn view(&self) -> Result<Value, String> {
        let request = self.http.get(format!("{}/v1/job", self.forward.endpoint())).bearer_auth(&self.token);
        let answer = request.send().await.and_then(reqwest::Response::error_for_status).map_err(|error| error.to_string())?;
        answer.json().await.map_err(|error| error.to_string())
    }
}

impl Space {
    /// Waits until a job's coordinator sees it as wanted.
    ///
    /// # Panics
    /// After [`LIMIT`], with what it saw last.
    pub async fn until_view<T>(&self, job: &str, what: &str, wanted: impl Fn(&Value) -> Option<T>) -> T {
        let deadline = tokio::time::Instant::now() + LIMIT;
        let mut interval = tokio::time::interval(LOOK);
        let (mut coordinator, mut seen) = (None, Err("nothing asked yet".to_owned()));
        loop {
            if coordinator.is_none() {
                match Coordinator::of(&self.name, job).await {
                    Ok(found) => coordinator = Some(found),
                    Err(error) => seen = Err(error),
                }
            }
            if let Some(found) = &coordinator {
                seen = found.view().await;
                match &seen {
                    Ok(view) if view["coordinator"] == true => {
                        if let Some(value) = wanted(view) {
                            return value;
                        }
                    }
                    // Another leads, or the pod is gone.
                    _ => coordinator = None,
                }
            }
            assert!(tokio::time::Instant::now() < deadline, "waited {LIMIT:?} for {what}; last seen: {seen:#?}");
            interval.tick().await;
        }
    }

    /// Waits until all workers of a job run and a checkpoint of their generation is complete; returns the generation.
    ///
    /// # Panics
    /// As [`Space::until_view`].
    pub async fn until_checkpoint(&self, job: &str, generation: u64) -> u64 {
        self.until_view(job, &format!("a checkpoint of generation {generation} or later"), |view| {
            let now = view["generation"].as_u64()?;
            let running = view["workers"].as_array()?.iter().all(|worker| worker["running"] == true);
            let newest = view["checkpoints"]["history"].as_array()?.last()?["generation"].as_u64()?;
            (running && newest == now && now >= generation).then_some(now)
        })
        .await
    }
}
