//! [io] A real S3 server as a child process: versitygw over a folder.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::s3::{ACCESS_KEY, BUCKET, SECRET_KEY};

/// How long the server may take to accept connections.
const START_LIMIT: Duration = Duration::from_secs(20);

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
    pub fn start(binary: &Path) -> Result<Self, String> {
        let text = |error: std::io::Error| format!("{}: {error}", binary.display());
        let folder = tempfile::tempdir().map_err(text)?;
        std::fs::create_dir_all(folder.path().join("data").join(BUCKET)).map_err(text)?;
        std::fs::create_dir_all(folder.path().join("meta")).map_err(text)?;
        let address = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).map_err(text)?;
        let child = Command::new(binary)
            .env("ROOT_ACCESS_KEY", ACCESS_KEY)
            .env("ROOT_SECRET_KEY", SECRET_KEY)
            .args(["--port", &address.to_string(), "posix", "--sidecar"])
            .arg(folder.path().join("meta"))
            .arg(folder.path().join("data"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(text)?;
        let mut gateway = Self { child, address, _folder: folder };
        gateway.until_it_listens()?;
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
