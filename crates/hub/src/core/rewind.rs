//! Doing over what has failed. A rewind takes a failed instance up again where it failed: the outcomes that it failed by
//! are forgotten, and the work behind them is given out once more, down through failed sub-orchestrations. The records of
//! what the code asked for stay, so that it is replayed against the history it made. A restart begins a new instance
//! with the name and the input of an ended one. This module must never rewind a part of what belongs together.

use std::collections::BTreeMap;

use seriatim_durable::hub::{HubError, HubResult};
use seriatim_durable::proto;
use seriatim_durable::proto::OrchestrationStatus as Status;
use seriatim_durable::proto::history_event::EventType;

use super::Core;
use super::actions::Sender;
use super::history::{self, NO_ACTION};
use super::ids::{ActivitySeq, EntityId, ExecutionNo, InstanceId};
use super::io::{Answer, HistoryRange, Past};
use super::orchestrations::Instance;
use super::records::{OrchestrationTimer, TimerKind, Write};
use super::rewritten::{Asked, Rewritten};

impl Core {
    /// Says which histories have to be read: the instance's, and those of its failed sub-orchestrations.
    pub(super) fn rewind_plan(&self, request: &proto::RewindInstanceRequest) -> HubResult<Answer> {
        let top = self.existing(&request.instance_id)?;
        self.check_can_rewind(&top)?;
        let mut plan = Vec::new();
        let mut todo = vec![top];
        while let Some(id) = todo.pop() {
            let Some(instance) = self.instances.get(&id).filter(|i| i.state.status() == Status::Failed) else {
                continue;
            };
            todo.extend(self.children.get(&id).into_iter().flatten().cloned());
            plan.push((id, HistoryRange { execution: instance.execution, len: instance.state.history_len }));
        }
        Ok(Answer::Histories(plan))
    }

    fn check_can_rewind(&self, id: &InstanceId) -> HubResult<()> {
        let Some(instance) = self.instances.get(id) else {
            return Ok(());
        };
        if instance.state.status() != Status::Failed {
            return Err(HubError::FailedPrecondition(format!(
                "instance `{id}` has not failed; only a failed instance can be rewound"
            )));
        }
        let parent = instance.parent_id().filter(|parent| self.instances.get(*parent).is_some_and(|p| !p.has_ended()));
        match parent {
            Some(parent) => Err(HubError::FailedPrecondition(format!(
                "instance `{id}` is a sub-orchestration of `{parent}`, which goes on and knows of the failure; wait until \
                 that has failed, and rewind it"
            ))),
            None => Ok(()),
        }
    }

    /// Rewinds the instance, if the histories are still what they were when they were read.
    pub(super) fn rewind_instance(
        &mut self,
        request: &proto::RewindInstanceRequest,
        histories: Vec<Past>,
    ) -> HubResult<Answer> {
        let top = self.existing(&request.instance_id)?;
        self.check_can_rewind(&top)?;
        let mut read: BTreeMap<InstanceId, Vec<proto::HistoryEvent>> = BTreeMap::new();
        for past in histories {
            let is_still_so = self.instances.get(&past.instance).is_some_and(|instance| {
                instance.state.status() == Status::Failed
                    && past.range == HistoryRange { execution: instance.execution, len: instance.state.history_len }
            });
            if is_still_so && past.events.len() as u64 == past.range.len {
                read.insert(past.instance, past.events);
            }
        }
        // Everything is worked out before anything is changed.
        let mut rewritten: Vec<(InstanceId, Rewritten)> = Vec::new();
        let mut todo = vec![top];
        while let Some(id) = todo.pop() {
            let Some(events) = read.remove(&id) else {
                return Ok(Answer::Rewound(false));
            };
            let new = Rewritten::of(events)
                .map_err(|why| HubError::FailedPrecondition(format!("instance `{id}` cannot be rewound: {why}")))?;
            let failed =
                |child: &InstanceId| self.instances.get(child).is_some_and(|c| c.state.status() == Status::Failed);
            let children = new.children().map(|(number, child)| (number, InstanceId::from(child)));
            todo.extend(children.filter(|(n, c)| failed(c) && self.is_child_of(c, &id, *n)).map(|(_, child)| child));
            rewritten.push((id, new));
        }
        for (id, new) in rewritten {
            self.take_up_again(&id, new, request.reason.clone());
        }
        Ok(Answer::Rewound(true))
    }

    /// Whether `child` was started by this action of the parent's current execution.
    fn is_child_of(&self, child: &InstanceId, parent: &InstanceId, number: i32) -> bool {
        let info = self.instances.get(child).and_then(|child| child.start.parent_instance.as_ref());
        let execution = self.instances.get(parent).and_then(Instance::execution_id);
        info.is_some_and(|info| {
            let of = info.orchestration_instance.as_ref();
            info.task_scheduled_id == number
                && of.is_some_and(|of| of.instance_id == parent.as_str() && of.execution_id.as_deref() == execution)
        })
    }

    /// The execution goes on, with its new history. Parents come before their children here, so that a child that has
    /// its outcome already finds its parent waiting.
    fn take_up_again(&mut self, id: &InstanceId, new: Rewritten, reason: Option<String>) {
        let settled = self.current_batch();
        let Some(instance) = self.instances.get_mut(id) else {
            return;
        };
        self.ended.remove(&instance.end_key(id));
        instance.state.status = Status::Running as i32;
        instance.state.completed = None;
        instance.state.output = None;
        instance.state.failure = None;
        instance.state.history_len = new.events.len() as u64;
        instance.settled = settled;
        let (execution, start, state) = (instance.execution, instance.start.clone(), instance.state.clone());
        // The store has no way to change a history, on purpose: the execution is written anew under its number.
        self.write(Write::DeleteExecution { execution });
        self.write(Write::PutExecution { execution, instance: id.clone(), start, state });
        self.write(Write::AppendHistory { execution, first: 0, events: new.events });

        let rewound = EventType::ExecutionRewound(proto::ExecutionRewoundEvent { reason, ..Default::default() });
        self.put_message(id, history::event(NO_ACTION, self.now, rewound));
        for event in new.forgotten {
            self.forget_asked(id, execution, event);
        }
        for event in new.wanted {
            self.do_again(id, execution, event);
        }
        self.mark_turn(id);
    }

    /// The code did not ask for this, as its history is now: what is under way of it is taken back.
    fn forget_asked(&mut self, id: &InstanceId, execution: ExecutionNo, asked: Asked) {
        match asked {
            Asked::Task(number, _) => {
                for activity in self.activities_of(execution, number) {
                    if let Some(lease) = self.activities.remove(&activity).and_then(|activity| activity.out) {
                        self.dispatch.end_lease(lease);
                    }
                    self.write(Write::DeleteActivity { activity });
                }
            }
            Asked::Child(number, sub) => {
                let child = InstanceId::from(sub.instance_id);
                if self.is_child_of(&child, id, number) {
                    self.remove_instance(&child);
                }
            }
            // Timers went when the execution ended. An operation that was sent is not called back.
            Asked::Timer(..) | Asked::Call(_) => {}
        }
    }

    /// Sees to it that the code gets an outcome of what it asked for.
    fn do_again(&mut self, id: &InstanceId, execution: ExecutionNo, asked: Asked) {
        let sender = Sender { id, execution };
        match asked {
            Asked::Task(number, task) => {
                let under_way = self.activities_of(execution, number);
                if under_way.is_empty() {
                    let task = proto::ScheduleTaskAction {
                        name: task.name,
                        version: task.version,
                        input: task.input,
                        tags: task.tags,
                        parent_trace_context: task.parent_trace_context,
                    };
                    self.schedule_task(sender, number, task);
                } else if let Some(instance) = self.instances.get_mut(id) {
                    instance.activities.extend(under_way);
                }
            }
            Asked::Timer(timer_id, timer) => {
                let orchestration = OrchestrationTimer { execution: execution.0, timer_id };
                let due = history::moment(timer.fire_at.as_ref());
                self.add_timer(due, TimerKind::Orchestration(orchestration));
            }
            Asked::Child(number, sub) => {
                let child = InstanceId::from(sub.instance_id.as_str());
                match self.instances.get(&child).map(|child| child.state.status()) {
                    Some(Status::Completed) if self.is_child_of(&child, id, number) => self.notify_parent(&child),
                    // One that has failed is rewound beside this one, and one that is at work will answer.
                    Some(Status::Failed | Status::Running | Status::Pending)
                        if self.is_child_of(&child, id, number) => {}
                    _ => self.start_child(sender, number, &sub),
                }
            }
            Asked::Call(call) => {
                let target = call.target_instance_id.as_deref().and_then(|id| EntityId::parse(id).ok());
                let waits = target.and_then(|target| self.entities.get(&target)).is_some_and(|entity| {
                    entity.sent_by(execution).any(|(_, queued)| match &queued.record.event.event_type {
                        Some(EventType::EntityOperationCalled(queued)) => queued.request_id == call.request_id,
                        _ => false,
                    })
                });
                if !waits {
                    self.call_entity(sender, &call);
                }
            }
        }
    }

    /// The activities that this action of the execution has scheduled and that have no outcome yet: one, or none.
    fn activities_of(&self, execution: ExecutionNo, number: i32) -> Vec<ActivitySeq> {
        let of = self.activities.iter();
        let of = of.filter(|(_, a)| a.record.execution == execution.0 && a.record.request.task_id == number);
        of.map(|(seq, _)| *seq).collect()
    }

    pub(super) fn restart_instance(&mut self, request: &proto::RestartInstanceRequest) -> HubResult<Answer> {
        let id = self.existing(&request.instance_id)?;
        let Some(instance) = self.instances.get(&id).filter(|instance| instance.has_ended()) else {
            return Err(HubError::FailedPrecondition(format!(
                "instance `{id}` has not ended; terminate it first, or wait"
            )));
        };
        let old = instance.start.clone();
        let new_id = if request.restart_with_new_instance_id {
            InstanceId::from(self.next_unique_id())
        } else {
            self.remove_instance(&id);
            id
        };
        let instance_id = new_id.as_str().to_owned();
        let start = proto::ExecutionStartedEvent {
            name: old.name.clone(),
            version: old.version.clone(),
            input: old.input.clone(),
            tags: old.tags.clone(),
            orchestration_instance: Some(proto::OrchestrationInstance {
                instance_id: instance_id.clone(),
                execution_id: None,
            }),
            ..Default::default()
        };
        self.create_instance(&new_id, start);
        Ok(Answer::Restarted(proto::RestartInstanceResponse { instance_id }))
    }
}
