//! [io] A certificate authority for one test, made by `openssl`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Signs the certificate of a server on 127.0.0.1, and nobody knows it who was not told.
#[derive(Debug)]
pub struct Authority {
    folder: tempfile::TempDir,
}

impl Authority {
    /// A new one, with the server's certificate.
    ///
    /// # Panics
    /// When `openssl` is not there.
    pub fn new() -> Self {
        let authority = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        authority.openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=rheos-test-authority");
        authority.openssl("req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost");
        std::fs::write(authority.path("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").expect("a file");
        authority.openssl("x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.crt");
        let [key, certificate] = ["server.key", "server.crt"].map(|name| authority.read(name));
        std::fs::write(authority.keystore(), key + &certificate).expect("a file");
        authority
    }

    /// What a client must know to trust the server.
    pub fn certificate(&self) -> String {
        self.read("ca.pem")
    }

    /// The server's key and certificate, in one file.
    pub fn keystore(&self) -> PathBuf {
        self.path("server.pem")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("openssl wrote it")
    }

    fn openssl(&self, arguments: &str) {
        let folder: &Path = self.folder.path();
        let made = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).stdin(Stdio::null()).output().expect("openssl");
        assert!(made.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&made.stderr));
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
