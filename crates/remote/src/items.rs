//! The stream of work items: opened, watched, and each item made ready for a worker. This module must never drop an item
//! silently: one that cannot be made ready is given back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use seriatim_durable::hub::{HubError, HubResult, WorkItemStream};
use seriatim_durable::proto;
use seriatim_durable::proto::work_item::Request;
use tokio::time::{sleep, timeout};
use tonic::Streaming;

use crate::hub::Inner;

/// How long an item whose payload is out of reach is kept before it goes back: the next worker may fare no better.
const HELD_BEFORE_ABANDONING: Duration = Duration::from_secs(2);

/// The kinds of work item. The protocol gives each of them back by a call of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Activity,
    Orchestrator,
    Entity,
}

impl Kind {
    fn of(request: &Request) -> Option<Self> {
        match request {
            Request::OrchestratorRequest(_) => Some(Self::Orchestrator),
            Request::ActivityRequest(_) => Some(Self::Activity),
            Request::EntityRequest(_) | Request::EntityRequestV2(_) => Some(Self::Entity),
            Request::HealthPing(_) => None,
        }
    }
}

/// Which kinds of item the completion tokens belong to that are with a worker here. Not every hub has tokens that tell
/// its items apart, so a token may stand for several.
#[derive(Debug, Default)]
pub(crate) struct Held(Mutex<HashMap<String, Vec<Kind>>>);

impl Held {
    fn add(&self, token: &str, kind: Kind) {
        self.lock().entry(token.to_owned()).or_default().push(kind);
    }

    /// An item was answered.
    pub(crate) fn answered(&self, token: &str, kind: Kind) {
        let mut held = self.lock();
        if let Some(kinds) = held.get_mut(token) {
            if let Some(place) = kinds.iter().position(|k| *k == kind) {
                kinds.swap_remove(place);
            }
            if kinds.is_empty() {
                held.remove(token);
            }
        }
    }

    /// The kinds of what is given back under this token.
    pub(crate) fn take(&self, token: &str) -> Vec<Kind> {
        self.lock().remove(token).unwrap_or_default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Vec<Kind>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that is being opened, or open.
enum Source {
    /// Not every server answers before it has an item, so the opening is part of the waiting for one.
    Opening(BoxFuture<'static, HubResult<Streaming<proto::WorkItem>>>),
    Open(Box<Streaming<proto::WorkItem>>),
}

struct Items {
    inner: Arc<Inner>,
    source: Source,
    /// Whether this hub sends health pings: then silence means something.
    pings: bool,
}

/// Opens a stream of items. An error comes as an item, which is the last.
pub(crate) fn open(inner: Arc<Inner>, request: proto::GetWorkItemsRequest) -> WorkItemStream {
    let opener = Arc::clone(&inner);
    let opening = async move {
        let send = |mut stub: crate::connection::Stub, request| async move { stub.get_work_items(request).await };
        match opener.connection.attempt(None, request, &send).await {
            Ok((stream, _)) => Ok(stream),
            Err((failed, token)) => {
                opener.connection.refuse_token(&failed, token.as_ref());
                // The hub had just said hello: whatever this is, it is new, and may pass.
                Err(as_lost(opener.connection.explain("GetWorkItems", &failed)))
            }
        }
    };
    let items = Items { inner, source: Source::Opening(opening.boxed()), pings: false };
    stream::unfold(Some(items), |items| async move {
        let mut items = items?;
        match items.next().await {
            Ok(item) => Some((Ok(item), Some(items))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

/// A stream that was open ends only because the way to the hub or the hub itself did.
fn as_lost(error: HubError) -> HubError {
    match error {
        HubError::InvalidArgument(_) | HubError::Unimplemented(_) | HubError::Unavailable(_) => error,
        other => HubError::Unavailable(other.to_string()),
    }
}

impl Items {
    async fn next(&mut self) -> HubResult<proto::WorkItem> {
        loop {
            let item = self.receive().await?;
            match &item.request {
                None => {}
                Some(Request::HealthPing(_)) => {
                    self.pings = true;
                    return Ok(item);
                }
                Some(request) => {
                    if let Some(kind) = Kind::of(request) {
                        self.inner.held.add(&item.completion_token, kind);
                    }
                    if let Some(item) = self.make_ready(item).await {
                        return Ok(item);
                    }
                }
            }
        }
    }

    async fn receive(&mut self) -> HubResult<proto::WorkItem> {
        let stream = loop {
            match &mut self.source {
                Source::Open(stream) => break stream,
                Source::Opening(opening) => self.source = Source::Open(Box::new(opening.await?)),
            }
        };
        let silence = self.inner.connection.limits.silence;
        let received = if self.pings {
            timeout(silence, stream.message()).await.map_err(|_| {
                let text = format!("the task hub has said nothing for {} s", silence.as_secs_f64());
                HubError::Unavailable(text)
            })?
        } else {
            stream.message().await
        };
        match received {
            Ok(Some(item)) => Ok(item),
            Ok(None) => Err(HubError::Unavailable("the task hub ended the stream of work items".to_owned())),
            Err(status) => {
                let failed = crate::connection::Failed::Status(Box::new(status));
                Err(as_lost(self.inner.connection.explain("GetWorkItems", &failed)))
            }
        }
    }

    /// Brings an item's payloads back. `None`: one is out of reach, and the item goes back.
    async fn make_ready(&mut self, mut item: proto::WorkItem) -> Option<proto::WorkItem> {
        let Some(payloads) = &self.inner.payloads else { return Some(item) };
        match payloads.resolve(&mut item).await {
            Ok(()) => Some(item),
            Err(error) => {
                tracing::error!(%error, "a work item goes back to the task hub, because its payload is out of reach");
                let inner = Arc::clone(&self.inner);
                tokio::spawn(async move {
                    sleep(HELD_BEFORE_ABANDONING).await;
                    if let Err(error) = inner.give_back(&item.completion_token).await {
                        tracing::debug!(%error, "the task hub would not take an item back");
                    }
                });
                None
            }
        }
    }
}
