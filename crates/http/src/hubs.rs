//! Which task hub a request means. This module must never open one: who implements [`Hubs`] does.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use seriatim_durable::{HubError, HubResult, TaskHub};

/// The task hubs of a server, by name.
#[async_trait]
pub trait Hubs: Send + Sync + fmt::Debug {
    /// The hub of this name; `None` is the default one. `NotFound` or `InvalidArgument` if there is none of that name
    /// and none can be.
    async fn hub(&self, name: Option<&str>) -> HubResult<Arc<dyn TaskHub>>;

    /// The hubs that are open now, for the metrics.
    fn open(&self) -> Vec<OpenHub> {
        Vec::new()
    }
}

/// A hub that is open.
#[derive(Debug, Clone)]
pub struct OpenHub {
    /// Its name in the metrics.
    pub name: String,
    /// The hub.
    pub hub: Arc<dyn TaskHub>,
    /// What it has done since it was opened, if that is known.
    pub figures: Option<HubFigures>,
}

/// What a hub has done since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct HubFigures {
    /// Commits of the journal, each with one sync.
    pub commits: u64,
    /// Transitions that were written by them.
    pub batches: u64,
    /// Seconds spent in commits.
    pub seconds_committing: f64,
    /// Workers that are connected now.
    pub workers: u64,
    /// Work items that were given to workers.
    pub handed_out: WorkFigures,
    /// Work items whose completion was taken.
    pub completed: WorkFigures,
}

/// A number for each kind of work item.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorkFigures {
    /// Turns of orchestrators.
    pub orchestrators: u64,
    /// Activities.
    pub activities: u64,
    /// Batches of entities.
    pub entities: u64,
}

/// One hub, which is the default and the only one.
#[derive(Debug, Clone)]
pub struct OneHub(pub Arc<dyn TaskHub>);

#[async_trait]
impl Hubs for OneHub {
    async fn hub(&self, name: Option<&str>) -> HubResult<Arc<dyn TaskHub>> {
        match name {
            None => Ok(Arc::clone(&self.0)),
            Some(name) => Err(HubError::NotFound(format!(
                "there is no task hub \"{name}\": this server has one, which requests mean that name none"
            ))),
        }
    }

    fn open(&self) -> Vec<OpenHub> {
        vec![OpenHub { name: "default".to_owned(), hub: Arc::clone(&self.0), figures: None }]
    }
}
