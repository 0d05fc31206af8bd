//! The names under which durable code is known. A [`Registry`] maps names to orchestrations, activities and entities,
//! with their types erased to JSON. This module must never run any of them.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{self, BoxFuture};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::activity::ActivityContext;
use crate::entity::{DynEntity, Entity, EntityHost};
use crate::failure::Failure;
use crate::json;
use crate::replay::{OrchestrationContext, OrchestratorFn};

/// An activity with its types erased.
pub(crate) type ActivityFn =
    Arc<dyn Fn(ActivityContext, Option<String>) -> BoxFuture<'static, Result<Option<String>, Failure>> + Send + Sync>;

/// Makes a fresh entity object with its types erased.
pub(crate) type EntityFactory = Arc<dyn Fn() -> Box<dyn DynEntity> + Send + Sync>;

/// The durable code that a worker can run, by name. A name that is registered twice means the later one.
#[derive(Clone, Default)]
pub struct Registry {
    orchestrations: BTreeMap<String, OrchestratorFn>,
    activities: BTreeMap<String, ActivityFn>,
    entities: BTreeMap<String, EntityFactory>,
}

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers an orchestrator function: deterministic code over an [`OrchestrationContext`].
    pub fn orchestration<F, Fut, In, Out>(&mut self, name: impl Into<String>, function: F) -> &mut Self
    where
        F: Fn(OrchestrationContext, In) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Out, Failure>> + Send + 'static,
        In: DeserializeOwned,
        Out: Serialize,
    {
        let name = name.into();
        let what = format!("orchestration \"{name}\"");
        let erased = move |context: OrchestrationContext, input: Option<String>| {
            let run = read_input(&what, input.as_deref()).map(|input| function(context, input));
            erase(what.clone(), run)
        };
        self.orchestrations.insert(name, Arc::new(erased));
        self
    }

    /// Registers an activity: any code, run at least once.
    pub fn activity<F, Fut, In, Out>(&mut self, name: impl Into<String>, function: F) -> &mut Self
    where
        F: Fn(ActivityContext, In) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Out, Failure>> + Send + 'static,
        In: DeserializeOwned,
        Out: Serialize,
    {
        let name = name.into();
        let what = format!("activity \"{name}\"");
        let erased = move |context: ActivityContext, input: Option<String>| {
            let run = read_input(&what, input.as_deref()).map(|input| function(context, input));
            erase(what.clone(), run)
        };
        self.activities.insert(name, Arc::new(erased));
        self
    }

    /// Registers an entity; `factory` makes the object that runs a batch of its operations. Names of entities mean the
    /// same in upper and lower case.
    pub fn entity<E: Entity>(
        &mut self,
        name: impl AsRef<str>,
        factory: impl Fn() -> E + Send + Sync + 'static,
    ) -> &mut Self {
        let erased = move || Box::new(EntityHost::new(factory())) as Box<dyn DynEntity>;
        self.entities.insert(name.as_ref().to_lowercase(), Arc::new(erased));
        self
    }

    /// The names of the orchestrations, in order.
    pub fn orchestration_names(&self) -> impl Iterator<Item = &str> {
        self.orchestrations.keys().map(String::as_str)
    }

    /// The names of the activities, in order.
    pub fn activity_names(&self) -> impl Iterator<Item = &str> {
        self.activities.keys().map(String::as_str)
    }

    /// The names of the entities, in lower case, in order.
    pub fn entity_names(&self) -> impl Iterator<Item = &str> {
        self.entities.keys().map(String::as_str)
    }

    pub(crate) fn orchestrator(&self, name: &str) -> Option<OrchestratorFn> {
        self.orchestrations.get(name).cloned()
    }

    pub(crate) fn activity_fn(&self, name: &str) -> Option<ActivityFn> {
        self.activities.get(name).cloned()
    }

    pub(crate) fn entity_factory(&self, name: &str) -> Option<EntityFactory> {
        self.entities.get(name).cloned()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("orchestrations", &self.orchestrations.keys())
            .field("activities", &self.activities.keys())
            .field("entities", &self.entities.keys())
            .finish()
    }
}

fn read_input<In: DeserializeOwned>(what: &str, input: Option<&str>) -> Result<In, Failure> {
    json::read(input, || format!("the input of {what} does not have the expected shape"))
}

/// Runs a typed future, or fails at once, and writes the output as JSON.
fn erase<Fut, Out>(what: String, run: Result<Fut, Failure>) -> BoxFuture<'static, Result<Option<String>, Failure>>
where
    Fut: Future<Output = Result<Out, Failure>> + Send + 'static,
    Out: Serialize,
{
    match run {
        Ok(running) => running
            .map(move |outcome| {
                outcome.and_then(|output| json::write(&output, || format!("the output of {what}")).map(Some))
            })
            .boxed(),
        Err(failure) => future::ready(Err(failure)).boxed(),
    }
}
