//! Whether the server is there, and whether its hub can work. Must never tell why it cannot: that is in the log.

use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use axum::http::header::CONTENT_TYPE;
use seriatim_durable::{HubResult, proto};
use tokio::time::timeout;

use crate::app::App;
use crate::call::Call;
use crate::durable::answers::json_response;
use crate::metrics;
use crate::openapi;
use crate::problem::{Code, Problem};
use crate::route::Answer;

/// A hub that answers no question within this time is not ready.
const PATIENCE: Duration = Duration::from_secs(5);

/// `GET /healthz`: the process answers.
pub(crate) fn alive() -> Response<Body> {
    json_response(200, r#"{"status":"ok"}"#.to_owned())
}

/// `GET /readyz`: the default hub answers too, and the server is not about to end.
pub(crate) async fn ready(app: &App, _: &Call) -> Answer {
    if *app.closing.borrow() {
        return Err(Problem::new(Code::Unavailable, "the server is about to end"));
    }
    match timeout(PATIENCE, ask(app)).await {
        Ok(answered) => answered.map_err(Problem::from)?,
        Err(_) => return Err(Problem::new(Code::Unavailable, "the task hub takes long to answer")),
    }
    Ok(json_response(200, r#"{"status":"ready"}"#.to_owned()))
}

/// Any question shows whether a hub can still answer: one that is fenced answers none.
async fn ask(app: &App) -> HubResult<()> {
    let question = proto::GetInstanceRequest { instance_id: "readyz".to_owned(), get_inputs_and_outputs: false };
    app.hubs.hub(None).await?.get_instance(question).await.map(|_| ())
}

/// `GET /metrics`.
pub(crate) async fn metrics(app: &App, _: &Call) -> Answer {
    let mut response = Response::new(Body::from(app.metrics.text(&app.hubs.open()).await));
    response.headers_mut().insert(CONTENT_TYPE, metrics::CONTENT_TYPE);
    Ok(response)
}

/// `GET /openapi.json`.
pub(crate) fn document(app: &App) -> Response<Body> {
    json_response(200, openapi::document(&app.links, !app.options.tokens.is_empty()).to_string())
}
