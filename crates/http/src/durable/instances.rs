//! One orchestration: its status, and what can be done to it. That it exists and has not ended is looked up before it
//! is acted on; an orchestration that ends in between takes no harm. Must never start one: [`super::start`] does.

use axum::http::StatusCode;
use seriatim_durable::proto::OrchestrationStatus as Status;
use seriatim_durable::proto::purge_instances_request::Request as PurgeRequest;
use seriatim_durable::{TaskHub, proto};

use super::answers::{accepted, ask_again, has_ended, json_response, status};
use super::history;
use super::start::answer_started;
use crate::app::App;
use crate::call::{Call, Payload};
use crate::json;
use crate::problem::{Code, Problem};
use crate::route::Answer;

/// Seconds after which a client shall look at a status again.
const LOOK_AGAIN: u16 = 5;

/// What the hub knows of an orchestration.
pub(super) async fn find(hub: &dyn TaskHub, id: &str, payloads: bool) -> Result<proto::OrchestrationState, Problem> {
    let request = proto::GetInstanceRequest { instance_id: id.to_owned(), get_inputs_and_outputs: payloads };
    let response = hub.get_instance(request).await?;
    response.orchestration_state.filter(|_| response.exists).ok_or_else(|| no_such(id))
}

fn no_such(id: &str) -> Problem {
    Problem::new(Code::NotFound, format!("there is no orchestration instance \"{id}\""))
}

/// An orchestration that has not ended.
async fn living(hub: &dyn TaskHub, id: &str) -> Result<(), Problem> {
    let state = find(hub, id, false).await?;
    if has_ended(state.orchestration_status()) { Err(ended(&state)) } else { Ok(()) }
}

fn ended(state: &proto::OrchestrationState) -> Problem {
    let word = crate::call::status_name(state.orchestration_status());
    Problem::new(Code::Ended, format!("orchestration instance \"{}\" has ended: it is {word}", state.instance_id))
}

/// `GET /instances/{instanceId}`
pub(crate) async fn get_status(app: &App, call: &Call) -> Answer {
    let hub = app.hub(call).await?;
    status_of(app, call, &*hub, call.part("instanceId")).await
}

/// The answer to the question for a status.
pub(super) async fn status_of(app: &App, call: &Call, hub: &dyn TaskHub, id: &str) -> Answer {
    let state = find(hub, id, true).await?;
    let current = state.orchestration_status();
    let with_input = call.flag("showInput", true);
    let history = if call.flag("showHistory", false) && current != Status::Pending {
        let request = proto::StreamInstanceHistoryRequest { instance_id: id.to_owned(), ..Default::default() };
        let events = hub.instance_history(request).await?;
        Some(history::shown(&events, with_input, call.flag("showHistoryOutput", false)))
    } else {
        None
    };
    let body = status(&state, with_input, history.as_deref());
    if !has_ended(current) {
        return ask_again(json_response(202, body), &app.links.again(call), LOOK_AGAIN);
    }
    let as_error = current == Status::Failed && call.flag("returnInternalServerErrorOnFailure", false);
    Ok(json_response(if as_error { 500 } else { 200 }, body))
}

/// `POST /instances/{instanceId}/raiseEvent/{eventName}`
pub(crate) async fn raise_event(app: &App, call: &Call) -> Answer {
    let (hub, id) = (app.hub(call).await?, call.part("instanceId"));
    living(&*hub, id).await?;
    let input = match &call.payload {
        Payload::Json(text) => Some(text.clone()),
        Payload::Nothing | Payload::Text(_) => None,
    };
    let name = call.part("eventName").to_owned();
    hub.raise_event(proto::RaiseEventRequest { instance_id: id.to_owned(), name, input }).await?;
    Ok(accepted())
}

/// `POST /instances/{instanceId}/terminate`
pub(crate) async fn terminate(app: &App, call: &Call) -> Answer {
    let (hub, id) = (app.hub(call).await?, call.part("instanceId"));
    living(&*hub, id).await?;
    // The reason becomes the output, and an output is JSON.
    let output = call.text("reason").map(json::quoted);
    hub.terminate_instance(proto::TerminateRequest { instance_id: id.to_owned(), output, recursive: true }).await?;
    Ok(accepted())
}

/// `POST /instances/{instanceId}/suspend`
pub(crate) async fn suspend(app: &App, call: &Call) -> Answer {
    let (hub, id) = (app.hub(call).await?, call.part("instanceId"));
    living(&*hub, id).await?;
    let reason = call.text("reason").map(str::to_owned);
    hub.suspend_instance(proto::SuspendRequest { instance_id: id.to_owned(), reason }).await?;
    Ok(accepted())
}

/// `POST /instances/{instanceId}/resume`
pub(crate) async fn resume(app: &App, call: &Call) -> Answer {
    let (hub, id) = (app.hub(call).await?, call.part("instanceId"));
    living(&*hub, id).await?;
    let reason = call.text("reason").map(str::to_owned);
    hub.resume_instance(proto::ResumeRequest { instance_id: id.to_owned(), reason }).await?;
    Ok(accepted())
}

/// `POST /instances/{instanceId}/rewind`
pub(crate) async fn rewind(app: &App, call: &Call) -> Answer {
    let (hub, id) = (app.hub(call).await?, call.part("instanceId"));
    let state = find(&*hub, id, false).await?;
    match state.orchestration_status() {
        Status::Failed => {}
        current if has_ended(current) => return Err(ended(&state)),
        _ => {
            let detail =
                format!("orchestration instance \"{id}\" has not failed, and only one that has can be rewound");
            return Err(Problem::new(Code::InvalidRequest, detail));
        }
    }
    let reason = call.text("reason").map(str::to_owned);
    hub.rewind_instance(proto::RewindInstanceRequest { instance_id: id.to_owned(), reason }).await?;
    Ok(accepted())
}

/// `POST /instances/{instanceId}/restart`
pub(crate) async fn restart(app: &App, call: &Call) -> Answer {
    let (hub, id) = (app.hub(call).await?, call.part("instanceId"));
    // The contract answers 400 here, and not 404, to an id that is not known.
    find(&*hub, id, false).await.map_err(|problem| match problem.code() {
        Code::NotFound => problem.with_status(StatusCode::BAD_REQUEST),
        _ => problem,
    })?;
    let restart_with_new_instance_id = call.flag("restartWithNewInstanceId", true);
    let request = proto::RestartInstanceRequest { instance_id: id.to_owned(), restart_with_new_instance_id };
    let started = hub.restart_instance(request).await?;
    answer_started(app, call, &*hub, &started.instance_id).await
}

/// `DELETE /instances/{instanceId}`
pub(crate) async fn purge(app: &App, call: &Call) -> Answer {
    let (hub, id) = (app.hub(call).await?, call.part("instanceId"));
    let state = find(&*hub, id, false).await?;
    if !has_ended(state.orchestration_status()) {
        let detail = format!("orchestration instance \"{id}\" has not ended; terminate it before it is purged");
        return Err(Problem::new(Code::NotPossibleNow, detail));
    }
    let request = proto::PurgeInstancesRequest {
        request: Some(PurgeRequest::InstanceId(id.to_owned())),
        recursive: false,
        is_orchestration: true,
    };
    match hub.purge_instances(request).await?.deleted_instance_count {
        0 => Err(no_such(id)),
        deleted => Ok(json_response(200, format!("{{\"instancesDeleted\":{deleted}}}"))),
    }
}
