//! [io] A real PostgreSQL server as a child process, in a folder of its own; read and changed beside the worker by `psql`.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::authority::Authority;

/// How long the server may take to answer after its start.
const START_LIMIT: Duration = Duration::from_secs(60);
/// A first try to start it is given up after this long; later ones last longer.
const FIRST_PATIENCE: Duration = Duration::from_secs(3);
/// Between two looks at a server that starts.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Where Debian's packages are, a folder a version.
const DEBIAN: &str = "/usr/lib/postgresql";
/// Names a folder of the server's programs.
const PROGRAMS: &str = "RHEOS_POSTGRES_BIN";
/// Runs its arguments until its standard input ends, and kills them then: a server does not outlive its test's process,
/// however that ends. The server's other processes end when they miss the first.
const KEEPER: &str = r#""$@" & server=$!; cat; kill -KILL $server; wait $server"#;
/// The user that owns the database.
const OWNER: &str = "owner";
/// The database.
const DATABASE: &str = "shop";
/// The password of all users: no part of any other text.
pub const PASSWORD: &str = "pw-5up3r-s3cr3t";

/// A server; killed by its process id when dropped.
pub struct Postgres {
    child: Option<Child>,
    programs: PathBuf,
    folder: tempfile::TempDir,
    port: u16,
    /// Whom the server runs as, when this process may not.
    user: Option<(u32, u32)>,
    /// Its key and certificate, where it takes encrypted connections, and no others.
    keystore: Option<PathBuf>,
}

impl Postgres {
    /// Starts a server on a free loopback port, over a new folder, with a database.
    ///
    /// # Errors
    /// When the programs are missing or the server does not answer in time.
    pub fn start() -> Result<Self, String> {
        Self::start_with(None)
    }

    /// Starts one that takes encrypted connections only, at 127.0.0.1 and, where its certificate is not for, 127.0.0.2.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub fn start_encrypted(authority: &Authority) -> Result<Self, String> {
        Self::start_with(Some(authority))
    }

    fn start_with(authority: Option<&Authority>) -> Result<Self, String> {
        let text = |error: std::io::Error| error.to_string();
        let programs = programs()?;
        let folder = tempfile::tempdir().map_err(text)?;
        // The server refuses to run with all rights.
        let user = rustix::process::geteuid().is_root().then(|| Ok::<_, String>((id("-u")?, id("-g")?))).transpose()?;
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(folder.path(), Some(uid), Some(gid)).map_err(text)?;
        }
        let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).map_err(text)?.port();
        let mut server = Self { child: None, programs, folder, port, user, keystore: None };
        let password = server.folder.path().join("password");
        std::fs::write(&password, PASSWORD).map_err(text)?;
        let mut initdb = server.program("initdb");
        initdb.args(["--no-sync", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "-U", OWNER, "-D"]);
        succeeded(initdb.arg(server.data()).arg("--pwfile").arg(&password).output().map_err(text)?)?;
        if let Some(authority) = authority {
            server.encrypt(authority).map_err(text)?;
        }
        server.up()?;
        server.psql("postgres", &format!("CREATE DATABASE {DATABASE}"))?;
        Ok(server)
    }

    /// Gives the server its key, and has it refuse whoever comes in the clear.
    fn encrypt(&mut self, authority: &Authority) -> std::io::Result<()> {
        let keystore = self.folder.path().join("server.pem");
        std::fs::copy(authority.keystore(), &keystore)?;
        std::fs::set_permissions(&keystore, PermissionsExt::from_mode(0o600))?;
        if let Some((uid, gid)) = self.user {
            std::os::unix::fs::chown(&keystore, Some(uid), Some(gid))?;
        }
        self.keystore = Some(keystore);
        std::fs::write(self.data().join("pg_hba.conf"), "hostssl all all 127.0.0.0/8 scram-sha-256\n")
    }

    /// Starts the server again after [`Postgres::kill`], on the same port with the same data.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub fn up(&mut self) -> Result<(), String> {
        let text = |error: std::io::Error| error.to_string();
        let (deadline, mut patience) = (Instant::now() + START_LIMIT, FIRST_PATIENCE);
        loop {
            let log = std::fs::File::options().create(true).append(true).open(self.log()).map_err(text)?;
            let postgres = self.program("postgres");
            let mut command = Command::new("sh");
            command.args(["-c", KEEPER, "keeper"]).arg(postgres.get_program()).args(postgres.get_args());
            command.arg("-D").arg(self.data()).arg("-p").arg(self.port.to_string());
            for setting in ["unix_socket_directories=", "fsync=off", "max_connections=60", "log_statement=none"] {
                command.args(["-c", setting]);
            }
            match &self.keystore {
                None => command.args(["-c", "listen_addresses=127.0.0.1"]),
                Some(file) => {
                    let file = file.display();
                    command.args(["-c", "listen_addresses=127.0.0.1,127.0.0.2", "-c", "ssl=on"]);
                    command.arg("-c").arg(format!("ssl_cert_file={file}")).arg("-c").arg(format!("ssl_key_file={file}"))
                }
            };
            command.current_dir(self.folder.path()).stdin(Stdio::piped()).stdout(log.try_clone().map_err(text)?).stderr(log);
            self.child = Some(command.spawn().map_err(text)?);
            let started = Instant::now();
            // One that was killed may be missed by its other processes only a moment later; a new one does not start until then.
            while started.elapsed() < patience {
                if self.psql("postgres", "SELECT 1").is_ok() {
                    return Ok(());
                }
                std::thread::sleep(LOOK_AGAIN);
            }
            self.kill();
            patience *= 2;
            if Instant::now() > deadline {
                let log = std::fs::read_to_string(self.log()).unwrap_or_default();
                return Err(format!("the server does not answer after {START_LIMIT:?}\n{log}"));
            }
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }

    /// The URL, as the JDBC driver has it.
    pub fn url(&self) -> String {
        format!("jdbc:postgresql://127.0.0.1:{}/{DATABASE}", self.port)
    }

    /// The options of a table of this database, for its owner; without the closing bracket.
    pub fn options(&self, table: &str) -> String {
        let url = self.url();
        format!("'connector' = 'jdbc', 'url' = '{url}', 'table-name' = '{table}', 'username' = '{OWNER}', 'password' = '{PASSWORD}'")
    }

    /// Runs statements as the owner; the rows of the last one, columns with `|` between them.
    ///
    /// # Panics
    /// When a statement fails.
    pub fn query(&self, sql: &str) -> Vec<String> {
        self.psql(DATABASE, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// One number.
    ///
    /// # Panics
    /// When the statement fails or gives none.
    pub fn number(&self, sql: &str) -> i64 {
        let rows = self.query(sql);
        rows.first().and_then(|row| row.parse().ok()).unwrap_or_else(|| panic!("{sql}: {rows:?} is no number"))
    }

    fn psql(&self, database: &str, sql: &str) -> Result<Vec<String>, String> {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", OWNER, "-d", database, "-p"]).arg(self.port.to_string());
        psql.arg("-c").arg(sql).env("PGPASSWORD", PASSWORD).env("PGTZ", "UTC").env("PGCONNECT_TIMEOUT", "5").stdin(Stdio::null());
        let output = succeeded(psql.output().map_err(|error| error.to_string())?)?;
        Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
    }

    /// A program of the server, as the user that it may run as.
    fn program(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        let mut command = match self.user {
            Some((uid, gid)) => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--reuid={uid}")).arg(format!("--regid={gid}")).arg("--clear-groups").arg(program);
                command
            }
            None => Command::new(program),
        };
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

fn succeeded(output: Output) -> Result<Output, String> {
    if output.status.success() {
        return Ok(output);
    }
    Err(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

/// The folder of the newest server that is installed.
fn programs() -> Result<PathBuf, String> {
    if let Some(folder) = std::env::var_os(PROGRAMS) {
        return Ok(folder.into());
    }
    let versions = Path::new(DEBIAN).read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    let with_number = versions.filter_map(|path| Some((path.file_name()?.to_str()?.parse::<u32>().ok()?, path.join("bin"))));
    let newest = with_number.filter(|(_, bin)| bin.join("initdb").exists()).max();
    newest.map(|(_, bin)| bin).ok_or_else(|| {
        format!("there is no PostgreSQL server: install the package postgresql, or let {PROGRAMS} name the folder of its programs")
    })
}

/// A number of the user that the package made.
fn id(which: &str) -> Result<u32, String> {
    let output = Command::new("id").args([which, "postgres"]).output().map_err(|error| error.to_string())?;
    let output =
        succeeded(output).map_err(|error| format!("the server needs a user 'postgres', as the package postgresql makes it: {error}"))?;
    String::from_utf8_lossy(&output.stdout).trim().parse().map_err(|_| "id: no number".to_owned())
}
