//! What an orchestrator's turn asks for, action by action: each leaves its event in the history (except a termination
//! of another instance, for which the protocol has none) and its effect in the same batch. This module must never
//! carry out a part of a turn whose other part is malformed.

use seriatim_durable::proto;
use seriatim_durable::proto::history_event::EventType;
use seriatim_durable::proto::orchestrator_action::OrchestratorActionType as Action;
use seriatim_durable::proto::send_entity_message_action::EntityMessageType as EntityMessage;

use super::Core;
use super::history::{self, NO_ACTION};
use super::ids::{EntityId, ExecutionNo, InstanceId};
use super::orchestrations::{Instance, check_new_id};
use super::records::{OperationRecord, OrchestrationTimer, TimerKind};
use super::time::Moment;

/// The execution whose turn it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sender<'a> {
    pub(super) id: &'a InstanceId,
    pub(super) execution: ExecutionNo,
}

impl Core {
    /// Checks that every action of a turn can be carried out; the error says which cannot, and why.
    pub(super) fn check_actions(actions: &[proto::OrchestratorAction]) -> Result<(), String> {
        for action in actions {
            let checked = match &action.orchestrator_action_type {
                None => Err("it has no type that this hub knows".to_owned()),
                Some(Action::RewindOrchestration(_)) => {
                    Err("this hub rewinds instances itself, without a turn for it".to_owned())
                }
                Some(Action::ScheduleTask(task)) if task.name.is_empty() => Err("the activity has no name".to_owned()),
                Some(Action::CreateSubOrchestration(sub)) if sub.name.is_empty() => {
                    Err("the sub-orchestration has no name".to_owned())
                }
                Some(Action::CreateSubOrchestration(sub)) if !sub.instance_id.is_empty() => {
                    check_new_id(&sub.instance_id)
                }
                Some(Action::CreateTimer(timer)) if timer.fire_at.is_none() => {
                    Err("the timer has no time to fire at".to_owned())
                }
                Some(Action::SendEntityMessage(message)) => check_entity_message(message),
                Some(_) => Ok(()),
            };
            checked
                .map_err(|wrong| format!("action {} of the orchestrator cannot be carried out: {wrong}", action.id))?;
        }
        Ok(())
    }

    /// Carries out a turn's actions, adds their events to `events`, and returns the completion if there is one. It
    /// comes last whatever its place: what else the turn asked for (an unlock, a signal) still happens.
    pub(super) fn carry_out(
        &mut self,
        id: &InstanceId,
        stamp: Moment,
        actions: Vec<proto::OrchestratorAction>,
        events: &mut Vec<proto::HistoryEvent>,
    ) -> Option<proto::CompleteOrchestrationAction> {
        let execution = self.instances.get(id)?.execution;
        let sender = Sender { id, execution };
        let mut completion = None;
        for action in actions {
            let number = action.id;
            let event = match action.orchestrator_action_type? {
                Action::CompleteOrchestration(complete) => {
                    completion.get_or_insert(complete);
                    continue;
                }
                Action::TerminateOrchestration(terminate) => {
                    let event = proto::ExecutionTerminatedEvent { input: terminate.reason, recurse: terminate.recurse };
                    self.terminate(terminate.instance_id.into(), &event);
                    continue;
                }
                Action::ScheduleTask(task) => self.schedule_task(sender, number, task),
                Action::CreateSubOrchestration(sub) => self.create_sub_orchestration(sender, number, sub),
                Action::CreateTimer(timer) => {
                    let orchestration = OrchestrationTimer { execution: execution.0, timer_id: number };
                    let due = history::moment(timer.fire_at.as_ref());
                    self.add_timer(due, TimerKind::Orchestration(orchestration));
                    EventType::TimerCreated(proto::TimerCreatedEvent { fire_at: timer.fire_at })
                }
                Action::SendEvent(send) => self.send_event(send),
                Action::SendEntityMessage(message) => self.send_entity_message(sender, message)?,
                Action::RewindOrchestration(_) => continue, // refused by `check_actions`
            };
            events.push(history::event(number, stamp, event));
        }
        completion
    }

    pub(super) fn schedule_task(
        &mut self,
        sender: Sender<'_>,
        number: i32,
        task: proto::ScheduleTaskAction,
    ) -> EventType {
        let execution_id = self.instances.get(sender.id).and_then(Instance::execution_id).map(str::to_owned);
        let request = proto::ActivityRequest {
            name: task.name.clone(),
            version: task.version.clone(),
            input: task.input.clone(),
            orchestration_instance: Some(proto::OrchestrationInstance {
                instance_id: sender.id.as_str().to_owned(),
                execution_id,
            }),
            task_id: number,
            parent_trace_context: task.parent_trace_context.clone(),
            tags: task.tags.clone(),
        };
        self.add_activity(sender.id, sender.execution, request);
        EventType::TaskScheduled(proto::TaskScheduledEvent {
            name: task.name,
            version: task.version,
            input: task.input,
            parent_trace_context: task.parent_trace_context,
            tags: task.tags,
        })
    }

    fn create_sub_orchestration(
        &mut self,
        sender: Sender<'_>,
        number: i32,
        sub: proto::CreateSubOrchestrationAction,
    ) -> EventType {
        let child = if sub.instance_id.is_empty() { self.child_id(sender.id, number) } else { sub.instance_id };
        let created = proto::SubOrchestrationInstanceCreatedEvent {
            instance_id: child,
            name: sub.name,
            version: sub.version,
            input: sub.input,
            parent_trace_context: sub.parent_trace_context,
            tags: sub.tags,
        };
        self.start_child(sender, number, &created);
        EventType::SubOrchestrationInstanceCreated(created)
    }

    /// Starts a sub-orchestration in the place of one that has ended; tells its parent if there is one still at work.
    pub(super) fn start_child(
        &mut self,
        sender: Sender<'_>,
        number: i32,
        sub: &proto::SubOrchestrationInstanceCreatedEvent,
    ) {
        let child_id = InstanceId::from(sub.instance_id.as_str());
        if self.instances.get(&child_id).is_none_or(Instance::has_ended) {
            self.remove_instance(&child_id);
            let parent = self.instances.get(sender.id);
            let parent_instance = parent.map(|parent| proto::ParentInstanceInfo {
                task_scheduled_id: number,
                name: Some(parent.start.name.clone()),
                version: parent.start.version.clone(),
                orchestration_instance: Some(proto::OrchestrationInstance {
                    instance_id: sender.id.as_str().to_owned(),
                    execution_id: parent.execution_id().map(str::to_owned),
                }),
            });
            let start = proto::ExecutionStartedEvent {
                name: sub.name.clone(),
                version: sub.version.clone(),
                input: sub.input.clone(),
                orchestration_instance: Some(proto::OrchestrationInstance {
                    instance_id: sub.instance_id.clone(),
                    execution_id: None,
                }),
                parent_instance,
                parent_trace_context: sub.parent_trace_context.clone(),
                tags: sub.tags.clone(),
                ..Default::default()
            };
            self.create_instance(&child_id, start);
        } else {
            let message = format!(
                "sub-orchestration `{}` cannot be started as `{child_id}`: an instance with that id is still running",
                sub.name
            );
            let failed = proto::SubOrchestrationInstanceFailedEvent {
                task_scheduled_id: number,
                failure_details: Some(history::failure("InstanceAlreadyExists", message)),
            };
            self.deliver(sender.id, EventType::SubOrchestrationInstanceFailed(failed));
        }
    }

    /// The id of a sub-orchestration for which none was chosen: the same whenever the same turn is completed.
    fn child_id(&self, parent: &InstanceId, number: i32) -> String {
        match self.instances.get(parent).map_or(0, |instance| instance.state.generation) {
            0 => format!("{parent}:{number:04x}"),
            generation => format!("{parent}:{generation:x}:{number:04x}"),
        }
    }

    fn send_event(&mut self, send: proto::SendEventAction) -> EventType {
        let target = send.instance.map(|instance| instance.instance_id).unwrap_or_default();
        let raised = proto::EventRaisedEvent { name: send.name.clone(), input: send.data.clone() };
        self.deliver(&InstanceId::from(target.as_str()), EventType::EventRaised(raised));
        EventType::EventSent(proto::EventSentEvent { instance_id: target, name: send.name, input: send.data })
    }

    fn send_entity_message(&mut self, sender: Sender<'_>, action: proto::SendEntityMessageAction) -> Option<EventType> {
        Some(match action.entity_message_type? {
            EntityMessage::EntityOperationSignaled(signal) => {
                let event = EventType::EntityOperationSignaled(signal.clone());
                self.send_operation(sender, signal.target_instance_id.as_deref(), signal.scheduled_time, event);
                EventType::EntityOperationSignaled(signal)
            }
            EntityMessage::EntityOperationCalled(call) => {
                self.call_entity(sender, &call);
                EventType::EntityOperationCalled(call)
            }
            EntityMessage::EntityLockRequested(request) => {
                // Everybody asks for locks in the same order, so nobody waits in a circle.
                let mut locks: Vec<EntityId> = request.lock_set.iter().flat_map(|id| EntityId::parse(id)).collect();
                locks.sort();
                locks.dedup();
                let asked = proto::EntityLockRequestedEvent {
                    lock_set: locks.iter().map(|id| id.as_str().to_owned()).collect(),
                    position: 0,
                    parent_instance_id: Some(sender.id.as_str().to_owned()),
                    critical_section_id: request.critical_section_id.clone(),
                };
                self.request_next_lock(sender.id, sender.execution, asked);
                EventType::EntityLockRequested(request)
            }
            EntityMessage::EntityUnlockSent(unlock) => {
                if let Some(entity) = unlock.target_instance_id.as_deref().and_then(|id| EntityId::parse(id).ok()) {
                    self.release_lock(&entity, sender.execution, Some(&unlock.critical_section_id));
                }
                EventType::EntityUnlockSent(unlock)
            }
        })
    }

    /// Sends an operation to an entity, whose answer the sender waits for.
    pub(super) fn call_entity(&mut self, sender: Sender<'_>, call: &proto::EntityOperationCalledEvent) {
        let event = EventType::EntityOperationCalled(proto::EntityOperationCalledEvent {
            parent_instance_id: Some(sender.id.as_str().to_owned()),
            parent_execution_id: self.instances.get(sender.id).and_then(Instance::execution_id).map(str::to_owned),
            ..call.clone()
        });
        self.send_operation(sender, call.target_instance_id.as_deref(), call.scheduled_time, event);
    }

    fn send_operation(
        &mut self,
        sender: Sender<'_>,
        target: Option<&str>,
        scheduled: Option<prost_types::Timestamp>,
        event: EventType,
    ) {
        let Ok(entity) = EntityId::parse(target.unwrap_or_default()) else {
            return;
        }; // `check_actions` saw to it
        let record = OperationRecord {
            entity: entity.as_str().to_owned(),
            event: history::event(NO_ACTION, self.now, event),
            sender: sender.execution.0,
            sender_instance: sender.id.as_str().to_owned(),
            trace: None,
        };
        self.send_at(scheduled.as_ref().map(Moment::from), record);
    }
}

fn check_entity_message(action: &proto::SendEntityMessageAction) -> Result<(), String> {
    let target = |id: &Option<String>| EntityId::parse(id.as_deref().unwrap_or_default()).map(|_| ());
    match &action.entity_message_type {
        None => Err("the message to the entity has no type that this hub knows".to_owned()),
        Some(EntityMessage::EntityOperationSignaled(signal)) => target(&signal.target_instance_id),
        Some(EntityMessage::EntityOperationCalled(call)) => target(&call.target_instance_id),
        Some(EntityMessage::EntityLockRequested(lock)) => {
            lock.lock_set.iter().try_for_each(|id| EntityId::parse(id).map(|_| ()))
        }
        Some(EntityMessage::EntityUnlockSent(unlock)) => target(&unlock.target_instance_id),
    }
}
