//! [io] How long results take from their commit to a client, for one client and for many at once.
//!
//! The commit is the moment that the epoch's index is linked into place in the job's store, told by the kernel (inotify);
//! the arrival is that of the epoch's first row in the client. Both are on this machine's one clock.

use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::task::JoinHandle;

use super::table::{Table, percentile};
use crate::shapes::{Settings, manifest};
use crate::worker::Job;

/// Clients at once.
const CLIENTS: [usize; 3] = [1, 100, 1_000];
/// Epochs that are measured, after those that are not.
const EPOCHS: usize = 100;
const WARM_UP: usize = 10;
/// Events of the kernel that are read at once, bytes.
const EVENTS_BYTES: usize = 64 * 1024;

/// When each epoch was committed.
type Commits = Arc<Mutex<BTreeMap<u64, Instant>>>;

/// Prints one line a number of clients.
pub async fn run(print: &mut dyn FnMut(String)) {
    for line in Table::new(&["clients at once", "from commit to client, p50", "p99", "worst", "measured"]).to_string().lines() {
        print(line.to_owned());
    }
    for clients in CLIENTS {
        print(measure(clients).await);
    }
}

async fn measure(clients: usize) -> String {
    let sql = "CREATE TABLE numbers (id BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '1000', 'fields.id.kind' = 'sequence', 'fields.id.start' = '0', 'fields.id.end' = '1000000000');
        CREATE TABLE out (id BIGINT, n BIGINT) WITH ('connector' = 'results');
        INSERT INTO out SELECT MOD(id, 50), COUNT(*) FROM numbers GROUP BY MOD(id, 50);";
    let job = Job::new(&manifest("results", sql, &Settings::default()));
    let mut run = job.start();
    let client = run.client().await;
    run.until_job(&client, "a checkpoint", |job| job.checkpoints.completed > 1).await;
    let folder = run.until("the folder of the results", async || find(&job.path("data"), "00000000")).await;
    let commits = Commits::default();
    let watched = Arc::clone(&commits);
    // Ends with the process.
    std::thread::spawn(move || watch(&folder, &watched));
    let address = std::fs::read_to_string(job.path("data").join("admin.addr")).expect("an address");
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let url = format!("http://{}/v1/results/out?from=newest", address.trim());
    let reading: Vec<JoinHandle<BTreeMap<u64, Instant>>> =
        (0..clients).map(|_| tokio::spawn(arrivals(http.clone(), url.clone()))).collect();
    let mut times = Vec::new();
    for reader in reading {
        let arrived = reader.await.expect("the client reads to its end");
        let commits = commits.lock().unwrap_or_else(PoisonError::into_inner);
        let committed = arrived.iter().filter_map(|(epoch, at)| Some(at.saturating_duration_since(*commits.get(epoch)?)));
        times.extend(committed.map(|time| time.as_secs_f64() * 1e3));
    }
    client.stop().await.expect("a stop is taken");
    assert_eq!(run.wait().await, 0, "{}", run.log());
    let at = |share: f64| format!("{:.1} ms", percentile(&times, share));
    Table::line(&[clients.to_string(), at(0.5), at(0.99), at(1.0), format!("{} arrivals", times.len())])
}

/// When the first row of each epoch arrived.
async fn arrivals(http: reqwest::Client, url: String) -> BTreeMap<u64, Instant> {
    let mut response = http.get(url).send().await.expect("an answer");
    let mut arrived = BTreeMap::new();
    let mut rest: Vec<u8> = Vec::new();
    while arrived.len() < EPOCHS + WARM_UP {
        let bytes = response.chunk().await.expect("it goes on").expect("it does not end");
        let now = Instant::now();
        rest.extend_from_slice(&bytes);
        let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else { continue };
        for line in rest.drain(..=end).collect::<Vec<u8>>().split(|byte| *byte == b'\n') {
            let epoch = line.strip_prefix(b"{\"cursor\":\"").and_then(|rest| rest.split(|byte| *byte == b'-').next());
            if let Some(epoch) = epoch.and_then(|epoch| std::str::from_utf8(epoch).ok()?.parse().ok()) {
                arrived.entry(epoch).or_insert(now);
            }
        }
    }
    arrived.into_iter().skip(WARM_UP).collect()
}

/// The folder of this name below another one.
fn find(below: &Path, name: &str) -> Option<PathBuf> {
    let folders = std::fs::read_dir(below).ok()?.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir());
    folders.into_iter().find_map(|path| if path.file_name()? == name { Some(path) } else { find(&path, name) })
}

/// Notes when indexes come into a folder.
fn watch(folder: &Path, commits: &Commits) {
    let descriptor = inotify::init(CreateFlags::CLOEXEC).expect("the kernel tells of files");
    inotify::add_watch(&descriptor, folder, WatchFlags::CREATE | WatchFlags::MOVED_TO).expect("the folder is there");
    let mut space = vec![MaybeUninit::uninit(); EVENTS_BYTES];
    let mut events = inotify::Reader::new(&descriptor, &mut space);
    while let Ok(event) = events.next() {
        let now = Instant::now();
        let name = event.file_name().and_then(|name| name.to_str().ok()).unwrap_or_default();
        let epoch = name.strip_prefix('e').and_then(|rest| rest.split('-').next()).and_then(|epoch| epoch.parse().ok());
        if let Some(epoch) = epoch.filter(|_| name.ends_with(".index")) {
            commits.lock().unwrap_or_else(PoisonError::into_inner).entry(epoch).or_insert(now);
        }
    }
}
