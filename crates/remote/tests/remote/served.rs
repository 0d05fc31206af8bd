//! The server that `seriatim serve` is, as the hub of our own worker and client.

use std::sync::Arc;

use seriatim_remote::{RemoteHub, Variables};
use seriatim_serve::grpc::{GrpcServer, Limits, Security, ServeError};
use seriatim_serve::hubs::{Hubs, HubsOptions};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::suite;

/// A server on a free port with an empty state folder.
pub(crate) struct Served {
    url: String,
    hubs: Arc<Hubs>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), ServeError>>,
    _state: TempDir,
}

impl Served {
    pub(crate) async fn start() -> Self {
        let state = tempfile::tempdir().unwrap();
        let address = "127.0.0.1:0".parse().unwrap();
        let server = GrpcServer::bind(address, Security::default(), Limits::default()).await.unwrap();
        let url = format!("http://{}", server.address());
        let hubs = Hubs::open(state.path(), HubsOptions::default()).await.unwrap();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(server.run(Arc::clone(&hubs), async {
            let _ = stopped.await;
        }));
        Self { url, hubs, stop, running, _state: state }
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        self.hubs.close().await.unwrap();
        self.running.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pattern_on_the_served_hub() {
    let served = Served::start().await;
    let hub = || {
        let builder = RemoteHub::builder(served.url().parse().unwrap()).task_hub("patterns");
        Arc::new(builder.build(&Variables::of::<&str, &str>([])).unwrap())
    };
    let worker = suite::start_worker(hub());
    suite::all(hub()).await;
    worker.stop().await.unwrap();
    served.stop().await;
}
