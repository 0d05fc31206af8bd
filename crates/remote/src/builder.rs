//! The settings of a [`RemoteHub`], checked before anything is sent. This module must never open a connection.

use std::sync::Arc;
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

use crate::address::Address;
use crate::connection::{Connection, Headers, Limits};
use crate::credential::{Credential, CredentialError, TokenCache, Variables, credential_for, default_resource};
use crate::hub::RemoteHub;
use crate::payload::{PayloadStore, Payloads};
use crate::tls::TlsOptions;

/// Why a hub's settings do not fit together.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The credential lacks something.
    #[error("no credential for the task hub: {0}")]
    Credential(#[from] CredentialError),
    /// A certificate or key cannot be used.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// A token would go over the network in plain text.
    #[error("a token is not sent to {0} in plain text: use https://, or a loopback address")]
    PlainText(String),
    /// The task hub's name cannot go into a header.
    #[error("the task hub's name {0:?} has characters that a header cannot carry")]
    TaskHub(String),
    /// There is no Tokio runtime here.
    #[error("a remote hub must be made within a Tokio runtime")]
    NoRuntime,
}

/// The settings of a [`RemoteHub`].
#[derive(Debug)]
pub struct RemoteHubBuilder {
    address: Address,
    task_hub: Option<String>,
    credential: Option<Arc<dyn Credential>>,
    resource: Option<String>,
    tls: TlsOptions,
    payloads: Option<Payloads>,
    keep_alive: Option<Duration>,
    limits: Limits,
}

impl RemoteHubBuilder {
    pub(crate) fn new(address: Address) -> Self {
        Self {
            address,
            task_hub: None,
            credential: None,
            resource: None,
            tls: TlsOptions::default(),
            payloads: None,
            keep_alive: Some(Duration::from_secs(30)),
            limits: Limits::default(),
        }
    }

    /// The task hub by name, for a server that has several (default: the address's, or the server's only one).
    #[must_use]
    pub fn task_hub(mut self, name: impl Into<String>) -> Self {
        self.task_hub = Some(name.into());
        self
    }

    /// Who asks (default: what the address's connection string says).
    #[must_use]
    pub fn credential(mut self, credential: Arc<dyn Credential>) -> Self {
        self.credential = Some(credential);
        self
    }

    /// What tokens are asked for (default: `https://durabletask.io`, in the clouds of the United States' government
    /// `https://durabletask.azure.us`).
    #[must_use]
    pub fn token_resource(mut self, resource: impl Into<String>) -> Self {
        self.resource = Some(resource.into());
        self
    }

    /// What TLS trusts and shows (for an `https` address).
    #[must_use]
    pub fn tls(mut self, tls: TlsOptions) -> Self {
        self.tls = tls;
        self
    }

    /// Payloads above `threshold` bytes are kept in `store` and go by reference. Every worker and client of the task hub
    /// needs the same store. The official SDKs' threshold is [`payload::THRESHOLD`](crate::payload::THRESHOLD).
    #[must_use]
    pub fn payloads(mut self, store: Arc<dyn PayloadStore>, threshold: usize) -> Self {
        self.payloads = Some(Payloads::new(store, threshold));
        self
    }

    /// How often a connection that is waited on is asked whether it lives (default: 30 s; range: 1 s and up). `None`
    /// never asks: for servers that take frequent asking for abuse and close the connection, as those on gRPC's C core
    /// (Python among them) do by default below five minutes.
    #[must_use]
    pub fn keep_alive(mut self, interval: Option<Duration>) -> Self {
        self.keep_alive = interval.map(|interval| interval.max(Duration::from_secs(1)));
        self
    }

    /// How long a call that may be sent again is sent again (default: 30 s). It then fails with
    /// [`HubError::Unavailable`](seriatim_durable::hub::HubError::Unavailable).
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.limits.patience = patience;
        self
    }

    /// How long the answer to a work item is offered to a hub that is out of reach (default: 5 min, longer than any
    /// lease of an orchestrator's turn that we know of). It is then dropped: the item is done again elsewhere.
    #[must_use]
    pub fn answer_patience(mut self, patience: Duration) -> Self {
        self.limits.answer_patience = patience;
        self
    }

    /// How long one attempt of a call other than a wait may take (default: 60 s).
    #[must_use]
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.limits.call_timeout = timeout;
        self
    }

    /// A hub that has sent a health ping and then nothing for this long is taken for lost (default: 120 s, as in the
    /// official SDKs).
    #[must_use]
    pub fn longest_silence(mut self, silence: Duration) -> Self {
        self.limits.silence = silence;
        self
    }

    /// The largest message that the hub takes (default: 4,089,446 bytes, as the official SDKs send at most; gRPC
    /// servers take 4 MiB unless told otherwise). A larger orchestrator's answer goes in parts.
    #[must_use]
    pub fn max_sent_bytes(mut self, bytes: usize) -> Self {
        self.limits.sent_bytes = bytes.max(1);
        self
    }

    /// The largest message that is taken from the hub (default: 128 MiB). A work item has a whole history in it if the
    /// hub does not stream histories.
    #[must_use]
    pub fn max_received_bytes(mut self, bytes: usize) -> Self {
        self.limits.received_bytes = bytes.max(1);
        self
    }

    /// The hub. Opens no connection: the first call does. `variables` are what credentials look their settings up in.
    /// Must be called within a Tokio runtime, which drives the connection.
    pub fn build(self, variables: &Variables) -> Result<RemoteHub, BuildError> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(BuildError::NoRuntime);
        }
        let credential = match self.credential {
            Some(credential) => Some(credential),
            None => credential_for(&self.address, variables)?,
        };
        if credential.is_some() && !self.address.is_tls() && !self.address.is_loopback() {
            return Err(BuildError::PlainText(self.address.endpoint().to_owned()));
        }
        let resource = self.resource.unwrap_or_else(|| default_resource(&self.address, variables).to_owned());
        let task_hub = self.task_hub.as_deref().or(self.address.task_hub()).map(header).transpose()?;
        let headers = Headers { task_hub, worker: header(&worker_id())?, agent: header(AGENT)? };
        let channel = channel(&self.address, &self.tls, self.keep_alive)?;
        let tokens = credential.map(|credential| TokenCache::new(credential, resource));
        let connection = Connection::new(&self.address, channel, headers, tokens, self.limits);
        Ok(RemoteHub::new(connection, self.payloads))
    }
}

const AGENT: &str = concat!("seriatim/", env!("CARGO_PKG_VERSION"));

/// Who this worker is, for people who look at a hub: process and a part that is new each time.
fn worker_id() -> String {
    format!("seriatim,{},{}", std::process::id(), Uuid::new_v4().as_simple())
}

fn header(text: &str) -> Result<MetadataValue<Ascii>, BuildError> {
    text.parse().map_err(|_| BuildError::TaskHub(text.to_owned()))
}

fn channel(address: &Address, tls: &TlsOptions, keep_alive: Option<Duration>) -> Result<Channel, BuildError> {
    let broken = |error: tonic::transport::Error| BuildError::Tls(crate::in_full(&error));
    let mut endpoint = Endpoint::from_shared(address.endpoint().to_owned()).map_err(broken)?;
    if address.is_tls() {
        endpoint = endpoint.tls_config(tls.config()?).map_err(broken)?;
    }
    endpoint = endpoint
        .connect_timeout(Duration::from_secs(10))
        .tcp_keepalive(Some(Duration::from_mins(1)))
        // A worker of many cores has thousands of answers under way on one connection.
        .initial_connection_window_size(Some(16 << 20))
        .initial_stream_window_size(Some(4 << 20));
    if let Some(interval) = keep_alive {
        endpoint = endpoint.http2_keep_alive_interval(interval).keep_alive_timeout(Duration::from_secs(20));
    }
    Ok(endpoint.connect_lazy())
}
