//! Azurite, the emulator of Azure Storage: its table service. It must never be let send its telemetry.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{free_port, is_file, on_path, wait_for};

/// A table service that ends when this is dropped.
#[derive(Debug)]
pub struct Azurite {
    child: Child,
    port: u16,
    _folder: TempDir,
}

/// The program, in the folder that `SERIATIM_NODE` names, or on the path.
fn program() -> Option<PathBuf> {
    let installed = std::env::var_os("SERIATIM_NODE").map(|folder| PathBuf::from(folder).join("node_modules/.bin"));
    let installed = installed.map(|folder| folder.join("azurite-table")).filter(|file| is_file(file));
    installed.or_else(|| on_path("azurite-table"))
}

impl Azurite {
    /// Starts one; `Err` says why there is none.
    pub fn start() -> Result<Self, String> {
        let program = program().ok_or("azurite-table is not installed: `npm install -g azurite`")?;
        let mut last = String::new();
        for _ in 0..3 {
            match Self::start_on(&program, free_port().map_err(|error| error.to_string())?) {
                Ok(started) => return Ok(started),
                Err(error) => last = error,
            }
        }
        Err(format!("azurite-table does not start: {last}"))
    }

    fn start_on(program: &PathBuf, port: u16) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mut child = Command::new(program)
            .args(["--tableHost", "127.0.0.1", "--tablePort", &port.to_string(), "--location"])
            .arg(folder.path())
            .args(["--skipApiVersionCheck", "--disableTelemetry", "--silent"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let output = child.stdout.take().ok_or("it has no output")?;
        wait_for(&mut child, output, "successfully started").map(|()| Self { child, port, _folder: folder })
    }

    /// The address of a table in it.
    pub fn table(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/devstoreaccount1/{name}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends it now.
    pub fn stop(&mut self) {
        // It has ended already if this fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        self.stop();
    }
}
