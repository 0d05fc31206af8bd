//! Every route of the table, as the served document lists it: who may use it, and that it is there. A route that is
//! added to the table is in these tests at once.

use std::sync::{Arc, Mutex};

use serde_json::Value;
use seriatim_http::{Limits, Options, Secret};

use crate::support::{Answer, DURABLE, Served};

const TOKEN: &str = "canary-canary-canary";

fn secured() -> Options {
    Options { tokens: vec![Secret::new(TOKEN).unwrap()], ..Options::default() }
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

async fn with_token(served: &Served, method: &str, path: &str) -> Answer {
    served.send(method, path, &[("authorization", &bearer(TOKEN))], "").await
}

/// One operation of the document.
struct Listed {
    method: String,
    /// Its path, with something in the place of the names in braces.
    path: String,
    operation: Value,
}

async fn document(served: &Served) -> Value {
    let answer = with_token(served, "GET", "/openapi.json").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

async fn listed(served: &Served) -> Vec<Listed> {
    let document = document(served).await;
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let filled: Vec<String> = path
            .split('/')
            .map(|part| if part.starts_with('{') { "nothing-of-this-name".to_owned() } else { part.to_owned() })
            .collect();
        for (method, operation) in item.as_object().unwrap() {
            let (method, path) = (method.to_uppercase(), filled.join("/"));
            all.push(Listed { method, path, operation: operation.clone() });
        }
    }
    assert!(all.len() >= 24, "the document lists {} operations", all.len());
    all
}

#[tokio::test]
async fn every_route_asks_for_the_token_unless_it_is_open() {
    let served = Served::with(secured(), None).await;
    let mut open = Vec::new();
    for Listed { method, path, operation } in listed(&served).await {
        let what = format!("{method} {path}");
        let nothing = served.send(&method, &path, &[], "").await;
        if operation.get("security").is_none() {
            assert_ne!(nothing.status, 401, "{what}");
            open.push(path);
            continue;
        }
        let wrong = served.send(&method, &path, &[("authorization", &bearer("canary-canary-canarY"))], "").await;
        let in_url = served.send(&method, &format!("{path}?code={TOKEN}"), &[], "").await;
        for refused in [nothing, wrong, in_url] {
            assert_eq!((refused.status, refused.code().as_str()), (401, "unauthorized"), "{what}");
            assert_eq!(refused.header("www-authenticate"), Some("Bearer"), "{what}");
            assert!(!refused.body.contains("canary"), "{what}: {}", refused.body);
        }
        let right = with_token(&served, &method, &path).await;
        assert_ne!(right.status, 401, "{what}");
    }
    assert_eq!(open, ["/healthz", "/readyz"], "these are open, and no others");
    served.stop().await;
}

#[tokio::test]
async fn every_route_that_is_listed_is_there_and_nothing_else_is() {
    let served = Served::with(secured(), None).await;
    for Listed { method, path, .. } in listed(&served).await {
        let answer = with_token(&served, &method, &path).await;
        let gone =
            answer.header("content-type") == Some("application/problem+json") && answer.code() == "no_such_route";
        assert!(!gone, "{method} {path} is listed and not there");
        for (name, value) in [("x-content-type-options", "nosniff"), ("cache-control", "no-store")] {
            assert_eq!(answer.header(name), Some(value), "{method} {path}");
        }
        let put = with_token(&served, "PUT", &path).await;
        assert_eq!((put.status, put.code().as_str()), (404, "no_such_route"), "PUT {path}");
    }
    for path in ["/", "/nowhere", "/runtime/webhooks", DURABLE, "/runs/1/2/3"] {
        assert_eq!(served.get(path).await.status, 401, "{path}: who may not use the server learns nothing of it");
        assert_eq!(with_token(&served, "GET", path).await.status, 404, "{path}");
    }
    served.stop().await;
}

#[tokio::test]
async fn every_route_refuses_a_body_that_is_too_large() {
    let limits = Limits { body: 1000, ..Limits::default() };
    let served = Served::with(Options { limits, ..secured() }, None).await;
    let token = bearer(TOKEN);
    for Listed { method, path, .. } in listed(&served).await {
        let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
        let answer = served.send(&method, &path, &headers, &"1".repeat(1001)).await;
        assert_eq!((answer.status, answer.code().as_str()), (413, "body_too_large"), "{method} {path}");
    }
    served.stop().await;
}

#[tokio::test]
async fn the_document_is_whole() {
    let served = Served::with(secured(), None).await;
    let document = document(&served).await;
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["servers"][0]["url"], served.base());
    let mut ids = std::collections::BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id.to_owned()), "{id} is there twice");
            let named: Vec<&str> = operation["parameters"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|parameter| parameter["in"] == "path")
                .map(|parameter| parameter["name"].as_str().unwrap())
                .collect();
            let in_braces: Vec<&str> = path.split(['{', '}']).skip(1).step_by(2).collect();
            assert_eq!(named, in_braces, "{path}");
            assert!(operation["responses"].as_object().unwrap().len() >= 2, "{id} says what it answers");
        }
    }
    served.stop().await;
}

#[tokio::test]
async fn a_token_in_the_url_is_taken_only_where_that_was_switched_on_and_never_comes_back() {
    let served = Served::with(Options { accept_code: true, ..secured() }, None).await;
    let path = format!("{DURABLE}/orchestrators/wait/old-client?taskHub=&code={TOKEN}");
    let started = served.post(&path, "").await;
    assert_eq!(started.status, 202, "{started:?}");
    let looked = served.get(&format!("{DURABLE}/instances/old-client?showInput=false&code={TOKEN}")).await;
    assert_eq!(looked.status, 202);
    assert!(looked.header("location").unwrap().ends_with("/instances/old-client?showInput=false"));
    for answer in [started, looked] {
        assert!(!format!("{answer:?}").contains("canary"), "{answer:?}");
    }
    served.stop().await;
}

/// Where the log of this process goes, to be read again.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_token_is_in_the_log_at_any_level() {
    let log = Log::default();
    let writer = log.clone();
    // For the whole process, because the server's tasks run on other threads; another test's lines do no harm.
    let filter = tracing_subscriber::EnvFilter::new("trace");
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || writer.clone()).init();
    let served = Served::with(Options { accept_code: true, ..secured() }, None).await;
    let path = format!("{DURABLE}/instances/nobody");
    assert_eq!(with_token(&served, "GET", &path).await.status, 404);
    assert_eq!(served.get(&format!("{path}?code={TOKEN}")).await.status, 404);
    assert_eq!(served.get(&format!("{path}?code=wrong-{TOKEN}")).await.status, 401);
    assert_eq!(
        served.send("GET", &path, &[("authorization", &bearer(&format!("wrong-{TOKEN}")))], "").await.status,
        401
    );
    served.stop().await;
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("answered") && text.contains("getInstance"), "the log is read: {text}");
    assert!(!text.contains("canary"), "{text}");
}

#[tokio::test]
async fn paths_that_climb_or_hide_lead_nowhere() {
    let served = Served::start().await;
    for path in [
        "/../../etc/passwd",
        "/runs/../../etc/passwd",
        "/runs/..%2f..%2fetc%2fpasswd",
        "/runs/%2e%2e/%2e%2e/etc/passwd",
        "/runs/..\\..\\windows",
        "/runs/%00",
        "/healthz/../runs/1",
        "/runtime/webhooks/durabletask/instances/..%2f..%2fetc%2fpasswd",
        "/runtime/webhooks/durabletask/instances/%2e%2e%2f",
        "/runtime/webhooks/durabletask/../../../etc/passwd",
        "/runtime/webhooks/durabletask/entities/counter/..%2f",
        "//etc/passwd",
    ] {
        let answer = served.get(path).await;
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
        answer.code();
    }
    served.stop().await;
}

#[tokio::test]
async fn uris_begin_with_the_public_url_and_not_with_what_a_request_says() {
    let public_url = Some("https://hub.example/tasks/".parse().unwrap());
    let served = Served::with(Options { public_url, ..secured() }, None).await;
    // A proxy may pass the path on as it is, or take the public part off.
    for prefix in ["", "/tasks"] {
        let path = format!("{prefix}{DURABLE}/orchestrators/wait/mine{}", prefix.len());
        let headers = [
            ("authorization", "Bearer canary-canary-canary"),
            ("host", "evil.example"),
            ("x-forwarded-host", "evil.example"),
        ];
        let started = served.send("POST", &path, &headers, "").await;
        assert_eq!(started.status, 202, "{started:?}");
        assert!(
            started
                .header("location")
                .unwrap()
                .starts_with(&format!("https://hub.example/tasks{DURABLE}/instances/mine"))
        );
        assert!(!format!("{started:?}").contains("evil"), "{started:?}");
    }
    served.stop().await;
}

#[tokio::test]
async fn without_a_token_only_local_names_and_own_pages_are_answered() {
    let served = Served::start().await;
    let foreign = served.send("GET", "/runs", &[("host", "rebound.example")], "").await;
    assert_eq!((foreign.status, foreign.code().as_str()), (403, "forbidden_host"));
    let page = served.send("GET", "/runs", &[("origin", "https://evil.example")], "").await;
    assert_eq!((page.status, page.code().as_str()), (403, "forbidden_origin"));
    let own = served.base();
    assert_eq!(served.send("GET", &format!("{DURABLE}/instances"), &[("origin", &own)], "").await.status, 200);
    served.stop().await;
}
