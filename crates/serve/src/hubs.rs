//! Task hubs by name, each with a state of its own under one folder, opened when they are first asked for. The default
//! hub lies in the folder itself, where `seriatim run` has it too; the others in `hubs/<name>`. This module must never
//! open a folder whose name comes from outside without having checked it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use seriatim_durable::hub::{HubError, HubResult, TaskHub};
use seriatim_hub::{EmbeddedHub, HubOptions, OpenError};
use tokio::sync::Mutex;

/// The name of the hub that is meant where none is named.
pub const DEFAULT_HUB: &str = "default";

/// The longest name of a hub, in bytes.
const LONGEST_NAME: usize = 64;

/// Settings of [`Hubs`].
#[derive(Debug, Clone)]
pub struct HubsOptions {
    /// The settings of every hub.
    pub hub: HubOptions,
    /// At most so many hubs are open at a time; each has two threads and two open files. Default: 64.
    pub most: usize,
}

impl Default for HubsOptions {
    fn default() -> Self {
        Self { hub: HubOptions::default(), most: 64 }
    }
}

/// Several task hubs in one process; see the module's documentation.
#[derive(Debug)]
pub struct Hubs {
    state: PathBuf,
    options: HubsOptions,
    open: RwLock<BTreeMap<String, Arc<EmbeddedHub>>>,
    /// Held while hubs are opened, deleted or closed, so that no two do so with one folder. True once closed.
    changing: Mutex<bool>,
}

impl Hubs {
    /// Opens the default hub in `state`; the others follow when they are asked for. Must be called in a Tokio runtime.
    pub async fn open(state: &Path, options: HubsOptions) -> Result<Arc<Self>, OpenError> {
        let hubs = Self { state: state.to_owned(), options, open: RwLock::default(), changing: Mutex::new(false) };
        let hub = open_blocking(hubs.folder(DEFAULT_HUB), hubs.options.hub.clone()).await?;
        hubs.write().insert(DEFAULT_HUB.to_owned(), hub);
        Ok(Arc::new(hubs))
    }

    /// The hub of that name, or the default one; it is made if there is none. Names mean the same in upper and lower
    /// case.
    pub async fn hub(&self, name: Option<&str>) -> HubResult<Arc<dyn TaskHub>> {
        let name = checked(name)?;
        if let Some(hub) = self.read(&name) {
            return Ok(hub);
        }
        let closed = self.changing.lock().await;
        self.open_one(name, *closed).await
    }

    /// The hub of that name, or the default one; [`HubError::NotFound`] if there is none.
    pub async fn existing(&self, name: Option<&str>) -> HubResult<Arc<dyn TaskHub>> {
        let name = checked(name)?;
        if let Some(hub) = self.read(&name) {
            return Ok(hub);
        }
        let closed = self.changing.lock().await;
        if !self.folder(&name).is_dir() {
            return Err(HubError::NotFound(format!(
                "there is no task hub `{name}`; it is made when a worker or a client of the gRPC server first names it"
            )));
        }
        self.open_one(name, *closed).await
    }

    /// The hubs that are open now, in order of their names.
    pub fn open_now(&self) -> Vec<(String, Arc<EmbeddedHub>)> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.iter().map(|(name, hub)| (name.clone(), Arc::clone(hub))).collect()
    }

    /// Makes the hub of that name if there is none. With `anew`, one that there is is deleted first.
    pub async fn create(&self, name: Option<&str>, anew: bool) -> HubResult<()> {
        let name = checked(name)?;
        let closed = self.changing.lock().await;
        if anew {
            self.delete_one(&name, *closed).await?;
        }
        self.open_one(name, *closed).await.map(drop)
    }

    /// Deletes the hub of that name with all that it has. What is under way in it ends with an error.
    pub async fn delete(&self, name: Option<&str>) -> HubResult<()> {
        let name = checked(name)?;
        let closed = self.changing.lock().await;
        self.delete_one(&name, *closed).await
    }

    /// Closes all hubs in good order: streams end, waits are answered, everything acknowledged is on disk. An error
    /// says that a store had failed before.
    pub async fn close(&self) -> HubResult<()> {
        let mut closed = self.changing.lock().await;
        *closed = true;
        let open = std::mem::take(&mut *self.write());
        let mut outcome = Ok(());
        for hub in open.into_values() {
            outcome = outcome.and(hub.close().await);
        }
        outcome
    }

    /// The caller holds `changing`.
    async fn open_one(&self, name: String, closed: bool) -> HubResult<Arc<dyn TaskHub>> {
        if let Some(hub) = self.read(&name) {
            return Ok(hub); // somebody else was faster
        }
        check_open(closed)?;
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner).len();
        if open >= self.options.most {
            return Err(HubError::FailedPrecondition(format!(
                "task hub `{name}` cannot be opened: {open} are open already; delete one, or raise the limit"
            )));
        }
        let opened = open_blocking(self.folder(&name), self.options.hub.clone()).await;
        let hub = opened.map_err(|error| cannot_open(&name, &error))?;
        self.write().insert(name, Arc::clone(&hub));
        Ok(hub)
    }

    /// The caller holds `changing`.
    async fn delete_one(&self, name: &str, closed: bool) -> HubResult<()> {
        check_open(closed)?;
        if name == DEFAULT_HUB && self.state.join("pipelines").exists() {
            return Err(HubError::FailedPrecondition(format!(
                "task hub `{name}` holds the sequences of the pipelines in {}; without them, IDs could not go on. Remove \
                 the state folder by hand, together with the outputs, if that is what you want",
                self.state.display()
            )));
        }
        let hub = self.write().remove(name);
        if let Some(hub) = hub {
            // A hub whose store has failed is deleted as well as any other.
            let _ = hub.close().await;
        }
        let folder = self.folder(name);
        let deleted = tokio::task::spawn_blocking(move || EmbeddedHub::delete(&folder)).await;
        deleted
            .unwrap_or_else(|_| Err(OpenError::NoRuntime)) // the runtime is ending
            .map_err(|error| cannot_open(name, &error))
    }

    fn folder(&self, name: &str) -> PathBuf {
        if name == DEFAULT_HUB { self.state.clone() } else { self.state.join("hubs").join(name) }
    }

    fn read(&self, name: &str) -> Option<Arc<dyn TaskHub>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.get(name).map(|hub| Arc::clone(hub) as Arc<dyn TaskHub>)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<String, Arc<EmbeddedHub>>> {
        self.open.write().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn open_blocking(folder: PathBuf, options: HubOptions) -> Result<Arc<EmbeddedHub>, OpenError> {
    let opened = tokio::task::spawn_blocking(move || EmbeddedHub::open(&folder, options)).await;
    opened.unwrap_or_else(|_| Err(OpenError::NoRuntime)) // the runtime is ending
}

fn check_open(closed: bool) -> HubResult<()> {
    if closed { Err(HubError::Unavailable("the server is stopping; try again later".to_owned())) } else { Ok(()) }
}

/// The name in lower case; an error if it cannot be one.
fn checked(name: Option<&str>) -> HubResult<String> {
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Ok(DEFAULT_HUB.to_owned());
    };
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.len() > LONGEST_NAME || !name.chars().all(good) || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(HubError::InvalidArgument(format!(
            "`{}` cannot be the name of a task hub; use up to {LONGEST_NAME} letters, digits, - and _, beginning with a \
             letter or a digit",
            name.escape_default().take(LONGEST_NAME).collect::<String>()
        )));
    }
    Ok(name.to_ascii_lowercase())
}

fn cannot_open(name: &str, error: &OpenError) -> HubError {
    let mut message = format!("task hub `{name}`: {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        message = format!("{message}: {error}");
        cause = error.source();
    }
    HubError::Unavailable(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_never_leave_the_folder() {
        for wrong in ["..", "a/b", "a\\b", ".", "-a", "_a", "a b", "ä", "a\0", "a.b", &"a".repeat(65)] {
            assert!(matches!(checked(Some(wrong)), Err(HubError::InvalidArgument(_))), "{wrong}");
        }
        assert_eq!(checked(Some("My-Hub_1")).unwrap(), "my-hub_1");
        assert_eq!(checked(None).unwrap(), checked(Some("Default")).unwrap());
        assert_eq!(checked(Some("")).unwrap(), DEFAULT_HUB);
    }
}
