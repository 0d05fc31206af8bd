//! Starting an orchestration, and the answer to it: where its status is, or its output if the client waits and it ends
//! in time. Must never wait longer than the server's limit, nor when the server is about to end.

use seriatim_durable::proto::OrchestrationStatus as Status;
use seriatim_durable::{TaskHub, proto};
use tokio::time::timeout;

use super::answers::{ask_again, json_response};
use super::instances::status_of;
use crate::app::App;
use crate::call::{Call, Payload};
use crate::json;
use crate::problem::{Code, Problem};
use crate::route::Answer;

/// Seconds after which a client shall look at a new orchestration for the first time.
const LOOK_FIRST: u16 = 10;

/// `POST /orchestrators/{functionName}/{instanceId?}`
pub(crate) async fn start(app: &App, call: &Call) -> Answer {
    check_wait(call)?;
    let hub = app.hub(call).await?;
    let input = match &call.payload {
        Payload::Json(text) => Some(text.clone()),
        Payload::Nothing | Payload::Text(_) => None,
    };
    let given = call.part("instanceId");
    let id = if given.is_empty() { uuid::Uuid::new_v4().as_simple().to_string() } else { given.to_owned() };
    // As in Durable Functions, an id may be used again once its orchestration has ended.
    let replaceable = [Status::Completed, Status::Failed, Status::Terminated, Status::Canceled];
    let request = proto::CreateInstanceRequest {
        instance_id: id,
        name: call.part("functionName").to_owned(),
        input,
        orchestration_id_reuse_policy: Some(proto::OrchestrationIdReusePolicy {
            replaceable_status: replaceable.into_iter().map(i32::from).collect(),
        }),
        parent_trace_context: call.trace.clone(),
        request_time: Some(std::time::SystemTime::now().into()),
        ..Default::default()
    };
    let started = hub.start_instance(request).await?;
    answer_started(app, call, &*hub, &started.instance_id).await
}

fn check_wait(call: &Call) -> Result<(), Problem> {
    match (call.seconds("timeout"), call.seconds("pollingInterval")) {
        (Some(whole), Some(interval)) if interval > whole => {
            Err(Problem::new(Code::InvalidQuery, "pollingInterval is longer than timeout; give a longer timeout"))
        }
        _ => Ok(()),
    }
}

/// The answer once an orchestration was started anew: it waits if the client asks for that.
pub(super) async fn answer_started(app: &App, call: &Call, hub: &dyn TaskHub, id: &str) -> Answer {
    let with_failure = call.flag("returnInternalServerErrorOnFailure", false);
    if let Some(state) = wait(app, call, hub, id).await? {
        if state.orchestration_status() == Status::Completed {
            return Ok(json_response(200, json::stored(state.output.as_deref())));
        }
        return status_of(app, call, hub, id).await;
    }
    let (status, payload) = app.links.management(id, call, with_failure);
    ask_again(json_response(202, payload.end()), &status, LOOK_FIRST)
}

/// The orchestration's state if the client wants to wait and it ends in time.
async fn wait(
    app: &App,
    call: &Call,
    hub: &dyn TaskHub,
    id: &str,
) -> Result<Option<proto::OrchestrationState>, Problem> {
    check_wait(call)?;
    let Some(wanted) = call.seconds("timeout") else {
        return Ok(None);
    };
    let request = proto::GetInstanceRequest { instance_id: id.to_owned(), get_inputs_and_outputs: true };
    let mut closing = app.closing.clone();
    let ended = tokio::select! {
        ended = timeout(wanted.min(app.options.limits.wait), hub.wait_for_instance_completion(request)) => ended,
        // Whoever holds the other end is gone only with the server; then there is nothing to wait for either.
        _ = closing.wait_for(|closing| *closing) => return Ok(None),
    };
    match ended {
        Ok(response) => Ok(response?.orchestration_state),
        Err(_) => Ok(None),
    }
}
