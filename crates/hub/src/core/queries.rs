//! Questions about instances and entities, and waits for an instance to begin or to end. An answer is made from the
//! state in memory and given when all batches up to now are on disk, so nobody sees what a crash could undo. This
//! module must never change anything.

use std::ops::Bound;

use prost_types::Timestamp;
use seriatim_durable::hub::{HubError, HubResult};
use seriatim_durable::proto;
use seriatim_durable::proto::OrchestrationStatus as Status;

use super::entities::Entity;
use super::ids::{EntityId, InstanceId, RequestId};
use super::io::{Answer, HistoryRange};
use super::orchestrations::Instance;
use super::time::Moment;
use super::{Core, Waiter};

/// How many instances or entities are on a page whose size the request leaves open.
const DEFAULT_PAGE: usize = 1_000;

fn page_size(asked: i32) -> usize {
    usize::try_from(asked).ok().filter(|size| *size > 0).unwrap_or(DEFAULT_PAGE)
}

/// Whether `at` lies in the range, both ends included; a missing end bounds nothing.
pub(super) fn in_range(at: Option<&Timestamp>, from: Option<&Timestamp>, to: Option<&Timestamp>) -> bool {
    let at = at.map(Moment::from).unwrap_or_default();
    from.is_none_or(|from| at >= Moment::from(from)) && to.is_none_or(|to| at <= Moment::from(to))
}

/// Where a listing begins: behind the last id of the page before, or at the prefix.
fn begin<'a>(token: Option<&'a str>, prefix: &'a str) -> Bound<&'a str> {
    match token.filter(|token| !token.is_empty()) {
        Some(last) => Bound::Excluded(last),
        None => Bound::Included(prefix),
    }
}

impl Instance {
    fn to_state(&self, id: &InstanceId, with_payloads: bool) -> proto::OrchestrationState {
        let (start, state) = (&self.start, &self.state);
        proto::OrchestrationState {
            instance_id: id.as_str().to_owned(),
            name: start.name.clone(),
            version: start.version.clone(),
            orchestration_status: self.status() as i32,
            scheduled_start_timestamp: start.scheduled_start_timestamp,
            created_timestamp: state.created,
            last_updated_timestamp: state.updated,
            input: start.input.clone().filter(|_| with_payloads),
            output: state.output.clone().filter(|_| with_payloads),
            custom_status: state.custom_status.clone(),
            failure_details: state.failure.clone(),
            execution_id: self.execution_id().map(str::to_owned),
            completed_timestamp: state.completed,
            parent_instance_id: self.parent_id().map(str::to_owned),
            tags: start.tags.clone(),
        }
    }
}

impl Entity {
    fn to_metadata(&self, id: &EntityId, with_state: bool) -> proto::EntityMetadata {
        proto::EntityMetadata {
            instance_id: id.as_str().to_owned(),
            last_modified_time: self.record.modified,
            backlog_queue_size: i32::try_from(self.queue.len()).unwrap_or(i32::MAX),
            locked_by: self.record.holder.as_ref().map(|holder| holder.instance.clone()),
            serialized_state: self.state.as_deref().map(str::to_owned).filter(|_| with_state),
        }
    }
}

impl Core {
    fn instance_answer(&self, id: &str, with_payloads: bool) -> Answer {
        let state = self.instances.get_key_value(id).map(|(id, instance)| instance.to_state(id, with_payloads));
        Answer::Instance(proto::GetInstanceResponse { exists: state.is_some(), orchestration_state: state })
    }

    pub(super) fn get_instance(&self, request: &proto::GetInstanceRequest) -> Answer {
        self.instance_answer(&request.instance_id, request.get_inputs_and_outputs)
    }

    /// Answers at once if there is nothing to wait for.
    pub(super) fn wait_for(
        &mut self,
        request: RequestId,
        what: &proto::GetInstanceRequest,
        for_completion: bool,
    ) -> Option<Answer> {
        let waiter = Waiter { for_completion, with_payloads: what.get_inputs_and_outputs };
        match self.instances.get(what.instance_id.as_str()) {
            Some(instance) if !waiter.is_satisfied(instance) => {
                let id = InstanceId::from(what.instance_id.as_str());
                self.waits.insert(request, id.clone());
                self.waiters.entry(id).or_default().insert(request, waiter);
                None
            }
            _ => Some(self.instance_answer(&what.instance_id, waiter.with_payloads)),
        }
    }

    pub(super) fn forget(&mut self, request: RequestId) {
        let Some(id) = self.waits.remove(&request) else {
            return;
        };
        if let Some(waiters) = self.waiters.get_mut(&id) {
            waiters.remove(&request);
            if waiters.is_empty() {
                self.waiters.remove(&id);
            }
        }
    }

    /// Answers those whose wait is over because the instance has changed or is gone.
    pub(super) fn answer_waiters(&mut self, id: &InstanceId) {
        let Some(waiters) = self.waiters.get(id) else {
            return;
        };
        let instance = self.instances.get(id);
        let over: Vec<_> = waiters
            .iter()
            .filter(|(_, waiter)| instance.is_none_or(|instance| waiter.is_satisfied(instance)))
            .map(|(request, waiter)| (*request, waiter.with_payloads))
            .collect();
        for (request, with_payloads) in over {
            self.forget(request);
            let answer = self.instance_answer(id.as_str(), with_payloads);
            self.reply(request, Ok(answer));
        }
    }

    pub(super) fn instance_history(&self, request: &proto::StreamInstanceHistoryRequest) -> Answer {
        let instance = self.instances.get(request.instance_id.as_str());
        let wanted = request.execution_id.as_deref().filter(|id| !id.is_empty());
        let instance = instance.filter(|instance| wanted.is_none() || instance.execution_id() == wanted);
        Answer::History(instance.map(|i| HistoryRange { execution: i.execution, len: i.state.history_len }))
    }

    pub(super) fn query_instances(&self, request: proto::QueryInstancesRequest) -> HubResult<Answer> {
        let query = request.query.unwrap_or_default();
        let prefix = query.instance_id_prefix.as_deref().unwrap_or_default();
        let limit = page_size(query.max_instance_count);
        let from = begin(query.continuation_token.as_deref(), prefix);
        let mut page = Vec::new();
        let mut more = false;
        for (id, instance) in self.instances.range::<str, _>((from, Bound::Unbounded)) {
            if !id.as_str().starts_with(prefix) {
                break;
            }
            let wanted = query.runtime_status.is_empty() || query.runtime_status.contains(&(instance.status() as i32));
            let created = instance.state.created.as_ref();
            if !wanted || !in_range(created, query.created_time_from.as_ref(), query.created_time_to.as_ref()) {
                continue;
            }
            if page.len() == limit {
                more = true;
                break;
            }
            page.push(instance.to_state(id, query.fetch_inputs_and_outputs));
        }
        check_token(query.continuation_token.as_deref(), prefix)?;
        let continuation_token = page.last().map(|last| last.instance_id.clone()).filter(|_| more);
        Ok(Answer::Instances(proto::QueryInstancesResponse { orchestration_state: page, continuation_token }))
    }

    /// Ended instances in order of their end, so that a listing that goes on later finds those that have ended since.
    pub(super) fn list_instance_ids(&self, request: &proto::ListInstanceIdsRequest) -> HubResult<Answer> {
        let limit = page_size(request.page_size);
        let last = request.last_instance_key.as_deref().filter(|key| !key.is_empty()).map(parse_end_key).transpose()?;
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut page: Vec<&(Moment, InstanceId)> = Vec::new();
        let mut more = false;
        for key in self.ended.range((from, Bound::Unbounded)) {
            let Some(instance) = self.instances.get(&key.1) else {
                continue;
            };
            let wanted = request.runtime_status.is_empty() || request.runtime_status.contains(&instance.state.status);
            let ended = instance.state.completed.as_ref();
            if !wanted || !in_range(ended, request.completed_time_from.as_ref(), request.completed_time_to.as_ref()) {
                continue;
            }
            if page.len() == limit {
                more = true;
                break;
            }
            page.push(key);
        }
        let last_instance_key = page.last().filter(|_| more).map(|key| end_key_text(key));
        let instance_ids = page.into_iter().map(|(_, id)| id.as_str().to_owned()).collect();
        Ok(Answer::Ids(proto::ListInstanceIdsResponse { instance_ids, last_instance_key }))
    }

    pub(super) fn get_entity(&self, request: &proto::GetEntityRequest) -> HubResult<Answer> {
        let id = EntityId::parse(&request.instance_id).map_err(HubError::InvalidArgument)?;
        let entity = self.entities.get(&id).map(|entity| entity.to_metadata(&id, request.include_state));
        Ok(Answer::Entity(proto::GetEntityResponse { exists: entity.is_some(), entity }))
    }

    pub(super) fn query_entities(&self, request: proto::QueryEntitiesRequest) -> HubResult<Answer> {
        let query = request.query.unwrap_or_default();
        let prefix = lower_name(query.instance_id_starts_with.as_deref().unwrap_or_default());
        let limit = page_size(query.page_size.unwrap_or_default());
        let from = begin(query.continuation_token.as_deref(), &prefix);
        let mut page = Vec::new();
        let mut more = false;
        for (id, entity) in self.entities.range::<str, _>((from, Bound::Unbounded)) {
            if !id.as_str().starts_with(&prefix) {
                break;
            }
            let modified = entity.record.modified.as_ref();
            let transient = entity.state.is_none();
            let (from, to) = (query.last_modified_from.as_ref(), query.last_modified_to.as_ref());
            if (transient && !query.include_transient) || !in_range(modified, from, to) {
                continue;
            }
            if page.len() == limit {
                more = true;
                break;
            }
            page.push(entity.to_metadata(id, query.include_state));
        }
        check_token(query.continuation_token.as_deref(), &prefix)?;
        let continuation_token = page.last().map(|last| last.instance_id.clone()).filter(|_| more);
        Ok(Answer::Entities(proto::QueryEntitiesResponse { entities: page, continuation_token }))
    }
}

/// Where a listing of ended instances goes on, as text: when the last one ended, and its id.
fn end_key_text((ended, id): &(Moment, InstanceId)) -> String {
    let ended = ended.to_timestamp();
    format!("{}.{}/{id}", ended.seconds, ended.nanos)
}

fn parse_end_key(text: &str) -> HubResult<(Moment, InstanceId)> {
    let key = text.split_once('/').and_then(|(ended, id)| {
        let (seconds, nanos) = ended.split_once('.')?;
        let ended = Timestamp { seconds: seconds.parse().ok()?, nanos: nanos.parse().ok()? };
        Some((Moment::from(&ended), InstanceId::from(id)))
    });
    key.ok_or_else(|| {
        HubError::InvalidArgument(format!("`{text}` is not from a listing of ids; begin again without it"))
    })
}

/// A prefix of entity ids, with the part that is the name in lower case.
fn lower_name(prefix: &str) -> String {
    match prefix.strip_prefix('@').and_then(|rest| rest.split_once('@')) {
        Some((name, key)) => format!("@{}@{key}", name.to_lowercase()),
        None => prefix.to_lowercase(),
    }
}

/// A token is the last id of the page before, so it begins with what the listing is limited to.
fn check_token(token: Option<&str>, prefix: &str) -> HubResult<()> {
    match token {
        Some(token) if !token.is_empty() && !token.starts_with(prefix) => Err(HubError::InvalidArgument(format!(
            "continuation token `{token}` is not from a listing of ids that begin with `{prefix}`; begin again without it"
        ))),
        _ => Ok(()),
    }
}

impl Waiter {
    fn is_satisfied(&self, instance: &Instance) -> bool {
        if self.for_completion { instance.has_ended() } else { instance.state.status() != Status::Pending }
    }
}
