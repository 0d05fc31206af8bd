//! One owner for each state folder. `hub.lock` is locked by the operating system for as long as its owner lives, so a
//! dead owner's lock is free; what is written in it only tells the next one who has it. This module must never decide
//! by the text in the file.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};

use super::options::OpenError;
use crate::core::Moment;

/// Who has a state folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Owner {
    /// Its process id; 0 if it is not known.
    pub pid: u32,
    /// The machine that it runs on.
    pub host: String,
    /// Its command line, arguments separated by spaces.
    pub command: String,
    /// When it opened the folder, in seconds since 1970.
    pub started: i64,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pid == 0 {
            return f.write_str("another process");
        }
        write!(f, "process {} on {} (`{}`)", self.pid, self.host, self.command)
    }
}

impl Owner {
    /// Who has this state folder at this moment; `None` if nobody does, or if there is no such folder. Changes nothing.
    pub fn of(state_folder: &Path) -> Result<Option<Self>, OpenError> {
        let path = state_folder.join("hub.lock");
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(OpenError::Folder { path, source }),
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(None),
            Err(Errno::WOULDBLOCK) => Ok(Some(told(&mut file))),
            Err(error) => Err(OpenError::Folder { path, source: error.into() }),
        }
    }

    /// Whether there is no such process here. One of another machine is taken for alive.
    fn is_gone(&self) -> bool {
        let id = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let is_here = || self.host == rustix::system::uname().nodename().to_string_lossy();
        id.is_none_or(|id| is_here() && test_kill_process(id) == Err(Errno::SRCH))
    }

    fn this_process(now: Moment) -> Self {
        Self {
            pid: std::process::id(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            command: std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" "),
            started: now.to_timestamp().seconds,
        }
    }
}

/// How often is looked again at what passes within microseconds, an onlooker or an owner without a name; and the pause
/// before each time.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(1);

/// Takes the lock; `false` if an owner has it. Who only looks ([`Owner::of`]) shares it for a moment, and is nobody to
/// wait for.
fn lock(file: &File) -> Result<bool, Errno> {
    for _ in 0..TRIES {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {}
            taken => return taken.map(|()| true),
        }
        // An owner's lock cannot be shared, an onlooker's can.
        match flock(file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => flock(file, FlockOperation::Unlock)?,
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(error) => return Err(error),
        }
        std::thread::sleep(PAUSE);
    }
    Ok(false)
}

/// The lock on a state folder, held until it is dropped.
#[derive(Debug)]
pub(super) struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Makes the folder if there is none, and locks it.
    pub(super) fn acquire(folder: &Path, now: Moment) -> Result<Self, OpenError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Folder { path, source }
        };
        std::fs::create_dir_all(folder).map_err(failed(folder))?;
        let path = folder.join("hub.lock");
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(failed(&path))?;
        match lock(&file) {
            Ok(true) => {}
            Ok(false) => return Err(held(&mut file, path)),
            Err(error) => return Err(failed(&path)(error.into())),
        }
        write_down(&mut file, &Owner::this_process(now)).map_err(failed(&path))?;
        // The folder's entries are to survive a loss of power as well as what is in the files.
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed(folder))?;
        Ok(Self { _file: file })
    }
}

fn held(file: &mut File, path: PathBuf) -> OpenError {
    OpenError::Held { owner: told(file), path }
}

/// What is told of who has the lock. An owner takes it first and writes itself down then; what can be read between the
/// two is of the one before, who is gone.
fn told(file: &mut File) -> Owner {
    let mut owner = written(file);
    for _ in 0..TRIES {
        if !owner.is_gone() {
            break;
        }
        std::thread::sleep(PAUSE);
        owner = written(file);
    }
    owner
}

/// What the owner wrote down. Unreadable or half-written text only means that we cannot say who it is.
fn written(file: &mut File) -> Owner {
    let mut text = String::new();
    file.rewind()
        .and_then(|()| file.read_to_string(&mut text))
        .ok()
        .and_then(|_| serde_json::from_str(&text).ok())
        .unwrap_or_default()
}

fn write_down(file: &mut File, owner: &Owner) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    serde_json::to_writer(&mut *file, owner)?;
    file.write_all(b"\n")
}
