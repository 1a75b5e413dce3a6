//! [io] Connections, and the server's errors in our words.

use std::time::{Duration, Instant};

use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use tokio::runtime::Handle;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::config::Connection;
use super::tls;
use super::url::TlsMode;
use crate::secret::Secrets;

/// Bytes that nobody acknowledges for so long end a connection: its server is gone.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);
/// What every session begins with. A session that was stopped in the middle of a transaction (its process paused, its node
/// lost) must not keep its locks for ever. What the server says is committed has to outlive the server. Texts of keys are
/// read back as they were written.
const SESSION: &str = "SET idle_in_transaction_session_timeout = '60s'; SET lock_timeout = '20s'; SET TimeZone = 'UTC'; \
    SET DateStyle = 'ISO'; SET client_min_messages = 'warning'; \
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";
/// Before the second try.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// Between later ones, at most.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// A database and how to log in. Holds a password: not to be shown.
pub(super) struct Server {
    config: Config,
    tls: MakeRustlsConnect,
    runtime: Handle,
    /// How long something that may heal is tried again.
    pub(super) patience: Duration,
}

impl Server {
    /// Resolves Secrets; nothing is connected yet.
    ///
    /// # Errors
    /// A Secret is not there, or the certificates cannot be read.
    pub(super) fn new(connection: &Connection, secrets: &Secrets, runtime: Handle) -> Result<Self> {
        let address = &connection.address;
        let resolved = |text: &Option<String>| text.as_deref().map(|text| secrets.resolve(text)).transpose();
        let mut config = Config::new();
        for (host, port) in &address.hosts {
            config.host(secrets.resolve(host)?).port(*port);
        }
        config.dbname(secrets.resolve(&address.database)?).application_name(&address.application);
        config.connect_timeout(address.connect_timeout).tcp_user_timeout(UNACKNOWLEDGED);
        if let Some(user) = resolved(connection.user.as_ref().map_or(&address.user, |_| &connection.user))? {
            config.user(user);
        }
        if let Some(password) = resolved(connection.password.as_ref().map_or(&address.password, |_| &connection.password))? {
            config.password(password);
        }
        if let Some(options) = &address.options {
            config.options(options);
        }
        config.ssl_mode(match address.tls {
            TlsMode::Disable => SslMode::Disable,
            TlsMode::Prefer => SslMode::Prefer,
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
        });
        let tls = tls::connector(address.tls, resolved(&address.roots)?.as_deref())?;
        Ok(Self { config, tls, runtime, patience: connection.patience })
    }

    /// A new session.
    pub(super) async fn connect(&self) -> Result<Client> {
        let connected = self.config.connect(self.tls.clone()).await;
        let (client, connection) = connected.map_err(|error| failed("connecting", &error))?;
        self.runtime.spawn(async move {
            if let Err(error) = connection.await {
                // Whoever uses the client is told by its calls.
                tracing::debug!(%error, "a connection to PostgreSQL ended");
            }
        });
        client.batch_execute(SESSION).await.map_err(|error| failed("beginning a session", &error))?;
        Ok(client)
    }

    /// Waits between tries, from now on.
    pub(super) fn tries(&self) -> Tries {
        Tries { until: Instant::now() + self.patience, wait: FIRST_WAIT, left: None }
    }
}

/// Tries of something that may heal.
pub(super) struct Tries {
    until: Instant,
    wait: Duration,
    /// How many there may be still, where that is limited, too.
    left: Option<i64>,
}

impl Tries {
    /// No more than so many, if that is said.
    pub(super) fn at_most(self, times: Option<i64>) -> Self {
        Self { left: times, ..self }
    }

    /// Waits before the next try; gives the error back when it does not heal, or has not for too long.
    pub(super) async fn again(&mut self, error: DataflowError) -> Result<()> {
        if error.kind != ErrorKind::Transient || Instant::now() + self.wait > self.until || self.left == Some(0) {
            return Err(error);
        }
        self.left = self.left.map(|left| left - 1);
        tracing::warn!(%error, "PostgreSQL: trying again");
        tokio::time::sleep(self.wait).await;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        Ok(())
    }
}

/// What went wrong while `doing` something.
pub(super) fn failed(doing: &str, error: &tokio_postgres::Error) -> DataflowError {
    if let Some(error) = error.as_db_error() {
        let (kind, hint) = kind(error.code());
        return DataflowError::new("jdbc", kind, format!("{doing}: {}{hint}", shown(error)));
    }
    let (mut message, mut source) = (error.to_string(), std::error::Error::source(error));
    let mut tls = message.contains("TLS");
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        tls |= cause.downcast_ref::<rustls::Error>().is_some();
        source = cause.source();
    }
    // A connection that ends within a handshake heals; a certificate that is not trusted does not.
    let broken = message.contains("unexpected end of file") || message.contains("reset by peer") || message.contains("eof");
    let (kind, hint) = if tls && !broken {
        (ErrorKind::Denied, "; check 'sslmode' and 'sslrootcert' in the URL")
    } else if message.starts_with("authentication error") || message.starts_with("invalid configuration") {
        (ErrorKind::Denied, "; check 'username', 'password' and the URL")
    } else {
        (ErrorKind::Transient, "")
    };
    DataflowError::new("jdbc", kind, format!("{doing}: {message}{hint}"))
}

/// The server's message, with what it adds to it.
fn shown(error: &DbError) -> String {
    let mut text = format!("{} (SQLSTATE {})", error.message(), error.code().code());
    for part in [error.detail(), error.hint()].into_iter().flatten() {
        text = format!("{text}; {part}");
    }
    text
}

/// Who has to act on an error of the server, and what to do; see PostgreSQL's appendix A.
fn kind(code: &SqlState) -> (ErrorKind, &'static str) {
    let class = code.code().get(..2).unwrap_or_default();
    match class {
        // Lost connections; conflicts of transactions; no room, too many connections; shut down, restarting; the system.
        "08" | "40" | "53" | "57" | "58" | "55" | "XX" => (ErrorKind::Transient, ""),
        // A server that has just become a standby.
        "25" => (ErrorKind::Transient, ""),
        "28" => (ErrorKind::Denied, "; check 'username', 'password' and the server's pg_hba.conf"),
        "42" if *code == SqlState::INSUFFICIENT_PRIVILEGE => (ErrorKind::Denied, "; give the user the right to it"),
        "42" | "3D" | "3F" | "0A" => (ErrorKind::User, ""),
        "22" | "23" | "21" | "44" | "P0" => (ErrorKind::Data, ""),
        _ => (ErrorKind::User, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_heals_is_told_from_what_does_not() {
        let cases = [
            (SqlState::T_R_SERIALIZATION_FAILURE, ErrorKind::Transient),
            (SqlState::T_R_DEADLOCK_DETECTED, ErrorKind::Transient),
            (SqlState::TOO_MANY_CONNECTIONS, ErrorKind::Transient),
            (SqlState::CANNOT_CONNECT_NOW, ErrorKind::Transient),
            (SqlState::LOCK_NOT_AVAILABLE, ErrorKind::Transient),
            (SqlState::INVALID_PASSWORD, ErrorKind::Denied),
            (SqlState::INSUFFICIENT_PRIVILEGE, ErrorKind::Denied),
            (SqlState::UNDEFINED_TABLE, ErrorKind::User),
            (SqlState::UNIQUE_VIOLATION, ErrorKind::Data),
            (SqlState::NOT_NULL_VIOLATION, ErrorKind::Data),
            (SqlState::NUMERIC_VALUE_OUT_OF_RANGE, ErrorKind::Data),
        ];
        for (code, expected) in cases {
            assert_eq!(kind(&code).0, expected, "{}", code.code());
        }
    }
}
