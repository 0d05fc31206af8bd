//! Answers as the contract has them: statuses, headers, and the fields of an orchestration's status in their order.
//! Must never decide what is answered.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use axum::http::{HeaderValue, Response, StatusCode};
use seriatim_durable::proto;

use crate::call::status_name;
use crate::json::{self, Object};
use crate::problem::Problem;
use crate::time;

/// The header by which a listing goes on.
pub(crate) const CONTINUATION: &str = "x-ms-continuation-token";

/// An answer with a body of JSON.
pub(crate) fn json_response(status: u16, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    response
}

/// 202 and nothing else: it was taken, and happens in a while.
pub(crate) fn accepted() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}

/// The same answer with the place and the time to ask again.
pub(crate) fn ask_again(mut response: Response<Body>, location: &str, seconds: u16) -> Result<Response<Body>, Problem> {
    let location = HeaderValue::from_str(location).map_err(Problem::internal)?;
    response.headers_mut().insert(LOCATION, location);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    Ok(response)
}

/// The same answer with the token of the next page, if there is one.
pub(crate) fn with_next_page(mut response: Response<Body>, token: Option<&str>) -> Result<Response<Body>, Problem> {
    if let Some(token) = token.filter(|token| !token.is_empty()) {
        // A token may be an id with any characters in it, and a header takes only some.
        let token = HeaderValue::from_str(&crate::links::encode(token)).map_err(Problem::internal)?;
        response.headers_mut().insert(CONTINUATION, token);
    }
    Ok(response)
}

/// Whether an orchestration has ended.
pub(crate) fn has_ended(status: proto::OrchestrationStatus) -> bool {
    use proto::OrchestrationStatus::{Canceled, Completed, Failed, Terminated};
    matches!(status, Completed | Failed | Terminated | Canceled)
}

/// What an orchestration left behind: its output, or in words why it failed.
fn output(state: &proto::OrchestrationState) -> String {
    match (&state.output, &state.failure_details) {
        (None, Some(failure)) => json::quoted(&format!("{}: {}", failure.error_type, failure.error_message)),
        (output, _) => json::stored(output.as_deref()),
    }
}

/// An orchestration's status, its fields in the contract's order.
pub(crate) fn status(state: &proto::OrchestrationState, with_input: bool, history: Option<&str>) -> String {
    let when = |at: &Option<prost_types::Timestamp>| at.as_ref().map(time::seconds).unwrap_or_default();
    let input = if with_input { json::stored(state.input.as_deref()) } else { "null".to_owned() };
    let object = Object::new()
        .text("name", &state.name)
        .text("instanceId", &state.instance_id)
        .text("runtimeStatus", status_name(state.orchestration_status()))
        .raw("input", &input)
        .raw("customStatus", &json::stored(state.custom_status.as_deref()))
        .raw("output", &output(state))
        .text("createdTime", &when(&state.created_timestamp))
        .text("lastUpdatedTime", &when(&state.last_updated_timestamp));
    match history {
        Some(history) => object.raw("historyEvents", history),
        None => object,
    }
    .end()
}
