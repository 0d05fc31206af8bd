//! Activities: scheduled by a turn, handed out only after that turn is on disk, recorded once. An activity's result is
//! for the execution that scheduled it; if that is over, the result is dropped. This module must never record a second
//! result of one activity.

use std::sync::Arc;

use seriatim_durable::hub::{HubError, HubResult};
use seriatim_durable::proto;
use seriatim_durable::proto::OrchestrationStatus as Status;
use seriatim_durable::proto::history_event::EventType;

use super::Core;
use super::dispatch::Item;
use super::ids::{ActivitySeq, ExecutionNo, InstanceId, LeaseNo, WorkerId};
use super::io::Answer;
use super::ready::TaskName;
use super::records::{ActivityRecord, Write};

/// A scheduled activity.
#[derive(Debug)]
pub(super) struct Activity {
    pub(super) task: Arc<TaskName>,
    pub(super) record: Arc<ActivityRecord>,
    pub(super) out: Option<LeaseNo>,
}

impl Activity {
    pub(super) fn new(record: Arc<ActivityRecord>) -> Self {
        let task = TaskName::new(&record.request.name, record.request.version.as_deref());
        Self { task, record, out: None }
    }
}

impl Core {
    pub(super) fn add_activity(&mut self, id: &InstanceId, execution: ExecutionNo, request: proto::ActivityRequest) {
        let activity = ActivitySeq(self.next_number());
        let record = Arc::new(ActivityRecord { execution: execution.0, request });
        self.write(Write::PutActivity { activity, record: Arc::clone(&record) });
        self.activities.insert(activity, Activity::new(record));
        if let Some(instance) = self.instances.get_mut(id) {
            instance.activities.insert(activity);
        }
        self.ready_after(self.current_batch(), Item::Activity(activity));
    }

    pub(super) fn activity_is_ready(&mut self, seq: ActivitySeq) {
        if let Some(activity) = self.activities.get(&seq) {
            self.dispatch.activities.push(&activity.task, seq);
        }
    }

    /// Gives an activity to a worker; false if nobody wants it any more.
    pub(super) fn give_activity(&mut self, worker: WorkerId, seq: ActivitySeq) -> bool {
        let Some(activity) = self.activities.get_mut(&seq).filter(|activity| activity.out.is_none()) else {
            return false;
        };
        let deadline = self.config.activity_lease.map(|lease| self.now.plus(lease));
        let lease = self.dispatch.lease(worker, Item::Activity(seq), deadline);
        activity.out = Some(lease);
        let request = activity.record.request.clone();
        self.give(worker, lease, proto::work_item::Request::ActivityRequest(request), None);
        true
    }

    /// An activity came back undone: it is ready again, unless its orchestration was terminated.
    pub(super) fn take_back_activity(&mut self, seq: ActivitySeq) {
        let Some(activity) = self.activities.get_mut(&seq) else {
            return;
        };
        activity.out = None;
        let execution = ExecutionNo(activity.record.execution);
        if self.is_terminated(execution) {
            self.drop_if_not_begun(seq);
        } else {
            self.activity_is_ready(seq);
        }
    }

    /// Whether the execution was terminated: then nobody wants its activities to be begun.
    pub(super) fn is_terminated(&self, execution: ExecutionNo) -> bool {
        let instance = self.by_execution.get(&execution).and_then(|id| self.instances.get(id));
        instance.is_some_and(|instance| instance.state.status() == Status::Terminated)
    }

    pub(super) fn drop_if_not_begun(&mut self, seq: ActivitySeq) {
        if self.activities.get(&seq).is_some_and(|activity| activity.out.is_none()) {
            self.activities.remove(&seq);
            self.write(Write::DeleteActivity { activity: seq });
        }
    }

    pub(super) fn complete_activity(&mut self, response: proto::ActivityResponse) -> HubResult<Answer> {
        let (lease, item) = self.leased(&response.completion_token)?;
        let Item::Activity(seq) = item else {
            return Err(HubError::InvalidArgument(format!(
                "completion token `{}` is not that of an activity; send the result to the call of its kind",
                response.completion_token
            )));
        };
        self.dispatch.end_lease(lease);
        let Some(activity) = self.activities.remove(&seq) else {
            return Ok(Answer::Done);
        };
        self.write(Write::DeleteActivity { activity: seq });
        let execution = ExecutionNo(activity.record.execution);
        let task_scheduled_id = activity.record.request.task_id;
        let event = match response.failure_details {
            Some(failure) => {
                EventType::TaskFailed(proto::TaskFailedEvent { task_scheduled_id, failure_details: Some(failure) })
            }
            None => EventType::TaskCompleted(proto::TaskCompletedEvent { task_scheduled_id, result: response.result }),
        };
        if let Some(instance) = self.by_execution.get(&execution).and_then(|id| self.instances.get_mut(id)) {
            instance.activities.remove(&seq);
        }
        self.deliver_to_execution(execution, event);
        Ok(Answer::Done)
    }
}
