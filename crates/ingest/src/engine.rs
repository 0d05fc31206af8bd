//! What an ingest needs of an engine, and nothing more: run these steps and give me all results; hold these entities
//! while I do this; call an entity. It is implemented here for Durable Task orchestrations; another distributed engine
//! would implement the same trait. An engine must never let a step's effects be seen before the step is recorded.

use std::future::Future;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use seriatim_durable::{ActivityOptions, EntityId, OrchestrationContext, RetryPolicy};

use crate::error::{IngestError, Result};

/// A unit of work that an engine runs somewhere, at least once, and whose result it records once.
pub(crate) trait Step: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name under which engines know it.
    const NAME: &'static str;
    /// A small fact: it is kept in history.
    type Output: Serialize + DeserializeOwned + Send + 'static;
}

/// What runs an ingest.
pub(crate) trait Engine: Clone + Send + Sync + 'static {
    /// Runs steps, in any order and at once; their outputs in the order of the steps. If some fail: one of the
    /// failures, after all have ended, so that nothing is at work any more when the caller cleans up.
    fn all<S: Step>(&self, steps: Vec<S>) -> impl Future<Output = Result<Vec<S::Output>>> + Send;

    /// Does `work` while holding these entities: nobody else may hold or call one of them meanwhile.
    fn hold<T: Send>(
        &self,
        entities: Vec<EntityId>,
        work: impl Future<Output = Result<T>> + Send,
    ) -> impl Future<Output = Result<T>> + Send;

    /// Calls operations on distinct entities, at once; their results in order.
    fn call<I: Serialize + Send + Sync, O: DeserializeOwned + Send + 'static>(
        &self,
        operation: &str,
        calls: Vec<(EntityId, I)>,
    ) -> impl Future<Output = Result<Vec<O>>> + Send;

    /// Runs one step, again and again while what it fails of may pass, with growing pauses that outlive the process;
    /// for as long as `limit`, or until it succeeds.
    fn persist<S: Step>(&self, step: S, limit: Option<Duration>) -> impl Future<Output = Result<S::Output>> + Send;

    /// Does both, at once.
    fn both<A: Send, B: Send>(
        &self,
        a: impl Future<Output = A> + Send,
        b: impl Future<Output = B> + Send,
    ) -> impl Future<Output = (A, B)> + Send {
        futures::future::join(a, b)
    }

    /// Begins again from the start with this input, forgetting what was done.
    fn restart<I: Serialize>(&self, input: &I) -> Result<()>;

    /// Runs one step.
    fn step<S: Step>(&self, step: S) -> impl Future<Output = Result<S::Output>> + Send {
        async move {
            let mut outputs = self.all(vec![step]).await?;
            outputs.pop().ok_or_else(|| IngestError::internal("a step gave no output"))
        }
    }
}

impl Engine for OrchestrationContext {
    async fn all<S: Step>(&self, steps: Vec<S>) -> Result<Vec<S::Output>> {
        // What a retry can heal is the machine's own trouble, such as too many open files; its pauses are durable.
        let retry = RetryPolicy::exponential(3, Duration::from_millis(200), Duration::from_secs(2));
        let options = ActivityOptions { retry: Some(retry), ..ActivityOptions::default() };
        let tasks = steps.iter().map(|step| self.call_activity_with(S::NAME, step, options.clone())).collect();
        Ok(OrchestrationContext::all(self, tasks).await?)
    }

    async fn hold<T: Send>(&self, entities: Vec<EntityId>, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let section = self.lock_entities(&entities).await?;
        let result = work.await;
        section.release();
        result
    }

    async fn call<I: Serialize + Send + Sync, O: DeserializeOwned + Send + 'static>(
        &self,
        operation: &str,
        calls: Vec<(EntityId, I)>,
    ) -> Result<Vec<O>> {
        let tasks = calls.iter().map(|(entity, input)| self.call_entity(entity, operation, input)).collect();
        Ok(OrchestrationContext::all(self, tasks).await?)
    }

    async fn persist<S: Step>(&self, step: S, limit: Option<Duration>) -> Result<S::Output> {
        let retry = RetryPolicy {
            retry_timeout: limit,
            ..RetryPolicy::exponential(u32::MAX, Duration::from_millis(100), Duration::from_secs(5))
        };
        let options = ActivityOptions { retry: Some(retry), ..ActivityOptions::default() };
        Ok(self.call_activity_with(S::NAME, &step, options).await?)
    }

    fn restart<I: Serialize>(&self, input: &I) -> Result<()> {
        Ok(self.continue_as_new(input, true)?)
    }
}

/// An engine that begins a step when the one before it has ended: the plain pipeline, without fan-out. What it gives is
/// the same.
#[derive(Debug, Clone)]
pub(crate) struct OneByOne<E>(pub(crate) E);

impl<E: Engine> Engine for OneByOne<E> {
    async fn all<S: Step>(&self, steps: Vec<S>) -> Result<Vec<S::Output>> {
        let mut outputs = Vec::with_capacity(steps.len());
        for step in steps {
            outputs.extend(self.0.all(vec![step]).await?);
        }
        Ok(outputs)
    }

    async fn hold<T: Send>(&self, entities: Vec<EntityId>, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        self.0.hold(entities, work).await
    }

    async fn call<I: Serialize + Send + Sync, O: DeserializeOwned + Send + 'static>(
        &self,
        operation: &str,
        calls: Vec<(EntityId, I)>,
    ) -> Result<Vec<O>> {
        self.0.call(operation, calls).await
    }

    async fn persist<S: Step>(&self, step: S, limit: Option<Duration>) -> Result<S::Output> {
        self.0.persist(step, limit).await
    }

    async fn both<A: Send, B: Send>(
        &self,
        a: impl Future<Output = A> + Send,
        b: impl Future<Output = B> + Send,
    ) -> (A, B) {
        (a.await, b.await)
    }

    fn restart<I: Serialize>(&self, input: &I) -> Result<()> {
        self.0.restart(input)
    }
}
