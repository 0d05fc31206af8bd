//! An orchestrator's answer that is larger than a message, in parts, as the official SDKs send it: each part has the
//! next actions and its number, and all but the last say that more will come. This module must never split an action.

use prost::Message as _;
use seriatim_durable::proto;
use seriatim_durable::proto::orchestrator_action::OrchestratorActionType;

/// What a part has beside its actions, at most (ids, status, token are counted apart).
const FRAME: usize = 256;

/// The answer, in one part if it fits. A single action that does not fit ends the orchestration as failed, because no
/// attempt could ever deliver it.
pub(crate) fn parts(response: proto::OrchestratorResponse, limit: usize) -> Vec<proto::OrchestratorResponse> {
    if response.encoded_len() <= limit {
        return vec![response];
    }
    let frame = proto::OrchestratorResponse { actions: Vec::new(), ..response.clone() }.encoded_len() + FRAME;
    let room = limit.saturating_sub(frame);
    // With the tag and the length in front of it.
    let size = |action: &proto::OrchestratorAction| action.encoded_len() + 6;
    if let Some(action) = response.actions.iter().find(|action| size(action) > room) {
        return vec![too_large(&response, action, limit)];
    }
    let mut parts: Vec<Vec<proto::OrchestratorAction>> = vec![Vec::new()];
    let mut used = 0;
    for action in response.actions {
        let size = size(&action);
        if used + size > room {
            parts.push(Vec::new());
            used = 0;
        }
        used += size;
        if let Some(part) = parts.last_mut() {
            part.push(action);
        }
    }
    let last = parts.len() - 1;
    let part = |(index, actions): (usize, Vec<proto::OrchestratorAction>)| {
        let first = index == 0;
        #[expect(deprecated, reason = "the protocol has no other way to say that more will come")]
        proto::OrchestratorResponse {
            instance_id: response.instance_id.clone(),
            actions,
            custom_status: response.custom_status.clone(),
            completion_token: response.completion_token.clone(),
            // The first part stands for all new events, the others for none.
            num_events_processed: if first { response.num_events_processed } else { Some(0) },
            orchestration_trace_context: response.orchestration_trace_context.clone().filter(|_| first),
            requires_history: response.requires_history,
            is_partial: index < last,
            chunk_index: Some(i32::try_from(index).unwrap_or(i32::MAX)),
        }
    };
    parts.into_iter().enumerate().map(part).collect()
}

fn too_large(
    response: &proto::OrchestratorResponse,
    action: &proto::OrchestratorAction,
    limit: usize,
) -> proto::OrchestratorResponse {
    let details = proto::TaskFailureDetails {
        error_type: "PayloadTooLarge".to_owned(),
        error_message: format!(
            "action {} of this orchestration has {} bytes, and the task hub takes messages of {limit}: pass large values \
             by reference, or give all workers and clients a payload store",
            action.id,
            action.encoded_len()
        ),
        is_non_retriable: true,
        ..Default::default()
    };
    let complete = proto::CompleteOrchestrationAction {
        orchestration_status: proto::OrchestrationStatus::Failed.into(),
        failure_details: Some(details),
        ..Default::default()
    };
    let action = proto::OrchestratorAction {
        id: action.id,
        orchestrator_action_type: Some(OrchestratorActionType::CompleteOrchestration(complete)),
    };
    proto::OrchestratorResponse { actions: vec![action], custom_status: None, ..response.clone() }
}

#[cfg(test)]
#[expect(deprecated, reason = "what the protocol splits answers with")]
mod tests {
    use super::*;

    fn response(sizes: &[usize]) -> proto::OrchestratorResponse {
        let action = |(id, size): (usize, &usize)| proto::OrchestratorAction {
            id: id as i32 + 1,
            orchestrator_action_type: Some(OrchestratorActionType::ScheduleTask(proto::ScheduleTaskAction {
                name: "a".to_owned(),
                input: Some("x".repeat(*size)),
                ..Default::default()
            })),
        };
        proto::OrchestratorResponse {
            instance_id: "i".to_owned(),
            actions: sizes.iter().enumerate().map(action).collect(),
            completion_token: "t".to_owned(),
            custom_status: Some("\"s\"".to_owned()),
            ..Default::default()
        }
    }

    #[test]
    fn what_fits_is_left_alone() {
        let whole = response(&[100, 100]);
        assert_eq!(parts(whole.clone(), 10_000), [whole]);
    }

    #[test]
    fn parts_fit_and_hold_every_action_once_in_order() {
        let whole = response(&[900; 20]);
        let parts = parts(whole.clone(), 3_000);
        assert!(parts.len() >= 7, "{}", parts.len());
        for (index, part) in parts.iter().enumerate() {
            assert!(part.encoded_len() <= 3_000);
            assert_eq!(part.chunk_index, Some(index as i32));
            assert_eq!(part.is_partial, index + 1 < parts.len());
            assert_eq!(part.num_events_processed, (index > 0).then_some(0));
            assert_eq!((&*part.completion_token, &*part.instance_id), ("t", "i"));
        }
        let joined: Vec<_> = parts.into_iter().flat_map(|part| part.actions).collect();
        assert_eq!(joined, whole.actions);
    }

    #[test]
    fn an_action_that_fits_nowhere_fails_the_orchestration() {
        let parts = parts(response(&[10, 9_000]), 3_000);
        assert_eq!(parts.len(), 1);
        let Some(OrchestratorActionType::CompleteOrchestration(end)) = &parts[0].actions[0].orchestrator_action_type
        else {
            panic!("{parts:?}");
        };
        let failure = end.failure_details.as_ref().unwrap();
        assert!(failure.is_non_retriable && failure.error_message.contains("action 2"), "{failure:?}");
        assert!(!parts[0].is_partial);
    }
}
