//! How orchestrations end: by themselves, by termination, or because they are forgotten. Whatever the way, everything
//! that hangs on the execution is let go in the same batch: timers, locks, messages, and what its parent waits for.
//! This module must never leave a lock or a timer behind.

use std::collections::VecDeque;

use seriatim_durable::hub::HubResult;
use seriatim_durable::proto;
use seriatim_durable::proto::OrchestrationStatus as Status;
use seriatim_durable::proto::history_event::EventType;

use super::Core;
use super::history::{self, NO_ACTION};
use super::ids::InstanceId;
use super::io::Answer;
use super::records::Write;
use super::time::Moment;

/// How an execution ends.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) status: Status,
    pub(super) output: Option<String>,
    pub(super) failure: Option<proto::TaskFailureDetails>,
}

impl Core {
    pub(super) fn terminate_instance(&mut self, request: proto::TerminateRequest) -> HubResult<Answer> {
        let id = self.existing(&request.instance_id)?;
        let event = proto::ExecutionTerminatedEvent { input: request.output, recurse: request.recursive };
        self.terminate(id, &event);
        Ok(Answer::Done)
    }

    /// Terminates an instance, and those that it has started if `recurse` is set: at once, without a worker, unless a
    /// turn is out; then when that ends. No worker is asked, so that an instance can be terminated that no worker
    /// knows, or whose code cannot be replayed any more.
    pub(super) fn terminate(&mut self, id: InstanceId, event: &proto::ExecutionTerminatedEvent) {
        let mut todo = vec![id];
        while let Some(id) = todo.pop() {
            if event.recurse {
                todo.extend(self.children.get(&id).into_iter().flatten().cloned());
            }
            let Some(instance) = self.instances.get_mut(&id) else {
                continue;
            };
            if instance.has_ended() || instance.terminate.is_some() {
                continue;
            }
            instance.terminate = Some(event.clone());
            self.put_message(&id, history::event(NO_ACTION, self.now, EventType::ExecutionTerminated(event.clone())));
            self.terminate_if_asked(&id);
        }
    }

    /// Ends instances at once, also those that a worker is at: what it sends comes too late.
    pub(super) fn skip_graceful_terminations(
        &mut self,
        request: proto::SkipGracefulOrchestrationTerminationsRequest,
    ) -> Answer {
        let event = proto::ExecutionTerminatedEvent { input: request.reason, recurse: false };
        let mut unterminated_instance_ids = Vec::new();
        for id in request.instance_batch.unwrap_or_default().instance_ids {
            let id = InstanceId::from(id);
            let Some(instance) = self.instances.get_mut(&id).filter(|instance| !instance.has_ended()) else {
                unterminated_instance_ids.push(id.as_str().to_owned());
                continue;
            };
            if let Some(turn) = instance.turn.take() {
                self.dispatch.end_lease(turn.lease);
            }
            self.terminate(id.clone(), &event);
            self.terminate_if_asked(&id); // one that waited for the turn to end
        }
        Answer::Skipped(proto::SkipGracefulOrchestrationTerminationsResponse { unterminated_instance_ids })
    }

    /// Carries out a termination that is in the inbox, unless a turn is out.
    pub(super) fn terminate_if_asked(&mut self, id: &InstanceId) {
        let Some(instance) = self.instances.get_mut(id) else {
            return;
        };
        if instance.turn.is_some() || instance.has_ended() {
            return;
        }
        let Some(event) = instance.terminate.take() else {
            return;
        };
        let stamp = instance.not_before_history(self.now);
        let taken = instance.inbox.len();
        let mut events = self.take_turn_events(id, stamp, taken);
        events.push(history::turn_completed(stamp));
        self.append_history(id, stamp, events);
        self.finish_execution(id, stamp, Outcome { status: Status::Terminated, output: event.input, failure: None });
    }

    /// Ends the current execution: its history gets its last event, and everything that hangs on it is let go.
    pub(super) fn finish_execution(&mut self, id: &InstanceId, stamp: Moment, outcome: Outcome) {
        let completed = proto::ExecutionCompletedEvent {
            orchestration_status: outcome.status as i32,
            result: outcome.output.clone(),
            failure_details: outcome.failure.clone(),
        };
        self.append_history(
            id,
            stamp,
            vec![history::event(NO_ACTION, stamp, EventType::ExecutionCompleted(completed))],
        );
        self.let_go(id, outcome.status == Status::Terminated);
        let Some(instance) = self.instances.get_mut(id) else {
            return;
        };
        instance.state.status = outcome.status as i32;
        instance.state.suspended = false;
        instance.state.waits_for_start = false;
        instance.state.completed = Some(stamp.to_timestamp());
        instance.state.output = outcome.output;
        instance.state.failure = outcome.failure;
        instance.terminate = None;
        self.ended.insert(instance.end_key(id));
        let execution = instance.execution;
        let dropped = instance.inbox.back().map(|message| message.seq);
        instance.inbox = VecDeque::new();
        if let Some(up_to) = dropped {
            self.write(Write::DeleteMessages { execution, up_to });
        }
        self.put_state(id);
        self.notify_parent(id);
        self.answer_waiters(id);
    }

    /// Lets go of what hangs on the current execution: timers, locks, stickiness; and, if it is terminated, activities
    /// that nobody has begun. An execution that ends by itself leaves its activities to run, as in the framework: some
    /// code starts one and does not wait for it.
    pub(super) fn let_go(&mut self, id: &InstanceId, drop_activities: bool) {
        let Some(instance) = self.instances.get_mut(id) else {
            return;
        };
        let execution = instance.execution;
        let timers = std::mem::take(&mut instance.timers);
        let activities = std::mem::take(&mut instance.activities);
        instance.queued = false;
        for timer in timers {
            self.remove_timer(timer);
        }
        if drop_activities {
            for activity in activities {
                self.drop_if_not_begun(activity);
            }
        }
        self.release_locks(execution);
        self.forget_stickiness(execution);
    }

    pub(super) fn notify_parent(&mut self, id: &InstanceId) {
        let Some(instance) = self.instances.get(id) else {
            return;
        };
        let Some(info) = &instance.start.parent_instance else {
            return;
        };
        let Some(parent) = &info.orchestration_instance else {
            return;
        };
        let task_scheduled_id = info.task_scheduled_id;
        let parent_id = InstanceId::from(parent.instance_id.as_str());
        // An answer to an execution that was followed by another would be taken for something else there.
        let waits = self.instances.get(&parent_id).is_some_and(|p| p.execution_id() == parent.execution_id.as_deref());
        if !waits {
            return;
        }
        let state = &instance.state;
        let event = if state.status() == Status::Completed {
            EventType::SubOrchestrationInstanceCompleted(proto::SubOrchestrationInstanceCompletedEvent {
                task_scheduled_id,
                result: state.output.clone(),
            })
        } else {
            let failure_details = state.failure.clone().unwrap_or_else(|| {
                let reason = state.output.as_deref().unwrap_or("no reason given");
                history::failure(
                    "OrchestrationTerminated",
                    format!("sub-orchestration `{id}` was terminated: {reason}"),
                )
            });
            EventType::SubOrchestrationInstanceFailed(proto::SubOrchestrationInstanceFailedEvent {
                task_scheduled_id,
                failure_details: Some(failure_details),
            })
        };
        self.deliver(&parent_id, event);
    }

    /// Forgets an instance in whatever state it is. Who waits for it is told that it does not exist.
    pub(super) fn remove_instance(&mut self, id: &InstanceId) {
        self.let_go(id, true);
        let Some(instance) = self.instances.remove(id) else {
            return;
        };
        if let Some(turn) = &instance.turn {
            self.dispatch.end_lease(turn.lease);
        }
        self.by_execution.remove(&instance.execution);
        self.ended.remove(&instance.end_key(id));
        if let Some(parent) = instance.parent_id() {
            let siblings = self.children.get_mut(parent);
            if siblings.is_some_and(|siblings| siblings.remove(id) && siblings.is_empty()) {
                self.children.remove(parent);
            }
        }
        self.write(Write::DeleteExecution { execution: instance.execution });
        self.answer_waiters(id);
    }
}
