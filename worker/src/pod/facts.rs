//! [io] What a pod knows from its start on: the job, its token, its name and ports. And what an assignment makes of it.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rheos_api::validated::RestartPolicy;
use rheos_control_api::{Assignment, MemberAddress, RestartSettings, Token};
use serde::Deserialize;

use crate::engine::wire::Job;
use crate::manifest::{self, Loaded};
use crate::supervise::decide::{Rules, STOP_GRACE};
use crate::supervise::link::{Hello, Peer};
use crate::supervise::process::Program;
use crate::supervise::roster::{Member, Place, Target};

/// Namespace of a job that names none.
const NAMESPACE: &str = "default";

/// See the module's documentation.
#[derive(Debug)]
pub struct Facts {
    /// The job.
    pub job: Loaded,
    /// Its unique id.
    pub uid: String,
    /// Its token.
    pub token: Token,
    /// This pod's name.
    pub pod: String,
    /// The engines' port, in all pods.
    pub data_port: u16,
    /// The pods' port for coordinators, in all pods.
    pub member_port: u16,
    /// The admin API's port, in all pods.
    pub admin_port: u16,
    /// This pod's data listener, bound once and lent to each engine.
    pub listener: Arc<TcpListener>,
    /// How an engine is started here.
    pub program: Program,
    /// Whether to keep standby engines.
    pub standby: bool,
    /// Drawn at the start of this process: no other life of this or another pod has it.
    pub session: u64,
}

/// The part of a StreamJob that only an apiserver writes.
#[derive(Deserialize)]
struct Snapshot {
    metadata: Identity,
}

#[derive(Deserialize)]
struct Identity {
    #[serde(default)]
    uid: String,
}

/// Reads the job and its unique id.
///
/// # Errors
/// Every mistake, a line each.
pub fn read_job(file: &Path) -> Result<(Loaded, String), Vec<String>> {
    let loaded = manifest::load(file, None)?;
    let wrong = |problem: String| vec![format!("{}: {problem}", file.display())];
    if loaded.job.checkpoint.storage.is_none() {
        return Err(wrong("spec.checkpoint.storage is missing: in a cluster, checkpoints need a store that all pods reach".to_owned()));
    }
    let text = manifest::read(file).map_err(wrong)?;
    let snapshot: Snapshot = serde_json::from_str(&text).map_err(|error| wrong(format!("it is no JSON: {error}")))?;
    if snapshot.metadata.uid.is_empty() {
        return Err(wrong("metadata.uid is missing: it is the snapshot of no StreamJob of a cluster".to_owned()));
    }
    Ok((loaded, snapshot.metadata.uid))
}

/// Reads a token. It is not repeated in any message.
///
/// # Errors
/// It cannot be read, or is none.
pub fn read_token(file: &Path) -> Result<Token, String> {
    let wrong = |problem: String| format!("{}: {problem}", file.display());
    let text = fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    Token::parse(&text).map_err(wrong)
}

impl Facts {
    /// The job's namespace.
    pub fn namespace(&self) -> &str {
        self.job.job.namespace.as_deref().unwrap_or(NAMESPACE)
    }

    /// What an assignment makes of the job.
    ///
    /// # Errors
    /// Why it does not fit the job.
    pub fn target(&self, assignment: &Assignment) -> Result<Target, String> {
        let spec = &self.job.job;
        if let Some(problem) = assignment.problem() {
            return Err(problem);
        }
        if assignment.parallelism > spec.max_parallelism {
            return Err(format!("parallelism: {} is more than spec.maxParallelism, {}", assignment.parallelism, spec.max_parallelism));
        }
        let members = manifest::members(assignment.parallelism, spec.worker.slots)?;
        if assignment.members.len() != members as usize {
            let (named, slots) = (assignment.members.len(), spec.worker.slots);
            return Err(format!(
                "members: {named} are named, {members} are needed for {} workers at {slots} slots",
                assignment.parallelism
            ));
        }
        let timeout = Duration::from_millis(assignment.checkpoint.timeout_ms);
        let restart = restart(&assignment.restart);
        let rules = Rules { members: members as usize, restart, stop_deadline: timeout.saturating_add(STOP_GRACE) };
        let own = assignment.members.iter().find(|member| member.pod == self.pod);
        let hello = Arc::new(Hello {
            token: self.token.reveal().to_owned(),
            job: self.uid.clone(),
            pod: self.pod.clone(),
            assignment: assignment.version,
            session: self.session,
            admin: own.map(|own| SocketAddr::new(own.address, self.admin_port)),
        });
        let roster = assignment.members.iter().map(|member| self.member(member, &hello)).collect();
        Ok(Target { assignment: Some(assignment.version), rules, job: self.wire_job(assignment, members), roster })
    }

    fn member(&self, member: &MemberAddress, hello: &Arc<Hello>) -> Member {
        let place = if member.pod == self.pod {
            Place::Here(Arc::clone(&self.listener))
        } else {
            Place::There(Peer { address: SocketAddr::new(member.address, self.member_port), hello: Arc::clone(hello) })
        };
        Member { pod: Some(member.pod.clone()), address: SocketAddr::new(member.address, self.data_port), place }
    }

    /// The job as engines are told it. Credentials are not in it: every pod has them in its environment.
    fn wire_job(&self, assignment: &Assignment, members: u32) -> Job {
        let spec = &self.job.job;
        let (storage_uri, storage_options) = spec.checkpoint.storage.as_ref().map(manifest::storage).unwrap_or_default();
        let settings = &assignment.checkpoint;
        Job {
            namespace: self.namespace().to_owned(),
            job: spec.name.to_string(),
            uid: assignment.state_id.clone(),
            sql: self.job.sql.clone(),
            pushdown: true,
            base_dir: self.job.base_dir.clone(),
            delivery: manifest::delivery(spec.delivery),
            parallelism: assignment.parallelism,
            max_parallelism: spec.max_parallelism,
            slots: assignment.parallelism / members,
            storage_uri,
            storage_options,
            retain: settings.retain,
            pacing: manifest::pacing(Duration::from_millis(settings.interval_ms), Duration::from_millis(settings.timeout_ms)),
            allow_non_restored_state: assignment.restore.as_ref().is_some_and(|restore| restore.allow_non_restored_state),
        }
    }
}

fn restart(settings: &RestartSettings) -> RestartPolicy {
    RestartPolicy {
        max_restarts: settings.max_restarts,
        window: Duration::from_millis(settings.window_ms),
        backoff_initial: Duration::from_millis(settings.backoff_initial_ms),
        backoff_max: Duration::from_millis(settings.backoff_max_ms),
    }
}
