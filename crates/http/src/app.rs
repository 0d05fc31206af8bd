//! What happens to every request: its route is found, its sender checked, its body read within limits, and what its
//! handler says is sent, with headers that keep browsers from making more of it. Must never log a query or a body.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Response};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use seriatim_durable::TaskHub;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::auth;
use crate::call::{Call, lookup, query_pairs};
use crate::hubs::Hubs;
use crate::links::Links;
use crate::metrics::Metrics;
use crate::options::{Limits, Options, OptionsError};
use crate::problem::{Code, Problem};
use crate::route::{Access, Answer, Found, Takes, find, without_prefix};
use crate::runs::Runs;
use crate::table::ROUTES;

/// What all requests share.
pub(crate) struct App {
    pub(crate) hubs: Arc<dyn Hubs>,
    runs: Option<Arc<dyn Runs>>,
    pub(crate) options: Options,
    pub(crate) links: Links,
    pub(crate) metrics: Metrics,
    /// The path of the public URL; requests may come with it or without.
    public_path: String,
    /// Turns true when the server is told to end.
    pub(crate) closing: watch::Receiver<bool>,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("links", &self.links).finish_non_exhaustive()
    }
}

/// The API as a router without a socket, for a server of your own. `address` is where it listens: it is checked
/// against the options, and is the public URL where none is set. The limits on connections and slow clients are
/// [`serve`](crate::serve)'s.
pub fn router(
    hubs: Arc<dyn Hubs>,
    runs: Option<Arc<dyn Runs>>,
    options: Options,
    address: SocketAddr,
) -> Result<Router, OptionsError> {
    let (_, never) = watch::channel(false);
    Ok(App::new(hubs, runs, options, address, never)?.into_router())
}

impl App {
    /// An app with settings that allow it to listen on `address`.
    pub(crate) fn new(
        hubs: Arc<dyn Hubs>,
        runs: Option<Arc<dyn Runs>>,
        options: Options,
        address: SocketAddr,
        closing: watch::Receiver<bool>,
    ) -> Result<Arc<Self>, OptionsError> {
        options.check(address)?;
        let links = Links { base: options.base(address), durable: options.durable_path.clone() };
        let public_path = options.public_url.as_ref().map_or("", |url| url.path()).trim_end_matches('/').to_owned();
        Ok(Arc::new(Self { hubs, runs, options, links, metrics: Metrics::default(), public_path, closing }))
    }

    /// Its routes. They are matched by [`find`] rather than by axum, which knows no paths without regard to case.
    pub(crate) fn into_router(self: Arc<Self>) -> Router {
        Router::new().fallback(move |request: Request| {
            let app = Arc::clone(&self);
            async move { app.answer(request).await }
        })
    }

    async fn answer(&self, request: Request) -> Response<Body> {
        let since = Instant::now();
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        let path = match without_prefix(path, &self.public_path) {
            Some(rest) if !self.public_path.is_empty() => rest,
            _ => path,
        };
        let found = find(ROUTES, &parts.method, path, &self.options.durable_path);
        let id = found.as_ref().map_or("none", |found| found.route.id);
        let outcome = self.outcome(found, &parts, body).await;
        let mut response = outcome.unwrap_or_else(Problem::into_response);
        harden(&mut response);
        let (status, took) = (response.status(), since.elapsed());
        self.metrics.count(id, status.as_u16(), took);
        tracing::debug!(method = %parts.method, route = id, status = status.as_u16(), ?took, "answered");
        response
    }

    async fn outcome(&self, found: Option<Found>, parts: &Parts, body: Body) -> Answer {
        let query = query_pairs(parts.uri.query());
        let open = found.as_ref().is_some_and(|found| found.route.access == Access::Open);
        if !open {
            // Also where there is no route: who may not use the server is not told what it has.
            auth::check(&self.options, &self.links.base, &parts.uri, &parts.headers, &query)?;
        }
        let Some(Found { route, parts: names }) = found else {
            let detail = "there is nothing at this address for this method; GET /openapi.json lists what there is";
            return Err(Problem::new(Code::NoSuchRoute, detail));
        };
        let limits = &self.options.limits;
        check_length(parts, limits)?;
        let mut call = Call::new(route, names, query, parts.headers.clone())?;
        let span = self.options.telemetry.as_ref().filter(|_| route.access == Access::Token);
        let span = span.map(|telemetry| telemetry.begin(route, call.trace.as_ref()));
        if let Some(span) = &span {
            call.trace = span.context();
        }
        let outcome = self.handle(call, body).await;
        if let Some(span) = span {
            span.end(outcome.as_ref().map_or_else(Problem::status, Response::status));
        }
        outcome
    }

    async fn handle(&self, call: Call, body: Body) -> Answer {
        let limits = &self.options.limits;
        let body = if call.route.takes == Takes::Nothing { Bytes::new() } else { read(body, limits).await? };
        let call = call.with_body(&body, limits.json_depth)?;
        (call.route.handler)(self, &call).await
    }

    /// The hub that a request means.
    pub(crate) async fn hub(&self, call: &Call) -> Result<Arc<dyn TaskHub>, Problem> {
        Ok(self.hubs.hub(lookup(&call.query, "taskHub")).await?)
    }

    /// What runs pipelines.
    pub(crate) fn runs(&self) -> Result<&Arc<dyn Runs>, Problem> {
        let detail = "this server was started without a folder of pipelines, so it runs none";
        self.runs.as_ref().ok_or_else(|| Problem::new(Code::RunsDisabled, detail))
    }
}

/// Refuses a body that says of itself that it is too large.
fn check_length(parts: &Parts, limits: &Limits) -> Result<(), Problem> {
    let length = parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limits.body as u64) { Err(too_large(limits)) } else { Ok(()) }
}

fn too_large(limits: &Limits) -> Problem {
    let detail = format!("a body may have {} bytes at most; pass large data by reference", limits.body);
    Problem::new(Code::BodyTooLarge, detail)
}

/// Reads a body, within its limits of size and time.
async fn read(body: Body, limits: &Limits) -> Result<Bytes, Problem> {
    match timeout(limits.body_time, Limited::new(body, limits.body).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(limits)),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a body could not be read");
            Err(Problem::new(Code::InvalidRequest, "the body broke off"))
        }
        Err(_) => {
            let detail = format!("the body did not arrive within {:?}", limits.body_time);
            Err(Problem::new(Code::RequestTimeout, detail))
        }
    }
}

/// No browser shall guess, keep, frame or run what it gets from an API.
fn harden(response: &mut Response<Body>) {
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let policy = "default-src 'none'; frame-ancestors 'none'";
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
}
