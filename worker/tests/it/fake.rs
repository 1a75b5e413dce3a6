//! A job whose engine is a shell script. The script reads lines from standard input, which is the socket both ways, so
//! it answers on file descriptor 0. What it does beyond is the test's to say.

use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use rheos_api::validated::RestartPolicy;
use rheos_control_api::JobView;
use rheos_dataflow::coordinator::Pacing;
use rheos_dataflow::sink::Delivery;
use rheos_worker::engine::wire::Job;
use rheos_worker::supervise::decide::{Cause, Minted, Rules};
use rheos_worker::supervise::driver::{Config, Ended, Supervisor};
use rheos_worker::supervise::handle::Handle;
use rheos_worker::supervise::mint::Mint;
use rheos_worker::supervise::process::Program;
use rheos_worker::supervise::roster::{Member, Place, Target};
use tokio::task::JoinHandle;

/// No test waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Answers pings, takes savepoints, stops when asked. `$start` is the start line; `begun` is called once after it.
const SCRIPT: &str = r#"
say() { printf '%s\n' "$1" >&0; }
begun() { :; }
@@
read -r job
while read -r start; do [ -n "$start" ] && break; done
generation=$(printf '%s' "$start" | sed 's/.*"generation":\([0-9]*\).*/\1/')
process=$(printf '%s' "$start" | sed 's/.*"process":\([0-9]*\).*/\1/')
say '{"report":"running","parts_ms":{"plan":1.5}}'
say '{"report":"firstRow"}'
begun
while read -r line; do
  case "$line" in
    *'"ping"'*) nonce=$(printf '%s' "$line" | sed 's/.*"nonce":\([0-9]*\).*/\1/')
      say "{\"report\":\"pong\",\"nonce\":$nonce}" ;;
    *'"savepoint"'*) id=$(printf '%s' "$line" | sed 's/.*"id":"\([^"]*\)".*/\1/')
      say "{\"report\":\"checkpointCompleted\",\"epoch\":7,\"record\":3,\"bytes\":10,\"duration_ms\":1.0,\"savepoint\":[\"$id\",\"file:///s/$id\"]}" ;;
    *'"stop"'*) touch "$dir/stop" ;;
  esac
  [ -e "$dir/stop" ] && { say '{"report":"ended","mode":"Suspend"}'; exit 0; }
done
"#;

/// Mints 1, 2, 3, …
#[derive(Default)]
struct Counter(AtomicU64);

impl Mint for Counter {
    fn mint(&self, _order: u64) -> BoxFuture<'_, Result<Minted, Cause>> {
        let generation = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        Box::pin(async move { Ok(Minted { generation, start_record: generation }) })
    }
}

/// A job that is being supervised.
pub(crate) struct Fake {
    /// Holds what the script touches.
    _dir: tempfile::TempDir,
    pub(crate) handle: Handle,
    running: JoinHandle<Ended>,
}

impl Fake {
    /// Starts a job of `members` engines; `extra` is put into their script.
    pub(crate) fn start(members: usize, max_restarts: u32, standby: bool, extra: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let script = format!("dir='{}'\n{}", dir.path().display(), SCRIPT.replace("@@", extra));
        let target = Target {
            assignment: None,
            rules: Rules { members, restart: policy(max_restarts), stop_deadline: PATIENCE },
            job: job(dir.path(), members),
            roster: (0..members).map(|_| member()).collect(),
        };
        let program = Program { path: PathBuf::from("/bin/sh"), arguments: vec![OsString::from("-c"), script.into()], output: None };
        let config = Config { program, standby, target };
        let (supervisor, handle) = Supervisor::new(config, Arc::new(Counter::default()));
        Self { _dir: dir, handle, running: tokio::spawn(supervisor.run()) }
    }

    /// Waits until the view is as wanted.
    pub(crate) async fn until(&self, wanted: impl FnMut(&Arc<JobView>) -> bool) -> Arc<JobView> {
        let mut watch = self.handle.watch();
        let seen = tokio::time::timeout(PATIENCE, watch.wait_for(wanted)).await;
        match seen {
            Ok(Ok(view)) => Arc::clone(&view),
            other => panic!("{other:?}\n{:#?}", self.handle.view()),
        }
    }

    /// Waits for the end.
    pub(crate) async fn end(self) -> Ended {
        tokio::time::timeout(PATIENCE, self.running).await.expect("the job ends").unwrap()
    }
}

fn policy(max_restarts: u32) -> RestartPolicy {
    let (backoff_initial, backoff_max) = (Duration::from_millis(1), Duration::from_millis(5));
    RestartPolicy { max_restarts, window: Duration::from_secs(600), backoff_initial, backoff_max }
}

fn member() -> Member {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    Member { pod: None, address: listener.local_addr().unwrap(), place: Place::Here(Arc::new(listener)) }
}

fn job(dir: &Path, members: usize) -> Job {
    Job {
        namespace: "local".into(),
        job: "fake".into(),
        uid: "u".into(),
        sql: "SELECT".into(),
        pushdown: true,
        base_dir: dir.to_owned(),
        delivery: Delivery::ExactlyOnce,
        parallelism: u32::try_from(members).unwrap(),
        max_parallelism: 128,
        slots: 1,
        storage_uri: "file:///s".into(),
        storage_options: Default::default(),
        retain: 3,
        pacing: Pacing { epoch_min: 10, epoch_max: 200, checkpoint_interval: 1000, checkpoint_timeout: 1000, window: 4 },
        allow_non_restored_state: false,
    }
}

/// Sends a signal to a process by its id.
pub(crate) fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Whether a process lives, be it stopped. (A dead one is waited for by its supervisor.)
pub(crate) fn lives(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}/stat")).exists()
}
