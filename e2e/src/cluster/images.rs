//! [io] The images of the tests: built from this machine's programs, loaded into the nodes.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::config::{PAUSE_IMAGE, Plan};
use super::{STATE, binaries, node, plan};
use crate::oci::{self, Image, USER};
use crate::s3::BUCKET;
use crate::shell::{output, run, show};

/// The worker.
pub const WORKER: &str = "rheos.dev/rheos-worker:e2e";
/// The operator.
pub const OPERATOR: &str = "rheos.dev/rheos-operator:e2e";
/// The S3 server.
pub const S3: &str = "rheos.dev/s3:e2e";
/// Where a container's fault sender is: `send SIGNAL PID`, `send SIGNAL WORDS`, `send fill FILE`.
pub const SEND: &str = "/usr/bin/send";

/// Compiles one of the small C programs beside `go.mod`, statically.
fn compile(name: &str, folder: &Path) -> Result<PathBuf, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster").join(format!("{name}.c"));
    let program = folder.join(name);
    output(Command::new("cc").args(["-static", "-O2", "-o"]).arg(&program).arg(source))?;
    Ok(program)
}

fn archives() -> Result<PathBuf, String> {
    let folder = binaries::cache()?.join("images");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

/// Loads the image without which no pod starts.
pub(super) fn load_pause(plan: &Plan, index: usize) -> Result<(), String> {
    let folder = archives()?;
    let mut image = Image::new(PAUSE_IMAGE, &["/pause"]);
    image.program("pause", &compile("pause", &folder)?)?;
    let archive = folder.join("pause.tar");
    oci::write(&archive, &[image])?;
    import(plan, index, &archive)
}

fn import(plan: &Plan, index: usize, archive: &Path) -> Result<(), String> {
    let socket = plan.containerd(index).display().to_string();
    run("ctr", &["-a", &socket, "-n", "k8s.io", "images", "import", &archive.display().to_string()]).map(drop)
}

/// A program without what only debuggers read: images are a third of the size.
fn stripped(program: &Path, folder: &Path) -> Result<PathBuf, String> {
    let name = program.file_name().ok_or("a program has a name")?;
    let small = folder.join(name);
    output(Command::new("strip").arg("--strip-debug").arg("-o").arg(&small).arg(program))?;
    Ok(small)
}

/// Builds worker and operator, and writes the archive of all images; `s3` is the S3 server's program.
///
/// # Errors
/// When a build fails.
pub fn write(target: &Path, s3: &Path) -> Result<PathBuf, String> {
    let mut build = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    // The whole workspace with its tests, so that its dependencies have the features they have in every other command, and
    // nothing is built that the tests have built.
    show(build.args(["build", "--workspace", "--bins", "--tests", "--locked", "--quiet"]))?;
    let folder = archives()?;
    let send = compile("send", &folder)?;
    let mut worker = Image::new(WORKER, &["/usr/bin/rheos-worker"]);
    worker.program("usr/bin/rheos-worker", &stripped(&target.join("debug/rheos-worker"), &folder)?)?;
    worker.program(SEND.trim_start_matches('/'), &send)?;
    worker.folder("var/lib/rheos", 0o755, USER);
    let mut operator = Image::new(OPERATOR, &["/usr/bin/rheos-operator"]);
    operator.program("usr/bin/rheos-operator", &stripped(&target.join("debug/rheos-operator"), &folder)?)?;
    operator.program(SEND.trim_start_matches('/'), &send)?;
    let mut server = Image::new(S3, &["/usr/bin/s3"]);
    server.program("usr/bin/s3", s3)?;
    server.program(SEND.trim_start_matches('/'), &send)?;
    server.folder(&format!("srv/data/{BUCKET}"), 0o755, USER);
    server.folder("srv/meta", 0o755, USER);
    let archive = folder.join("images.tar");
    oci::write(&archive, &[worker, operator, server])?;
    Ok(archive)
}

/// What tells the images that were built last from others under the same names: size and time of their archive.
pub fn built() -> Option<String> {
    let archive = std::fs::metadata(binaries::cache().ok()?.join("images/images.tar")).ok()?;
    let time = archive.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(format!("{}-{}", archive.len(), time.as_millis()))
}

/// Loads an archive into the nodes of the bare cluster.
///
/// # Errors
/// When there is no cluster, or containerd refuses.
pub fn load(archive: &Path) -> Result<(), String> {
    let plan = plan(node::count(Path::new(STATE)));
    if plan.nodes == 0 {
        return Err("there is no cluster: cargo xtask cluster up".into());
    }
    (0..plan.nodes).try_for_each(|index| import(&plan, index, archive))
}
