//! TLS in the server itself, with certificates that are made for the test.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use seriatim_http::{Limits, Options, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::support::{Answer, DURABLE, Served, to_end};

type Certificate = CertifiedKey<KeyPair>;

fn certificate(name: &str) -> Certificate {
    generate_simple_self_signed(vec![name.to_owned()]).unwrap()
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// A server with this certificate that lets in whoever has that of `client`, or everybody.
async fn served(folder: &Path, site: &Certificate, client: Option<&Certificate>) -> Served {
    let tls = Tls {
        certificate: write(folder, "server.pem", &site.cert.pem()),
        key: write(folder, "server.key", &site.signing_key.serialize_pem()),
        client_ca: client.map(|client| write(folder, "clients.pem", &client.cert.pem())),
    };
    let limits = Limits { head_time: std::time::Duration::from_secs(5), ..Limits::default() };
    Served::with(Options { tls: Some(tls), limits, ..Options::default() }, None).await
}

/// Starts an orchestration as a client that trusts the server, with a certificate of its own or without; `None` if it is
/// not let in.
async fn start(served: &Served, site: &Certificate, own: Option<&Certificate>) -> Option<Answer> {
    let mut roots = RootCertStore::empty();
    roots.add(site.cert.der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
            builder.with_client_auth_cert(vec![own.cert.der().clone()], key).unwrap()
        }
    };
    let stream = TcpStream::connect(served.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
    let head = "host: localhost\r\nconnection: close\r\ncontent-length: 2";
    let ask = format!("POST {DURABLE}/orchestrators/wait HTTP/1.1\r\n{head}\r\n\r\n{{}}");
    // A client learns that its certificate is refused when it uses the connection.
    stream.write_all(ask.as_bytes()).await.ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.ok()?;
    Some(Answer::parse(&bytes))
}

#[tokio::test]
async fn requests_and_addresses_are_https_and_plain_text_gets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let site = certificate("localhost");
    let served = served(folder.path(), &site, None).await;
    let answer = start(&served, &site, None).await.unwrap();
    assert_eq!(answer.status, 202, "{answer:?}");
    assert!(answer.header("location").unwrap().starts_with(&format!("https://{}", served.address)), "{answer:?}");

    let mut plain = TcpStream::connect(served.address).await.unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let got = to_end(&mut plain).await;
    assert!(!String::from_utf8_lossy(&got).contains("HTTP/1.1"), "{got:?}");
    served.stop().await;
}

#[tokio::test]
async fn with_an_authority_for_clients_only_its_clients_get_in() {
    let folder = tempfile::tempdir().unwrap();
    let (site, client, stranger) = (certificate("localhost"), certificate("client"), certificate("client"));
    let served = served(folder.path(), &site, Some(&client)).await;
    assert_eq!(start(&served, &site, Some(&client)).await.unwrap().status, 202);
    assert!(start(&served, &site, None).await.is_none());
    assert!(start(&served, &site, Some(&stranger)).await.is_none());
    served.stop().await;
}
