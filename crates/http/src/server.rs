//! The socket: connections up to a limit, TLS where it is set, and an end for whoever is slow to ask, to send or to
//! take. Must never let a client hold a connection without making progress.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::app::App;
use crate::hubs::Hubs;
use crate::options::{Limits, Options, OptionsError, Tls};
use crate::runs::Runs;

/// Where a listener fails for want of something that comes back (file handles), it is tried again after this time.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Why a server does not begin, or ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The settings do not go with the address.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The listener has no address.
    #[error("the HTTP listener has no address: {0}")]
    Listener(#[source] io::Error),
    /// The certificate or its key cannot be used.
    #[error("TLS cannot begin with {file}: {reason}")]
    Tls {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Serves until `shutdown` is done; requests that are under way then have [`Limits::grace`] to end. Refuses to begin
/// where [`Options::check`] does.
pub async fn serve(
    listener: TcpListener,
    hubs: Arc<dyn Hubs>,
    runs: Option<Arc<dyn Runs>>,
    options: Options,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let address = listener.local_addr().map_err(ServeError::Listener)?;
    let tls = options.tls.as_ref().map(acceptor).transpose()?;
    let limits = options.limits.clone();
    let telemetry = options.telemetry.clone();
    let (close, closing) = watch::channel(false);
    let app = App::new(hubs, runs, options, address, closing)?;
    let server = Server { router: Arc::clone(&app).into_router(), app, tls, limits };
    server.run(listener, close, shutdown).await;
    if let Some(telemetry) = telemetry {
        telemetry.flush().await;
    }
    Ok(())
}

/// What connections share.
#[derive(Clone)]
struct Server {
    app: Arc<App>,
    router: Router,
    tls: Option<TlsAcceptor>,
    limits: Limits,
}

impl Server {
    async fn run(self, listener: TcpListener, close: watch::Sender<bool>, shutdown: impl Future<Output = ()> + Send) {
        let free = Arc::new(Semaphore::new(self.limits.connections));
        let graceful = GracefulShutdown::new();
        // Connections end when this is dropped, whatever they are at.
        let (alive, cut) = watch::channel(());
        tokio::pin!(shutdown);
        loop {
            let next = async {
                // The semaphore is never closed. A place is taken before the connection, so that whoever has to wait
                // does so in the system's queue and costs nothing here.
                let place = Arc::clone(&free).acquire_owned().await.ok();
                (place, listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                next = next => next,
                () = &mut shutdown => break,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (server, watcher, mut cut) = (self.clone(), graceful.watcher(), cut.clone());
                    tokio::spawn(async move {
                        server.app.metrics.connected();
                        tokio::select! {
                            () = server.connection(stream, watcher) => {}
                            _ = cut.changed() => {}
                        }
                        server.app.metrics.disconnected();
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_AGAIN).await;
                }
            }
        }
        drop(listener);
        close.send_replace(true);
        if timeout(self.limits.grace, graceful.shutdown()).await.is_err() {
            tracing::warn!("some requests did not end in time, and are cut off");
        }
        drop(alive);
    }

    async fn connection(&self, stream: TcpStream, watcher: Watcher) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection sends small answers late");
        }
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.limits.write_time));
        let stream = Box::pin(stream);
        match &self.tls {
            None => self.speak(stream, watcher).await,
            Some(tls) => match timeout(self.limits.head_time, tls.accept(stream)).await {
                Ok(Ok(stream)) => self.speak(Box::pin(stream), watcher).await,
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => tracing::debug!("a TLS handshake took too long"),
            },
        }
    }

    async fn speak<S: AsyncRead + AsyncWrite + Send + 'static>(&self, stream: Pin<Box<S>>, watcher: Watcher) {
        let service = TowerToHyperService::new(self.router.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head_time)
            .max_buf_size(self.limits.head)
            .max_headers(self.limits.headers)
            .serve_connection(TokioIo::new(stream), service);
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(%error, "a connection ended early");
        }
    }
}

/// The certificates in a file.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, ServeError> {
    let found: Vec<_> =
        CertificateDer::pem_file_iter(file).and_then(Iterator::collect).map_err(|error| cannot_use(file, &error))?;
    if found.is_empty() { Err(cannot_use(file, &"there is no certificate in it")) } else { Ok(found) }
}

fn cannot_use(file: &Path, reason: &dyn std::fmt::Display) -> ServeError {
    ServeError::Tls { file: file.display().to_string(), reason: reason.to_string() }
}

/// Who is let in: everybody, or whoever has a certificate of these authorities.
fn clients(tls: &Tls, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, ServeError> {
    let Some(file) = &tls.client_ca else {
        return Ok(WebPkiClientVerifier::no_client_auth());
    };
    let mut roots = RootCertStore::empty();
    for authority in certificates(file)? {
        roots.add(authority).map_err(|error| cannot_use(file, &error))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| cannot_use(file, &error))
}

/// TLS from its files.
fn acceptor(tls: &Tls) -> Result<TlsAcceptor, ServeError> {
    let chain = certificates(&tls.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| cannot_use(&tls.key, &error))?;
    let provider = Arc::new(ring::default_provider());
    let clients = clients(tls, &provider)?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_client_cert_verifier(clients).with_single_cert(chain, key))
        .map_err(|error| cannot_use(&tls.certificate, &error))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
