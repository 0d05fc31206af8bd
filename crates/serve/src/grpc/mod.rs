//! The gRPC server: the Durable Task protocol's `TaskHubSidecarService`, on one address. On loopback it speaks plain
//! text; elsewhere only TLS, and only to who has the token or a certificate. This module must never listen where
//! anybody could come in.

mod access;
mod incoming;
mod service;
mod status;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use seriatim_wire::service::task_hub_sidecar_service_server::TaskHubSidecarServiceServer;
use tokio::net::TcpListener;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;

pub use access::{Security, Tls, Token};

use crate::hubs::Hubs;

/// How long a peer that does not answer counts as alive.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a silent peer is asked whether it lives: the items of a worker whose machine is gone go to another one
/// after this and [`PATIENCE`].
const ASK_EVERY: Duration = Duration::from_secs(20);

/// How long calls may take to end when the server stops.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// What a client may ask of the server, at most.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of one message that is received. Default: 64 MiB.
    pub message_bytes: usize,
    /// Bytes of one call's headers. Default: 16 KiB.
    pub header_bytes: u32,
    /// Connections at a time; more wait until one is closed. Default: 1,000.
    pub connections: usize,
    /// Calls at a time on one connection, streams of work items among them; more wait. Default: 1,000.
    pub calls_per_connection: u32,
    /// How long a client may take to begin: for its first bytes, and for its part of a TLS handshake. Default: 10 s.
    pub handshake: Duration,
    /// How long a connection may go without a call that is let in, from its beginning. Default: 60 s.
    pub first_call: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 64 * 1024 * 1024,
            header_bytes: 16 * 1024,
            connections: 1_000,
            calls_per_connection: 1_000,
            handshake: Duration::from_secs(10),
            first_call: Duration::from_mins(1),
        }
    }
}

/// Why the server does not start or ended, by what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address can be reached from elsewhere, and what protects it is missing: give it.
    #[error("{address} can be reached from other machines, so {missing}")]
    Unprotected {
        /// The address.
        address: SocketAddr,
        /// What is missing, and how to give it.
        missing: &'static str,
    },
    /// The token cannot be one: choose another.
    #[error("the token cannot be used: {0}")]
    Token(&'static str),
    /// The address cannot be listened on: look at the cause, or choose another.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The certificate or its key cannot be used: look at the cause.
    #[error("cannot use the TLS certificate, its key or the clients' CA")]
    Tls(#[source] tonic::transport::Error),
    /// The server failed while it ran: look at the cause.
    #[error("the gRPC server failed")]
    Failed(#[source] tonic::transport::Error),
}

/// A gRPC server that has its address and answers nobody yet.
#[derive(Debug)]
pub struct GrpcServer {
    listener: TcpListener,
    address: SocketAddr,
    builder: Server,
    security: Security,
    limits: Limits,
}

impl GrpcServer {
    /// Takes the address (port 0: one that is free), if it may be served with what protects it. Must be called in a
    /// Tokio runtime.
    pub async fn bind(address: SocketAddr, security: Security, limits: Limits) -> Result<Self, ServeError> {
        security.check(address)?;
        let mut builder = Server::builder()
            .max_concurrent_streams(limits.calls_per_connection)
            .http2_max_header_list_size(limits.header_bytes)
            .http2_keepalive_interval(Some(ASK_EVERY))
            .http2_keepalive_timeout(Some(PATIENCE));
        if let Some(tls) = &security.tls {
            builder = builder.tls_config(tls.config(limits.handshake)).map_err(ServeError::Tls)?;
        }
        let cannot_listen = |source| ServeError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(cannot_listen)?;
        let address = listener.local_addr().map_err(cannot_listen)?;
        Ok(Self { listener, address, builder, security, limits })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it speaks TLS.
    pub fn is_encrypted(&self) -> bool {
        self.security.tls.is_some()
    }

    /// Serves until `stop` is over. Then it takes no more connections, and calls have a few seconds to end; close the
    /// hubs meanwhile, or streams and waits will last.
    pub async fn run(mut self, hubs: Arc<Hubs>, stop: impl Future<Output = ()> + Send) -> Result<(), ServeError> {
        let service = TaskHubSidecarServiceServer::new(service::Service::new(hubs))
            .max_decoding_message_size(self.limits.message_bytes);
        let service = InterceptedService::new(service, access::Access::new(self.security.token));
        let limits = &self.limits;
        let incoming = incoming::connections(self.listener, limits.connections, limits.handshake, limits.first_call);
        let (stopping, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = self.builder.add_service(service).serve_with_incoming_shutdown(incoming, async {
            stop.await;
            let _ = stopping.send(()); // who serves waits for it
        });
        tokio::select! {
            outcome = serving => outcome.map_err(ServeError::Failed),
            () = async {
                let _ = stopped.await; // its sender lives as long as the server
                tokio::time::sleep(STOP_GRACE).await;
            } => Ok(()),
        }
    }
}
