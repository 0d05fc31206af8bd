//! Payloads by reference. What is larger than a threshold (inputs, outputs, states, events, statuses) is put into a
//! [`PayloadStore`], and a short token goes through the hub in its place; whoever receives the token gets the payload
//! back before anybody looks at it. Orchestrations, activities, entities and clients never see a token. The official
//! SDKs do the same, with Azure Blob Storage and tokens of their own; a worker says by the capability
//! `WORKER_CAPABILITY_LARGE_PAYLOADS` that it can. This module must never replace what is a token already, and never let
//! a token through to durable code that it could not resolve.
//!
//! A token can not be mistaken for a payload: payloads are JSON, and a token is not.

mod fields;
mod folder;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

pub(crate) use fields::Fields;
pub use folder::FolderStore;

/// The threshold of the official SDKs: 256 KiB.
pub const THRESHOLD: usize = 256 << 10;

/// Why a payload could not be kept or brought back.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// The store does not have it, or has something else in its place: it was removed or changed, or this store is not
    /// the one that the sender used.
    #[error("the payload {token} cannot be brought back: {reason}")]
    Lost {
        /// The token.
        token: String,
        /// What was found.
        reason: String,
    },
    /// The store is out of reach: try again later.
    #[error("the payload store failed: {0}")]
    Unavailable(String),
}

/// Keeps payloads beside the hub. All workers and clients of a task hub share one.
#[async_trait]
pub trait PayloadStore: fmt::Debug + Send + Sync {
    /// Keeps a payload and returns its token: short, and not JSON. When it returns, the payload is as durable as the
    /// store is. Keeping the same payload twice may give the same token.
    async fn put(&self, payload: &str) -> Result<String, PayloadError>;

    /// Brings a payload back, exactly as it was.
    async fn get(&self, token: &str) -> Result<String, PayloadError>;

    /// Whether a text is a token of this kind of store.
    fn is_token(&self, text: &str) -> bool;
}

/// A store, and what goes into it.
#[derive(Debug, Clone)]
pub(crate) struct Payloads {
    store: Arc<dyn PayloadStore>,
    threshold: usize,
}

impl Payloads {
    pub(crate) fn new(store: Arc<dyn PayloadStore>, threshold: usize) -> Self {
        Self { store, threshold }
    }

    /// Puts tokens in the place of large payloads.
    pub(crate) async fn keep(&self, message: &mut impl Fields) -> Result<(), PayloadError> {
        for field in message.fields() {
            if let Some(text) = field
                && text.len() > self.threshold
                && !self.store.is_token(text)
            {
                *text = self.store.put(text).await?;
            }
        }
        Ok(())
    }

    /// Puts payloads in the place of tokens.
    pub(crate) async fn resolve(&self, message: &mut impl Fields) -> Result<(), PayloadError> {
        for field in message.fields() {
            if let Some(text) = field
                && self.store.is_token(text)
            {
                *text = self.store.get(text).await?;
            }
        }
        Ok(())
    }
}
