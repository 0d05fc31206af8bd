//! What a client sees of an orchestration or an entity, in the standard library's types. This module must never ask a
//! hub: it only reads what one has answered.

use std::collections::HashMap;
use std::fmt;
use std::time::SystemTime;

use serde::de::DeserializeOwned;

use crate::entity::EntityId;
use crate::failure::Failure;
use crate::json;
use crate::proto;
use crate::time;

/// Where an orchestration stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OrchestrationStatus {
    /// Started, and no turn was taken yet.
    Pending,
    /// Running, or waiting for something.
    Running,
    /// Suspended by a client: it takes no turns until it is resumed.
    Suspended,
    /// About to begin again with a new input.
    ContinuedAsNew,
    /// Ended with an output.
    Completed,
    /// Ended with a failure.
    Failed,
    /// Ended by a client, or by its parent.
    Terminated,
    /// Ended before it began.
    Canceled,
}

impl OrchestrationStatus {
    /// Whether it has ended and will not change any more.
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Terminated | Self::Canceled)
    }
}

impl fmt::Display for OrchestrationStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Suspended => "suspended",
            Self::ContinuedAsNew => "continued as new",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Terminated => "terminated",
            Self::Canceled => "canceled",
        })
    }
}

impl From<proto::OrchestrationStatus> for OrchestrationStatus {
    fn from(status: proto::OrchestrationStatus) -> Self {
        match status {
            proto::OrchestrationStatus::Running => Self::Running,
            proto::OrchestrationStatus::Completed => Self::Completed,
            proto::OrchestrationStatus::ContinuedAsNew => Self::ContinuedAsNew,
            proto::OrchestrationStatus::Failed => Self::Failed,
            proto::OrchestrationStatus::Canceled => Self::Canceled,
            proto::OrchestrationStatus::Terminated => Self::Terminated,
            proto::OrchestrationStatus::Pending => Self::Pending,
            proto::OrchestrationStatus::Suspended => Self::Suspended,
        }
    }
}

impl From<OrchestrationStatus> for proto::OrchestrationStatus {
    fn from(status: OrchestrationStatus) -> Self {
        match status {
            OrchestrationStatus::Running => Self::Running,
            OrchestrationStatus::Completed => Self::Completed,
            OrchestrationStatus::ContinuedAsNew => Self::ContinuedAsNew,
            OrchestrationStatus::Failed => Self::Failed,
            OrchestrationStatus::Canceled => Self::Canceled,
            OrchestrationStatus::Terminated => Self::Terminated,
            OrchestrationStatus::Pending => Self::Pending,
            OrchestrationStatus::Suspended => Self::Suspended,
        }
    }
}

/// What a hub knows of one orchestration.
#[derive(Debug, Clone, PartialEq)]
pub struct OrchestrationState {
    /// Its id.
    pub instance_id: String,
    /// The orchestration's name.
    pub name: String,
    /// The version it was started with.
    pub version: Option<String>,
    /// Where it stands.
    pub status: OrchestrationStatus,
    /// When it was started.
    pub created_at: Option<SystemTime>,
    /// When it last changed.
    pub updated_at: Option<SystemTime>,
    /// When it ended.
    pub completed_at: Option<SystemTime>,
    /// When it shall start, if it was scheduled for later.
    pub scheduled_at: Option<SystemTime>,
    /// Its input as JSON, if the inputs and outputs were asked for.
    pub serialized_input: Option<String>,
    /// Its output as JSON, if it has one and the inputs and outputs were asked for.
    pub serialized_output: Option<String>,
    /// Its custom status as JSON.
    pub serialized_custom_status: Option<String>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// The execution that is current.
    pub execution_id: Option<String>,
    /// The instance that called it as a sub-orchestration.
    pub parent_instance_id: Option<String>,
    /// Its tags.
    pub tags: HashMap<String, String>,
}

impl OrchestrationState {
    /// The input that it was started with.
    pub fn input<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        json::read(self.serialized_input.as_deref(), || {
            format!("the input of instance \"{}\" does not have the expected shape", self.instance_id)
        })
    }

    /// Its output if it completed; its failure if it failed; otherwise a failure that says where it stands.
    pub fn output<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        match self.status {
            OrchestrationStatus::Completed => json::read(self.serialized_output.as_deref(), || {
                format!("the output of instance \"{}\" does not have the expected shape", self.instance_id)
            }),
            OrchestrationStatus::Failed => Err(self.failure.clone().unwrap_or_else(|| Failure::from(None))),
            status => Err(Failure::new(
                "NotCompleted",
                format!("instance \"{}\" has no output: it is {status}", self.instance_id),
            )),
        }
    }

    /// The status of its own that it has set; `None` if it never has.
    pub fn custom_status<T: DeserializeOwned>(&self) -> Result<Option<T>, Failure> {
        self.serialized_custom_status
            .as_deref()
            .map(|text| {
                json::read(Some(text), || {
                    format!("the custom status of instance \"{}\" does not have the expected shape", self.instance_id)
                })
            })
            .transpose()
    }
}

impl From<proto::OrchestrationState> for OrchestrationState {
    fn from(state: proto::OrchestrationState) -> Self {
        let when = |timestamp: &Option<prost_types::Timestamp>| timestamp.as_ref().map(time::to_system_time);
        Self {
            status: state.orchestration_status().into(),
            created_at: when(&state.created_timestamp),
            updated_at: when(&state.last_updated_timestamp),
            completed_at: when(&state.completed_timestamp),
            scheduled_at: when(&state.scheduled_start_timestamp),
            instance_id: state.instance_id,
            name: state.name,
            version: state.version,
            serialized_input: state.input,
            serialized_output: state.output,
            serialized_custom_status: state.custom_status,
            failure: state.failure_details.map(Failure::from),
            execution_id: state.execution_id,
            parent_instance_id: state.parent_instance_id,
            tags: state.tags,
        }
    }
}

/// What a hub knows of one entity.
#[derive(Debug, Clone, PartialEq)]
pub struct EntityState<S> {
    /// Its id.
    pub id: EntityId,
    /// When it last changed.
    pub updated_at: Option<SystemTime>,
    /// How many operations wait for it.
    pub backlog: usize,
    /// The orchestration that holds its lock.
    pub locked_by: Option<String>,
    /// Its state; `None` if it has none, or if states were not asked for.
    pub state: Option<S>,
}

impl<S: DeserializeOwned> EntityState<S> {
    pub(crate) fn from_proto(entity: proto::EntityMetadata) -> Result<Self, Failure> {
        let id: EntityId = entity.instance_id.parse().map_err(|error| Failure::from_error(&error))?;
        let state = entity
            .serialized_state
            .filter(|text| !text.is_empty())
            .map(|text| {
                json::read(Some(&text), || format!("the state of entity {id} does not have the expected shape"))
            })
            .transpose()?;
        Ok(Self {
            id,
            updated_at: entity.last_modified_time.as_ref().map(time::to_system_time),
            backlog: usize::try_from(entity.backlog_queue_size).unwrap_or(0),
            locked_by: entity.locked_by,
            state,
        })
    }
}
