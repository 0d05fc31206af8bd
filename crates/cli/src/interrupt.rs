//! Ctrl-C and SIGTERM: the first asks for a clean stop where one is possible, the second ends the process at once.
//! Must never do the stopping itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::error::{CliError, INTERRUPTED};

/// Tells when somebody wants this process to stop.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt {
    graceful: Arc<AtomicBool>,
    wanted: watch::Receiver<bool>,
}

/// While it lives, the first signal asks for a clean stop instead of ending the process.
#[derive(Debug)]
pub(crate) struct Graceful(Arc<AtomicBool>);

impl Interrupt {
    /// Starts to listen. Must be called in a runtime, and that runtime must live as long as the process works:
    /// signals go nowhere else from now on.
    pub(crate) fn listen() -> Result<Self, CliError> {
        let cannot = |error| CliError::failed(format!("cannot listen for signals: {error}"));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
        let graceful = Arc::new(AtomicBool::new(false));
        let (want, wanted) = watch::channel(false);
        let may_wait = Arc::clone(&graceful);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if !may_wait.load(Ordering::SeqCst) || want.send_replace(true) {
                    std::process::exit(i32::from(INTERRUPTED));
                }
            }
        });
        Ok(Self { graceful, wanted })
    }

    /// From now until the result is dropped, the first signal is for [`Self::wanted`].
    pub(crate) fn graceful(&self) -> Graceful {
        self.graceful.store(true, Ordering::SeqCst);
        Graceful(Arc::clone(&self.graceful))
    }

    /// Waits until a clean stop is wanted.
    pub(crate) async fn wanted(&self) {
        let mut wanted = self.wanted.clone();
        if wanted.wait_for(|wanted| *wanted).await.is_err() {
            // The listener is gone with its runtime: nobody will ever want anything.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Graceful {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}
