//! The lease on an output in object storage: an object that says who may change the output, and until when. Whoever holds
//! it renews it while it works; an expired one may be taken over. It is taken and renewed by conditional puts, so that
//! of several machines at once one has it. It cannot stop a machine that has lost it from finishing a request that is on
//! its way: that is what margins are for, and in the end the conditional put of the manifest. Must never be taken from a
//! machine that may still be at work.
//!
//! Clocks: a machine measures its own lease with a clock that never jumps, from before the request that renewed it.
//! Another machine compares the end of the lease with its own time of day, and waits [`SKEW`] longer. So the clocks of
//! two machines may differ by as much.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use seriatim_storage::{Created, Environment, Location, Replaced, Version};

use super::store::failed;
use crate::error::{ErrorKind, IngestError, Result};
use crate::files::as_json as json;

/// Where it is.
pub(crate) const LEASE: &str = "_seriatim/lease.json";
/// By how much the clocks of two machines may differ.
const SKEW: Duration = Duration::from_secs(30);
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(20);
/// How long renewing may fail before work stops.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a conditional put is tried again that met another one.
const ATTEMPTS: usize = 8;

/// A change that has begun must have ended, retries and all, before the lease does: twice the time that requests are
/// repeated for, and something for the request itself.
fn margin() -> Duration {
    Environment::process().timeout() * 2 + Duration::from_secs(10)
}

/// What stands in the object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Written {
    /// The id of the state folder whose run holds it.
    owner: String,
    run: String,
    /// The process, for people.
    holder: String,
    /// RFC 3339.
    expires: String,
    /// Whether it was given back.
    released: bool,
}

impl Written {
    fn is_of(&self, owner: &str, run: &str) -> bool {
        self.owner == owner && self.run == run && !self.released
    }

    /// Whether somebody else may take it.
    fn is_over(&self) -> bool {
        let expires: Option<Timestamp> = self.expires.parse().ok();
        let skew = jiff::SignedDuration::try_from(SKEW).unwrap_or_default();
        // An end that cannot be read is no end: a person has to look.
        self.released || expires.and_then(|e| e.checked_add(skew).ok()).is_some_and(|end| Timestamp::now() > end)
    }
}

/// A lease that this process holds. It is renewed by a thread until it is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    held: Arc<HeldLease>,
    _until_dropped: Sender<()>,
}

#[derive(Debug)]
struct HeldLease {
    location: Location,
    owner: String,
    run: String,
    margin: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    version: Version,
    /// Until when this process may rely on it.
    until: Instant,
    /// Why it is lost, if it is.
    lost: Option<IngestError>,
}

/// What there was when a lease was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    /// Nobody was at work.
    Nobody,
    /// A run that never said that it had ended.
    Abandoned,
}

impl Lease {
    /// Takes the lease for a run that begins to change the output; an error if another machine has it.
    pub(crate) fn take(location: &Location, owner: &str, run: &str) -> Result<(Self, Before)> {
        let margin = margin();
        for _ in 0..ATTEMPTS {
            let since = Instant::now();
            let wanted = written(owner, run, margin);
            let Some((found, version)) = read(location)? else {
                match location.create(LEASE, json(&wanted)?).map_err(failed)? {
                    Created::Created(version) => {
                        return Ok((Self::start(location, owner, run, margin, version, since)?, Before::Nobody));
                    }
                    Created::Exists => continue,
                }
            };
            if found.owner != owner && !found.is_over() {
                return Err(taken(location, &found));
            }
            if let Replaced::Replaced(version) = location.replace(LEASE, json(&wanted)?, &version).map_err(failed)? {
                let quiet = found.released || found.is_of(owner, run);
                let before = if quiet { Before::Nobody } else { Before::Abandoned };
                return Ok((Self::start(location, owner, run, margin, version, since)?, before));
            }
        }
        Err(IngestError::output(format!("the lease on {location} changes hands all the time"))
            .help("see which machines run this pipeline, and let only one of them"))
    }

    /// Takes up the lease that this run has taken before, in this process or in an earlier one. An error if anybody else
    /// has had it in between: the output may have changed under the run.
    pub(crate) fn keep(location: &Location, owner: &str, run: &str) -> Result<Self> {
        let margin = margin();
        for _ in 0..ATTEMPTS {
            let since = Instant::now();
            let version = match read(location)? {
                Some((found, version)) if found.is_of(owner, run) => version,
                found => return Err(lost(location, found.map(|(found, _)| found).as_ref())),
            };
            let wanted = written(owner, run, margin);
            if let Replaced::Replaced(version) = location.replace(LEASE, json(&wanted)?, &version).map_err(failed)? {
                return Self::start(location, owner, run, margin, version, since);
            }
        }
        Err(lost(location, None))
    }

    fn start(
        location: &Location,
        owner: &str,
        run: &str,
        margin: Duration,
        version: Version,
        since: Instant,
    ) -> Result<Self> {
        let state = Mutex::new(State { version, until: since + PATIENCE, lost: None });
        let (owner, run) = (owner.to_owned(), run.to_owned());
        let held = Arc::new(HeldLease { location: location.clone(), owner, run, margin, state });
        let (until_dropped, dropped) = channel();
        let renewed = held.clone();
        let renewing = move || {
            while let Err(RecvTimeoutError::Timeout) = dropped.recv_timeout(RENEW) {
                // What cannot be renewed now is tried again, and told to whoever wants to change something.
                let _ = renewed.renew(&mut renewed.state());
            }
        };
        let thread = std::thread::Builder::new().name("lease".to_owned()).spawn(renewing);
        thread.map_err(|e| IngestError::new(ErrorKind::System, format!("cannot start a thread: {e}")))?;
        Ok(Self { held, _until_dropped: until_dropped })
    }

    /// An error if a change of the output may not begin now.
    pub(crate) fn check(&self) -> Result<()> {
        let mut state = self.held.state();
        if state.lost.is_none() && Instant::now() < state.until {
            return Ok(());
        }
        self.held.renew(&mut state)
    }

    /// An error if it is lost, as the store knows it now.
    pub(crate) fn confirm(&self) -> Result<()> {
        self.held.renew(&mut self.held.state())
    }

    /// Lets others have it at once.
    pub(crate) fn give_back(&self) -> Result<()> {
        let mut state = self.held.state();
        if state.lost.is_some() {
            return Ok(());
        }
        let HeldLease { location, owner, run, .. } = &*self.held;
        let over = Written { released: true, ..written(owner, run, Duration::ZERO) };
        for _ in 0..ATTEMPTS {
            if let Replaced::Replaced(_) = location.replace(LEASE, json(&over)?, &state.version).map_err(failed)? {
                break;
            }
            // Another process that works on this run has renewed it.
            match read(location)? {
                Some((found, version)) if found.is_of(owner, run) => state.version = version,
                _ => break,
            }
        }
        state.lost = Some(lost(location, Some(&over)));
        Ok(())
    }
}

impl HeldLease {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn renew(&self, state: &mut State) -> Result<()> {
        for _ in 0..ATTEMPTS {
            if let Some(lost) = &state.lost {
                return Err(lost.clone());
            }
            let since = Instant::now();
            let wanted = written(&self.owner, &self.run, self.margin);
            if let Replaced::Replaced(version) =
                self.location.replace(LEASE, json(&wanted)?, &state.version).map_err(failed)?
            {
                (state.version, state.until) = (version, since + PATIENCE);
                return Ok(());
            }
            // Other processes may work on the same run, and renew it as well.
            match read(&self.location)? {
                Some((found, version)) if found.is_of(&self.owner, &self.run) => state.version = version,
                found => state.lost = Some(lost(&self.location, found.map(|(found, _)| found).as_ref())),
            }
        }
        Err(lost(&self.location, None))
    }
}

fn written(owner: &str, run: &str, margin: Duration) -> Written {
    let expires = Timestamp::now() + PATIENCE + margin;
    let (owner, run) = (owner.to_owned(), run.to_owned());
    Written { owner, run, holder: crate::runner::owner(), expires: format!("{expires:.3}"), released: false }
}

fn read(location: &Location) -> Result<Option<(Written, Version)>> {
    let Some((bytes, version)) = location.read(LEASE).map_err(failed)? else { return Ok(None) };
    let written = serde_json::from_slice(&bytes).map_err(|e| {
        IngestError::output(format!("{} is damaged: {e}", location.shown(LEASE)))
            .help("see that no machine is at work on this output, then remove it")
    })?;
    Ok(Some((written, version)))
}

fn taken(location: &Location, by: &Written) -> IngestError {
    IngestError::output(format!(
        "{location} is held by {} (run '{}') until {}, unless that run ends before",
        by.holder, by.run, by.expires
    ))
    .help(format!(
        "let that run come to its end, then run again; if its machine is gone, run again {} s after that time",
        SKEW.as_secs()
    ))
}

fn lost(location: &Location, to: Option<&Written>) -> IngestError {
    let how = match to {
        Some(to) => format!("{} (run '{}') has had it since", to.holder, to.run),
        None => "it is gone".to_owned(),
    };
    IngestError::output(format!("the lease on {location} is lost: {how}"))
        .help("nothing of this run was published; see that one machine at a time runs this pipeline, then run again")
}
