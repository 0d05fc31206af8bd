//! What a program does with durable code from outside: start orchestrations, look at them, talk to them. This module
//! must never run any of it: a worker does.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::entity::EntityId;
use crate::failure::Failure;
use crate::hub::{HubError, HubResult, TaskHub};
use crate::json;
use crate::proto;
use crate::proto::purge_instances_request::Request as PurgeRequest;
use crate::state::{EntityState, OrchestrationState, OrchestrationStatus};
use crate::time;

/// How an orchestration is started.
#[derive(Debug, Clone, Default)]
pub struct StartOptions {
    /// Its instance id; `None`: a new one.
    pub instance_id: Option<String>,
    /// When it shall start; `None`: now.
    pub start_at: Option<SystemTime>,
    /// Tags that the hub keeps with the instance.
    pub tags: HashMap<String, String>,
    /// The version to start.
    pub version: Option<String>,
    /// The instance id may be taken by an instance with one of these statuses, which is then replaced. `None` leaves it
    /// to the hub; an empty list allows none.
    pub replaceable: Option<Vec<OrchestrationStatus>>,
    /// The trace that it belongs to; its activities and sub-orchestrations then do, too.
    pub trace: Option<proto::TraceContext>,
}

/// Which orchestrations are asked for. What is not set does not filter.
#[derive(Debug, Clone, Default)]
pub struct InstanceFilter {
    /// Only those with one of these statuses; empty: any.
    pub statuses: Vec<OrchestrationStatus>,
    /// Only those created at this time or later.
    pub created_from: Option<SystemTime>,
    /// Only those created at this time or earlier.
    pub created_to: Option<SystemTime>,
    /// Only those whose id begins like this.
    pub id_prefix: Option<String>,
    /// At most so many; `None`: all.
    pub limit: Option<usize>,
    /// Whether inputs and outputs are wanted.
    pub with_inputs_and_outputs: bool,
}

/// Which entities are asked for. What is not set does not filter.
#[derive(Debug, Clone, Default)]
pub struct EntityFilter {
    /// Only those whose id begins like this, for example `@sequence@`.
    pub id_prefix: Option<String>,
    /// Only those changed at this time or later.
    pub updated_from: Option<SystemTime>,
    /// Only those changed at this time or earlier.
    pub updated_to: Option<SystemTime>,
    /// Whether their states are wanted.
    pub with_state: bool,
    /// Whether those without a state count too (locked, or with waiting operations).
    pub with_transient: bool,
}

/// How many instances or entities are read at a time.
const PAGE: i32 = 500;

/// A client of a task hub. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    hub: Arc<dyn TaskHub>,
}

/// A value that cannot be written or read as JSON is the caller's mistake.
fn invalid(failure: Failure) -> HubError {
    HubError::InvalidArgument(failure.message)
}

impl Client {
    /// A client of this hub.
    pub fn new(hub: Arc<dyn TaskHub>) -> Self {
        Self { hub }
    }

    /// The hub that it talks to.
    pub fn hub(&self) -> &Arc<dyn TaskHub> {
        &self.hub
    }

    /// Starts an orchestration and returns its instance id.
    pub async fn start(
        &self,
        name: &str,
        input: &(impl Serialize + ?Sized + Sync),
        options: StartOptions,
    ) -> HubResult<String> {
        let input = json::write(input, || format!("the input of orchestration \"{name}\"")).map_err(invalid)?;
        let policy = options.replaceable.map(|statuses| proto::OrchestrationIdReusePolicy {
            replaceable_status: statuses.into_iter().map(to_proto_status).collect(),
        });
        let request = proto::CreateInstanceRequest {
            instance_id: options.instance_id.unwrap_or_else(|| Uuid::new_v4().as_simple().to_string()),
            name: name.to_owned(),
            version: options.version,
            input: Some(input),
            scheduled_start_timestamp: options.start_at.map(time::to_timestamp),
            orchestration_id_reuse_policy: policy,
            tags: options.tags,
            parent_trace_context: options.trace,
            request_time: Some(time::to_timestamp(SystemTime::now())),
            ..Default::default()
        };
        Ok(self.hub.start_instance(request).await?.instance_id)
    }

    /// What the hub knows of an instance, inputs and outputs included; `None` if there is none.
    pub async fn get(&self, instance_id: &str) -> HubResult<Option<OrchestrationState>> {
        Ok(found(self.hub.get_instance(get_request(instance_id)).await?))
    }

    /// Waits until the instance is no longer pending; `None` if there is none.
    pub async fn wait_for_start(&self, instance_id: &str) -> HubResult<Option<OrchestrationState>> {
        Ok(found(self.hub.wait_for_instance_start(get_request(instance_id)).await?))
    }

    /// Waits until the instance has ended; `None` if there is none.
    pub async fn wait_for_completion(&self, instance_id: &str) -> HubResult<Option<OrchestrationState>> {
        Ok(found(self.hub.wait_for_instance_completion(get_request(instance_id)).await?))
    }

    /// Delivers an event to an instance.
    pub async fn raise_event(
        &self,
        instance_id: &str,
        name: &str,
        data: &(impl Serialize + ?Sized + Sync),
    ) -> HubResult<()> {
        let input = json::write(data, || format!("the data of event \"{name}\"")).map_err(invalid)?;
        let request =
            proto::RaiseEventRequest { instance_id: instance_id.to_owned(), name: name.to_owned(), input: Some(input) };
        self.hub.raise_event(request).await.map(|_| ())
    }

    /// Ends an instance, with `reason` as its output; with `recursive`, the sub-orchestrations it started too.
    pub async fn terminate(&self, instance_id: &str, reason: Option<&str>, recursive: bool) -> HubResult<()> {
        let output = reason.map(|reason| serde_json::Value::from(reason).to_string());
        let request = proto::TerminateRequest { instance_id: instance_id.to_owned(), output, recursive };
        self.hub.terminate_instance(request).await.map(|_| ())
    }

    /// Stops giving turns to an instance.
    pub async fn suspend(&self, instance_id: &str, reason: Option<&str>) -> HubResult<()> {
        let request = proto::SuspendRequest { instance_id: instance_id.to_owned(), reason: reason.map(str::to_owned) };
        self.hub.suspend_instance(request).await.map(|_| ())
    }

    /// Takes a suspended instance up again.
    pub async fn resume(&self, instance_id: &str, reason: Option<&str>) -> HubResult<()> {
        let request = proto::ResumeRequest { instance_id: instance_id.to_owned(), reason: reason.map(str::to_owned) };
        self.hub.resume_instance(request).await.map(|_| ())
    }

    /// Forgets an ended instance and its history (and those of its sub-orchestrations, with `recursive`); the number
    /// of instances that were forgotten.
    pub async fn purge(&self, instance_id: &str, recursive: bool) -> HubResult<usize> {
        self.purge_by(PurgeRequest::InstanceId(instance_id.to_owned()), recursive).await
    }

    /// Forgets all ended instances that were created in this time and have one of these statuses (empty: any ended).
    pub async fn purge_ended(
        &self,
        created_from: Option<SystemTime>,
        created_to: Option<SystemTime>,
        statuses: &[OrchestrationStatus],
    ) -> HubResult<usize> {
        let filter = proto::PurgeInstanceFilter {
            created_time_from: created_from.map(time::to_timestamp),
            created_time_to: created_to.map(time::to_timestamp),
            runtime_status: statuses.iter().copied().map(to_proto_status).collect(),
            timeout: None,
        };
        self.purge_by(PurgeRequest::PurgeInstanceFilter(filter), false).await
    }

    async fn purge_by(&self, request: PurgeRequest, recursive: bool) -> HubResult<usize> {
        let request = proto::PurgeInstancesRequest { request: Some(request), recursive, is_orchestration: true };
        let response = self.hub.purge_instances(request).await?;
        Ok(usize::try_from(response.deleted_instance_count).unwrap_or(0))
    }

    /// The instances that match, in order of id, all pages of them.
    pub async fn query(&self, filter: &InstanceFilter) -> HubResult<Vec<OrchestrationState>> {
        let mut found = Vec::new();
        let mut continuation_token = None;
        loop {
            let left = filter.limit.map(|limit| limit.saturating_sub(found.len()));
            if left == Some(0) {
                return Ok(found);
            }
            let page = left.and_then(|left| i32::try_from(left).ok()).map_or(PAGE, |left| left.min(PAGE));
            let query = proto::InstanceQuery {
                runtime_status: filter.statuses.iter().copied().map(to_proto_status).collect(),
                created_time_from: filter.created_from.map(time::to_timestamp),
                created_time_to: filter.created_to.map(time::to_timestamp),
                max_instance_count: page,
                continuation_token,
                instance_id_prefix: filter.id_prefix.clone(),
                fetch_inputs_and_outputs: filter.with_inputs_and_outputs,
                ..Default::default()
            };
            let response = self.hub.query_instances(proto::QueryInstancesRequest { query: Some(query) }).await?;
            found.extend(response.orchestration_state.into_iter().map(OrchestrationState::from));
            continuation_token = response.continuation_token.filter(|token| !token.is_empty());
            if continuation_token.is_none() {
                return Ok(found);
            }
        }
    }

    /// The committed history of an instance, oldest event first; empty if there is none.
    pub async fn history(&self, instance_id: &str) -> HubResult<Vec<proto::HistoryEvent>> {
        let request = proto::StreamInstanceHistoryRequest { instance_id: instance_id.to_owned(), ..Default::default() };
        self.hub.instance_history(request).await
    }

    /// Sends an operation to an entity without waiting for its result; with `when`, delivered at that time.
    pub async fn signal_entity(
        &self,
        entity: &EntityId,
        operation: &str,
        input: &(impl Serialize + ?Sized + Sync),
        when: Option<SystemTime>,
    ) -> HubResult<()> {
        let input = json::write(input, || format!("the input of operation \"{operation}\" of entity {entity}"));
        let request = proto::SignalEntityRequest {
            instance_id: entity.to_string(),
            name: operation.to_owned(),
            input: Some(input.map_err(invalid)?),
            request_id: Uuid::new_v4().to_string(),
            scheduled_time: when.map(time::to_timestamp),
            parent_trace_context: None,
            request_time: Some(time::to_timestamp(SystemTime::now())),
        };
        self.hub.signal_entity(request).await.map(|_| ())
    }

    /// What the hub knows of an entity, its state included; `None` if there is none.
    pub async fn get_entity<S: DeserializeOwned>(&self, entity: &EntityId) -> HubResult<Option<EntityState<S>>> {
        let request = proto::GetEntityRequest { instance_id: entity.to_string(), include_state: true };
        let response = self.hub.get_entity(request).await?;
        let found = response.entity.filter(|_| response.exists);
        found.map(EntityState::from_proto).transpose().map_err(invalid)
    }

    /// The entities that match, in order of id, all pages of them. `S` is [`serde_json::Value`] if their states differ.
    pub async fn query_entities<S: DeserializeOwned>(&self, filter: &EntityFilter) -> HubResult<Vec<EntityState<S>>> {
        let mut found = Vec::new();
        let mut continuation_token = None;
        loop {
            let query = proto::EntityQuery {
                instance_id_starts_with: filter.id_prefix.clone(),
                last_modified_from: filter.updated_from.map(time::to_timestamp),
                last_modified_to: filter.updated_to.map(time::to_timestamp),
                include_state: filter.with_state,
                include_transient: filter.with_transient,
                page_size: Some(PAGE),
                continuation_token,
            };
            let response = self.hub.query_entities(proto::QueryEntitiesRequest { query: Some(query) }).await?;
            for entity in response.entities {
                found.push(EntityState::from_proto(entity).map_err(invalid)?);
            }
            continuation_token = response.continuation_token.filter(|token| !token.is_empty());
            if continuation_token.is_none() {
                return Ok(found);
            }
        }
    }
}

fn get_request(instance_id: &str) -> proto::GetInstanceRequest {
    proto::GetInstanceRequest { instance_id: instance_id.to_owned(), get_inputs_and_outputs: true }
}

fn found(response: proto::GetInstanceResponse) -> Option<OrchestrationState> {
    response.orchestration_state.filter(|_| response.exists).map(OrchestrationState::from)
}

fn to_proto_status(status: OrchestrationStatus) -> i32 {
    proto::OrchestrationStatus::from(status).into()
}
