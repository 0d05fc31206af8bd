//! What the tests share: a served hub with a worker, and a client that sends exactly what it is told to.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use seriatim_durable::{
    ActivityContext, Entity, EntityContext, Failure, Operation, OrchestrationContext, Registry, TaskHub, Worker,
    WorkerHandle,
};
use seriatim_http::{Hubs, OneHub, Options, Runs, serve};
use seriatim_hub::{EmbeddedHub, HubOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// How long a test waits for what has to happen.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

/// Where the contract lies.
pub(crate) const DURABLE: &str = "/runtime/webhooks/durabletask";

/// Counts, as its state, and tells what it was sent.
#[derive(Default)]
struct Counter;

impl Entity for Counter {
    type State = Value;

    fn operation(&mut self, _: &mut EntityContext, state: &mut Value, op: &Operation) -> Result<Value, Failure> {
        match op.name() {
            "add" => {
                let sum = state.as_i64().unwrap_or(0) + op.input::<i64>()?;
                *state = sum.into();
                op.reply(&sum)
            }
            "set" => {
                *state = op.input()?;
                op.reply(&())
            }
            _ => Err(op.not_supported()),
        }
    }
}

async fn greet(_: ActivityContext, name: String) -> Result<String, Failure> {
    Ok(format!("Hello {name}!"))
}

async fn trace(context: ActivityContext, (): ()) -> Result<Value, Failure> {
    Ok(serde_json::json!([context.trace_parent(), context.trace_state()]))
}

/// Whether `fail` still fails; rewinding it is only worth while if it does not.
pub(crate) fn registry() -> Registry {
    let mut registry = Registry::new();
    registry
        .orchestration("greet", |ctx: OrchestrationContext, name: String| async move {
            ctx.set_custom_status(&serde_json::json!({"step": "greeting"}))?;
            ctx.call_activity::<String>("greet", &name).await
        })
        .orchestration("echo", |_: OrchestrationContext, input: Value| async move { Ok::<Value, Failure>(input) })
        .orchestration(
            "wait",
            |ctx: OrchestrationContext, _: Value| async move { ctx.external_event::<Value>("go").await },
        )
        .orchestration("fail", |_: OrchestrationContext, _: Value| async move {
            Err::<(), _>(Failure::new("Broken", "it does not work"))
        })
        .orchestration("parent", |ctx: OrchestrationContext, _: Value| async move {
            ctx.timer(Duration::from_millis(1)).await;
            ctx.call_sub_orchestration::<String>("greet", Some("child-of-parent"), "Ada").await
        })
        .orchestration("trace", |ctx: OrchestrationContext, _: Value| async move {
            ctx.call_activity::<Value>("trace", &()).await
        })
        .activity("greet", greet)
        .activity("trace", trace)
        .entity("counter", Counter::default);
    registry
}

/// A served hub, and its worker.
pub(crate) struct Served {
    pub(crate) hub: Arc<EmbeddedHub>,
    pub(crate) address: SocketAddr,
    worker: WorkerHandle,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
}

impl Served {
    pub(crate) async fn start() -> Self {
        Self::with(Options::default(), None).await
    }

    pub(crate) async fn with(options: Options, runs: Option<Arc<dyn Runs>>) -> Self {
        let hub = EmbeddedHub::in_memory(HubOptions::default()).unwrap();
        let hubs = Arc::new(OneHub(Arc::clone(&hub) as Arc<dyn TaskHub>));
        Self::with_hubs(hub, hubs, options, runs).await
    }

    pub(crate) async fn with_hubs(
        hub: Arc<EmbeddedHub>,
        hubs: Arc<dyn Hubs>,
        options: Options,
        runs: Option<Arc<dyn Runs>>,
    ) -> Self {
        let worker = Worker::builder(Arc::clone(&hub) as Arc<dyn TaskHub>, registry()).build().start();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        let server = tokio::spawn(async move { serve(listener, hubs, runs, options, shutdown).await.unwrap() });
        Self { hub, address, worker, stop: Some(stop), server }
    }

    /// Tells the server to end, and waits until it has.
    pub(crate) async fn stop(mut self) {
        self.begin_to_stop();
        timeout(DEADLINE, self.server).await.expect("the server ends").unwrap();
        self.worker.stop().await.unwrap();
        self.hub.close().await.unwrap();
    }

    pub(crate) fn begin_to_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// The public beginning of its URIs.
    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.send("POST", path, &[("content-type", "application/json")], body).await
    }

    pub(crate) async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        send(self.address, method, path, headers, body).await
    }

    /// Follows an absolute URI that the server gave out.
    pub(crate) async fn follow(&self, method: &str, uri: &str) -> Answer {
        let path = uri.strip_prefix(&self.base()).unwrap_or_else(|| panic!("{uri} is not under {}", self.base()));
        self.send(method, path, &[], "").await
    }

    /// Asks until the answer is as wanted.
    pub(crate) async fn until(&self, path: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let end = Instant::now() + DEADLINE;
        loop {
            let answer = self.get(path).await;
            if wanted(&answer) {
                return answer;
            }
            assert!(Instant::now() < end, "{path} is still {answer:?}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Starts an orchestration under an id, and waits until it has the status.
    pub(crate) async fn started(&self, name: &str, id: &str, input: &str, status: &str) {
        let answer = self.post(&format!("{DURABLE}/orchestrators/{name}/{id}"), input).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        self.until(&format!("{DURABLE}/instances/{id}"), |a| a.json()["runtimeStatus"] == status).await;
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    /// Reads a whole answer of HTTP/1.1 that came on a connection which then ended.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer in {text:?}"));
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        Self { status, headers: headers.collect(), body: body.to_owned() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The code of a problem.
    pub(crate) fn code(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        problem["code"].as_str().unwrap().to_owned()
    }
}

/// Sends a request on a connection of its own.
pub(crate) async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "host") {
        let _ = write!(request, "host: {address}\r\n");
    }
    for (name, value) in headers {
        let _ = write!(request, "{name}: {value}\r\n");
    }
    if !body.is_empty() {
        let _ = write!(request, "content-length: {}\r\n", body.len());
    }
    request.push_str("\r\n");
    request.push_str(body);
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A server that refuses a body may close before all of it is sent.
    let _ = stream.write_all(request.as_bytes()).await;
    Answer::parse(&to_end(&mut stream).await)
}

/// Everything until the other side closes.
pub(crate) async fn to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A connection that was reset is at its end too.
    let ended = timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.is_ok();
    assert!(ended, "the connection stays open after {:?}", String::from_utf8_lossy(&bytes));
    bytes
}
