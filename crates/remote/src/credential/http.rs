//! The few HTTP requests that getting a token takes. This module must never follow a redirect (it would carry a secret
//! elsewhere), read an answer without bound, or repeat an answer's text in an error: a token may be in it.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use tokio::time::timeout;

use super::{AccessToken, CredentialError};
use crate::secret::Secret;

/// More than any token; less than what hurts.
const LONGEST_ANSWER: usize = 256 << 10;

/// A client for requests for tokens. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// A request for a token.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    /// Who is asked, for people: "the managed identity endpoint".
    pub(super) whom: &'a str,
    /// Where.
    pub(super) uri: Uri,
    /// Headers by name; a value may be a secret.
    pub(super) headers: Vec<(&'static str, Secret)>,
    /// The form to post; `None`: it is a GET.
    pub(super) form: Option<Secret>,
    /// How long the answer may take.
    pub(super) patience: Duration,
}

impl Http {
    pub(super) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(Duration::from_secs(10)));
        let https = hyper_rustls::HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1();
        Self { client: Client::builder(TokioExecutor::new()).build(https.wrap_connector(connector)) }
    }

    /// Asks, and reads the token in the answer.
    pub(super) async fn ask(&self, ask: Ask<'_>) -> Result<AccessToken, CredentialError> {
        let (whom, patience) = (ask.whom.to_owned(), ask.patience);
        let unreachable = |error: &dyn std::error::Error| {
            CredentialError::Unreachable(format!("{whom} is out of reach: {}", crate::in_full(error)))
        };
        let answer = async {
            let response = self.client.request(request(ask)?).await.map_err(|error| unreachable(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LONGEST_ANSWER).collect().await;
            let body = body.map_err(|error| unreachable(&*error))?.to_bytes();
            Ok((status, body))
        };
        let (status, body) = timeout(patience, answer).await.unwrap_or_else(|_| {
            Err(CredentialError::Unreachable(format!("{whom} did not answer within {} s", patience.as_secs())))
        })?;
        if status.is_success() { read_token(&whom, &body) } else { Err(refusal(&whom, status, &body)) }
    }
}

fn request(ask: Ask<'_>) -> Result<Request<Full<Bytes>>, CredentialError> {
    let mut request = Request::builder().uri(ask.uri).header("accept", "application/json");
    for (name, value) in ask.headers {
        request = request.header(name, value.expose());
    }
    let request = match ask.form {
        Some(form) => request
            .method(Method::POST)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Full::from(form.expose().to_owned())),
        None => request.method(Method::GET).body(Full::default()),
    };
    // The error's text may have a header's value in it.
    request.map_err(|_| CredentialError::NotConfigured(format!("the request to {} cannot be made", ask.whom)))
}

/// The answer of who gives tokens. Times are numbers or texts, by who it is.
#[derive(Deserialize)]
struct Given {
    access_token: Option<String>,
    expires_on: Option<serde_json::Value>,
    expires_in: Option<serde_json::Value>,
}

fn read_token(whom: &str, body: &[u8]) -> Result<AccessToken, CredentialError> {
    let given: Option<Given> = serde_json::from_slice(body).ok();
    let secret = given.as_ref().and_then(|given| given.access_token.as_deref()).map(Secret::new);
    let (Some(given), Some(secret)) = (given, secret.filter(|secret| !secret.is_empty())) else {
        return Err(CredentialError::Refused(format!("{whom} answered without a token")));
    };
    let on = given.expires_on.as_ref().and_then(seconds);
    let within = given.expires_in.as_ref().and_then(seconds);
    let expires = on
        .map(|seconds| std::time::UNIX_EPOCH + Duration::from_secs(seconds))
        .or_else(|| within.map(|seconds| std::time::SystemTime::now() + Duration::from_secs(seconds)));
    Ok(AccessToken { secret, expires })
}

pub(super) fn seconds(value: &serde_json::Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// What the codes of OAuth say; the description is left out, for it may repeat what was sent.
#[derive(Deserialize)]
struct Refusal {
    error: Option<String>,
    error_codes: Option<Vec<u64>>,
}

fn refusal(whom: &str, status: StatusCode, body: &[u8]) -> CredentialError {
    let said: Option<Refusal> = serde_json::from_slice(body).ok();
    let mut text = format!("{whom} refused: HTTP {}", status.as_u16());
    let plain = |code: &String| code.len() <= 64 && code.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if let Some(code) = said.as_ref().and_then(|said| said.error.clone()).filter(plain) {
        let _ = write!(text, ", {code}"); // a String takes everything
    }
    for code in said.and_then(|said| said.error_codes).unwrap_or_default() {
        let _ = write!(text, ", AADSTS{code}");
    }
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        CredentialError::Unreachable(text)
    } else {
        CredentialError::Refused(text)
    }
}

/// Writes a form: names and values, escaped.
pub(super) fn form(fields: &[(&str, &str)]) -> String {
    fields.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value))).collect::<Vec<_>>().join("&")
}

fn escaped(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}"); // a String takes everything
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_escaped() {
        assert_eq!(
            form(&[("scope", "https://a/.default"), ("b", "ü &=")]),
            "scope=https%3A%2F%2Fa%2F.default&b=%C3%BC%20%26%3D"
        );
    }

    #[test]
    fn an_answer_is_never_repeated() {
        let error = refusal(
            "it",
            StatusCode::BAD_REQUEST,
            br#"{"error":"invalid_client","error_description":"canary","error_codes":[7000215]}"#,
        );
        assert_eq!(error.to_string(), "it refused: HTTP 400, invalid_client, AADSTS7000215");
        assert!(matches!(error, CredentialError::Refused(_)));
        let error = read_token("it", br#"{"token":"canary"}"#).unwrap_err();
        assert_eq!(error.to_string(), "it answered without a token");
    }

    #[test]
    fn times_are_read_in_every_form() {
        let token = read_token("it", br#"{"access_token":"t","expires_on":"1700000000"}"#).unwrap();
        assert_eq!(token.expires, Some(std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000)));
        assert!(read_token("it", br#"{"access_token":"t","expires_in":"60"}"#).unwrap().expires.is_some());
        assert!(read_token("it", br#"{"access_token":"t","expires_in":60}"#).unwrap().expires.is_some());
        assert_eq!(read_token("it", br#"{"access_token":"t"}"#).unwrap().expires, None);
    }
}
