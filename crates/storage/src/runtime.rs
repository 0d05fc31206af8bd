//! The threads that talk to services: two, started with the first request, for the whole process. Callers wait for
//! them on threads of their own. This module must never block one of the two.

use std::future::Future;
use std::sync::OnceLock;

use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, Result};

/// Two: the work is waiting, decrypting and copying; more would take cores away from who uses the bytes.
const THREADS: usize = 2;

fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<std::io::Result<Runtime>> = OnceLock::new();
    let start = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(THREADS).thread_name("storage").enable_all().build()
    };
    RUNTIME
        .get_or_init(start)
        .as_ref()
        .map_err(|e| Error::new(ErrorKind::Other, format!("cannot start the threads that talk to storage: {e}")))
}

/// Does it there, and waits for it here.
pub(crate) fn wait<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let (done, result) = oneshot::channel();
    runtime()?.spawn(async move {
        // Nobody waits any more only if the waiting thread is gone.
        let _ = done.send(work.await);
    });
    futures::executor::block_on(result)
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Other, "a request ended without an answer")))
}

/// Lets it go on there.
pub(crate) fn start(work: impl Future<Output = ()> + Send + 'static) -> Result<()> {
    runtime()?.spawn(work);
    Ok(())
}
