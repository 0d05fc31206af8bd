//! What a worker does with one work item: a turn of an orchestrator, an activity, a batch of an entity. This module
//! must never answer twice for one item, nor keep a living execution whose turn the hub did not take.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::FutureExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;
use tracing::debug;

use super::cache::{Cache, Key};
use crate::activity::ActivityContext;
use crate::entity;
use crate::failure::Failure;
use crate::hub::{HubError, HubResult, PAST_EVENTS_PROPERTY, TaskHub};
use crate::proto;
use crate::proto::HistoryEvent;
use crate::proto::work_item::Request;
use crate::registry::Registry;
use crate::replay::{Execution, Turn};

/// How often an answer is offered to a hub that is out of reach, with waits of [`FIRST_WAIT`] doubled each time: after
/// that the lease has most likely passed on, and the item is done again elsewhere.
const OFFERS: u32 = 8;
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// What one item counts as among those that a worker does at a time.
pub(super) type Permit = Option<OwnedSemaphorePermit>;

/// What all items of a worker share.
#[derive(Debug)]
pub(super) struct Shop {
    pub(super) hub: Arc<dyn TaskHub>,
    pub(super) registry: Arc<Registry>,
    pub(super) cache: Cache,
}

impl Shop {
    /// Does the work and answers. An error means that the hub did not take the answer.
    ///
    /// `permit` is what the work counts as, and is given back when it is done: while the hub brings the answer to its
    /// disk, other work can go on.
    pub(super) async fn serve(&self, request: Request, token: String, permit: Permit) -> HubResult<()> {
        match request {
            Request::OrchestratorRequest(request) => self.orchestrate(request, token, permit).await,
            Request::ActivityRequest(request) => self.act(request, token, permit).await,
            Request::EntityRequest(request) => self.operate(request, Vec::new(), token, permit).await,
            Request::EntityRequestV2(request) => {
                let (batch, infos) = entity::to_batch(request);
                self.operate(batch, infos, token, permit).await
            }
            Request::HealthPing(_) => Ok(()),
        }
    }

    async fn orchestrate(&self, request: proto::OrchestratorRequest, token: String, permit: Permit) -> HubResult<()> {
        let key: Key = (request.instance_id.clone(), request.execution_id.clone().unwrap_or_default());
        let (execution, turn) = match self.take_turn(&key, &request).await {
            Ok(done) => done,
            Err(error) => {
                // Without its history the turn cannot be taken; somebody else may have more luck.
                self.hub.abandon(&token).await?;
                return Err(error);
            }
        };
        let ended = turn.ended;
        let response = proto::OrchestratorResponse {
            instance_id: request.instance_id,
            actions: turn.actions,
            custom_status: turn.custom_status,
            completion_token: token,
            ..Default::default()
        };
        drop(permit);
        // Kept before the hub is told: the next turn of this instance may arrive before the answer to this one.
        let kept = (!ended).then(|| self.cache.put(key.clone(), execution));
        let told = offer(|| self.hub.complete_orchestrator(response.clone())).await;
        if let (Err(_), Some(number)) = (&told, kept) {
            self.cache.forget(&key, number);
        }
        told
    }

    /// Goes on from the living copy where it fits, and replays the history where it does not.
    async fn take_turn(&self, key: &Key, request: &proto::OrchestratorRequest) -> HubResult<(Execution, Turn)> {
        let new = &request.new_events;
        let kept = self.cache.take(key);
        if !request.requires_history_streaming || !request.past_events.is_empty() {
            return Ok(self.replay(key, kept, &request.past_events, new));
        }
        let kept = match (kept, past_length(request)) {
            (Some(mut execution), Some(length)) if execution.continues(length) => {
                let turn = execution.next_turn(length, new);
                return Ok((execution, turn));
            }
            (kept, _) => kept,
        };
        let ask = proto::StreamInstanceHistoryRequest {
            instance_id: request.instance_id.clone(),
            execution_id: request.execution_id.clone(),
            for_work_item_processing: true,
        };
        let past = self.hub.instance_history(ask).await?;
        if past_length(request).is_some_and(|length| past.len() > length) {
            // A copy that took this turn over that history would have seen its events twice.
            return Err(HubError::FailedPrecondition(format!(
                "instance \"{}\" has gone on since this turn was handed out: drop the turn",
                key.0
            )));
        }
        Ok(self.replay(key, kept, &past, new))
    }

    fn replay(
        &self,
        key: &Key,
        kept: Option<Execution>,
        past: &[HistoryEvent],
        new: &[HistoryEvent],
    ) -> (Execution, Turn) {
        let mut execution = kept
            .filter(|execution| execution.fits(past))
            .unwrap_or_else(|| Execution::new(Arc::clone(&self.registry), &key.0, &key.1));
        let turn = execution.turn(past, new);
        (execution, turn)
    }

    async fn act(&self, request: proto::ActivityRequest, token: String, permit: Permit) -> HubResult<()> {
        let outcome = match self.registry.activity_fn(&request.name) {
            Some(function) => {
                let context = ActivityContext::new(&request);
                let input = request.input;
                AssertUnwindSafe(async move { function(context, input).await }).catch_unwind().await.unwrap_or_else(
                    |panic| Err(Failure::from_panic(&format!("activity \"{}\"", request.name), panic.as_ref())),
                )
            }
            None => Err(Failure::non_retriable(
                Failure::ACTIVITY_NOT_REGISTERED,
                format!("this worker has no activity named \"{}\": register it, or call another", request.name),
            )),
        };
        drop(permit);
        let (result, failure_details) = match outcome {
            Ok(result) => (result, None),
            Err(failure) => {
                // Whoever called it is told, and may go on without it.
                debug!(activity = request.name, %failure, "an activity failed");
                (None, Some(failure.into()))
            }
        };
        let response = proto::ActivityResponse {
            instance_id: request.orchestration_instance.map(|instance| instance.instance_id).unwrap_or_default(),
            task_id: request.task_id,
            result,
            failure_details,
            completion_token: token,
        };
        offer(|| self.hub.complete_activity(response.clone())).await
    }

    async fn operate(
        &self,
        request: proto::EntityBatchRequest,
        infos: Vec<proto::OperationInfo>,
        token: String,
        permit: Permit,
    ) -> HubResult<()> {
        let mut result = entity::run_batch(&self.registry, request, infos, SystemTime::now);
        drop(permit);
        result.completion_token = token;
        offer(|| self.hub.complete_entity(result.clone())).await
    }
}

fn past_length(request: &proto::OrchestratorRequest) -> Option<usize> {
    match request.properties.get(PAST_EVENTS_PROPERTY)?.kind {
        Some(prost_types::value::Kind::NumberValue(number)) if number >= 0.0 => Some(number as usize),
        _ => None,
    }
}

/// Offers an answer until the hub takes or refuses it, or was out of reach for too long.
async fn offer<F: Future<Output = HubResult<()>>>(answer: impl Fn() -> F) -> HubResult<()> {
    let mut wait = FIRST_WAIT;
    for _ in 1..OFFERS {
        match answer().await {
            Err(HubError::Unavailable(_)) => sleep(wait).await,
            told => return told,
        }
        wait *= 2;
    }
    answer().await
}
