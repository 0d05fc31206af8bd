//! What is on the wire: headers, TLS, answers in parts, silence.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use seriatim_durable::hub::HubError;
use seriatim_durable::{Client, OrchestrationContext, OrchestrationStatus, Registry, StartOptions, Worker};
use seriatim_remote::{RemoteHub, TlsOptions, Variables};
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::patterns::{embedded, remote};
use crate::server::{Listen, Server};
use crate::suite;

fn nothing() -> Variables {
    Variables::of::<&str, &str>([])
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_says_which_hub_and_who() {
    let server = Server::start(embedded(), Listen::default());
    let address = format!("Endpoint={};TaskHub=orders;Authentication=None", server.url());
    let hub = Arc::new(RemoteHub::builder(address.parse().unwrap()).build(&nothing()).unwrap());
    let worker = suite::start_worker(hub.clone());
    let client = Client::new(hub);
    let id = client.start("chain", &"x", StartOptions::default()).await.unwrap();
    suite::ended(&client, &id).await;
    worker.stop().await.unwrap();
    let calls = server.record.calls.lock().unwrap();
    assert!(calls.len() > 5);
    for (call, headers) in calls.iter() {
        assert_eq!(headers.get("taskhub").map(String::as_str), Some("orders"), "{call}");
        assert!(headers.get("workerid").is_some_and(|id| id.starts_with("seriatim,")), "{call}");
        assert!(headers.get("x-user-agent").is_some_and(|agent| agent.starts_with("seriatim/")), "{call}");
        assert!(!headers.contains_key("authorization"), "{call}");
    }
}

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    /// A certificate for this name, and its key.
    fn issue(&self, name: &str) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_an_authority_of_our_own_and_certificates_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (certificate, key) = authority.issue("localhost");
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(certificate, key))
        .client_ca_root(Certificate::from_pem(authority.issuer.pem()));
    let server = Server::start(embedded(), Listen { tls: Some(tls), ..Listen::default() });
    let path = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (certificate, key) = authority.issue("worker");
    let options = TlsOptions {
        authorities: Some(path("ca.pem", &authority.issuer.pem())),
        identity: Some((path("worker.pem", &certificate), path("worker.key", &key))),
        server_name: None,
    };
    let url = format!("https://localhost:{}", server.port);
    let hub = |tls: &TlsOptions| {
        let builder = RemoteHub::builder(url.parse().unwrap()).tls(tls.clone()).patience(Duration::ZERO);
        Arc::new(builder.build(&nothing()).unwrap())
    };
    let good = hub(&options);
    let worker = suite::start_worker(good.clone());
    let client = Client::new(good);
    let id = client.start("chain", &"safe", StartOptions::default()).await.unwrap();
    assert_eq!(suite::ended(&client, &id).await.output::<String>().unwrap(), "safe!!!");
    worker.stop().await.unwrap();

    let strangers = hub(&TlsOptions { authorities: None, ..options.clone() });
    let error = strangers.hello().await.unwrap_err();
    assert!(matches!(&error, HubError::Unavailable(text) if text.contains("certificate")), "{error}");
    let other_name = hub(&TlsOptions { server_name: Some("elsewhere.example".to_owned()), ..options.clone() });
    let error = other_name.hello().await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    let anonymous = hub(&TlsOptions { identity: None, ..options.clone() });
    anonymous.hello().await.expect_err("the server asks for a certificate");
    let plain = RemoteHub::builder(server.url().parse().unwrap()).patience(Duration::ZERO).build(&nothing()).unwrap();
    plain.hello().await.expect_err("the server speaks TLS");

    let missing = TlsOptions { authorities: Some(folder.path().join("none.pem")), ..options };
    let error = RemoteHub::builder(url.parse().unwrap()).tls(missing).build(&nothing()).unwrap_err();
    assert!(error.to_string().contains("none.pem"), "{error}");
}

/// An orchestration that asks for a lot at once.
fn large() -> Registry {
    let mut registry = suite::registry();
    registry.orchestration("large", |ctx: OrchestrationContext, (count, size): (usize, usize)| async move {
        let text = "x".repeat(size);
        let tasks = (0..count).map(|_| ctx.call_activity::<String>("exclaim", &text)).collect();
        Ok(ctx.all(tasks).await?.len())
    });
    registry
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_larger_than_a_message_goes_in_parts() {
    let server = Server::start(embedded(), Listen { message_limit: Some(100_000), ..Listen::default() });
    let builder = RemoteHub::builder(server.url().parse().unwrap()).max_sent_bytes(100_000);
    let hub = Arc::new(builder.build(&nothing()).unwrap());
    let worker = Worker::builder(hub.clone(), large()).build().start();
    let client = Client::new(hub);
    let id = client.start("large", &(40, 10_000), StartOptions::default()).await.unwrap();
    assert_eq!(suite::ended(&client, &id).await.output::<usize>().unwrap(), 40);
    let most = server.record.parts.lock().unwrap().values().max().copied();
    assert!(most >= Some(5), "{most:?}");

    let id = client.start("large", &(1, 200_000), StartOptions::default()).await.unwrap();
    let state = suite::ended(&client, &id).await;
    assert_eq!(state.status, OrchestrationStatus::Failed);
    let failure = state.failure.unwrap();
    assert!(failure.is("PayloadTooLarge") && failure.message.contains("payload store"), "{failure}");
    let error = client.start("chain", &"x".repeat(200_000), StartOptions::default()).await.unwrap_err();
    assert!(matches!(&error, HubError::InvalidArgument(text) if text.contains("too large")), "{error}");
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_pinged_and_fell_silent_is_left_and_found_again() {
    let server = Server::start(embedded(), Listen::default());
    *server.record.silent_streams.lock().unwrap() = 2;
    let builder = RemoteHub::builder(server.url().parse().unwrap()).longest_silence(Duration::from_millis(200));
    let worker = suite::start_worker(Arc::new(builder.build(&nothing()).unwrap()));
    let client = Client::new(remote(&server.url()));
    let id = client.start("chain", &"x", StartOptions::default()).await.unwrap();
    assert_eq!(suite::ended(&client, &id).await.output::<String>().unwrap(), "x!!!");
    assert_eq!(server.record.count("GetWorkItems"), 3);
    worker.stop().await.unwrap();
}
