//! A PostgreSQL server with a new database cluster. The server refuses to run as root, so root starts it as another user.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use uuid::Uuid;

use super::{free_port, is_file, on_path, wait_for};

/// How a server is started.
#[derive(Debug, Clone, Default)]
pub struct PostgresOptions {
    /// A certificate and its key, in PEM, for TLS.
    pub tls: Option<(String, String)>,
    /// Whether what is committed is synced to the disk, as it must be where it matters.
    pub durable: bool,
}

/// A server that ends when this is dropped.
#[derive(Debug)]
pub struct Postgres {
    child: Child,
    port: u16,
    password: String,
    _folder: TempDir,
}

/// Debian keeps the programs in a folder for each version, and not on the path.
fn programs() -> Option<PathBuf> {
    let complete = |folder: &PathBuf| is_file(&folder.join("initdb")) && is_file(&folder.join("postgres"));
    let on_path = on_path("postgres").and_then(|file| file.parent().map(Path::to_owned)).filter(complete);
    on_path.or_else(|| {
        let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
        let mut folders: Vec<(u32, PathBuf)> = versions
            .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
            .filter(|(_, folder)| complete(folder))
            .collect();
        folders.sort();
        folders.pop().map(|(_, folder)| folder)
    })
}

/// Whom root starts the server as: the user that Debian's package makes, or nobody.
fn other_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let find = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2).map(str::parse);
        fields.next()?.ok().zip(fields.next()?.ok())
    };
    find("postgres").or_else(|| find("nobody")).or(Some((65_534, 65_534)))
}

impl Postgres {
    /// Starts one; `Err` says why there is none.
    pub fn start(options: &PostgresOptions) -> Result<Self, String> {
        let programs = programs().ok_or("PostgreSQL's server is not installed (Debian: the package postgresql)")?;
        let mut last = String::new();
        for _ in 0..3 {
            match Self::start_on(&programs, options, free_port().map_err(|error| error.to_string())?) {
                Ok(started) => return Ok(started),
                Err(error) => last = error,
            }
        }
        Err(format!("PostgreSQL does not start: {last}"))
    }

    fn start_on(programs: &Path, options: &PostgresOptions, port: u16) -> Result<Self, String> {
        let text = |error: std::io::Error| error.to_string();
        let folder = tempfile::tempdir().map_err(text)?;
        let user = other_user();
        let own = |path: &Path| user.map_or(Ok(()), |(user, group)| chown(path, Some(user), Some(group)));
        own(folder.path()).map_err(text)?;
        let write = |name: &str, content: &str| {
            let path = folder.path().join(name);
            fs::write(&path, content)?;
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
            own(&path)
        };
        let password = Uuid::new_v4().simple().to_string();
        write("password", &password).map_err(text)?;
        let command = |program: &str| {
            let mut command = Command::new(programs.join(program));
            command.current_dir(folder.path()).env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin");
            if let Some((user, group)) = user {
                command.uid(user).gid(group);
            }
            command.stdin(Stdio::null()).stdout(Stdio::null());
            command
        };
        let data = folder.path().join("data");
        let mut initdb = command("initdb");
        initdb.arg("--pgdata").arg(&data).args(["--username=seriatim", "--auth=scram-sha-256", "--encoding=UTF8"]);
        initdb.args(["--pwfile=password", "--no-sync", "--no-instructions"]);
        let made = initdb.stderr(Stdio::piped()).output().map_err(text)?;
        if !made.status.success() {
            return Err(String::from_utf8_lossy(&made.stderr).trim().to_owned());
        }
        let mut server = command("postgres");
        server.arg("-D").arg(&data).args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
        server.args(["-c", "unix_socket_directories=", "-c", "shared_buffers=16MB", "-c", "max_connections=60"]);
        if !options.durable {
            server.args(["-c", "fsync=off"]);
        }
        if let Some((certificate, key)) = &options.tls {
            write("server.crt", certificate).and_then(|()| write("server.key", key)).map_err(text)?;
            let file = |name: &str| folder.path().join(name).display().to_string();
            server.args(["-c", "ssl=on", "-c", &format!("ssl_cert_file={}", file("server.crt"))]);
            server.args(["-c", &format!("ssl_key_file={}", file("server.key"))]);
        }
        let mut child = server.stderr(Stdio::piped()).spawn().map_err(text)?;
        let output = child.stderr.take().ok_or("it has no output")?;
        wait_for(&mut child, output, "ready to accept connections")?;
        Ok(Self { child, port, password, _folder: folder })
    }

    /// The address of its database, password and all.
    pub fn url(&self) -> String {
        format!("postgresql://seriatim:{}@127.0.0.1:{}/postgres", self.password, self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The password of its user `seriatim`.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Ends it now; what was committed stays, as long as this is not dropped.
    pub fn stop(&mut self) {
        if let Some(server) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            // An immediate shutdown: the server's own processes end as well. It has ended already if this fails.
            let _ = rustix::process::kill_process(server, rustix::process::Signal::QUIT);
        }
        let _ = self.child.wait();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}
