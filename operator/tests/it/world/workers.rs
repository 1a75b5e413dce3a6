//! [io] The operator's calls to pods, on the model; they are counted and broken like writes to the apiserver.

use std::time::Duration;

use rheos_control_api::{Assignment, JobView};
use rheos_operator::io::workers::{Call, CallError, Target, Workers};

use super::{Shared, Supervisor};
use crate::apiserver::Faults;
use crate::apiserver::faults::Heard;

/// How often a long poll looks for news.
const POLL_PERIOD: Duration = Duration::from_millis(5);
/// How often it does so before its patience ends.
const POLLS: usize = 200;

/// The pods of the model.
#[derive(Clone)]
pub(crate) struct ModelWorkers {
    pub(crate) world: Shared,
    pub(crate) faults: Faults,
}

impl ModelWorkers {
    async fn act<T>(&self, name: &str, target: &Target, act: impl FnOnce(&mut Supervisor) -> Result<T, String>) -> Call<T> {
        let verdict = self.faults.write(|| format!("{name} {}", target.pod));
        let outcome = verdict.happens.then(|| {
            let mut world = self.world.lock().unwrap();
            let supervisor = world.at(&target.address).ok_or_else(|| CallError::Silent("no route to host".into()))?;
            act(supervisor).map_err(|message| CallError::Refused { status: 409, message })
        });
        match verdict.heard {
            Heard::Nothing => std::future::pending().await,
            Heard::Error => Err(CallError::Silent("connection reset".into())),
            Heard::Reply => outcome.unwrap_or_else(|| Err(CallError::Silent("no outcome".into()))),
        }
    }
}

impl Workers for ModelWorkers {
    async fn job(&self, target: &Target) -> Call<JobView> {
        if self.faults.read() {
            std::future::pending::<()>().await;
        }
        let mut world = self.world.lock().unwrap();
        let supervisor = world.at(&target.address).ok_or_else(|| CallError::Silent("no route to host".into()))?;
        Ok(supervisor.view.clone())
    }

    async fn job_after(&self, target: &Target, version: u64) -> Call<JobView> {
        for _ in 0..POLLS {
            let view = self.job(target).await?;
            if view.version > version {
                return Ok(view);
            }
            tokio::time::sleep(POLL_PERIOD).await;
        }
        self.job(target).await
    }

    async fn assign(&self, target: &Target, assignment: &Assignment) -> Call<JobView> {
        self.act("assign", target, |supervisor| supervisor.assign(assignment)).await
    }

    async fn stop(&self, target: &Target) -> Call<JobView> {
        self.act("stop", target, |supervisor| Ok(supervisor.stop())).await
    }

    async fn savepoint(&self, target: &Target, id: &str) -> Call<()> {
        self.act("savepoint", target, |supervisor| supervisor.savepoint(id)).await
    }
}
