//! [io] An S3 server in this process: objects in memory, atomic conditional puts, faults by script.
//!
//! Speaks the real protocol (crate `s3s`: signatures, XML, ranges, multipart), so the client under test is the one that
//! talks to a cloud. Keeps true: of racing conditional puts exactly one wins; what a fault hides may still have happened.

mod objects;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

pub use self::objects::{Fault, Objects};

/// The access key of every test server.
pub const ACCESS_KEY: &str = "rheos-test";
/// The secret key of every test server.
pub const SECRET_KEY: &str = "rheos-test-secret";
/// The bucket that exists.
pub const BUCKET: &str = "rheos";

/// Options of a client of the server at `endpoint`.
pub fn client_options(endpoint: &str) -> BTreeMap<String, String> {
    let pairs = [
        ("endpoint", endpoint),
        ("access_key_id", ACCESS_KEY),
        ("secret_access_key", SECRET_KEY),
        ("allow_http", "true"),
        ("region", "us-east-1"),
    ];
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A running server; it stops when dropped.
pub struct S3Server {
    address: SocketAddr,
    objects: Arc<Mutex<Objects>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl S3Server {
    /// Starts a server on a free loopback port.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start() -> std::io::Result<Self> {
        let objects = Arc::new(Mutex::new(Objects::default()));
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&objects);
        let thread = std::thread::Builder::new().name("s3".into()).spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    () = serve(listener, shared) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, objects, stop: Some(stop), thread: Some(thread) })
    }

    /// `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Looks at or changes the objects and the fault script.
    pub fn with<T>(&self, act: impl FnOnce(&mut Objects) -> T) -> T {
        act(&mut self.objects.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Options for a client of this server, as `object_store` names them.
    pub fn client_options(&self) -> Vec<(&'static str, String)> {
        vec![
            ("aws_endpoint", self.endpoint()),
            ("aws_access_key_id", ACCESS_KEY.into()),
            ("aws_secret_access_key", SECRET_KEY.into()),
            ("aws_region", "us-east-1".into()),
            ("aws_allow_http", "true".into()),
        ]
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: std::net::TcpListener, objects: Arc<Mutex<Objects>>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let service = {
        let mut builder = S3ServiceBuilder::new(objects::Server(objects));
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        builder.build()
    };
    while let Ok((stream, _)) = listener.accept().await {
        let service = service.clone();
        tokio::spawn(async move {
            // A client that goes away is no event for the server.
            let _ = auto::Builder::new(TokioExecutor::new()).http1_only().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
