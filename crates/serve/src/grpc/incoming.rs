//! Connections as the server takes them: so many at a time, none that never says a word, and none that stays without a call
//! that is let in, or whoever has no token could hold them all. This module must never read or change what goes over a
//! connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tonic::transport::server::Connected;

/// How long to wait when the system cannot give a connection (no more file descriptors, say).
const PAUSE: Duration = Duration::from_millis(100);

/// So many bytes a client sends before anything else: HTTP/2's preface. A TLS handshake begins with more.
const PREFACE: usize = 24;

/// The connections to this listener, at most so many at a time. One that has not sent its first bytes within `patience`
/// is dropped, and so is one that has made no call within `first_call` that was let in.
pub(super) fn connections(
    listener: TcpListener,
    most: usize,
    patience: Duration,
    first_call: Duration,
) -> impl Stream<Item = io::Result<Connection>> {
    stream::unfold((listener, Arc::new(Semaphore::new(most))), move |(listener, room)| async move {
        let permit = Arc::clone(&room).acquire_owned().await.ok()?;
        let stream = loop {
            match listener.accept().await {
                Ok((stream, _)) => break stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot take a connection; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "the connection was closed at once");
        }
        let opening = Opening { missing: PREFACE, deadline: Box::pin(tokio::time::sleep(patience)) };
        let peer = Peer::default();
        let unknown = Some(Box::pin(tokio::time::sleep(first_call)));
        let connection = Connection { stream, opening: Some(opening), peer, unknown, _permit: permit };
        Some((Ok(connection), (listener, room)))
    })
}

/// The first bytes of a connection have not come yet.
#[derive(Debug)]
struct Opening {
    missing: usize,
    deadline: Pin<Box<Sleep>>,
}

/// Who is at the other end, as each call of a connection has it among its extensions.
#[derive(Debug, Clone, Default)]
pub(super) struct Peer(Arc<AtomicBool>);

impl Peer {
    /// A call was let in.
    pub(super) fn is_let_in(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    opening: Option<Opening>,
    peer: Peer,
    /// Until when a call must be let in; `None` when one was.
    unknown: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.peer.0.load(Ordering::Relaxed) {
            this.unknown = None;
        } else if this.unknown.as_mut().is_some_and(|deadline| deadline.as_mut().poll(context).is_ready()) {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client made no call that was let in",
            )));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        let Some(opening) = &mut this.opening else {
            return read;
        };
        opening.missing = opening.missing.saturating_sub(buffer.filled().len() - before);
        if opening.missing == 0 {
            this.opening = None;
        } else if opening.deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not begin")));
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
