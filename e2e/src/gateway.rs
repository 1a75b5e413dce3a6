//! [io] A real S3 server as a child process, over a new folder: versitygw or MinIO.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::s3::{ACCESS_KEY, BUCKET, SECRET_KEY};

/// How long the server may take to accept connections.
const START_LIMIT: Duration = Duration::from_secs(20);

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
    _folder: tempfile::TempDir,
}

impl Gateway {
    /// Starts `binary` on a free loopback port, over a new folder with one bucket.
    ///
    /// # Errors
    /// When it cannot be started or does not listen in time.
    pub fn start(binary: &Path, kind: Kind) -> Result<Self, String> {
        let text = |error: std::io::Error| format!("{}: {error}", binary.display());
        let folder = tempfile::tempdir().map_err(text)?;
        let (data, meta, log) = (folder.path().join("data"), folder.path().join("meta"), folder.path().join("log"));
        std::fs::create_dir_all(data.join(BUCKET)).map_err(text)?;
        std::fs::create_dir_all(&meta).map_err(text)?;
        let address = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).map_err(text)?;
        let port = address.to_string();
        let mut command = Command::new(binary);
        match kind {
            Kind::Versitygw => command.args(["--port", &port, "posix"]).arg(data),
            Kind::VersitygwSidecar => command.args(["--port", &port, "posix", "--sidecar"]).args([meta, data]),
            Kind::Minio => command.args(["server", "--quiet", "--address", &port]).arg(data),
        };
        let output = std::fs::File::create(&log).map_err(text)?;
        let child = command
            .envs([("ROOT_ACCESS_KEY", ACCESS_KEY), ("ROOT_SECRET_KEY", SECRET_KEY)])
            .envs([("MINIO_ROOT_USER", ACCESS_KEY), ("MINIO_ROOT_PASSWORD", SECRET_KEY)])
            .stdout(output.try_clone().map_err(text)?)
            .stderr(output)
            .spawn()
            .map_err(text)?;
        let mut gateway = Self { child, address, _folder: folder };
        gateway.until_it_listens().map_err(|error| format!("{error}: {}", std::fs::read_to_string(log).unwrap_or_default()))?;
        Ok(gateway)
    }

    fn until_it_listens(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START_LIMIT;
        while TcpStream::connect_timeout(&self.address, Duration::from_millis(100)).is_err() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the S3 server ended with {status}"));
            }
            if Instant::now() > deadline {
                return Err(format!("the S3 server does not listen on {} after {START_LIMIT:?}", self.address));
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
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
