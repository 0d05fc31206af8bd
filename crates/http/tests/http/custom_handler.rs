//! The server behind the Azure Functions host, which is played here: it picks a port, waits until something answers
//! there, and passes on the requests that its functions' routes take, with their path and all of their headers.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use seriatim_durable::TaskHub;
use seriatim_http::{OneHub, Options, custom_handler, serve};
use seriatim_hub::{EmbeddedHub, HubOptions};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::support::{Answer, send};

const APP: &str = "app.azurewebsites.net";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/azure-functions")
}

fn read(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A function of the app: a route that the host takes.
struct Function {
    route: String,
    methods: Vec<String>,
}

fn functions() -> Vec<Function> {
    let mut all = Vec::new();
    for entry in folder().read_dir().unwrap() {
        let path = entry.unwrap().path().join("function.json");
        if !path.exists() {
            continue;
        }
        let file = read(&path);
        let [trigger, out] = file["bindings"].as_array().unwrap().as_slice() else {
            panic!("{}: a request is passed on only by a function with one trigger and one output", path.display());
        };
        assert_eq!((&trigger["type"], &trigger["direction"]), (&"httpTrigger".into(), &"in".into()));
        assert_eq!((&out["type"], &out["direction"]), (&"http".into(), &"out".into()));
        let route = trigger["route"].as_str().unwrap().to_owned();
        for kept in ["admin", "runtime"] {
            assert!(!route.starts_with(kept), "the host refuses to start with the route {route}");
        }
        let anonymous = trigger["authLevel"] == "anonymous";
        assert_eq!(anonymous, ["healthz", "readyz"].contains(&route.as_str()), "{route}: only health is for everybody");
        let methods = trigger["methods"].as_array().unwrap();
        all.push(Function { route, methods: methods.iter().map(|m| m.as_str().unwrap().to_uppercase()).collect() });
    }
    all
}

impl Function {
    /// Whether the host takes a request for it: a route is a name, or a name with anything behind it.
    fn takes(&self, method: &str, path: &str) -> bool {
        let path = path.trim_matches('/');
        let fits = match self.route.strip_suffix("/{*rest}") {
            Some(start) => path == start || path.starts_with(&format!("{start}/")),
            None => path == self.route,
        };
        fits && self.methods.iter().any(|known| known == method)
    }
}

/// The host.
struct Host {
    handler: SocketAddr,
    prefix: String,
    functions: Vec<Function>,
}

impl Host {
    /// A request to the app, as the host passes it on; 404 if no function takes it.
    async fn pass_on(&self, method: &str, path: &str, body: &str) -> Option<Answer> {
        let below = path.strip_prefix(&format!("/{}", self.prefix))?;
        let route = below.split('?').next().unwrap();
        if !self.functions.iter().any(|function| function.takes(method, route)) {
            return None;
        }
        let headers = [
            ("host", APP),
            ("x-functions-key", "a-function-key"),
            ("x-forwarded-for", "203.0.113.7"),
            ("x-forwarded-proto", "https"),
            ("x-azure-functions-hostversion", "4.1036.0.0"),
            ("x-azure-functions-invocationid", "8a4a37bb-9f72-4e3c-8b6c-1f7a5c0a4d11"),
            ("user-agent", "curl/8.5.0 Azure-Functions-Host/4.1036.0.0"),
            ("content-type", "application/json"),
        ];
        Some(send(self.handler, method, path, &headers, body).await)
    }
}

#[test]
fn the_host_is_told_to_start_this_program_and_to_pass_requests_on() {
    let host = read(&folder().join("host.json"));
    let handler = &host["customHandler"];
    assert_eq!(handler["enableForwardingHttpRequest"], true);
    assert_eq!(handler["description"]["defaultExecutablePath"], "seriatim");
    assert_eq!(handler["description"]["arguments"][0], "serve");
}

#[tokio::test]
async fn requests_to_the_app_reach_the_server_and_addresses_lead_back_to_the_app() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let environment = |name: &str| match name {
        "FUNCTIONS_CUSTOMHANDLER_PORT" => Some(port.to_string()),
        "WEBSITE_HOSTNAME" => Some(APP.to_owned()),
        _ => None,
    };
    let (address, options) = custom_handler(Options::default(), &environment).unwrap().unwrap();
    let hub = EmbeddedHub::in_memory(HubOptions::default()).unwrap();
    let hubs = Arc::new(OneHub(Arc::clone(&hub) as Arc<dyn TaskHub>));
    let listener = TcpListener::bind(address).await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async {
        let _ = stopped.await;
    };
    let server = tokio::spawn(serve(listener, hubs, None, options, shutdown));

    // Any answer to its first request shows the host that its handler is there.
    let handler = SocketAddr::from(([127, 0, 0, 1], port));
    send(handler, "GET", "/", &[], "").await;

    let prefix = read(&folder().join("host.json"))["extensions"]["http"]["routePrefix"].as_str().unwrap().to_owned();
    let host = Host { handler, prefix, functions: functions() };
    let started = host.pass_on("POST", "/api/durabletask/orchestrators/any/one", "{}").await.unwrap();
    assert_eq!(started.status, 202, "{started:?}");
    let location = started.header("location").unwrap();
    assert!(location.starts_with(&format!("https://{APP}/api/durabletask/instances/one?")), "{location}");
    let path = location.strip_prefix(&format!("https://{APP}")).unwrap();
    assert_eq!(host.pass_on("GET", path, "").await.unwrap().json()["runtimeStatus"], "Pending");
    assert_eq!(host.pass_on("GET", "/api/healthz", "").await.unwrap().status, 200);
    assert!(host.pass_on("GET", "/api/elsewhere", "").await.is_none());

    // Every route of the server can be reached by way of some function.
    let document = host.pass_on("GET", "/api/openapi.json", "").await.unwrap().json();
    assert_eq!(document["servers"][0]["url"], format!("https://{APP}/api"));
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys().map(|method| method.to_uppercase()) {
            let filled = path.replace(['{', '}'], "");
            assert!(host.pass_on(&method, &format!("/api{filled}"), "").await.is_some(), "{method} {path}");
        }
    }
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
    hub.close().await.unwrap();
}
