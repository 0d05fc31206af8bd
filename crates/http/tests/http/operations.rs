//! What operators use: health, readiness, metrics, traces, a clean end, TLS.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use seriatim_durable::{HubResult, TaskHub};
use seriatim_http::{HubFigures, Hubs, Limits, OpenHub, Options, WorkFigures, serve};
use seriatim_hub::{EmbeddedHub, HubOptions};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::support::{DEADLINE, DURABLE, Served, send, to_end};

#[tokio::test]
async fn a_server_is_alive_without_its_hub_but_not_ready() {
    let served = Served::start().await;
    assert_eq!(served.get("/healthz").await.status, 200);
    assert_eq!(served.get("/readyz").await.json(), json!({"status": "ready"}));
    served.hub.close().await.unwrap();
    assert_eq!(served.get("/healthz").await.status, 200);
    let ready = served.get("/readyz").await;
    assert_eq!((ready.status, ready.code().as_str()), (503, "unavailable"));
    assert_eq!(ready.header("retry-after"), Some("5"));
    let asked = served.get(&format!("{DURABLE}/instances/any")).await;
    assert_eq!((asked.status, asked.code().as_str()), (503, "unavailable"));
}

/// The hub with the figures that an embedded one has.
#[derive(Debug)]
struct Figured(Arc<EmbeddedHub>);

#[async_trait::async_trait]
impl Hubs for Figured {
    async fn hub(&self, _: Option<&str>) -> HubResult<Arc<dyn TaskHub>> {
        Ok(Arc::clone(&self.0) as Arc<dyn TaskHub>)
    }

    fn open(&self) -> Vec<OpenHub> {
        let (journal, work) = (self.0.journal_stats(), self.0.dispatch_stats());
        let figures = |stats: seriatim_hub::WorkStats| WorkFigures {
            orchestrators: stats.orchestrators,
            activities: stats.activities,
            entities: stats.entities,
        };
        vec![OpenHub {
            name: "default".to_owned(),
            hub: Arc::clone(&self.0) as Arc<dyn TaskHub>,
            figures: Some(HubFigures {
                commits: journal.commits,
                batches: journal.batches,
                seconds_committing: journal.seconds_committing,
                workers: work.workers,
                handed_out: figures(work.handed_out),
                completed: figures(work.completed),
            }),
        }]
    }
}

#[tokio::test]
async fn metrics_show_requests_instances_work_items_and_the_journal() {
    let hub = EmbeddedHub::in_memory(HubOptions::default()).unwrap();
    let hubs = Arc::new(Figured(Arc::clone(&hub)));
    let served = Served::with_hubs(hub, hubs, Options::default(), None).await;
    let waited = served.post(&format!("{DURABLE}/orchestrators/greet?timeout=60"), "\"Ada\"").await;
    assert_eq!(waited.status, 200);
    served.started("wait", "one", "", "Running").await;
    served.get(&format!("{DURABLE}/instances/secret-name")).await;
    let answer = served.get("/metrics").await;
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for line in [
        "seriatim_http_requests_total{route=\"getInstance\",status=\"404\"} 1",
        "seriatim_http_requests_total{route=\"startOrchestration\",status=\"200\"} 1",
        "seriatim_http_connections 1",
        "seriatim_hub_instances{hub=\"default\",status=\"Completed\"} 1",
        "seriatim_hub_instances{hub=\"default\",status=\"Running\"} 1",
        "seriatim_hub_workers{hub=\"default\"} 1",
        "seriatim_hub_work_items_total{hub=\"default\",kind=\"orchestrator\"} 3",
        "seriatim_hub_work_items_completed_total{hub=\"default\",kind=\"orchestrator\"} 3",
        "seriatim_hub_work_items_completed_total{hub=\"default\",kind=\"activity\"} 1",
        "seriatim_hub_work_items_completed_total{hub=\"default\",kind=\"entity\"} 0",
    ] {
        assert!(answer.body.lines().any(|l| l == line), "no {line} in\n{}", answer.body);
    }
    assert!(!answer.body.contains("seriatim_hub_journal_commits_total{hub=\"default\"} 0"), "{}", answer.body);
    assert!(!answer.body.contains("secret-name"), "a client's words are no labels");
    served.stop().await;
}

#[tokio::test]
async fn a_trace_goes_on_from_the_client_to_the_activity() {
    let served = Served::start().await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [("traceparent", parent), ("tracestate", "vendor=1")];
    let path = format!("{DURABLE}/orchestrators/trace?timeout=60");
    let traced = served.send("POST", &path, &headers, "").await;
    assert_eq!(traced.json(), json!([parent, "vendor=1"]));
    let plain = served.send("POST", &path, &[("traceparent", "nonsense")], "").await;
    assert_eq!(plain.json(), json!([null, null]));
    served.stop().await;
}

#[tokio::test]
async fn a_server_that_ends_lets_waiting_clients_go() {
    // Longer than the test waits: they are let go at once, and not when the time is over.
    let limits = Limits { grace: DEADLINE * 5, ..Limits::default() };
    let mut served = Served::with(Options { limits, ..Options::default() }, None).await;
    let address = served.address;
    let waiting = tokio::spawn(async move {
        send(address, "POST", &format!("{DURABLE}/orchestrators/wait/patient?timeout=80"), &[], "").await
    });
    served.until(&format!("{DURABLE}/instances/patient"), |a| a.json()["runtimeStatus"] == "Running").await;
    served.begin_to_stop();
    let answer = timeout(DEADLINE, waiting).await.expect("it is let go").unwrap();
    assert_eq!(answer.status, 202, "{answer:?}");
    served.stop().await;
}

#[tokio::test]
async fn a_request_that_does_not_end_is_cut_off_when_the_server_ends() {
    let limits = Limits { grace: Duration::from_millis(50), body_time: DEADLINE * 5, ..Limits::default() };
    let served = Served::with(Options { limits, ..Options::default() }, None).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let head = format!("POST {DURABLE}/orchestrators/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n[1");
    stream.write_all(head.as_bytes()).await.unwrap();
    // The connection of this question itself is the second one: the server has both.
    served.until("/metrics", |answer| answer.body.contains("\nseriatim_http_connections 2\n")).await;
    served.stop().await;
    assert_eq!(to_end(&mut stream).await, b"");
}

#[tokio::test]
async fn a_server_that_others_could_reach_does_not_begin_without_a_token() {
    let hub = EmbeddedHub::in_memory(HubOptions::default()).unwrap();
    let hubs = Arc::new(seriatim_http::OneHub(Arc::clone(&hub) as Arc<dyn TaskHub>));
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let error = serve(listener, hubs, None, Options::default(), std::future::pending()).await.unwrap_err();
    assert!(error.to_string().contains("no token is set"), "{error}");
    hub.close().await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_named() {
    let hub = EmbeddedHub::in_memory(HubOptions::default()).unwrap();
    let hubs = Arc::new(seriatim_http::OneHub(Arc::clone(&hub) as Arc<dyn TaskHub>));
    let folder = tempfile::tempdir().unwrap();
    let certificate = folder.path().join("server.pem");
    std::fs::write(&certificate, "no certificate").unwrap();
    let tls = Some(seriatim_http::Tls { certificate: certificate.clone(), key: certificate.clone(), client_ca: None });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = Options { tls, ..Options::default() };
    let ended = timeout(DEADLINE, serve(listener, hubs, None, options, std::future::pending())).await;
    let error = ended.expect("it does not begin").unwrap_err();
    assert!(error.to_string().contains(&certificate.display().to_string()), "{error}");
    hub.close().await.unwrap();
}
