//! Recorded against attempted: what the code asked for, in the few words that must not change between two replays, and
//! the error that shows the difference when they do. This module must never change the state of an execution.

use std::fmt;

use crate::failure::Failure;
use crate::proto;
use crate::proto::history_event::EventType;
use crate::proto::orchestrator_action::OrchestratorActionType;
use crate::proto::send_entity_message_action::EntityMessageType;

/// The kinds of things that an orchestrator can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Activity,
    SubOrchestration,
    Timer,
    Event,
    EntityCall,
    EntitySignal,
    LockRequest,
    Unlock,
    End,
}

/// What must be equal between the recorded and the attempted: kind, name and target. Inputs, times and tags may differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) kind: Kind,
    pub(crate) name: Option<String>,
    pub(crate) target: Option<String>,
}

impl Described {
    fn new(kind: Kind, name: Option<&str>, target: Option<&str>) -> Self {
        Self { kind, name: name.map(str::to_owned), target: target.map(str::to_owned) }
    }

    /// What a recorded event confirms; `None` for events that confirm no action.
    pub(crate) fn recorded(event: &EventType) -> Option<Self> {
        Some(match event {
            EventType::TaskScheduled(e) => Self::new(Kind::Activity, Some(&e.name), None),
            EventType::SubOrchestrationInstanceCreated(e) => {
                Self::new(Kind::SubOrchestration, Some(&e.name), Some(&e.instance_id))
            }
            EventType::TimerCreated(_) => Self::new(Kind::Timer, None, None),
            EventType::EventSent(e) => Self::new(Kind::Event, Some(&e.name), Some(&e.instance_id)),
            EventType::EntityOperationCalled(e) => Self::called(e),
            EventType::EntityOperationSignaled(e) => Self::signaled(e),
            EventType::EntityLockRequested(e) => Self::lock(e),
            EventType::EntityUnlockSent(e) => Self::unlock(e),
            _ => return None,
        })
    }

    /// What an action asks for.
    pub(crate) fn attempted(action: &OrchestratorActionType) -> Self {
        match action {
            OrchestratorActionType::ScheduleTask(a) => Self::new(Kind::Activity, Some(&a.name), None),
            OrchestratorActionType::CreateSubOrchestration(a) => {
                Self::new(Kind::SubOrchestration, Some(&a.name), Some(&a.instance_id))
            }
            OrchestratorActionType::CreateTimer(_) => Self::new(Kind::Timer, None, None),
            OrchestratorActionType::SendEvent(a) => {
                let target = a.instance.as_ref().map(|instance| instance.instance_id.as_str());
                Self::new(Kind::Event, Some(&a.name), target)
            }
            OrchestratorActionType::SendEntityMessage(a) => match &a.entity_message_type {
                Some(EntityMessageType::EntityOperationCalled(e)) => Self::called(e),
                Some(EntityMessageType::EntityOperationSignaled(e)) => Self::signaled(e),
                Some(EntityMessageType::EntityLockRequested(e)) => Self::lock(e),
                Some(EntityMessageType::EntityUnlockSent(e)) => Self::unlock(e),
                None => Self::new(Kind::EntitySignal, None, None),
            },
            OrchestratorActionType::CompleteOrchestration(a) => Self::end(a.orchestration_status()),
            OrchestratorActionType::TerminateOrchestration(_) | OrchestratorActionType::RewindOrchestration(_) => {
                Self::new(Kind::End, None, None)
            }
        }
    }

    /// The end of the orchestration.
    pub(crate) fn end(status: proto::OrchestrationStatus) -> Self {
        let name = status.as_str_name().trim_start_matches("ORCHESTRATION_STATUS_");
        Self::new(Kind::End, Some(name), None)
    }

    fn called(e: &proto::EntityOperationCalledEvent) -> Self {
        Self::new(Kind::EntityCall, Some(&e.operation), e.target_instance_id.as_deref())
    }

    fn signaled(e: &proto::EntityOperationSignaledEvent) -> Self {
        Self::new(Kind::EntitySignal, Some(&e.operation), e.target_instance_id.as_deref())
    }

    fn lock(e: &proto::EntityLockRequestedEvent) -> Self {
        Self::new(Kind::LockRequest, None, Some(&e.lock_set.join(", ")))
    }

    fn unlock(e: &proto::EntityUnlockSentEvent) -> Self {
        Self::new(Kind::Unlock, None, e.target_instance_id.as_deref())
    }

    /// The first field that differs from the attempt, as a word for people; `None` if they agree.
    pub(crate) fn difference(&self, attempted: &Self) -> Option<&'static str> {
        if self.kind != attempted.kind {
            return Some("kind");
        }
        // Names of events mean the same in any case, everywhere in the protocol.
        let same_name = match (&self.name, &attempted.name) {
            (Some(a), Some(b)) if self.kind == Kind::Event => a.eq_ignore_ascii_case(b),
            (a, b) => a == b,
        };
        if !same_name {
            return Some(match self.kind {
                Kind::EntityCall | Kind::EntitySignal => "operation",
                _ => "name",
            });
        }
        (self.target != attempted.target).then_some(match self.kind {
            Kind::SubOrchestration | Kind::Event => "instance id",
            Kind::LockRequest => "set of locked entities",
            _ => "entity",
        })
    }
}

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_deref().unwrap_or("?");
        let target = self.target.as_deref().unwrap_or("?");
        match self.kind {
            Kind::Activity => write!(f, "activity \"{name}\""),
            Kind::SubOrchestration => write!(f, "sub-orchestration \"{name}\" with instance id \"{target}\""),
            Kind::Timer => f.write_str("a timer"),
            Kind::Event => write!(f, "event \"{name}\" to instance \"{target}\""),
            Kind::EntityCall => write!(f, "call of operation \"{name}\" on entity {target}"),
            Kind::EntitySignal => write!(f, "signal of operation \"{name}\" to entity {target}"),
            Kind::LockRequest => write!(f, "request to lock {target}"),
            Kind::Unlock => write!(f, "unlock of entity {target}"),
            Kind::End => write!(f, "the end of the orchestration as {name}"),
        }
    }
}

/// The failure of code that does not fit its history.
///
/// Either side may be absent: then the history has nothing there, or the code asked for nothing.
pub(crate) fn mismatch(
    instance: &str,
    id: i32,
    recorded: Option<&Described>,
    attempted: Option<&Described>,
) -> Failure {
    let (field, what) = match (recorded, attempted) {
        (Some(recorded), Some(attempted)) => {
            let field = recorded.difference(attempted).unwrap_or("place");
            (field, format!("recorded {recorded}, attempted {attempted}; the {field} differs"))
        }
        (Some(recorded), None) => ("presence", format!("recorded {recorded}, attempted nothing")),
        (None, Some(attempted)) => ("presence", format!("recorded nothing, attempted {attempted}")),
        (None, None) => ("presence", "recorded nothing, attempted nothing".to_owned()),
    };
    Failure::non_retriable(
        Failure::NON_DETERMINISTIC,
        format!(
            "the orchestrator of instance \"{instance}\" does not fit its history at action {id}: {what}. Either its \
             code has changed since this instance started, or it depends on something that is not recorded (a clock, \
             random numbers, I/O, the order of a hash map). Run this instance with the code that it started with, or \
             start a new one."
        ),
    )
    .with_property("actionId", id)
    .with_property("recorded", recorded.map(ToString::to_string))
    .with_property("attempted", attempted.map(ToString::to_string))
    .with_property("field", field)
}

/// The failure of an orchestrator that waits for something which no event of its history can bring.
pub(crate) fn foreign_wait(instance: &str) -> Failure {
    Failure::non_retriable(
        Failure::NON_DETERMINISTIC,
        format!(
            "the orchestrator of instance \"{instance}\" waits for something that is not a durable task (a runtime's \
             timer or channel, I/O, a busy loop): a replay could not repeat it. Move it into an activity."
        ),
    )
}
