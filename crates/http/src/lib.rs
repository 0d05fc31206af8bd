//! A task hub over HTTP: the HTTP contract of Durable Functions, so that whatever can start and await an orchestration
//! there can do so here; runs of pipelines; health, metrics, and a document of all routes. It speaks to any
//! [`TaskHub`](seriatim_durable::TaskHub), and must never know more of one than that trait says.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use seriatim_durable::TaskHub;
//! use seriatim_http::{OneHub, Options, serve};
//! use tokio::net::TcpListener;
//!
//! # async fn example(hub: Arc<dyn TaskHub>) -> Result<(), Box<dyn std::error::Error>> {
//! let listener = TcpListener::bind("127.0.0.1:8080").await?;
//! let stop = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
//! serve(listener, Arc::new(OneHub(hub)), None, Options::default(), stop).await?;
//! # Ok(())
//! # }
//! ```
//!
//! - [`serve`] listens, with limits on what a client may hold; [`router`] is the same without a socket.
//! - [`Hubs`] says which hub a request means; [`Runs`] runs pipelines.
//! - [`Options`] has the tokens, the public URL, the limits; a server that others can reach needs a token.
//! - [`custom_handler`] is how the same server runs behind the Azure Functions host.
//!
//! Every route is a row of one table, from which `/openapi.json` is made.

mod app;
mod auth;
mod call;
mod custom_handler;
mod durable;
mod health;
mod hubs;
mod json;
mod links;
mod metrics;
mod openapi;
mod options;
mod problem;
mod route;
mod runs;
mod server;
mod table;
mod telemetry;
mod time;
mod trace;

pub use app::router;
pub use custom_handler::custom_handler;
pub use hubs::{HubFigures, Hubs, OneHub, OpenHub, WorkFigures};
pub use options::{DURABLE_PATH, Limits, Options, OptionsError, Secret, Tls};
pub use runs::{Run, RunPhase, Runs, RunsError};
pub use server::{ServeError, serve};
pub use telemetry::{Telemetry, TelemetryError};
pub use url::Url;
