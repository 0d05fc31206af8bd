//! Durable entities: small stateful objects whose operations run one at a time. What is here is for who writes an
//! entity; running a batch of operations is in `batch`. This module must never talk to a hub.

mod batch;
mod id;

use std::time::SystemTime;

use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

pub(crate) use batch::{DynEntity, EntityHost, run_batch, to_batch};
pub use id::{EntityId, ParseEntityIdError};

use crate::failure::Failure;
use crate::json;
use crate::proto;
use crate::proto::operation_action::OperationActionType;
use crate::time;

/// An object with a durable state and operations on it.
///
/// The hub runs the operations of one entity one after another, never two at a time, and records the new state together
/// with the results and the messages. An operation that fails (or panics) leaves no trace: its changes of the state and
/// its messages are undone.
///
/// ```
/// use seriatim_durable::{Entity, EntityContext, Failure, Operation};
///
/// struct Counter;
///
/// impl Entity for Counter {
///     type State = i64;
///
///     fn operation(&mut self, _: &mut EntityContext, state: &mut i64, op: &Operation) -> Result<serde_json::Value, Failure> {
///         match op.name() {
///             "add" => *state += op.input::<i64>()?,
///             "get" => {}
///             _ => return Err(op.not_supported()),
///         }
///         op.reply(state)
///     }
/// }
/// ```
pub trait Entity: Send + 'static {
    /// What is kept. An entity that has no state yet starts with the default.
    type State: Serialize + DeserializeOwned + Default + Send;

    /// Runs one operation. It is synchronous and should be short: who needs I/O starts an orchestration.
    ///
    /// For names that it does not know it returns [`Operation::not_supported`]; the operation `delete` then deletes the
    /// state, so that every entity can be deleted.
    fn operation(
        &mut self,
        context: &mut EntityContext,
        state: &mut Self::State,
        operation: &Operation,
    ) -> Result<serde_json::Value, Failure>;
}

/// One operation that an entity is asked to run.
#[derive(Debug, Clone)]
pub struct Operation {
    name: String,
    input: Option<String>,
}

impl Operation {
    /// An operation by name, with its input as JSON.
    pub fn new(name: impl Into<String>, input: Option<String>) -> Self {
        Self { name: name.into(), input }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its input; an absent one reads as `null`.
    pub fn input<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        json::read(self.input.as_deref(), || {
            format!("the input of operation \"{}\" does not have the expected shape", self.name)
        })
    }

    /// The result of this operation.
    pub fn reply(&self, value: &(impl Serialize + ?Sized)) -> Result<serde_json::Value, Failure> {
        serde_json::to_value(value).map_err(|error| {
            Failure::serialization(
                &format!("the result of operation \"{}\" cannot be written as JSON", self.name),
                &error,
            )
        })
    }

    /// The failure for a name that the entity does not know.
    pub fn not_supported(&self) -> Failure {
        Failure::non_retriable(
            Failure::OPERATION_NOT_SUPPORTED,
            format!("this entity has no operation named \"{}\"", self.name),
        )
    }
}

/// What an entity's operation can see and do beside its state.
#[derive(Debug)]
pub struct EntityContext {
    id: EntityId,
    now: SystemTime,
    actions: Vec<OperationActionType>,
    delete: bool,
}

impl EntityContext {
    pub(crate) fn new(id: EntityId, now: SystemTime) -> Self {
        Self { id, now, actions: Vec::new(), delete: false }
    }

    /// The entity that runs.
    pub fn id(&self) -> &EntityId {
        &self.id
    }

    /// The time at which this operation began.
    pub fn now(&self) -> SystemTime {
        self.now
    }

    /// Deletes the state when this operation ends well.
    pub fn delete_state(&mut self) {
        self.delete = true;
    }

    /// Sends an operation to another entity (or to itself, for later).
    pub fn signal_entity(
        &mut self,
        target: &EntityId,
        operation: &str,
        input: &(impl Serialize + ?Sized),
    ) -> Result<(), Failure> {
        self.signal(target, operation, input, None)
    }

    /// As [`signal_entity`](Self::signal_entity), delivered at a given time.
    pub fn signal_entity_at(
        &mut self,
        target: &EntityId,
        operation: &str,
        input: &(impl Serialize + ?Sized),
        when: SystemTime,
    ) -> Result<(), Failure> {
        self.signal(target, operation, input, Some(when))
    }

    fn signal(
        &mut self,
        target: &EntityId,
        operation: &str,
        input: &(impl Serialize + ?Sized),
        when: Option<SystemTime>,
    ) -> Result<(), Failure> {
        let input = json::write(input, || format!("the input of operation \"{operation}\" of entity {target}"))?;
        self.actions.push(OperationActionType::SendSignal(proto::SendSignalAction {
            instance_id: target.to_string(),
            name: operation.to_owned(),
            input: Some(input),
            scheduled_time: when.map(time::to_timestamp),
            request_time: Some(time::to_timestamp(self.now)),
            parent_trace_context: None,
        }));
        Ok(())
    }

    /// Starts an orchestration and returns its instance id: the given one, or a new one.
    pub fn start_orchestration(
        &mut self,
        name: &str,
        instance_id: Option<&str>,
        input: &(impl Serialize + ?Sized),
    ) -> Result<String, Failure> {
        let input = json::write(input, || format!("the input of orchestration \"{name}\""))?;
        let instance_id = instance_id.map_or_else(|| Uuid::new_v4().as_simple().to_string(), str::to_owned);
        self.actions.push(OperationActionType::StartNewOrchestration(proto::StartNewOrchestrationAction {
            instance_id: instance_id.clone(),
            name: name.to_owned(),
            version: None,
            input: Some(input),
            scheduled_time: None,
            request_time: Some(time::to_timestamp(self.now)),
            parent_trace_context: None,
        }));
        Ok(instance_id)
    }
}
