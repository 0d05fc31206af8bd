//! Forgetting instances and entities. Only what has ended, or has nothing to do, is forgotten; what is still at work is
//! passed over, as in the framework. This module must never touch an instance that can still do something.

use seriatim_durable::hub::{HubError, HubResult};
use seriatim_durable::proto;
use seriatim_durable::proto::purge_instances_request::Request;

use super::Core;
use super::entities::Entity;
use super::ids::{EntityId, ExecutionNo, InstanceId};
use super::io::Answer;
use super::orchestrations::Instance;
use super::queries::in_range;

impl Core {
    pub(super) fn purge_instances(&mut self, request: proto::PurgeInstancesRequest) -> HubResult<Answer> {
        let chosen = match request.request {
            None => {
                let message = "the request names no instance and has no filter; say what to purge".to_owned();
                return Err(HubError::InvalidArgument(message));
            }
            Some(Request::InstanceId(id)) => vec![InstanceId::from(id)],
            Some(Request::InstanceBatch(batch)) => batch.instance_ids.into_iter().map(InstanceId::from).collect(),
            Some(Request::PurgeInstanceFilter(filter)) => self.matching(&filter),
        };
        let mut todo = chosen;
        let mut deleted_instance_count = 0;
        while let Some(id) = todo.pop() {
            if id.as_str().starts_with('@') {
                deleted_instance_count += i32::from(self.purge_entity(id.as_str()));
                continue;
            }
            if !self.instances.get(&id).is_some_and(Instance::has_ended) {
                continue;
            }
            if request.recursive {
                todo.extend(self.children.get(&id).into_iter().flatten().cloned());
            }
            self.remove_instance(&id);
            deleted_instance_count += 1;
        }
        Ok(Answer::Purged(proto::PurgeInstancesResponse { deleted_instance_count, is_complete: Some(true) }))
    }

    /// Forgets an entity's state; not while it is locked or has anything to do.
    fn purge_entity(&mut self, id: &str) -> bool {
        let Ok(id) = EntityId::parse(id) else {
            return false;
        };
        let settled = self.current_batch();
        let idle = |entity: &&mut Entity| entity.is_idle() && entity.state.is_some();
        let Some(entity) = self.entities.get_mut(&id).filter(idle) else {
            return false;
        };
        entity.state = None;
        entity.settled = settled;
        self.stirred.push_back(id); // which removes what is nothing
        true
    }

    /// Removes entities of which nothing is left and gives back locks whose holder is gone. The hub does both by itself
    /// whenever it can happen; whoever asks is told what was left over.
    pub(super) fn clean_entity_storage(&mut self, request: &proto::CleanEntityStorageRequest) -> Answer {
        let mut response = proto::CleanEntityStorageResponse::default();
        if request.release_orphaned_locks {
            let lives = |execution| {
                let instance = self.by_execution.get(&execution).and_then(|id| self.instances.get(id));
                instance.is_some_and(|instance| !instance.has_ended())
            };
            let orphaned: Vec<_> = self
                .entities
                .iter()
                .filter_map(|(id, entity)| Some((id.clone(), entity.record.holder.as_ref()?)))
                .filter(|(_, holder)| !holder.releasing && !lives(ExecutionNo(holder.execution)))
                .map(|(id, holder)| (id, ExecutionNo(holder.execution)))
                .collect();
            for (id, execution) in orphaned {
                self.release_lock(&id, execution, None);
                response.orphaned_locks_released += 1;
            }
        }
        if request.remove_empty_entities {
            let empty = self.entities.iter().filter(|(_, entity)| entity.is_nothing()).map(|(id, _)| id.clone());
            let empty: Vec<_> = empty.collect();
            response.empty_entities_removed = i32::try_from(empty.len()).unwrap_or(i32::MAX);
            self.stirred.extend(empty);
        }
        Answer::Cleaned(response)
    }

    fn matching(&self, filter: &proto::PurgeInstanceFilter) -> Vec<InstanceId> {
        let (from, to) = (filter.created_time_from.as_ref(), filter.created_time_to.as_ref());
        self.instances
            .iter()
            .filter(|(_, instance)| {
                let wanted = &filter.runtime_status;
                wanted.is_empty() || wanted.contains(&(instance.status() as i32))
            })
            .filter(|(_, instance)| in_range(instance.state.created.as_ref(), from, to))
            .map(|(id, _)| id.clone())
            .collect()
    }
}
