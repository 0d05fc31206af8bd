//! Azurite, started on loopback with ports of its own: blobs and tables of one account, in memory. It ends with the
//! test's process, however that ends, because it watches its standard input.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;
use url::Url;

use crate::http::Message;

/// The account that every emulator has, and its key; both are public.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// The service's version that requests are signed for.
const VERSION: &str = "2021-12-02";

/// Loads the emulator, and ends it when standard input does.
const START: &str = "process.stdin.on('end', () => process.exit(0)).resume(); \
                     require(process.env.AZURITE_MAIN)";

/// A running emulator.
#[derive(Debug)]
pub struct Azurite {
    child: Child,
    blob_port: u16,
    table_port: u16,
    account: String,
    key: String,
}

impl Azurite {
    /// The one that all tests of this process share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Azurite> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// One of its own, with the account and the key that every emulator has.
    pub fn start() -> Self {
        Self::with_account(ACCOUNT, KEY)
    }

    /// One with this account; the key is in base64.
    pub fn with_account(account: &str, key: &str) -> Self {
        let modules = node_modules();
        let main = modules.join("azurite/dist/src/azurite");
        assert!(
            main.with_extension("js").exists(),
            "there is no Azurite in {}. `scripts/test` installs it; or: npm install --prefix FOLDER azurite, and set \
             SERIATIM_NODE to that folder",
            modules.display()
        );
        let mut child = Command::new("node")
            .args(["-e", START, "azurite", "--inMemoryPersistence", "--silent", "--skipApiVersionCheck"])
            .args(["--disableTelemetry", "--disableProductStyleUrl"])
            .args(["--blobPort", "0", "--queuePort", "0", "--tablePort", "0"])
            .env("AZURITE_MAIN", &main)
            .env("AZURITE_ACCOUNTS", format!("{account}:{key}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("Node.js starts: `node` is on the PATH");
        let mut ports = BTreeMap::new();
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        while ports.len() < 3 {
            line.clear();
            let read = lines.read_line(&mut line).expect("Azurite says where it listens");
            assert!(read > 0, "Azurite ended before it listened");
            if let Some((service, address)) = line.trim().split_once(" service is successfully listening at ") {
                let port: u16 = address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
                ports.insert(service.to_owned(), port);
            }
        }
        // A full pipe would stop it.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        let port = |service: &str| ports[&format!("Azurite {service}")];
        Self {
            child,
            blob_port: port("Blob"),
            table_port: port("Table"),
            account: account.to_owned(),
            key: key.to_owned(),
        }
    }

    /// Where its blobs are: host and port.
    pub fn blob_address(&self) -> String {
        format!("127.0.0.1:{}", self.blob_port)
    }

    /// Where its tables are: host and port.
    pub fn table_address(&self) -> String {
        format!("127.0.0.1:{}", self.table_port)
    }

    /// The account's name.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// The account's key, in base64.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The URL of the account's blobs.
    pub fn blob_endpoint(&self) -> String {
        format!("http://{}/{}", self.blob_address(), self.account)
    }

    /// The URL of the account's tables.
    pub fn table_endpoint(&self) -> String {
        format!("http://{}/{}", self.table_address(), self.account)
    }

    /// What a program needs in its environment to find it.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![("AZURE_STORAGE_CONNECTION_STRING", self.connection_string())]
    }

    /// The same, as one connection string.
    pub fn connection_string(&self) -> String {
        format!(
            "DefaultEndpointsProtocol=http;AccountName={};AccountKey={};BlobEndpoint={};TableEndpoint={}",
            self.account,
            self.key,
            self.blob_endpoint(),
            self.table_endpoint()
        )
    }

    /// Makes a container that no other test has; its name.
    pub fn container(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let (status, text) = self.request("PUT", &format!("{name}?restype=container"), &[], b"");
        assert_eq!(status, 201, "the container {name} was not made: {text}");
        name
    }

    /// A signed request to the blob service: the path within the account, with its query; the status and the body.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String) {
        let url = Url::parse(&format!("{}/{path}", self.blob_endpoint())).expect("a URL");
        let mut all: BTreeMap<String, String> =
            headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), (*value).to_owned())).collect();
        let now = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        all.insert("x-ms-date".to_owned(), now);
        all.insert("x-ms-version".to_owned(), VERSION.to_owned());
        let signature = self.sign(&self.canonical(method, &url, &all, body.len()));
        all.insert("authorization".to_owned(), format!("SharedKey {}:{signature}", self.account));
        all.insert("host".to_owned(), self.blob_address());
        all.insert("content-length".to_owned(), body.len().to_string());
        let target = format!("{}{}", url.path(), url.query().map(|query| format!("?{query}")).unwrap_or_default());
        let message = Message {
            first: format!("{method} {target} HTTP/1.1"),
            headers: all.into_iter().collect(),
            body: body.to_vec(),
        };
        let mut stream = TcpStream::connect(self.blob_address()).expect("Azurite listens");
        stream.write_all(&message.bytes()).expect("Azurite takes a request");
        let answer = Message::answer(&mut BufReader::new(stream)).expect("Azurite answers").expect("with something");
        let status = answer.first.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, String::from_utf8_lossy(&answer.body).into_owned())
    }

    /// The text that is signed: <https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key>
    fn canonical(&self, method: &str, url: &Url, headers: &BTreeMap<String, String>, length: usize) -> String {
        let header = |name: &str| headers.get(name).cloned().unwrap_or_default();
        let length = if length == 0 { String::new() } else { length.to_string() };
        let mut text = format!("{method}\n\n\n{length}\n\n{}\n\n\n", header("content-type"));
        for name in ["if-match", "if-none-match", "if-unmodified-since", "range"] {
            let _ = writeln!(text, "{}", header(name));
        }
        for (name, value) in headers.iter().filter(|(name, _)| name.starts_with("x-ms-")) {
            let _ = writeln!(text, "{name}:{value}");
        }
        let _ = write!(text, "/{}{}", self.account, url.path());
        let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
        for (name, value) in query {
            let _ = write!(text, "\n{}:{value}", name.to_ascii_lowercase());
        }
        text
    }

    fn sign(&self, text: &str) -> String {
        let key = BASE64.decode(&self.key).expect("the key is base64");
        BASE64.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), text.as_bytes()))
    }

    /// A shared access signature for all of the account, as it stands in a URL's query.
    pub fn sas(&self) -> String {
        let (permissions, services, types, expiry) = ("rwdlacup", "bt", "sco", "2100-01-01T00:00:00Z");
        // Account, permissions, services, types, start, expiry, addresses, protocol, version, encryption scope.
        let text = format!("{}\n{permissions}\n{services}\n{types}\n\n{expiry}\n\n\n{VERSION}\n\n", self.account);
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("sv", VERSION).append_pair("ss", services).append_pair("srt", types);
        query.append_pair("sp", permissions).append_pair("se", expiry).append_pair("sig", &self.sign(&text));
        query.finish()
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where npm's packages are: in `SERIATIM_NODE`, as for `scripts/test`, or in `.node` of the repository.
fn node_modules() -> PathBuf {
    let repository = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = std::env::var_os("SERIATIM_NODE").map_or_else(|| PathBuf::from(".node"), PathBuf::from);
    repository.join(folder).join("node_modules")
}
