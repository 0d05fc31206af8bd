//! Runs of pipelines over HTTP: start one, look at it until it has ended, cancel it. Who runs them is behind the trait
//! [`Runs`]; this module must never know where pipelines lie, nor open a file.

use std::fmt;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;
use seriatim_durable::proto;

use crate::app::App;
use crate::call::{Call, Payload};
use crate::durable::answers::{accepted, ask_again, json_response};
use crate::json::{self, Object};
use crate::problem::{Code, Problem};
use crate::route::Answer;

/// Seconds after which a client shall look at a run again.
const LOOK_AGAIN: u16 = 5;

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunPhase {
    /// It was begun and has not ended.
    Running,
    /// It has published what there was to publish.
    Completed,
    /// It failed; nothing of it was published.
    Failed,
    /// It was cancelled; nothing of it was published.
    Cancelled,
}

impl RunPhase {
    /// The word of the Durable Functions contract for it, so that one client can wait for both.
    fn word(self) -> &'static str {
        match self {
            Self::Running => "Running",
            Self::Completed => "Completed",
            Self::Failed => "Failed",
            Self::Cancelled => "Terminated",
        }
    }
}

/// A run of a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its id, for its address.
    pub id: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// Where it stands.
    pub phase: RunPhase,
    /// All that there is to say about it.
    pub document: Value,
}

/// Why something could not be done with a run. Messages go to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RunsError {
    /// There is no such run or no such pipeline.
    #[error("{0}")]
    NotFound(String),
    /// The pipeline file is wrong.
    #[error("{0}")]
    Invalid(String),
    /// Not possible now: another process has the pipeline's state, or a name means two things.
    #[error("{0}")]
    NotPossibleNow(String),
    /// The run has ended.
    #[error("{0}")]
    Ended(String),
    /// Something failed inside. The message goes to the log only.
    #[error("{0}")]
    Failed(String),
}

/// Runs pipelines.
#[async_trait]
pub trait Runs: Send + Sync + fmt::Debug {
    /// Starts a run of a pipeline, or takes up the one that was interrupted, and returns once it is recorded. A
    /// `pipeline` that is not one of those that are offered is `NotFound`, whatever lies there.
    async fn start(&self, pipeline: &str, trace: Option<proto::TraceContext>) -> Result<Run, RunsError>;

    /// The run with this id.
    async fn get(&self, id: &str) -> Result<Run, RunsError>;

    /// All runs of all pipelines that are offered, the newest first.
    async fn list(&self) -> Result<Vec<Run>, RunsError>;

    /// Asks a run to end without publishing anything. `Ended` if it has ended already. One that is being published
    /// comes to its end instead.
    async fn cancel(&self, id: &str) -> Result<(), RunsError>;
}

impl From<RunsError> for Problem {
    fn from(error: RunsError) -> Self {
        match error {
            RunsError::NotFound(detail) => Self::new(Code::NotFound, detail),
            RunsError::Invalid(detail) => Self::new(Code::InvalidPipeline, detail),
            RunsError::NotPossibleNow(detail) => Self::new(Code::NotPossibleNow, detail),
            RunsError::Ended(detail) => Self::new(Code::Ended, detail),
            RunsError::Failed(cause) => Self::internal(cause),
        }
    }
}

/// The body of `POST /runs`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StartRun {
    pipeline: String,
}

/// `POST /runs`
pub(crate) async fn start(app: &App, call: &Call) -> Answer {
    let runs = app.runs()?;
    let from_body = match &call.payload {
        Payload::Json(text) => {
            let wrong = |error| {
                Problem::new(Code::InvalidRequest, format!("the body is not {{\"pipeline\": \"name\"}}: {error}"))
            };
            Some(serde_json::from_str::<StartRun>(text).map_err(wrong)?.pipeline)
        }
        Payload::Nothing | Payload::Text(_) => None,
    };
    let pipeline = from_body.or_else(|| call.text("pipeline").map(str::to_owned)).ok_or_else(|| {
        let detail = "say which pipeline shall run: with the body {\"pipeline\": \"name\"}, or with ?pipeline=name";
        Problem::new(Code::InvalidRequest, detail)
    })?;
    let run = runs.start(&pipeline, call.trace.clone()).await?;
    let own = app.links.run(&run.id);
    ask_again(json_response(202, shown(app, &run)), &own, LOOK_AGAIN)
}

/// `GET /runs/{runId}`
pub(crate) async fn get(app: &App, call: &Call) -> Answer {
    let run = app.runs()?.get(call.part("runId")).await?;
    let body = shown(app, &run);
    match run.phase {
        RunPhase::Running => ask_again(json_response(202, body), &app.links.run_again(&run.id, call), LOOK_AGAIN),
        RunPhase::Failed if call.flag("returnInternalServerErrorOnFailure", false) => Ok(json_response(500, body)),
        RunPhase::Completed | RunPhase::Failed | RunPhase::Cancelled => Ok(json_response(200, body)),
    }
}

/// `GET /runs`
pub(crate) async fn list(app: &App, call: &Call) -> Answer {
    let runs = app.runs()?.list().await?;
    let wanted = call.text("pipeline");
    let most = call.count("top").unwrap_or(crate::durable::lists::PAGE) as usize;
    let rows = runs.iter().filter(|run| wanted.is_none_or(|name| run.pipeline == name)).take(most);
    let rows = json::array(rows.map(|run| shown(app, run)));
    Ok(json_response(200, Object::new().raw("runs", &rows).end()))
}

/// `POST /runs/{runId}/cancel`
pub(crate) async fn cancel(app: &App, call: &Call) -> Answer {
    app.runs()?.cancel(call.part("runId")).await?;
    Ok(accepted())
}

fn shown(app: &App, run: &Run) -> String {
    let own = app.links.run(&run.id);
    Object::new()
        .text("id", &run.id)
        .text("pipeline", &run.pipeline)
        .text("runtimeStatus", run.phase.word())
        .text("statusQueryGetUri", &own)
        .text("cancelPostUri", &format!("{own}/cancel"))
        .raw("run", &run.document.to_string())
        .end()
}
