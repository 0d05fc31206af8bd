//! Delivers events: a line in a file, or a request to a service. Must never show the key that the service is told, follow a
//! redirect with it, or wait for long.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use seriatim_remote::Secret;

use crate::error::{CliError, with_causes};

/// How long an event may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a service takes events, unless it is said.
const ENDPOINT: &str = "api/v1/lineage";

/// Where events go.
#[derive(Debug)]
pub(super) enum To {
    /// A file, one event a line.
    File(PathBuf),
    /// A service.
    Service {
        /// Where it takes events.
        uri: Uri,
        /// What it is told to let them in.
        key: Option<Secret>,
    },
}

impl To {
    /// The service at this address; one without a path takes events at `endpoint`, or where such services usually do.
    pub(super) fn service(url: &str, endpoint: Option<String>, key: Option<String>) -> Result<Self, CliError> {
        let wrong = |why: &str| {
            let help = "write it as http://HOST:PORT or https://HOST, without a password; a key comes from \
                        OPENLINEAGE_API_KEY";
            CliError::failed_with(format!("the address for OpenLineage events {why}"), help)
        };
        let uri: Uri = url.trim().parse().map_err(|_| wrong("cannot be read"))?;
        let authority = uri.authority().ok_or_else(|| wrong("has no host"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(wrong("is neither http nor https"));
        }
        if authority.as_str().contains('@') {
            return Err(wrong("has a user in it"));
        }
        let url = url.trim().trim_end_matches('/');
        let has_path = !matches!(uri.path(), "" | "/");
        let full = match endpoint {
            None if has_path => url.to_owned(),
            endpoint => format!("{url}/{}", endpoint.as_deref().unwrap_or(ENDPOINT).trim_start_matches('/')),
        };
        let uri = full.parse().map_err(|_| wrong("cannot be read"))?;
        Ok(Self::Service { uri, key: key.map(Secret::new) })
    }

    /// Delivers an event, or says why not.
    pub(super) async fn deliver(&self, event: &Value) -> Result<(), String> {
        let outcome = match self {
            Self::File(path) => append(path, event).map_err(|e| format!("{}: {e}", path.display())),
            Self::Service { uri, key } => match tokio::time::timeout(PATIENCE, post(uri, key.as_ref(), event)).await {
                Ok(outcome) => outcome.map_err(|why| format!("{uri}: {why}")),
                Err(_) => Err(format!("{uri} did not answer within {} s", PATIENCE.as_secs())),
            },
        };
        outcome.map_err(|why| format!("an OpenLineage event was not delivered: {why}"))
    }
}

fn append(path: &PathBuf, event: &Value) -> std::io::Result<()> {
    // In one piece: other runs may write to the same file.
    OpenOptions::new().create(true).append(true).open(path)?.write_all(format!("{event}\n").as_bytes())
}

async fn post(uri: &Uri, key: Option<&Secret>, event: &Value) -> Result<(), String> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    let https = hyper_rustls::HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1();
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build(https.wrap_connector(connector));
    let mut request = Request::builder().method(Method::POST).uri(uri).header("content-type", "application/json");
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {}", key.expose()));
    }
    // The error's text may have the key in it.
    let request = request.body(Full::from(event.to_string())).map_err(|_| "the request cannot be made".to_owned())?;
    let response = client.request(request).await.map_err(|error| with_causes(&error))?;
    let status = response.status();
    // Read to its end, so that the service is not cut off.
    let _ = response.into_body().collect().await;
    if status.is_success() { Ok(()) } else { Err(format!("HTTP {}", status.as_u16())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(url: &str, endpoint: Option<&str>) -> Result<String, String> {
        match To::service(url, endpoint.map(str::to_owned), None) {
            Ok(To::Service { uri, .. }) => Ok(uri.to_string()),
            Ok(To::File(_)) => Err("a file".to_owned()),
            Err(CliError::Failed { message, .. }) => Err(message),
            Err(other) => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn a_service_takes_events_where_it_says() {
        assert_eq!(uri("http://localhost:5000", None).as_deref(), Ok("http://localhost:5000/api/v1/lineage"));
        assert_eq!(uri("http://localhost:5000/", Some("/my/events")).as_deref(), Ok("http://localhost:5000/my/events"));
        assert_eq!(uri("https://h/api/v2/lineage", None).as_deref(), Ok("https://h/api/v2/lineage"));
        for (wrong, said) in [("https://u:canary@h", "has a user in it"), ("ftp://h", "neither"), ("nohost", "neither")]
        {
            let error = uri(wrong, None).unwrap_err();
            assert!(error.contains(said) && !error.contains("canary"), "{wrong}: {error}");
        }
    }
}
