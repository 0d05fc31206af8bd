//! What an orchestrator function can do: [`OrchestrationContext`]. Every method records its action at the moment it is
//! called, in program order, and returns a future for the outcome. This module must never look at history: the
//! execution does.

use std::collections::HashMap;
use std::future::Future;
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use futures::future::{self, Either};
use futures::stream::FuturesUnordered;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::core::{Continuation, Shared};
use super::retry::{Attempts, RetryPolicy};
use super::section::LockRequest;
use super::task::{Cell, Task, Timer};
use crate::entity::EntityId;
use crate::failure::Failure;
use crate::json;
use crate::proto;
use crate::proto::orchestrator_action::OrchestratorActionType;
use crate::time;

/// How an activity is called.
#[derive(Debug, Clone, Default)]
pub struct ActivityOptions {
    /// How often it is tried again when it fails; `None`: never.
    pub retry: Option<RetryPolicy>,
    /// Tags that the hub keeps with the task.
    pub tags: HashMap<String, String>,
    /// The version of the activity, for workers that serve several.
    pub version: Option<String>,
}

/// How a sub-orchestration is called.
#[derive(Debug, Clone, Default)]
pub struct SubOrchestrationOptions {
    /// Its instance id; `None`: one is derived from the parent's, a new one for each attempt.
    pub instance_id: Option<String>,
    /// How often it is tried again when it fails; `None`: never.
    pub retry: Option<RetryPolicy>,
    /// Tags of the new instance.
    pub tags: HashMap<String, String>,
    /// The version of the orchestration.
    pub version: Option<String>,
}

/// What an orchestrator function can see and do. Cheap to clone; all clones are the same.
///
/// An orchestrator's code runs again and again over the same history, and must do the same each time: it takes the time
/// from [`now`](Self::now), ids from [`new_guid`](Self::new_guid), does its I/O in activities, and waits for nothing but
/// the futures that come from this context. Combine them with [`all`](Self::all), [`race`](Self::race) or the
/// combinators of `futures` that poll in a fixed order (`join`, `join_all`, `select`, `FuturesUnordered`); the macros
/// `tokio::select!` (without `biased`) and `futures::select!` draw random numbers and are not for here.
#[derive(Debug, Clone)]
pub struct OrchestrationContext {
    core: Shared,
}

impl OrchestrationContext {
    pub(crate) fn new(core: Shared) -> Self {
        Self { core }
    }

    /// The id of this instance.
    pub fn instance_id(&self) -> String {
        self.core.lock().instance_id.clone()
    }

    /// The id of this execution: it changes when the instance continues as new. Empty if the hub gives none.
    pub fn execution_id(&self) -> String {
        self.core.lock().execution_id.clone()
    }

    /// The name under which this orchestration was started.
    pub fn name(&self) -> String {
        self.core.lock().name.clone()
    }

    /// The version that it was started with.
    pub fn version(&self) -> Option<String> {
        self.core.lock().version.clone()
    }

    /// The instance that called this one as a sub-orchestration.
    pub fn parent_instance_id(&self) -> Option<String> {
        self.core.lock().parent_instance_id.clone()
    }

    /// The trace that this orchestration was started in, as W3C `traceparent`. Its activities and sub-orchestrations
    /// are part of it without further ado.
    pub fn trace_parent(&self) -> Option<String> {
        self.core.lock().trace.as_ref().map(|trace| trace.trace_parent.clone())
    }

    /// Whether the code runs over what is recorded already: then say nothing to people, they have heard it.
    pub fn is_replaying(&self) -> bool {
        self.core.lock().replaying
    }

    /// The time at which the current turn began: the same in every replay.
    pub fn now(&self) -> SystemTime {
        time::to_system_time(&self.core.lock().now)
    }

    /// A new unique id: the same in every replay.
    pub fn new_guid(&self) -> Uuid {
        self.core.lock().new_guid()
    }

    /// Calls an activity.
    pub fn call_activity<O: DeserializeOwned>(&self, name: &str, input: &(impl Serialize + ?Sized)) -> Task<O> {
        self.call_activity_with(name, input, ActivityOptions::default())
    }

    /// Calls an activity with a retry policy, tags or a version.
    pub fn call_activity_with<O: DeserializeOwned>(
        &self,
        name: &str,
        input: &(impl Serialize + ?Sized),
        options: ActivityOptions,
    ) -> Task<O> {
        let what = || format!("activity \"{name}\"");
        let input = match json::write(input, || format!("the input of {}", what())) {
            Ok(input) => input,
            Err(failure) => return Task::failed(failure),
        };
        let parent_trace_context = self.core.lock().trace.clone();
        let action = OrchestratorActionType::ScheduleTask(proto::ScheduleTaskAction {
            name: name.to_owned(),
            version: options.version,
            input: Some(input),
            tags: options.tags,
            parent_trace_context,
        });
        let mut core = self.core.lock();
        let attempts = options.retry.map(|policy| Attempts::new(policy, core.now));
        Task::new(core.start_task(action, attempts), what())
    }

    /// Calls another orchestration and waits for its output. Without an instance id, one is derived.
    pub fn call_sub_orchestration<O: DeserializeOwned>(
        &self,
        name: &str,
        instance_id: Option<&str>,
        input: &(impl Serialize + ?Sized),
    ) -> Task<O> {
        let instance_id = instance_id.map(str::to_owned);
        self.call_sub_orchestration_with(name, input, SubOrchestrationOptions { instance_id, ..Default::default() })
    }

    /// Calls another orchestration with a retry policy, tags or a version. Not allowed inside a critical section.
    pub fn call_sub_orchestration_with<O: DeserializeOwned>(
        &self,
        name: &str,
        input: &(impl Serialize + ?Sized),
        options: SubOrchestrationOptions,
    ) -> Task<O> {
        let what = || format!("sub-orchestration \"{name}\"");
        let input = match json::write(input, || format!("the input of {}", what())) {
            Ok(input) => input,
            Err(failure) => return Task::failed(failure),
        };
        let parent_trace_context = self.core.lock().trace.clone();
        let action = OrchestratorActionType::CreateSubOrchestration(proto::CreateSubOrchestrationAction {
            instance_id: options.instance_id.unwrap_or_default(),
            name: name.to_owned(),
            version: options.version,
            input: Some(input),
            parent_trace_context,
            tags: options.tags,
        });
        let mut core = self.core.lock();
        if let Err(failure) = core.sections.check_sub_orchestration(name) {
            return Task::failed(failure);
        }
        let attempts = options.retry.map(|policy| Attempts::new(policy, core.now));
        Task::new(core.start_task(action, attempts), what())
    }

    /// A durable timer that is over after `wait`, counted from [`now`](Self::now).
    pub fn timer(&self, wait: Duration) -> Timer {
        let mut core = self.core.lock();
        let fire_at = time::later(&core.now, wait);
        Timer::new(core.start_timer(fire_at))
    }

    /// A durable timer that is over at `when`; one in the past is over at the next turn.
    pub fn timer_at(&self, when: SystemTime) -> Timer {
        Timer::new(self.core.lock().start_timer(time::to_timestamp(when)))
    }

    /// Waits for an event of this name (in upper or lower case). Events that came before are kept and served in order.
    pub fn external_event<T: DeserializeOwned>(&self, name: &str) -> Task<T> {
        let cell = Cell::new();
        self.core.lock().events.wait(name, &cell);
        Task::for_event(cell, self.core.clone(), name)
    }

    /// Sends an event to another orchestration. Fails only if `data` cannot be written as JSON.
    pub fn send_event(&self, instance_id: &str, name: &str, data: &(impl Serialize + ?Sized)) -> Result<(), Failure> {
        let data = json::write(data, || format!("the data of event \"{name}\""))?;
        self.core.lock().send_event(instance_id, name, data);
        Ok(())
    }

    /// Calls an operation of an entity and waits for its result.
    pub fn call_entity<O: DeserializeOwned>(
        &self,
        entity: &EntityId,
        operation: &str,
        input: &(impl Serialize + ?Sized),
    ) -> Task<O> {
        let what = || format!("operation \"{operation}\" of entity {entity}");
        let input = match json::write(input, || format!("the input of {}", what())) {
            Ok(input) => input,
            Err(failure) => return Task::failed(failure),
        };
        let mut core = self.core.lock();
        match core.sections.check_call(entity) {
            Ok(()) => Task::new(core.call_entity(entity, operation, input), what()),
            Err(failure) => Task::failed(failure),
        }
    }

    /// Sends an operation to an entity without waiting. Fails if the entity is locked by this orchestration, or if
    /// the input cannot be written as JSON.
    pub fn signal_entity(
        &self,
        entity: &EntityId,
        operation: &str,
        input: &(impl Serialize + ?Sized),
    ) -> Result<(), Failure> {
        self.signal(entity, operation, input, None)
    }

    /// As [`signal_entity`](Self::signal_entity), delivered at a given time.
    pub fn signal_entity_at(
        &self,
        entity: &EntityId,
        operation: &str,
        input: &(impl Serialize + ?Sized),
        when: SystemTime,
    ) -> Result<(), Failure> {
        self.signal(entity, operation, input, Some(when))
    }

    fn signal(
        &self,
        entity: &EntityId,
        operation: &str,
        input: &(impl Serialize + ?Sized),
        when: Option<SystemTime>,
    ) -> Result<(), Failure> {
        let input = json::write(input, || format!("the input of operation \"{operation}\" of entity {entity}"))?;
        let mut core = self.core.lock();
        core.sections.check_signal(entity)?;
        core.signal_entity(entity, operation, input, when.map(time::to_timestamp));
        Ok(())
    }

    /// Requests the locks of all these entities at once; ready when all are held. They are sorted and made distinct, so
    /// the order does not matter. The locks are released with the guard, or when the orchestration ends.
    pub fn lock_entities(&self, entities: &[EntityId]) -> LockRequest {
        let mut locks = entities.to_vec();
        locks.sort_unstable();
        locks.dedup();
        if locks.is_empty() {
            return LockRequest::refused(Failure::non_retriable(
                Failure::CRITICAL_SECTION,
                "a critical section needs at least one entity to lock",
            ));
        }
        let mut core = self.core.lock();
        if let Err(failure) = core.sections.check_lock() {
            return LockRequest::refused(failure);
        }
        let (cell, action) = core.request_locks(locks);
        LockRequest::new(cell, self.core.clone(), action)
    }

    /// Ends this execution and begins a new one of the same instance with this input and an empty history, as soon as
    /// the function returns `Ok` (its output is then ignored) or waits for something. If it returns `Err`, the
    /// orchestration fails instead. With `keep_events`, external events that nobody waited for move on to the new
    /// execution; without, they are dropped.
    pub fn continue_as_new(&self, input: &(impl Serialize + ?Sized), keep_events: bool) -> Result<(), Failure> {
        let input = json::write(input, || "the input to continue with".to_owned())?;
        self.core.lock().continuation = Some(Continuation { input, keep_events });
        Ok(())
    }

    /// Shows a status of one's own to who asks the hub about this instance.
    pub fn set_custom_status(&self, status: &(impl Serialize + ?Sized)) -> Result<(), Failure> {
        let status = json::write(status, || "the custom status".to_owned())?;
        self.core.lock().custom_status = Some(status);
        Ok(())
    }

    /// Waits until **all** tasks have ended, and gives their outputs in the order of the tasks. If any failed: the
    /// failure that is first in history, still only after all have ended, so that no work of this group is running any
    /// more when the caller cleans up. The cost is proportional to the number of tasks.
    pub fn all<O>(&self, tasks: Vec<Task<O>>) -> impl Future<Output = Result<Vec<O>, Failure>> + Send + use<O>
    where
        O: DeserializeOwned + Send + 'static,
    {
        join(tasks, false)
    }

    /// As [`all`](Self::all), but the first failure is returned at once, while other tasks may still be running.
    pub fn all_or_first_failure<O>(
        &self,
        tasks: Vec<Task<O>>,
    ) -> impl Future<Output = Result<Vec<O>, Failure>> + Send + use<O>
    where
        O: DeserializeOwned + Send + 'static,
    {
        join(tasks, true)
    }

    /// Waits for whichever ends first in history; the other is dropped. If both have ended already, the left one wins.
    pub fn race<A, B>(&self, left: A, right: B) -> impl Future<Output = Either<A::Output, B::Output>> + Send + use<A, B>
    where
        A: Future + Unpin + Send,
        B: Future + Unpin + Send,
        A::Output: Send,
        B::Output: Send,
    {
        async move {
            match future::select(left, right).await {
                Either::Left((output, _)) => Either::Left(output),
                Either::Right((output, _)) => Either::Right(output),
            }
        }
    }
}

/// Collects the outcomes as they come. Only tasks that were woken are polled, so n tasks cost n polls, not n * n.
async fn join<O>(tasks: Vec<Task<O>>, at_first_failure: bool) -> Result<Vec<O>, Failure>
where
    O: DeserializeOwned + Send + 'static,
{
    let mut outputs: Vec<Option<O>> = tasks.iter().map(|_| None).collect();
    let mut failure = None;
    let mut running: FuturesUnordered<_> =
        tasks.into_iter().enumerate().map(|(index, task)| async move { (index, task.await) }).collect();
    while let Some((index, outcome)) = running.next().await {
        match outcome {
            Ok(output) => outputs[index] = Some(output),
            Err(first) if at_first_failure => return Err(first),
            Err(next) => failure = failure.or(Some(next)),
        }
    }
    match failure {
        Some(failure) => Err(failure),
        None => Ok(outputs.into_iter().flatten().collect()),
    }
}
