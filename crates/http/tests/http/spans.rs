//! Spans of requests, sent to a collector that is played here.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::Value;
use seriatim_http::{Options, Telemetry};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

use crate::support::{DURABLE, Served};

#[derive(Debug, Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans;
        let spans = resources.into_iter().flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans);
        self.spans.lock().unwrap().extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_a_span_between_the_client_and_what_it_started() {
    let collector = Collector::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let service = TraceServiceServer::new(collector.clone());
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let serving = tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));

    let telemetry = Some(Telemetry::to(&endpoint).unwrap());
    let served = Served::with(Options { telemetry, ..Options::default() }, None).await;
    let client = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let path = format!("{DURABLE}/orchestrators/trace?timeout=60&code=canary-canary-canary");
    let headers = [("traceparent", client), ("tracestate", "vendor=1")];
    let traced = served.send("POST", &path, &headers, "").await.json();
    assert_eq!(served.get(&format!("{DURABLE}/instances/nobody")).await.status, 404);
    assert_eq!(served.get("/healthz").await.status, 200);
    // At its end, the server sends what it has.
    served.stop().await;

    let spans = collector.spans.lock().unwrap().clone();
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["POST /orchestrators/{functionName}", "GET /instances/{instanceId}"]);
    let started = &spans[0];
    assert_eq!(hex(&started.trace_id), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(hex(&started.parent_span_id), "b7ad6b7169203331");
    let seen = format!("00-{}-{}-01", hex(&started.trace_id), hex(&started.span_id));
    assert_eq!(traced, Value::from(vec![Value::from(seen), Value::from("vendor=1")]), "what the activity saw");
    assert!(!format!("{spans:?}").contains("canary"), "{spans:?}");
    serving.abort();
}
