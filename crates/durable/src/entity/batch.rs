//! Runs a batch of operations on an entity: state in, state, results and messages out. Both forms in which hubs hand out
//! batches are served. This module must never keep anything of an operation that failed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::SystemTime;

use crate::entity::{Entity, EntityContext, EntityId, Operation};
use crate::failure::Failure;
use crate::json;
use crate::proto;
use crate::proto::history_event::EventType;
use crate::proto::operation_result::ResultType;
use crate::registry::Registry;
use crate::time;

/// An entity with its types erased: it runs one operation over a state as JSON.
pub(crate) trait DynEntity: Send {
    /// Runs the operation. `Ok` holds the result and the new state (`None`: deleted), `Err` leaves the state as it was.
    fn run(
        &mut self,
        context: &mut EntityContext,
        state: Option<&str>,
        operation: &Operation,
    ) -> Result<(Option<String>, Option<String>), Failure>;
}

/// Gives an [`Entity`] its state in the shape that it wants.
///
/// The value of the state is kept from one operation of a batch to the next, and dropped when one fails: it is then read
/// again from the text that the last good operation left.
pub(crate) struct EntityHost<E: Entity> {
    entity: E,
    state: Option<E::State>,
}

impl<E: Entity> EntityHost<E> {
    pub(crate) fn new(entity: E) -> Self {
        Self { entity, state: None }
    }
}

impl<E: Entity> DynEntity for EntityHost<E> {
    fn run(
        &mut self,
        context: &mut EntityContext,
        state: Option<&str>,
        operation: &Operation,
    ) -> Result<(Option<String>, Option<String>), Failure> {
        // Taken out: if the operation fails half-way, its changes go with it.
        let kept = self.state.take();
        let mut value = match (state, kept) {
            (Some(_), Some(value)) => value,
            (Some(text), None) => {
                json::read(Some(text), || format!("the state of entity {} has another shape", context.id))?
            }
            (None, _) => E::State::default(),
        };
        let result = match self.entity.operation(context, &mut value, operation) {
            Err(failure) if is_implicit_delete(operation, &failure) => {
                context.delete_state();
                serde_json::Value::Null
            }
            outcome => outcome?,
        };
        let result = json::write(&result, || format!("the result of operation \"{}\"", operation.name()))?;
        if context.delete {
            return Ok((Some(result), None));
        }
        let written = json::write(&value, || format!("the state of entity {}", context.id))?;
        self.state = Some(value);
        Ok((Some(result), Some(written)))
    }
}

fn is_implicit_delete(operation: &Operation, failure: &Failure) -> bool {
    operation.name().eq_ignore_ascii_case("delete") && failure.error_type == Failure::OPERATION_NOT_SUPPORTED
}

/// The newer form of a batch, in which operations are history events, as the older one, with what the hub wants to know
/// about each operation in the answer. Lock requests and unlocks are the hub's own affair: it grants locks itself and
/// never sends them here; if one comes nevertheless, it is no operation and is left out.
pub(crate) fn to_batch(request: proto::EntityRequest) -> (proto::EntityBatchRequest, Vec<proto::OperationInfo>) {
    let mut batch = proto::EntityBatchRequest {
        instance_id: request.instance_id,
        entity_state: request.entity_state,
        ..Default::default()
    };
    let mut infos = Vec::with_capacity(request.operation_requests.len());
    for event in request.operation_requests {
        let (request_id, operation, input, destination) = match event.event_type {
            Some(EventType::EntityOperationCalled(e)) => {
                let caller = proto::OrchestrationInstance {
                    instance_id: e.parent_instance_id.unwrap_or_default(),
                    execution_id: e.parent_execution_id,
                };
                (e.request_id, e.operation, e.input, Some(caller))
            }
            Some(EventType::EntityOperationSignaled(e)) => (e.request_id, e.operation, e.input, None),
            _ => continue,
        };
        infos.push(proto::OperationInfo { request_id: request_id.clone(), response_destination: destination });
        batch.operations.push(proto::OperationRequest { operation, request_id, input, trace_context: None });
    }
    (batch, infos)
}

/// Runs the operations of a batch in order. `clock` says when each begins and ends.
pub(crate) fn run_batch(
    registry: &Registry,
    request: proto::EntityBatchRequest,
    infos: Vec<proto::OperationInfo>,
    clock: fn() -> SystemTime,
) -> proto::EntityBatchResult {
    let mut batch =
        proto::EntityBatchResult { entity_state: request.entity_state, operation_infos: infos, ..Default::default() };
    let mut host = None;
    for operation in request.operations {
        let begin = clock();
        let operation = Operation::new(operation.operation, operation.input);
        let outcome =
            run_one(registry, &request.instance_id, &mut host, batch.entity_state.as_deref(), &operation, begin);
        let (start_time_utc, end_time_utc) = (Some(time::to_timestamp(begin)), Some(time::to_timestamp(clock())));
        let result = match outcome {
            Ok(done) => {
                batch.entity_state = done.state;
                let first = i32::try_from(batch.actions.len()).unwrap_or(i32::MAX);
                batch.actions.extend(
                    (first..)
                        .zip(done.context.actions)
                        .map(|(id, kind)| proto::OperationAction { id, operation_action_type: Some(kind) }),
                );
                let result = done.result;
                ResultType::Success(proto::OperationResultSuccess { result, start_time_utc, end_time_utc })
            }
            Err(failure) => {
                let failure_details = Some(failure.into());
                ResultType::Failure(proto::OperationResultFailure { failure_details, start_time_utc, end_time_utc })
            }
        };
        batch.results.push(proto::OperationResult { result_type: Some(result) });
    }
    batch
}

/// An operation that ended well.
struct Done {
    result: Option<String>,
    state: Option<String>,
    context: EntityContext,
}

fn run_one(
    registry: &Registry,
    instance_id: &str,
    host: &mut Option<Box<dyn DynEntity>>,
    state: Option<&str>,
    operation: &Operation,
    now: SystemTime,
) -> Result<Done, Failure> {
    let id: EntityId = instance_id.parse().map_err(|error| Failure::from_error(&error))?;
    let factory = registry.entity_factory(id.name()).ok_or_else(|| {
        Failure::non_retriable(
            Failure::ENTITY_NOT_REGISTERED,
            format!("this worker has no entity named \"{}\": register it, or call another", id.name()),
        )
    })?;
    let mut context = EntityContext::new(id, now);
    let what = format!("operation \"{}\" of entity {instance_id}", operation.name());
    let mut current = host.take();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let entity = current.get_or_insert_with(|| factory());
        entity.run(&mut context, state, operation)
    }))
    // An object that panicked may be broken inside: it is dropped, and the next operation gets a fresh one.
    .map_err(|panic| Failure::from_panic(&what, panic.as_ref()))?;
    *host = current;
    let (result, state) = outcome?;
    Ok(Done { result, state, context })
}
