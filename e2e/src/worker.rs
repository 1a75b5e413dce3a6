//! [io] A running worker: the real binary in a folder of its own, watched through its admin API and its summary.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use rheos_control_api::Client;
use rheos_control_api::view::JobView;
use serde::Deserialize;
use tokio::process::{Child, Command};

use crate::random::Random;

/// How long a condition may take to come true.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(5);

/// The worker's binary that was built beside the running test or bench (`RHEOS_WORKER` names another).
///
/// # Panics
/// When it is not there: `cargo test --workspace` and `cargo build --release --workspace` build it.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let beside = || {
            // <target>/<profile>/deps/it-… or <target>/<profile>/xtask
            let me = std::env::current_exe().expect("the running program has a path");
            me.ancestors().find(|folder| folder.join("deps").is_dir()).expect("cargo built this program").join("rheos-worker")
        };
        let path = std::env::var_os("RHEOS_WORKER").map_or_else(beside, PathBuf::from);
        assert!(path.exists(), "{} is not there: build the whole workspace", path.display());
        path
    })
}

/// A folder with a manifest, its output, and its data.
#[derive(Debug)]
pub struct Job {
    program: PathBuf,
    folder: tempfile::TempDir,
}

/// A process of `rheos-worker run`.
#[derive(Debug)]
pub struct Run {
    child: Child,
    data: PathBuf,
    log: PathBuf,
    summary: PathBuf,
}

/// What `--summary` writes.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are those of the README's table")]
pub struct Summary {
    pub state: String,
    pub generation: u64,
    pub epochs: u64,
    pub rows_in: u64,
    pub rows_out: u64,
    pub restarts: u64,
    pub checkpoints: CheckpointSummary,
    pub wall_seconds: f64,
    pub cpu_seconds: f64,
    pub peak_rss_bytes: u64,
    #[serde(flatten)]
    pub rest: serde_json::Map<String, serde_json::Value>,
}

/// Checkpoints in a [`Summary`].
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are those of the README's table")]
pub struct CheckpointSummary {
    pub completed: u64,
    pub failed: u64,
    pub last_bytes: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

impl Job {
    /// A folder with this manifest.
    pub fn new(manifest: &str) -> Self {
        Self::of_program(binary(), manifest)
    }

    /// A job of another worker program.
    pub fn of_program(program: &Path, manifest: &str) -> Self {
        let job = Self { program: program.to_owned(), folder: tempfile::tempdir().expect("a temporary folder") };
        job.edit(manifest);
        job
    }

    /// Replaces the manifest.
    pub fn edit(&self, manifest: &str) {
        std::fs::write(self.manifest(), manifest).expect("the manifest is written");
    }

    /// The manifest's path.
    pub fn manifest(&self) -> PathBuf {
        self.folder.path().join("job.yaml")
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts it with more arguments and environment.
    pub fn start_with(&self, arguments: &[&str], environment: &[(&str, String)]) -> Run {
        let data = self.path("data");
        let log = self.path("log");
        let summary = self.path("summary.json");
        let _ = std::fs::remove_file(&summary);
        let _ = std::fs::remove_file(data.join("admin.addr"));
        let out = std::fs::File::options().create(true).append(true).open(&log).expect("a log file");
        let mut command = Command::new(&self.program);
        command.arg("run").arg(self.manifest()).arg("--data-dir").arg(&data).arg("--summary").arg(&summary).args(arguments);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command.stdout(Stdio::from(out.try_clone().expect("a second handle"))).stderr(Stdio::from(out));
        let child = command.kill_on_drop(true).spawn().expect("the worker starts");
        Run { child, data, log, summary }
    }

    /// Starts it.
    pub fn start(&self) -> Run {
        self.start_with(&[], &[])
    }

    /// Runs it to its end and returns its exit code.
    pub async fn run(&self, arguments: &[&str]) -> i32 {
        self.start_with(arguments, &[]).finish().await
    }
}

impl Run {
    /// The supervisor's process id.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("the supervisor has not been waited for")
    }

    /// A client of the admin API, once it is there.
    pub async fn client(&mut self) -> Client {
        let file = self.data.join("admin.addr");
        let address = self.until("the admin API's address", async || std::fs::read_to_string(&file).ok().filter(|a| !a.is_empty())).await;
        let address = address.trim();
        let address = if address.starts_with("http") { address.to_owned() } else { format!("http://{address}") };
        Client::new(&address).expect("a client")
    }

    /// Waits until `look` gives a value; panics with the log when the worker ends before or patience does.
    pub async fn until<T>(&mut self, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
        let mut interval = tokio::time::interval(LOOK);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(value) = look().await {
                return value;
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("waiting for {what}: the worker ended with {status}\n{}", self.log());
            }
            assert!(tokio::time::Instant::now() < deadline, "waited {PATIENCE:?} for {what}\n{}", self.log());
            interval.tick().await;
        }
    }

    /// Waits until the job looks as wanted.
    pub async fn until_job(&mut self, client: &Client, what: &str, wanted: impl Fn(&JobView) -> bool) -> JobView {
        self.until(what, async || client.job().await.ok().filter(|job| wanted(job))).await
    }

    /// Waits until the job has restarted so often, at least, and so many engines run.
    pub async fn until_up(&mut self, client: &Client, restarts: u64, workers: usize) -> JobView {
        let up = |job: &JobView| {
            job.restarts.count >= restarts && job.workers.len() == workers && job.workers.iter().all(|worker| worker.running)
        };
        self.until_job(client, "all engines running", up).await
    }

    /// `kill -9` of one engine of a job that [is up](Self::until_up): which one, and when within `within_ms`, is chance.
    ///
    /// # Panics
    /// When the engine has ended by then.
    pub async fn kill_an_engine(&mut self, client: &Client, restarts: u64, workers: usize, within_ms: u64, random: &mut Random) {
        let view = self.until_up(client, restarts, workers).await;
        // A moment that no condition describes: before, within and after checkpoints.
        tokio::time::sleep(Duration::from_millis(random.below(within_ms))).await;
        let victim = &view.workers[random.below(workers as u64) as usize];
        let pid = victim.pid.expect("a running engine has a process id");
        assert!(
            signal(pid, "KILL"),
            "engine {pid} ended before its kill, after {restarts} restarts: the run was too short\n{}",
            self.log()
        );
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for the end; the exit code (128 + signal when killed).
    pub async fn finish(mut self) -> i32 {
        self.wait().await
    }

    /// Waits for the end without giving the run away.
    pub async fn wait(&mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let limit = PATIENCE * 5;
        match tokio::time::timeout(limit, self.child.wait()).await {
            Ok(Ok(status)) => status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            Ok(Err(error)) => panic!("cannot wait for the worker: {error}"),
            Err(_) => panic!("the worker did not end in {limit:?}\n{}", self.log()),
        }
    }

    /// `kill -9` of the supervisor.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("the supervisor is killed");
    }

    /// The summary, after the end.
    pub fn summary(&self) -> Summary {
        let text = std::fs::read_to_string(&self.summary).unwrap_or_else(|error| panic!("no summary: {error}\n{}", self.log()));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("summary: {error}\n{text}"))
    }

    /// What it printed, its last part.
    pub fn log(&self) -> String {
        const TAIL: usize = 8_192;
        let text = std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let start = text.char_indices().rev().nth(TAIL).map_or(0, |(index, _)| index);
        text[start..].to_owned()
    }
}

/// Sends a signal by number to a process by id.
///
/// # Panics
/// When `kill` cannot be run.
pub fn signal(pid: u32, signal: &str) -> bool {
    std::process::Command::new("kill")
        .arg(format!("-{signal}"))
        .arg(pid.to_string())
        .stderr(Stdio::null())
        .status()
        .expect("kill is a program of every system")
        .success()
}
