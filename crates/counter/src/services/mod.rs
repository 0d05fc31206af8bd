//! Real services on loopback, started from what is installed on the machine: for tests, and for whoever wants to compare
//! counters without setting one up. Each has a folder of its own that goes with it. Must never touch a service that is
//! running already.

mod azurite;
mod postgres;

use std::io::{BufRead as _, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};

pub use azurite::Azurite;
pub use postgres::{Postgres, PostgresOptions};

/// A port of loopback that nobody listens on now. Somebody else may take it before it is used, so whoever uses it has to
/// be ready for a second try.
fn free_port() -> std::io::Result<u16> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr().map(|address| address.port())
}

/// The program of this name on the path.
fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| is_file(file))
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file())
}

/// Reads what a process prints until a line has `ready` in it; `Err` with what it printed if it ends before. What it
/// prints later is read and forgotten, or it would stand still.
fn wait_for(child: &mut Child, output: impl Read + Send + 'static, ready: &'static str) -> Result<(), String> {
    let seen = Arc::new(Mutex::new(String::new()));
    let (tell, told) = std::sync::mpsc::channel();
    let keep = seen.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if line.contains(ready) {
                // Nobody waits any more for the second such line.
                let _ = tell.send(());
            }
            let mut seen = keep.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.len() < 10_000 {
                seen.push_str(&line);
                seen.push('\n');
            }
        }
    });
    if told.recv().is_ok() {
        return Ok(());
    }
    // Its output has ended, and so has it, or it soon will.
    let _ = child.wait();
    Err(seen.lock().unwrap_or_else(PoisonError::into_inner).trim().to_owned())
}
