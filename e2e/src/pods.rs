//! [io] The pods of a job as processes of this machine, each on an address of the loopback of its own, with the ports
//! that real pods have. The test stands in for the operator: it gives assignments and looks at the admin API.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU8, Ordering};

use rheos_control_api::{Assignment, CheckpointSettings, Client, JobView, MemberAddress, Phase, RestartSettings, Token};
use serde_json::json;
use tokio::process::{Child, Command};

use crate::shapes::{Settings, Shape};
use crate::worker::{PATIENCE, binary, signal};

/// Port of the admin API.
const ADMIN_PORT: u16 = 7180;
/// Port for coordinators.
pub const MEMBER_PORT: u16 = 7101;
/// The job's token.
const TOKEN: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";
/// Between two looks at a condition.
const LOOK: std::time::Duration = std::time::Duration::from_millis(5);

/// A job and the folder of its pods.
#[derive(Debug)]
pub struct PodJob {
    folder: tempfile::TempDir,
    net: [u8; 2],
    checkpoint_ms: u64,
    name: String,
}

/// One pod.
#[derive(Debug)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    child: Option<Child>,
    folder: PathBuf,
    job: PathBuf,
}

impl PodJob {
    /// A job of a shape, with its store in a folder.
    pub fn new(shape: &Shape, settings: &Settings) -> Self {
        // Tests run side by side, in one process and in several.
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let net = [16 + (std::process::id() % 200) as u8, NEXT.fetch_add(1, Ordering::Relaxed)];
        let folder = tempfile::tempdir().expect("a temporary folder");
        let job = Self { net, checkpoint_ms: u64::from(settings.checkpoint_ms), name: shape.name.to_owned(), folder };
        let manifest = json!({
            "apiVersion": "rheos.dev/v1alpha1",
            "kind": "StreamJob",
            "metadata": {"name": shape.name, "namespace": "tests", "uid": "4f1c2d3e-0000-4000-8000-00000000000a"},
            "spec": {
                "sql": shape.sql(settings),
                "parallelism": settings.parallelism,
                "maxParallelism": 64,
                "checkpoint": {"interval": format!("{}ms", settings.checkpoint_ms), "storage": {"uri": job.store()}},
            },
        });
        std::fs::write(job.path("job.json"), manifest.to_string()).expect("the manifest is written");
        std::fs::write(job.path("token"), format!("{TOKEN}\n")).expect("the token is written");
        job
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The job's store.
    pub fn store(&self) -> String {
        format!("file://{}", self.path("store").display())
    }

    /// Starts a pod.
    pub fn pod(&self, index: u8) -> Pod {
        let name = format!("{}-{index}", self.name);
        let folder = self.path(&name);
        std::fs::create_dir_all(&folder).expect("a folder");
        let address = Ipv4Addr::new(127, self.net[0], self.net[1], index + 1).into();
        let mut pod = Pod { name, address, child: None, folder, job: self.folder.path().to_owned() };
        pod.start();
        pod
    }

    /// An assignment of one worker to each of the pods.
    pub fn assignment(&self, version: u64, pods: &[&Pod]) -> Assignment {
        let member = |pod: &&Pod| MemberAddress { pod: pod.name.clone(), address: pod.address };
        Assignment {
            version,
            state_id: "state-1".to_owned(),
            parallelism: u32::try_from(pods.len()).expect("few pods"),
            members: pods.iter().map(member).collect(),
            checkpoint: CheckpointSettings { interval_ms: self.checkpoint_ms, timeout_ms: 30_000, retain: 3 },
            restart: RestartSettings { max_restarts: 1_000, window_ms: 600_000, backoff_initial_ms: 10, backoff_max_ms: 100 },
            restore: None,
        }
    }

    /// The token, as the operator has it.
    pub fn token(&self) -> Token {
        Token::parse(TOKEN).expect("a token")
    }

    /// What all pods logged, their last parts.
    ///
    /// # Panics
    /// When a log holds the token.
    pub fn logs(&self) -> String {
        const TAIL: usize = 6_000;
        let mut all = String::new();
        for index in 0..16 {
            let path = self.path(&format!("{}-{index}", self.name)).join("log");
            let Ok(bytes) = std::fs::read(path) else { continue };
            let text = String::from_utf8_lossy(&bytes);
            assert!(!text.contains(TOKEN), "pod {index} logged the token");
            let start = text.char_indices().rev().nth(TAIL).map_or(0, |(at, _)| at);
            all.push_str(&format!("--- pod {index}\n{}\n", &text[start..]));
        }
        all
    }

    /// Waits until the job as this pod shows it is as wanted.
    ///
    /// # Panics
    /// With all logs, when it does not become so.
    pub async fn until(&self, pod: &Pod, what: &str, wanted: impl Fn(&JobView) -> bool) -> JobView {
        let client = pod.client(&self.token());
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut look = tokio::time::interval(LOOK);
        let mut last = None;
        loop {
            if let Ok(job) = client.job().await {
                if wanted(&job) {
                    return job;
                }
                last = Some(job);
            }
            assert!(tokio::time::Instant::now() < deadline, "waited {PATIENCE:?} for {what}\n{last:#?}\n{}", self.logs());
            look.tick().await;
        }
    }

    /// Waits until all engines of this assignment run and rows go through.
    pub async fn until_running(&self, pod: &Pod, assignment: u64, least_generation: u64) -> JobView {
        let what = format!("assignment {assignment} running in generation {least_generation} or later");
        self.until(pod, &what, |job| {
            job.state == Phase::Running && job.assignment == Some(assignment) && job.generation >= least_generation && job.rows.read > 0
        })
        .await
    }

    /// Gives an assignment.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn assign(&self, pod: &Pod, assignment: &Assignment) {
        let client = pod.client(&self.token());
        self.until(pod, "the pod's admin API", |_| true).await;
        if let Err(error) = client.assign(assignment).await {
            panic!("{error}\n{}", self.logs());
        }
    }
}

impl Pod {
    /// Starts its process, again after it has ended.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.folder.join("log")).expect("a log file");
        let mut command = Command::new(binary());
        command.arg("pod").arg("--job").arg(self.job.join("job.json")).arg("--token").arg(self.job.join("token"));
        command.arg("--dir").arg(self.folder.join("dir")).arg("--pod").arg(&self.name).arg("--bind").arg(self.address.to_string());
        command.arg("--log-format").arg("text").arg("--termination-log").arg(self.folder.join("termination"));
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        self.child = Some(command.kill_on_drop(true).spawn().expect("the pod starts"));
    }

    /// A client of its admin API.
    ///
    /// # Panics
    /// When the process has no TLS.
    pub fn client(&self, token: &Token) -> Client {
        Client::new(&self.base()).expect("a client").with_token(token.clone())
    }

    /// Address of its admin API.
    pub fn base(&self) -> String {
        format!("http://{}:{ADMIN_PORT}", self.address)
    }

    /// `kill -9` of its main process; its engines end with it.
    ///
    /// # Panics
    /// When it has ended already.
    pub async fn kill(&mut self) {
        let mut child = self.child.take().expect("the pod runs");
        child.kill().await.expect("the pod is killed");
    }

    /// Sends SIGTERM and waits for the end; the exit code.
    ///
    /// # Panics
    /// When it has ended already, or does not end.
    pub async fn terminate(&mut self) -> Option<i32> {
        let mut child = self.child.take().expect("the pod runs");
        signal(child.id().expect("it was not waited for"), "TERM");
        let ended = tokio::time::timeout(PATIENCE, child.wait()).await.expect("the pod ends when it is asked to");
        ended.expect("it is waited for").code()
    }

    /// Whether its process lives.
    pub fn lives(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }
}
