//! Forgetting instances. Only instances that have ended are forgotten, with their histories; those that are still at
//! work are passed over, as in the framework. This module must never touch an instance that can still do something.

use seriatim_durable::hub::{HubError, HubResult};
use seriatim_durable::proto;
use seriatim_durable::proto::purge_instances_request::Request;

use super::Core;
use super::ids::InstanceId;
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
