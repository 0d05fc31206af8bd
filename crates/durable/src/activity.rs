//! What an activity can see: [`ActivityContext`]. This module must never run anything: the worker does.

use std::collections::HashMap;

use crate::proto;

/// The call that an activity answers.
///
/// An activity runs at least once: after a crash it may run again, so its effects must be repeatable. Its result is
/// recorded once. CPU-bound work belongs into `tokio::task::spawn_blocking`.
#[derive(Debug, Clone)]
pub struct ActivityContext {
    name: String,
    instance_id: String,
    execution_id: Option<String>,
    task_id: i32,
    tags: HashMap<String, String>,
    trace: Option<proto::TraceContext>,
}

impl ActivityContext {
    pub(crate) fn new(request: &proto::ActivityRequest) -> Self {
        let instance = request.orchestration_instance.clone().unwrap_or_default();
        Self {
            name: request.name.clone(),
            instance_id: instance.instance_id,
            execution_id: instance.execution_id,
            task_id: request.task_id,
            tags: request.tags.clone(),
            trace: request.parent_trace_context.clone(),
        }
    }

    /// The name under which the activity was called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The orchestration that called it.
    pub fn instance_id(&self) -> &str {
        &self.instance_id
    }

    /// The execution of that orchestration, if the hub tells.
    pub fn execution_id(&self) -> Option<&str> {
        self.execution_id.as_deref()
    }

    /// The number of this call within its execution: the same one when the call runs again after a crash, so that
    /// `(instance_id, execution_id, task_id)` can make an effect repeatable.
    pub fn task_id(&self) -> i32 {
        self.task_id
    }

    /// The trace that the call belongs to, as W3C `traceparent`, for calls of your own to other services.
    pub fn trace_parent(&self) -> Option<&str> {
        self.trace.as_ref().map(|trace| trace.trace_parent.as_str())
    }

    /// What the systems of that trace have added, as W3C `tracestate`.
    pub fn trace_state(&self) -> Option<&str> {
        self.trace.as_ref()?.trace_state.as_deref()
    }

    /// The tags of the call.
    pub fn tags(&self) -> &HashMap<String, String> {
        &self.tags
    }
}
