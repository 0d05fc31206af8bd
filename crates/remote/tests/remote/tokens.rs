//! Tokens, got from an endpoint of our own that behaves as Azure's do: what is asked, when it is asked again, and what
//! is never said.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use seriatim_durable::hub::{HubError, TaskHub};
use seriatim_durable::{Client, StartOptions, proto};
use seriatim_remote::credential::{
    AzureCli, ClientSecret, Credential, FirstThatWorks, ManagedIdentity, StaticToken, TokenFile, WorkloadIdentity,
};
use seriatim_remote::{RemoteHub, Secret, Variables};

use crate::patterns::embedded;
use crate::server::{Listen, Server};
use crate::suite;

/// One request: its first line, its headers and its body.
#[derive(Debug, Clone, Default)]
struct Asked {
    line: String,
    headers: String,
    body: String,
}

/// An endpoint that gives tokens: `token-1`, `token-2` and so on.
struct Endpoint {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Endpoint {
    /// `answer` makes status and body of the n-th request.
    fn start(answer: impl Fn(usize) -> (u16, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                let mut reader = BufReader::new(connection.try_clone().unwrap());
                let mut request = Asked::default();
                if reader.read_line(&mut request.line).unwrap_or(0) == 0 {
                    continue;
                }
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    if line.trim().is_empty() {
                        break;
                    }
                    request.headers.push_str(&line.to_ascii_lowercase());
                }
                let length =
                    request.headers.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                let mut body = vec![0; length.unwrap_or(0)];
                reader.read_exact(&mut body).unwrap();
                request.body = String::from_utf8(body).unwrap();
                let number = {
                    let mut noted = noted.lock().unwrap();
                    noted.push(request);
                    noted.len()
                };
                let (status, body) = answer(number);
                let head =
                    format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                connection.write_all((head + &body).as_bytes()).unwrap();
            }
        });
        Self { url, asked }
    }

    fn giving() -> Self {
        Self::start(|number| (200, format!(r#"{{"access_token":"token-{number}","expires_in":3600}}"#)))
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

const RESOURCE: &str = "https://durabletask.io";

#[tokio::test]
async fn a_service_principal_asks_with_its_secret() {
    let endpoint = Endpoint::giving();
    let variables = Variables::of([
        ("AZURE_TENANT_ID", "tenant-1"),
        ("AZURE_CLIENT_ID", "client-1"),
        ("AZURE_CLIENT_SECRET", "s&cret"),
        ("AZURE_AUTHORITY_HOST", &endpoint.url),
    ]);
    let token = ClientSecret::from_variables(&variables).unwrap().token(RESOURCE).await.unwrap();
    assert_eq!(token.secret.expose(), "token-1");
    assert!(token.expires.is_some_and(|end| end > std::time::SystemTime::now() + Duration::from_mins(50)));
    let asked = &endpoint.asked()[0];
    assert!(asked.line.starts_with("POST /tenant-1/oauth2/v2.0/token "), "{asked:?}");
    assert_eq!(
        asked.body,
        "grant_type=client_credentials&client_id=client-1&client_secret=s%26cret&scope=https%3A%2F%2Fdurabletask.io%2F.default"
    );
}

#[tokio::test]
async fn a_workload_identity_asks_with_the_token_of_its_platform() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("federated");
    std::fs::write(&file, "jwt-1\n").unwrap();
    let endpoint = Endpoint::giving();
    let variables = Variables::of([("AZURE_AUTHORITY_HOST", endpoint.url.as_str()), ("AZURE_CLIENT_ID", "other")]);
    let identity = WorkloadIdentity::from_variables(&variables, Some("c"), Some("t"), file.to_str()).unwrap();
    identity.token(RESOURCE).await.unwrap();
    std::fs::write(&file, "jwt-2").unwrap();
    identity.token(RESOURCE).await.unwrap();
    let asked = endpoint.asked();
    assert!(asked[0].body.contains("client_assertion=jwt-1&") && asked[0].body.contains("client_id=c&"), "{asked:?}");
    assert!(
        asked[0]
            .body
            .contains("client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer")
    );
    assert!(asked[1].body.contains("client_assertion=jwt-2&"), "the file is read each time");
}

#[tokio::test]
async fn managed_identities_of_machines_and_of_apps() {
    let machine = Endpoint::start(|_| (200, r#"{"access_token":"m","expires_on":"4102444800"}"#.to_owned()));
    let variables = Variables::of([("AZURE_POD_IDENTITY_AUTHORITY_HOST", machine.url.as_str())]);
    let identity = ManagedIdentity::from_variables(&variables, Some("client 1".to_owned())).unwrap();
    assert_eq!(identity.token(RESOURCE).await.unwrap().secret.expose(), "m");
    let asked = &machine.asked()[0];
    assert!(
        asked.line.starts_with(
            "GET /metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fdurabletask.io&client_id=client%201 "
        ),
        "{asked:?}"
    );
    assert!(asked.headers.contains("metadata: true"), "{asked:?}");

    let app = Endpoint::giving();
    let endpoint = format!("{}/msi/token", app.url);
    let variables = Variables::of([("IDENTITY_ENDPOINT", endpoint.as_str()), ("IDENTITY_HEADER", "header-1")]);
    ManagedIdentity::from_variables(&variables, None).unwrap().token(RESOURCE).await.unwrap();
    let asked = &app.asked()[0];
    assert!(asked.line.starts_with("GET /msi/token?api-version=2019-08-01&resource="), "{asked:?}");
    assert!(asked.headers.contains("x-identity-header: header-1"), "{asked:?}");
}

#[cfg(unix)]
#[tokio::test]
async fn the_azure_cli_is_asked_and_its_absence_is_told() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("az");
    let script = "#!/bin/sh\nprintf '{\"accessToken\":\"cli %s\",\"expires_on\":4102444800}' \"$*\"\n";
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    // Another test's process may hold the fresh file open for writing for a moment while it starts.
    let cli = AzureCli::with_program(&program);
    let token = suite::until("the program", async || cli.token(RESOURCE).await.ok()).await;
    assert_eq!(token.secret.expose(), "cli account get-access-token --output json --resource https://durabletask.io");
    let missing = AzureCli::with_program(folder.path().join("none"));
    let error = FirstThatWorks::new(vec![("Azure CLI", Arc::new(missing))]).token(RESOURCE).await.unwrap_err();
    assert!(error.to_string().contains("none") && error.to_string().contains("cannot be run"), "{error}");
}

#[tokio::test]
async fn the_first_way_that_works_is_kept() {
    let broken = Endpoint::start(|_| (400, r#"{"error":"invalid_client"}"#.to_owned()));
    let working = Endpoint::giving();
    let principal = |url: &str| {
        let variables = Variables::of([
            ("AZURE_TENANT_ID", "t"),
            ("AZURE_CLIENT_ID", "c"),
            ("AZURE_CLIENT_SECRET", "s"),
            ("AZURE_AUTHORITY_HOST", url),
        ]);
        Arc::new(ClientSecret::from_variables(&variables).unwrap()) as Arc<dyn Credential>
    };
    let ways = FirstThatWorks::new(vec![("one", principal(&broken.url)), ("two", principal(&working.url))]);
    assert_eq!(ways.token(RESOURCE).await.unwrap().secret.expose(), "token-1");
    assert_eq!(ways.token(RESOURCE).await.unwrap().secret.expose(), "token-2");
    assert_eq!(broken.asked().len(), 1);
}

/// The hub takes one token at a time; the worker gets the next one by itself when the old one is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_is_replaced_and_the_work_goes_on() {
    let endpoint = Endpoint::giving();
    let server = Server::start(embedded(), Listen::default());
    *server.record.token.lock().unwrap() = Some("token-1".to_owned());
    let variables = Variables::of([
        ("AZURE_TENANT_ID", "t"),
        ("AZURE_CLIENT_ID", "c"),
        ("AZURE_CLIENT_SECRET", "s"),
        ("AZURE_AUTHORITY_HOST", &endpoint.url),
    ]);
    let address = format!("Endpoint={};TaskHub=t;Authentication=Environment", server.url());
    let hub = Arc::new(RemoteHub::builder(address.parse().unwrap()).build(&variables).unwrap());
    let worker = suite::start_worker(hub.clone());
    let client = Client::new(hub);
    let run = async || {
        let id = client.start("chain", &"x", StartOptions::default()).await.unwrap();
        assert_eq!(suite::ended(&client, &id).await.output::<String>().unwrap(), "x!!!");
    };
    run().await;
    assert_eq!(endpoint.asked().len(), 1, "one token serves all calls");
    *server.record.token.lock().unwrap() = Some("token-2".to_owned());
    run().await;
    assert_eq!(endpoint.asked().len(), 2);
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_ends_the_worker_with_a_reason_and_is_not_told() {
    let server = Server::start(embedded(), Listen::default());
    *server.record.token.lock().unwrap() = Some("right".to_owned());
    let token = Arc::new(StaticToken::new(Secret::new("canary-93")));
    let hub = RemoteHub::builder(server.url().parse().unwrap()).credential(token);
    let mut worker = suite::start_worker(Arc::new(hub.build(&Variables::of::<&str, &str>([])).unwrap()));
    let error = tokio::time::timeout(suite::HANG, worker.ended()).await.expect("it ends").unwrap_err().to_string();
    assert!(error.contains("not taken") && error.contains("check the token") && !error.contains("canary"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_file_that_is_replaced_is_read_when_the_hub_refuses_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "one").unwrap();
    let server = Server::start(embedded(), Listen::default());
    *server.record.token.lock().unwrap() = Some("one".to_owned());
    let builder = RemoteHub::builder(server.url().parse().unwrap()).credential(Arc::new(TokenFile::new(&file)));
    let hub = builder.build(&Variables::of::<&str, &str>([])).unwrap();
    assert!(hub.work_items(proto::GetWorkItemsRequest::default()).await.is_ok(), "the worker is let in");
    *server.record.token.lock().unwrap() = Some("two".to_owned());
    let error = hub.work_items(proto::GetWorkItemsRequest::default()).await.err().expect("it is not let in");
    assert!(matches!(error, HubError::Unavailable(_)), "a worker that was let in once tries again: {error}");
    let error = hub.hello().await.unwrap_err();
    assert!(matches!(error, HubError::Unauthorized(_)), "{error}");
    std::fs::write(&file, "two").unwrap();
    hub.hello().await.unwrap();
}
