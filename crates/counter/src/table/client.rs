//! The part of Azure Table Storage's REST interface that a counter takes: read a row, list rows, insert, change, remove,
//! several at once. It makes one attempt and says what came of it. It must never repeat an answer's text (which could
//! repeat what was sent), or send a signature in the open to another machine.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{ETAG, HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};
use url::Url;

use super::batch;
use super::credential::{Credential, Environment};
use crate::error::{CounterError, CounterErrorKind, Result, Trouble};

/// A row's columns.
pub type Columns = Map<String, Value>;

/// More than any answer has; less than what hurts.
const LONGEST_ANSWER: usize = 8 << 20;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The emulator closes a connection that was idle for five seconds, Azure after some minutes. A request on a connection
/// that closes at that moment would have to be made again.
const IDLE: Duration = Duration::from_secs(4);
const VERSION: &str = "2019-02-02";

/// What may stand in a path or a filter as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A table, and how to reach it. Cheap to share.
#[derive(Debug)]
pub struct TableClient {
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Scheme and host, without the last `/`.
    origin: String,
    /// The path before the table's name: empty, or `/` and an account.
    base: String,
    account: String,
    table: String,
    credential: Credential,
    counts: Counts,
}

/// What a client has met, for who measures.
#[derive(Debug, Default)]
pub struct Counts {
    /// Requests that were sent.
    pub requests: AtomicU64,
    /// Changes that were refused because somebody else had changed the row.
    pub conflicts: AtomicU64,
    /// Answers that were errors of the service, or did not come.
    pub failures: AtomicU64,
}

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its columns, keys included.
    pub columns: Columns,
    /// Its version.
    pub etag: String,
}

/// A change of one row; several are made together or not at all.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A row that is not there yet.
    Insert {
        /// The partition's key.
        partition: String,
        /// The row's key.
        row: String,
        /// Its columns, without the keys.
        columns: Columns,
    },
    /// Columns of a row that has still this version.
    Merge {
        /// The partition's key.
        partition: String,
        /// The row's key.
        row: String,
        /// The version.
        etag: String,
        /// The columns that change.
        columns: Columns,
    },
    /// Removes a row that has still this version.
    Delete {
        /// The partition's key.
        partition: String,
        /// The row's key.
        row: String,
        /// The version.
        etag: String,
    },
}

/// The headers and the body of an answer.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl TableClient {
    /// A client of the table at `url`: `https://ACCOUNT.table.core.windows.net/TABLE`, or, of an emulator,
    /// `http://HOST:PORT/ACCOUNT/TABLE`. A query is taken for a shared access signature; without one, `env` has the
    /// credential.
    pub fn new(url: &str, env: Environment<'_>) -> Result<Self> {
        let wrong = |what: &str| {
            CounterError::new(CounterErrorKind::NotFitting, format!("the address of the table is wrong: {what}")).help(
                "write https://ACCOUNT.table.core.windows.net/TABLE, or http://127.0.0.1:10002/devstoreaccount1/TABLE \
                 for the emulator",
            )
        };
        let url = Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
        let host = url.host_str().ok_or_else(|| wrong("it has no host"))?;
        let segments: Vec<&str> = url.path().trim_matches('/').split('/').collect();
        let (account, base, table) = match segments.as_slice() {
            [table] => (host.split('.').next().unwrap_or_default().to_owned(), String::new(), *table),
            [account, table] => ((*account).to_owned(), format!("/{account}"), *table),
            _ => return Err(wrong("its path is neither TABLE nor ACCOUNT/TABLE")),
        };
        let is_name = (3..=63).contains(&table.len())
            && table.starts_with(|c: char| c.is_ascii_alphabetic())
            && table.chars().all(|c| c.is_ascii_alphanumeric());
        if !is_name {
            return Err(wrong("a table's name has 3 to 63 letters and digits, and begins with a letter"));
        }
        let local = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        let credential = match url.query() {
            Some(query) => Credential::signature(query),
            None => Credential::from_env(&account, env)?,
        };
        match (url.scheme(), &credential) {
            ("https", _) | ("http", Credential::Key(_)) => {}
            ("http", Credential::Signature(_)) if local => {}
            ("http", _) => return Err(wrong("a shared access signature must not go over http to another machine")),
            _ => return Err(wrong("it begins neither with https:// nor with http://")),
        }
        Ok(Self {
            http: http_client(),
            origin: url.origin().ascii_serialization(),
            base,
            account,
            table: table.to_owned(),
            credential,
            counts: Counts::default(),
        })
    }

    /// The table and its account, for people.
    pub fn describe(&self) -> String {
        format!("the table '{}' of the storage account '{}'", self.table, self.account)
    }

    /// What was met so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Makes the table, if it is not there.
    pub(crate) async fn create(&self) -> Result<(), Trouble> {
        let body = json!({"TableName": self.table}).to_string();
        let answer = self.ask(&Method::POST, &format!("{}/Tables", self.base), "", None, body).await?;
        if answer.status == StatusCode::CONFLICT { Ok(()) } else { self.check(answer).map(|_| ()) }
    }

    /// A row; `None` if it is not there, or the table is not.
    pub(crate) async fn get(&self, partition: &str, row: &str) -> Result<Option<Row>, Trouble> {
        let answer = self.ask(&Method::GET, &self.path(partition, row), "", None, String::new()).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let answer = self.check(answer)?;
        let etag = answer.headers.get(ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
        let columns: Option<Columns> = serde_json::from_slice(&answer.body).ok();
        match (columns, etag) {
            (Some(columns), Some(etag)) => Ok(Some(Row { columns, etag })),
            _ => Err(self.unexpected("a row without columns or version")),
        }
    }

    /// The rows of a partition whose names begin with `prefix`, which ends in an ASCII character, in the order of their
    /// names.
    pub(crate) async fn list(&self, partition: &str, prefix: &str) -> Result<Vec<Columns>, Trouble> {
        let end = prefix
            .char_indices()
            .next_back()
            .map_or(String::new(), |(at, last)| format!("{}{}", &prefix[..at], char::from(last as u8 + 1)));
        let filter = format!("PartitionKey eq '{partition}' and RowKey ge '{prefix}' and RowKey lt '{end}'");
        let filter = format!("$filter={}", encoded(&filter));
        let mut rows = Vec::new();
        let mut query = filter.clone();
        loop {
            let path = format!("{}/{}()", self.base, self.table);
            let answer = self.ask(&Method::GET, &path, &query, None, String::new()).await?;
            if answer.status == StatusCode::NOT_FOUND {
                return Ok(rows);
            }
            let answer = self.check(answer)?;
            let page: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let Some(values) = page["value"].as_array() else { return Err(self.unexpected("a list without rows")) };
            rows.extend(values.iter().filter_map(|value| value.as_object().cloned()));
            let next = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok());
            let Some(at) = next("x-ms-continuation-nextpartitionkey") else { return Ok(rows) };
            query = format!("{filter}&NextPartitionKey={}", encoded(at));
            if let Some(row) = next("x-ms-continuation-nextrowkey") {
                query = format!("{query}&NextRowKey={}", encoded(row));
            }
        }
    }

    /// Makes one change.
    pub(crate) async fn change(&self, change: &Change) -> Result<(), Trouble> {
        let (method, path, etag, body) = self.request_of(change);
        let answer = self.ask(&method, &path, "", etag, body).await?;
        self.check(answer).map(|_| ())
    }

    /// Makes several changes of one partition, all or none; 100 at most.
    pub(crate) async fn change_all(&self, changes: &[Change]) -> Result<(), Trouble> {
        let parts = changes.iter().map(|change| {
            let (method, path, etag, body) = self.request_of(change);
            batch::Part { method, url: format!("{}{path}", self.origin), etag: etag.map(str::to_owned), body }
        });
        let (content_type, body) = batch::body(&parts.collect::<Vec<_>>());
        let path = format!("{}/$batch", self.base);
        let answer = self.send(&Method::POST, &path, "", None, &content_type, body).await?;
        let answer = self.check(answer)?;
        match batch::outcome(&answer.body) {
            Some((status, body)) => {
                self.check(Answer { status, headers: HeaderMap::new(), body: Bytes::from(body) }).map(|_| ())
            }
            None => Err(self.unexpected("no outcome of a transaction")),
        }
    }

    fn request_of<'c>(&self, change: &'c Change) -> (Method, String, Option<&'c str>, String) {
        let merge = || Method::from_bytes(b"MERGE").unwrap_or(Method::PATCH);
        match change {
            Change::Insert { partition, row, columns } => {
                let mut columns = columns.clone();
                columns.insert("PartitionKey".to_owned(), json!(partition));
                columns.insert("RowKey".to_owned(), json!(row));
                let body = Value::Object(columns).to_string();
                (Method::POST, format!("{}/{}", self.base, self.table), None, body)
            }
            Change::Merge { partition, row, etag, columns } => {
                let body = Value::Object(columns.clone()).to_string();
                (merge(), self.path(partition, row), Some(etag), body)
            }
            Change::Delete { partition, row, etag } => {
                (Method::DELETE, self.path(partition, row), Some(etag), String::new())
            }
        }
    }

    fn path(&self, partition: &str, row: &str) -> String {
        let key = |text: &str| encoded(&text.replace('\'', "''"));
        format!("{}/{}(PartitionKey='{}',RowKey='{}')", self.base, self.table, key(partition), key(row))
    }

    async fn ask(
        &self,
        method: &Method,
        path: &str,
        query: &str,
        etag: Option<&str>,
        body: String,
    ) -> Result<Answer, Trouble> {
        self.send(method, path, query, etag, "application/json", body).await
    }

    async fn send(
        &self,
        method: &Method,
        path: &str,
        query: &str,
        etag: Option<&str>,
        content_type: &str,
        body: String,
    ) -> Result<Answer, Trouble> {
        self.counts.requests.fetch_add(1, Relaxed);
        let request = self.request(method, path, query, etag, content_type, body)?;
        let answer = async {
            let response = self.http.request(request).await.map_err(|error| in_full(&error))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, LONGEST_ANSWER).collect().await.map_err(|error| in_full(&*error))?;
            Ok(Answer { status: parts.status, headers: parts.headers, body: body.to_bytes() })
        };
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        answer.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs()))).map_err(|text| {
            self.counts.failures.fetch_add(1, Relaxed);
            Trouble::Passing(text)
        })
    }

    fn request(
        &self,
        method: &Method,
        path: &str,
        query: &str,
        etag: Option<&str>,
        content_type: &str,
        body: String,
    ) -> Result<Request<Full<Bytes>>, Trouble> {
        let date = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let mut queries = vec![query];
        let mut authorization = None;
        match &self.credential {
            Credential::Key(key) => {
                authorization = Some(key.authorization(method.as_str(), content_type, &date, path));
            }
            Credential::Signature(signature) => queries.push(signature.expose()),
        }
        queries.retain(|query| !query.is_empty());
        let question = if queries.is_empty() { "" } else { "?" };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}{question}{}", self.origin, queries.join("&")))
            .header("content-type", content_type)
            .header("accept", "application/json;odata=nometadata")
            .header("dataserviceversion", "3.0;NetFx")
            .header("maxdataserviceversion", "3.0;NetFx")
            .header("prefer", "return-no-content")
            .header("x-ms-date", &date)
            .header("x-ms-version", VERSION);
        if let Some(etag) = etag {
            request = request.header("if-match", etag);
        }
        if let Some(authorization) = authorization {
            // The error's text could have the value in it.
            let value = HeaderValue::from_str(authorization.expose()).map_err(|_| self.unexpected("a signature"))?;
            request = request.header("authorization", value);
        }
        request.body(Full::from(body)).map_err(|_| self.unexpected("an address that cannot be asked"))
    }

    /// What an answer means: success, a conflict, something that passes, or the end.
    fn check(&self, answer: Answer) -> Result<Answer, Trouble> {
        let status = answer.status;
        if status.is_success() {
            return Ok(answer);
        }
        let text = match code_of(&answer.body) {
            Some(code) => format!("HTTP {}, {code}", status.as_u16()),
            None => format!("HTTP {}", status.as_u16()),
        };
        match status {
            StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => {
                self.counts.conflicts.fetch_add(1, Relaxed);
                Err(Trouble::Conflict(text))
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                self.counts.failures.fetch_add(1, Relaxed);
                Err(Trouble::Passing(text))
            }
            _ if status.is_server_error() => {
                self.counts.failures.fetch_add(1, Relaxed);
                Err(Trouble::Passing(text))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Trouble::Final(
                CounterError::new(CounterErrorKind::Refused, format!("{} refused: {text}", self.describe())).help(
                    "see that the key or signature is the account's, has not expired, and lets you read, add, update \
                     and delete rows; and that this machine's clock is right",
                ),
            )),
            StatusCode::NOT_FOUND => Err(Trouble::Conflict(text)),
            _ => Err(self.unexpected(&text)),
        }
    }

    fn unexpected(&self, what: &str) -> Trouble {
        let text = format!("{} gave an answer that is not understood: {what}", self.describe());
        Trouble::Final(CounterError::new(CounterErrorKind::Broken, text))
    }
}

fn http_client() -> Client<HttpsConnector<HttpConnector>, Full<Bytes>> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(Duration::from_secs(10)));
    let https = hyper_rustls::HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1();
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .build(https.wrap_connector(connector))
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

/// The code in an error's body; nothing else of it is fit to be shown.
fn code_of(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let code = body["odata.error"]["code"].as_str()?;
    (code.len() <= 64 && code.chars().all(|c| c.is_ascii_alphanumeric())).then(|| code.to_owned())
}

/// An error and its causes. None of hyper's has an address or a header in it.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
