//! [io] A real S3 server as a child process, over a new folder: versitygw or MinIO.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::s3::{ACCESS_KEY, BUCKET, SECRET_KEY};

/// How long the server may take to accept connections.
const START_LIMIT: Duration = Duration::from_secs(20);
/// What it prints, in its folder.
const LOG: &str = "log";

/// What a server is, and how it is to keep objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// versitygw with an object's ETag in an extended attribute of its file. Both change by one rename.
    Versitygw,
    /// versitygw with ETags in files of their own. A new ETag is visible before the bytes that it belongs to, so a reader
    /// gets the old bytes with the new ETag, and a replacement that rests on them is accepted: updates are lost.
    VersitygwSidecar,
    /// MinIO on one drive.
    Minio,
}

/// A running server; killed by its process id when dropped.
pub struct Gateway {
    child: Child,
    address: SocketAddr,
    binary: PathBuf,
    kind: Kind,
    folder: tempfile::TempDir,
}

impl Gateway {
    /// Starts `binary` on a free loopback port, over a new folder with one bucket.
    ///
    /// # Errors
    /// When it cannot be started or does not listen in time.
    pub fn start(binary: &Path, kind: Kind) -> Result<Self, String> {
        let text = |error: std::io::Error| format!("{}: {error}", binary.display());
        let folder = tempfile::tempdir().map_err(text)?;
        std::fs::create_dir_all(folder.path().join("data").join(BUCKET)).map_err(text)?;
        std::fs::create_dir_all(folder.path().join("meta")).map_err(text)?;
        let address = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).map_err(text)?;
        let child = spawn(binary, kind, address, folder.path()).map_err(text)?;
        let mut gateway = Self { child, address, binary: binary.to_owned(), kind, folder };
        gateway.until_it_listens()?;
        Ok(gateway)
    }

    /// Ends it; what it holds stays.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again where it was.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub fn up(&mut self) -> Result<(), String> {
        let child = spawn(&self.binary, self.kind, self.address, self.folder.path());
        self.child = child.map_err(|error| format!("{}: {error}", self.binary.display()))?;
        self.until_it_listens()
    }

    fn until_it_listens(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START_LIMIT;
        while TcpStream::connect_timeout(&self.address, Duration::from_millis(100)).is_err() {
            let log = || std::fs::read_to_string(self.folder.path().join(LOG)).unwrap_or_default();
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the S3 server ended with {status}: {}", log()));
            }
            if Instant::now() > deadline {
                return Err(format!("the S3 server does not listen on {} after {START_LIMIT:?}: {}", self.address, log()));
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(binary: &Path, kind: Kind, address: SocketAddr, folder: &Path) -> std::io::Result<Child> {
    let (data, port) = (folder.join("data"), address.to_string());
    let mut command = Command::new(binary);
    match kind {
        Kind::Versitygw => command.args(["--port", &port, "posix"]).arg(data),
        Kind::VersitygwSidecar => command.args(["--port", &port, "posix", "--sidecar"]).args([folder.join("meta"), data]),
        Kind::Minio => command.args(["server", "--quiet", "--address", &port]).arg(data),
    };
    let output = std::fs::File::options().create(true).append(true).open(folder.join(LOG))?;
    command
        .envs([("ROOT_ACCESS_KEY", ACCESS_KEY), ("ROOT_SECRET_KEY", SECRET_KEY)])
        .envs([("MINIO_ROOT_USER", ACCESS_KEY), ("MINIO_ROOT_PASSWORD", SECRET_KEY)])
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
}
