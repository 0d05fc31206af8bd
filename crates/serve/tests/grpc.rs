//! The gRPC server as a client sees it: every call is there and protected, hubs are apart, limits hold, a lost worker's
//! work goes to another, and the server ends when it is told to. Real sockets, real TLS.

#![allow(clippy::unwrap_used)] // a test that cannot go on panics

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use seriatim_durable::proto;
use seriatim_durable::proto::work_item::Request as Work;
use seriatim_serve::grpc::{GrpcServer, Limits, Security, ServeError, Tls, Token};
use seriatim_serve::hubs::{Hubs, HubsOptions};
use seriatim_wire::service::task_hub_sidecar_service_client::TaskHubSidecarServiceClient;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status, Streaming};

type Client = TaskHubSidecarServiceClient<Channel>;

const SECRET: &str = "0123456789abcdef";

/// Long enough for anything that is to happen.
const HANG: Duration = Duration::from_mins(1);

/// A server on a free port, and what ends it.
struct Served {
    address: SocketAddr,
    hubs: Arc<Hubs>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), ServeError>>,
}

impl Served {
    async fn start(state: &TempDir, security: Security, limits: Limits) -> Self {
        let server = GrpcServer::bind("127.0.0.1:0".parse().unwrap(), security, limits).await.unwrap();
        let address = server.address();
        let hubs = Hubs::open(state.path(), HubsOptions::default()).await.unwrap();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(server.run(Arc::clone(&hubs), async {
            let _ = stopped.await;
        }));
        Self { address, hubs, stop, running }
    }

    async fn plain(state: &TempDir) -> Self {
        Self::start(state, Security::default(), Limits::default()).await
    }

    async fn client(&self) -> Client {
        Client::new(self.endpoint("http").connect().await.unwrap())
    }

    fn endpoint(&self, scheme: &str) -> Endpoint {
        Endpoint::from_shared(format!("{scheme}://{}", self.address)).unwrap()
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        self.hubs.close().await.unwrap();
        tokio::time::timeout(HANG, self.running).await.expect("the server ends").unwrap().unwrap();
    }
}

fn to_hub<T>(hub: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("taskhub", hub.parse().unwrap());
    request
}

fn with_token<T>(token: Option<&str>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    request
}

fn start(id: &str) -> proto::CreateInstanceRequest {
    proto::CreateInstanceRequest { instance_id: id.into(), name: "any".into(), ..Default::default() }
}

fn get(id: &str) -> proto::GetInstanceRequest {
    proto::GetInstanceRequest { instance_id: id.into(), ..Default::default() }
}

/// Every call of the protocol with a message that asks for nothing, and what came of it.
async fn all_calls(client: &mut Client, token: Option<&str>) -> Vec<(&'static str, Result<(), Status>)> {
    macro_rules! calls {
        ($($name:ident: $message:expr),* $(,)?) => {
            vec![$((stringify!($name), client.$name(with_token(token, $message)).await.map(drop))),*]
        };
    }
    calls! {
        hello: (),
        start_instance: proto::CreateInstanceRequest::default(),
        get_instance: get("a"),
        rewind_instance: proto::RewindInstanceRequest::default(),
        restart_instance: proto::RestartInstanceRequest::default(),
        wait_for_instance_start: get("a"),
        wait_for_instance_completion: get("a"),
        raise_event: proto::RaiseEventRequest::default(),
        terminate_instance: proto::TerminateRequest::default(),
        suspend_instance: proto::SuspendRequest::default(),
        resume_instance: proto::ResumeRequest::default(),
        query_instances: proto::QueryInstancesRequest::default(),
        list_instance_ids: proto::ListInstanceIdsRequest::default(),
        purge_instances: proto::PurgeInstancesRequest::default(),
        get_work_items: proto::GetWorkItemsRequest::default(),
        complete_activity_task: proto::ActivityResponse::default(),
        complete_orchestrator_task: proto::OrchestratorResponse::default(),
        complete_entity_task: proto::EntityBatchResult::default(),
        stream_instance_history: proto::StreamInstanceHistoryRequest::default(),
        create_task_hub: proto::CreateTaskHubRequest::default(),
        signal_entity: proto::SignalEntityRequest::default(),
        get_entity: proto::GetEntityRequest::default(),
        query_entities: proto::QueryEntitiesRequest::default(),
        clean_entity_storage: proto::CleanEntityStorageRequest::default(),
        abandon_task_activity_work_item: proto::AbandonActivityTaskRequest::default(),
        abandon_task_orchestrator_work_item: proto::AbandonOrchestrationTaskRequest::default(),
        abandon_task_entity_work_item: proto::AbandonEntityTaskRequest::default(),
        skip_graceful_orchestration_terminations: proto::SkipGracefulOrchestrationTerminationsRequest::default(),
        delete_task_hub: proto::DeleteTaskHubRequest::default(),
    }
}

#[tokio::test]
async fn every_call_is_there_and_says_what_is_wrong() {
    let state = TempDir::new().unwrap();
    let served = Served::plain(&state).await;
    let mut client = served.client().await;
    let answers = all_calls(&mut client, None).await;
    let protocol = include_str!("../../durable/proto/durable_task.proto");
    assert_eq!(answers.len(), protocol.lines().filter(|line| line.trim_start().starts_with("rpc ")).count());
    for (name, answer) in answers {
        let code = answer.map_or_else(|status| status.code(), |()| Code::Ok);
        let expected = match name {
            "start_instance" | "purge_instances" | "signal_entity" | "get_entity" => Code::InvalidArgument,
            "rewind_instance"
            | "restart_instance"
            | "raise_event"
            | "terminate_instance"
            | "suspend_instance"
            | "resume_instance"
            | "stream_instance_history" => Code::NotFound,
            name if name.starts_with("complete_") || name.starts_with("abandon_") => Code::FailedPrecondition,
            _ => Code::Ok,
        };
        assert_eq!(code, expected, "{name}");
    }
    client.start_instance(start("a")).await.unwrap();
    assert_eq!(client.start_instance(start("a")).await.unwrap_err().code(), Code::AlreadyExists);
    served.end().await;
}

#[tokio::test]
async fn every_call_needs_the_token() {
    let state = TempDir::new().unwrap();
    let security = Security { tls: None, token: Some(Token::new(SECRET).unwrap()) };
    let served = Served::start(&state, security, Limits::default()).await;
    let mut client = served.client().await;
    for wrong in [None, Some("fedcba9876543210")] {
        for (name, answer) in all_calls(&mut client, wrong).await {
            assert_eq!(answer.unwrap_err().code(), Code::Unauthenticated, "{name}");
        }
    }
    client.start_instance(with_token(Some(SECRET), start("a"))).await.unwrap();
    served.end().await;
}

/// A certificate authority, and certificates of it for localhost.
struct Authority {
    issuer: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Certificate and key.
    fn issue(&self) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

fn client_tls(authority: &Authority) -> ClientTlsConfig {
    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem())).domain_name("localhost")
}

async fn hello(endpoint: Endpoint, tls: ClientTlsConfig) -> Result<(), String> {
    let channel = endpoint.tls_config(tls).unwrap().connect().await.map_err(|error| format!("{error:?}"))?;
    Client::new(channel).hello(()).await.map(drop).map_err(|status| status.to_string())
}

#[tokio::test]
async fn tls_keeps_out_whoever_has_no_certificate() {
    let state = TempDir::new().unwrap();
    let (ours, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let (certificate, key) = ours.issue();
    let tls = Tls { certificate: certificate.into(), key: key.into(), client_ca: Some(clients.pem().into()) };
    let served = Served::start(&state, Security { tls: Some(tls), token: None }, Limits::default()).await;
    let with = |authority: &Authority| {
        let (certificate, key) = authority.issue();
        client_tls(&ours).identity(Identity::from_pem(certificate, key))
    };
    assert_eq!(hello(served.endpoint("https"), with(&clients)).await, Ok(()));
    assert!(hello(served.endpoint("https"), with(&strangers)).await.is_err());
    assert!(hello(served.endpoint("https"), client_tls(&ours)).await.is_err());
    assert!(hello(served.endpoint("https"), client_tls(&strangers)).await.is_err(), "the client checks the server");
    let plain = served.endpoint("http").connect().await;
    assert!(plain.is_err() || Client::new(plain.unwrap()).hello(()).await.is_err());
    served.end().await;
}

#[tokio::test]
async fn other_addresses_need_protection() {
    let address = "0.0.0.0:0".parse().unwrap();
    let error = GrpcServer::bind(address, Security::default(), Limits::default()).await.unwrap_err();
    assert!(error.to_string().contains("--tls-cert"), "{error}");
    let (certificate, key) = Authority::new().issue();
    let tls = Some(Tls { certificate: certificate.into(), key: key.into(), client_ca: None });
    let error = GrpcServer::bind(address, Security { tls: tls.clone(), token: None }, Limits::default()).await;
    assert!(error.unwrap_err().to_string().contains("SERIATIM_TOKEN"));
    let security = Security { tls, token: Some(Token::new(SECRET).unwrap()) };
    GrpcServer::bind(address, security, Limits::default()).await.unwrap();
    let broken = Some(Tls { certificate: "no PEM".into(), key: "no PEM".into(), client_ca: None });
    let error = GrpcServer::bind(
        address,
        Security { tls: broken, token: Some(Token::new(SECRET).unwrap()) },
        Limits::default(),
    );
    assert!(matches!(error.await, Err(ServeError::Tls(_))));
}

#[tokio::test]
async fn hubs_are_apart_and_outlive_the_server() {
    let state = TempDir::new().unwrap();
    let served = Served::plain(&state).await;
    let mut client = served.client().await;
    client.start_instance(to_hub("one", start("a"))).await.unwrap();
    client.start_instance(start("b")).await.unwrap();
    served.end().await;

    let served = Served::plain(&state).await;
    let mut client = served.client().await;
    let mut exists =
        async |hub: &str, id: &str| client.get_instance(to_hub(hub, get(id))).await.unwrap().into_inner().exists;
    assert!(exists("one", "a").await && exists("ONE", "a").await && exists("default", "b").await);
    assert!(!exists("two", "a").await && !exists("default", "a").await && !exists("one", "b").await);
    let mut client = served.client().await;
    let status = client.hello(to_hub("../one", ())).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);

    let create = |recreate_if_exists| to_hub("one", proto::CreateTaskHubRequest { recreate_if_exists });
    client.create_task_hub(create(false)).await.unwrap();
    assert!(client.get_instance(to_hub("one", get("a"))).await.unwrap().into_inner().exists);
    client.create_task_hub(create(true)).await.unwrap();
    assert!(!client.get_instance(to_hub("one", get("a"))).await.unwrap().into_inner().exists);
    client.delete_task_hub(proto::DeleteTaskHubRequest {}).await.unwrap();
    assert!(!client.get_instance(get("b")).await.unwrap().into_inner().exists);
    std::fs::create_dir(state.path().join("pipelines")).unwrap();
    let status = client.delete_task_hub(proto::DeleteTaskHubRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "the sequences of pipelines are in it");
    served.end().await;
}

#[tokio::test]
async fn only_so_many_hubs_are_open() {
    let state = TempDir::new().unwrap();
    let hubs = Hubs::open(state.path(), HubsOptions { most: 2, ..HubsOptions::default() }).await.unwrap();
    hubs.hub(Some("one")).await.unwrap();
    assert!(hubs.hub(Some("two")).await.unwrap_err().to_string().contains("two"));
    hubs.delete(Some("one")).await.unwrap();
    hubs.hub(Some("two")).await.unwrap();
    hubs.close().await.unwrap();
    assert!(hubs.hub(None).await.is_err(), "a closed one does not open again");
}

#[tokio::test]
async fn limits_hold() {
    let state = TempDir::new().unwrap();
    let limits = Limits {
        message_bytes: 10_000,
        header_bytes: 8_192,
        connections: 1,
        handshake: Duration::from_millis(50),
        ..Limits::default()
    };
    let served = Served::start(&state, Security::default(), limits).await;
    let mut silent = tokio::net::TcpStream::connect(served.address).await.unwrap();
    // The server's own greeting comes first.
    let rest = tokio::time::timeout(HANG, silent.read_to_end(&mut Vec::new())).await;
    assert!(rest.is_ok(), "who says nothing is sent away");

    let mut client = served.client().await;
    let large = proto::CreateInstanceRequest { input: Some("x".repeat(20_000)), ..start("large") };
    assert_eq!(client.start_instance(large).await.unwrap_err().code(), Code::OutOfRange);
    let mut long = Request::new(());
    long.metadata_mut().insert("x-long", "x".repeat(20_000).parse().unwrap());
    assert!(client.hello(long).await.is_err());
    client.hello(()).await.unwrap();

    let endpoint = served.endpoint("http");
    let mut second = tokio::spawn(async move { Client::new(endpoint.connect().await.unwrap()).hello(()).await });
    let early = tokio::time::timeout(Duration::from_millis(200), &mut second).await;
    assert!(early.is_err(), "there is room for one connection");
    drop(client);
    tokio::time::timeout(HANG, second).await.expect("the next one comes in").unwrap().unwrap();
    served.end().await;
}

/// Symptom: whoever has no token could hold all connections, by answering the server's pings and asking nothing, or by asking
/// and being refused. Cause: only the beginning of a connection was limited. Mend: a connection without a call that is let
/// in ends; one that had such a call may be silent.
#[tokio::test]
async fn connections_are_for_who_is_let_in() {
    let state = TempDir::new().unwrap();
    let token = Some(Token::new(SECRET).unwrap());
    let limits = Limits { connections: 2, first_call: Duration::from_secs(2), ..Limits::default() };
    let served = Served::start(&state, Security { tls: None, token }, limits).await;
    let mut known = served.client().await;
    let mut stream =
        known.get_work_items(with_token(Some(SECRET), proto::GetWorkItemsRequest::default())).await.unwrap();
    // It speaks HTTP/2 as one should, and gets to the end of its welcome.
    let mut idle = tokio::net::TcpStream::connect(served.address).await.unwrap();
    idle.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let rest = tokio::time::timeout(HANG, idle.read_to_end(&mut Vec::new())).await;
    assert!(rest.is_ok(), "who asks nothing is sent away");
    let mut stranger = served.client().await;
    assert_eq!(stranger.hello(()).await.unwrap_err().code(), Code::Unauthenticated);
    // There is room for another one only when the stranger's connection has ended.
    let mut other = served.client().await;
    other.hello(with_token(Some(SECRET), ())).await.unwrap();
    let silent = tokio::time::timeout(Duration::from_millis(10), stream.get_mut().message()).await;
    // Nothing, or a ping of the server's.
    assert!(!matches!(silent, Ok(Ok(None) | Err(_))), "who was let in stays: {silent:?}");
    served.end().await;
}

/// The next item that is work.
async fn next(stream: &mut Streaming<proto::WorkItem>) -> proto::WorkItem {
    loop {
        let item = tokio::time::timeout(HANG, stream.message()).await.expect("an item comes").unwrap().unwrap();
        if !matches!(item.request, Some(Work::HealthPing(_))) {
            return item;
        }
    }
}

async fn work(client: &mut Client) -> Streaming<proto::WorkItem> {
    // As the JavaScript SDK asks: without any limit.
    client.get_work_items(proto::GetWorkItemsRequest::default()).await.unwrap().into_inner()
}

#[tokio::test]
async fn what_a_lost_worker_had_goes_to_another() {
    let state = TempDir::new().unwrap();
    let served = Served::plain(&state).await;
    let mut client = served.client().await;
    let mut lost = served.client().await;
    let mut stream = work(&mut lost).await;
    client.start_instance(start("a")).await.unwrap();
    let signal = proto::SignalEntityRequest { instance_id: "@e@k".into(), name: "op".into(), ..Default::default() };
    client.signal_entity(signal).await.unwrap();
    let had = [next(&mut stream).await, next(&mut stream).await];
    drop((stream, lost));

    let mut other = work(&mut client).await;
    let mut got = [next(&mut other).await, next(&mut other).await];
    let is_turn = |item: &proto::WorkItem| matches!(item.request, Some(Work::OrchestratorRequest(_)));
    got.sort_by_key(is_turn);
    assert!(matches!(got[0].request, Some(Work::EntityRequest(_))) && is_turn(&got[1]));
    for item in had {
        let late = proto::OrchestratorResponse { completion_token: item.completion_token, ..Default::default() };
        let status = client.complete_orchestrator_task(late).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
    }
    served.end().await;
}

#[tokio::test]
async fn streams_end_when_the_server_stops() {
    let state = TempDir::new().unwrap();
    let served = Served::plain(&state).await;
    let mut client = served.client().await;
    let mut stream = work(&mut client).await;
    client.start_instance(start("a")).await.unwrap();
    next(&mut stream).await;
    let mut waiting = served.client().await;
    let wait = tokio::spawn(async move { waiting.wait_for_instance_completion(get("a")).await });
    // The wait has reached the hub when a later call on the same connection is answered; calls of another do not tell.
    served.client().await.hello(()).await.unwrap();
    served.end().await;
    let rest = tokio::time::timeout(HANG, async { while let Ok(Some(_)) = stream.message().await {} });
    rest.await.expect("the stream ends");
    let outcome = tokio::time::timeout(HANG, wait).await.expect("the wait ends").unwrap();
    assert!(outcome.is_err());
}

#[tokio::test]
async fn a_history_comes_in_pieces_that_a_client_takes() {
    let state = TempDir::new().unwrap();
    let served = Served::plain(&state).await;
    let mut client = served.client().await;
    client.start_instance(start("a")).await.unwrap();
    let large = "x".repeat(700_000);
    for name in ["1", "2", "3", "4", "5", "6", "7", "8"] {
        let input = Some(large.clone());
        client
            .raise_event(proto::RaiseEventRequest { instance_id: "a".into(), name: name.into(), input })
            .await
            .unwrap();
    }
    client.terminate_instance(proto::TerminateRequest { instance_id: "a".into(), ..Default::default() }).await.unwrap();
    let request = proto::StreamInstanceHistoryRequest { instance_id: "a".into(), ..Default::default() };
    let mut stream = client.stream_instance_history(request).await.unwrap().into_inner();
    let (mut chunks, mut events) = (0, Vec::new());
    while let Some(chunk) = stream.message().await.unwrap() {
        chunks += 1;
        events.extend(chunk.events);
    }
    // What opens the turn, the start, the eight events, the termination, what closes the turn, the end.
    assert_eq!(events.len(), 13);
    assert!(chunks > 4, "{chunks}");
    served.end().await;
}
