//! The settings of the HTTP server, and the rule about where it may listen with them. This module must never open a
//! socket, and never let a token be printed.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use subtle::ConstantTimeEq;
use url::Url;

use crate::telemetry::Telemetry;

/// Where the Durable Functions contract lies, unless [`Options::durable_path`] says otherwise.
pub const DURABLE_PATH: &str = "/runtime/webhooks/durabletask";

/// Shorter tokens could be guessed.
const TOKEN_LENGTH: usize = 16;

/// A token that opens the server. It has no `Display`, and its `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// A token of at least 16 visible ASCII characters, without spaces; white space around it is not part of it.
    pub fn new(text: &str) -> Result<Self, OptionsError> {
        let text = text.trim();
        if text.len() < TOKEN_LENGTH {
            return Err(OptionsError::ShortToken);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(OptionsError::UnusableToken);
        }
        Ok(Self(text.as_bytes().into()))
    }

    /// Whether `given` is this token. How long that takes tells at most the token's length.
    pub(crate) fn is(&self, given: &[u8]) -> bool {
        bool::from(self.0.ct_eq(given))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// The files that TLS needs, all in PEM form.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The server's certificate, followed by those that vouch for it.
    pub certificate: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// Authorities of which a client's certificate has to be; `None` lets clients in without one.
    pub client_ca: Option<PathBuf>,
}

/// What a client may make this server hold, and for how long. The defaults suit a hub for one team.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a request's body; more is answered with 413. Default: 4 MiB.
    pub body: usize,
    /// Bytes of a request's line and headers; more is answered with 431. Default: 16 KiB; at least 8 KiB.
    pub head: usize,
    /// Headers of a request; more are answered with 431. Default: 64.
    pub headers: usize,
    /// Levels of arrays and objects in a JSON body; more are answered with 400. Default: 64.
    pub json_depth: usize,
    /// Connections at a time; further ones wait in the system's queue. Default: 512.
    pub connections: usize,
    /// Time for a request's head, a TLS handshake, or for an idle connection to send the next request. Default: 15 s.
    pub head_time: Duration,
    /// Time for a whole body to arrive; then 408. Default: 30 s.
    pub body_time: Duration,
    /// Time for which a client may take nothing of an answer. Default: 30 s.
    pub write_time: Duration,
    /// The longest that a request may wait for an orchestration's end, whatever it asks for. Default: 90 s, below the
    /// 100 s after which the Azure Functions host and many proxies give up.
    pub wait: Duration,
    /// Time that requests have to end when the server is told to. Default: 10 s.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 4 << 20,
            head: 16 << 10,
            headers: 64,
            json_depth: 64,
            connections: 512,
            head_time: Duration::from_secs(15),
            body_time: Duration::from_secs(30),
            write_time: Duration::from_secs(30),
            wait: Duration::from_secs(90),
            grace: Duration::from_secs(10),
        }
    }
}

/// The settings of the server. The default is one that listens on loopback only, and asks for no token there.
#[derive(Debug, Clone)]
pub struct Options {
    /// How clients reach the server: the beginning of every URI that it gives out. Never taken from a request's `Host`.
    /// A path in it is taken off requests that begin with it, for a proxy that passes paths on unchanged.
    /// Default: the address that it listens on.
    pub public_url: Option<Url>,
    /// Tokens of which a request must carry one, as `Authorization: Bearer`. Empty: none is asked for. More than one
    /// is for changing it without a gap.
    pub tokens: Vec<Secret>,
    /// Whether a token is also taken from `?code=`, for old clients of Durable Functions. It then stands in the logs of
    /// every proxy on the way. Default: no.
    pub accept_code: bool,
    /// TLS in this server.
    pub tls: Option<Tls>,
    /// Says that a reverse proxy does TLS in front of this server.
    pub behind_proxy: bool,
    /// Where the Durable Functions contract lies. Default: [`DURABLE_PATH`].
    pub durable_path: String,
    /// Where spans of requests are sent. Default: nowhere; the trace context of a request is then passed on as it is.
    pub telemetry: Option<Telemetry>,
    /// What a client may make the server hold.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            public_url: None,
            tokens: Vec::new(),
            accept_code: false,
            tls: None,
            behind_proxy: false,
            durable_path: DURABLE_PATH.to_owned(),
            telemetry: None,
            limits: Limits::default(),
        }
    }
}

/// Why a server does not begin with these settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// Others can reach the address, and anybody could use the server.
    #[error(
        "{0} can be reached from other machines, and no token is set: set one, ask for client certificates, or listen \
         on 127.0.0.1"
    )]
    NoToken(SocketAddr),
    /// Others can reach the address, and the token would travel in plain text.
    #[error(
        "{0} can be reached from other machines, and tokens would travel in plain text: give a TLS certificate and \
         key, say that a reverse proxy does TLS, or listen on 127.0.0.1"
    )]
    NoTls(SocketAddr),
    /// There is no address to give to clients.
    #[error("{0} is no address that a client could be told: give the public URL")]
    NoPublicUrl(SocketAddr),
    /// The public URL cannot be the beginning of others. It is shown without what may be a secret in it.
    #[error(
        "{0} cannot be the public URL: it has to be http(s)://host[:port][/path], without a user, and with nothing \
         behind that"
    )]
    BadPublicUrl(String),
    /// The path of the contract is no path.
    #[error("\"{0}\" cannot be the path of the Durable Functions contract: write it as /some/path")]
    BadPath(String),
    /// A token that could be guessed.
    #[error("a token has at least {TOKEN_LENGTH} characters: make one with `openssl rand -hex 32`")]
    ShortToken,
    /// A token that a header cannot carry.
    #[error("a token consists of visible ASCII characters, without spaces: make one with `openssl rand -hex 32`")]
    UnusableToken,
    /// The value of `FUNCTIONS_CUSTOMHANDLER_PORT` is no port.
    #[error("FUNCTIONS_CUSTOMHANDLER_PORT is \"{0}\", which is no port: the Azure Functions host sets it to one")]
    BadPort(String),
}

impl OptionsError {
    /// A public URL that cannot be one, as far as it can be shown; `None` if it is no URL at all.
    pub fn bad_public_url(url: Option<&Url>) -> Self {
        let Some(mut shown) = url.cloned().filter(Url::has_host) else {
            return Self::BadPublicUrl("what was given".to_owned());
        };
        // These fail for a URL without a host, which this one has.
        let _ = shown.set_username("").and_then(|()| shown.set_password(None));
        shown.set_query(None);
        shown.set_fragment(None);
        Self::BadPublicUrl(format!("\"{shown}\""))
    }
}

impl Options {
    /// Whether a server with these settings may listen on `address`: loopback always; any other address needs TLS, here
    /// or in a proxy, and a token or clients' certificates.
    pub fn check(&self, address: SocketAddr) -> Result<(), OptionsError> {
        if !self.durable_path.starts_with('/') || self.durable_path.ends_with('/') {
            return Err(OptionsError::BadPath(self.durable_path.clone()));
        }
        if let Some(url) = &self.public_url {
            let plain = url.query().is_none() && url.fragment().is_none() && url.password().is_none();
            if !plain || !url.username().is_empty() || !url.has_host() || !matches!(url.scheme(), "http" | "https") {
                return Err(OptionsError::bad_public_url(Some(url)));
            }
        }
        if address.ip().is_loopback() {
            return Ok(());
        }
        let mutual = self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        if self.tokens.is_empty() && !mutual {
            return Err(OptionsError::NoToken(address));
        }
        if self.tls.is_none() && !self.behind_proxy {
            return Err(OptionsError::NoTls(address));
        }
        if address.ip().is_unspecified() && self.public_url.is_none() {
            return Err(OptionsError::NoPublicUrl(address));
        }
        Ok(())
    }

    /// The beginning of every URI that a server with these settings gives out, without a slash at its end.
    pub(crate) fn base(&self, address: SocketAddr) -> String {
        match &self.public_url {
            Some(url) => url.as_str().trim_end_matches('/').to_owned(),
            None if self.tls.is_some() => format!("https://{address}"),
            None => format!("http://{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn another_address_than_loopback_needs_a_token_and_tls() {
        let mut options = Options::default();
        let open = at("0.0.0.0:8080");
        assert_eq!(options.check(at("127.0.0.1:8080")), Ok(()));
        assert_eq!(options.check(at("[::1]:8080")), Ok(()));
        assert_eq!(options.check(open), Err(OptionsError::NoToken(open)));
        options.tokens.push(Secret::new("0123456789abcdef").unwrap());
        assert_eq!(options.check(open), Err(OptionsError::NoTls(open)));
        options.behind_proxy = true;
        assert_eq!(options.check(open), Err(OptionsError::NoPublicUrl(open)));
        assert_eq!(options.check(at("10.0.0.1:80")), Ok(()));
        options.public_url = Some(Url::parse("https://hub.example/tasks").unwrap());
        assert_eq!(options.check(open), Ok(()));
        assert_eq!(options.base(open), "https://hub.example/tasks");

        let tls = Tls { certificate: "c.pem".into(), key: "k.pem".into(), client_ca: None };
        let mut mutual = Options { tls: Some(tls.clone()), ..Options::default() };
        assert_eq!(mutual.check(at("10.0.0.1:80")), Err(OptionsError::NoToken(at("10.0.0.1:80"))));
        mutual.tls = Some(Tls { client_ca: Some("ca.pem".into()), ..tls });
        assert_eq!(mutual.check(at("10.0.0.1:80")), Ok(()));
    }

    #[test]
    fn a_public_url_has_no_query_and_no_credentials() {
        for wrong in [
            "https://a.example/?x=canary",
            "https://u:canary@a.example",
            "https://canary@a.example",
            "ftp://a.example",
            "https://a.example/#canary",
            "canary:x",
        ] {
            let options = Options { public_url: Some(Url::parse(wrong).unwrap()), ..Options::default() };
            let error = options.check(at("127.0.0.1:1")).unwrap_err();
            assert!(matches!(error, OptionsError::BadPublicUrl(_)), "{wrong}");
            assert!(!error.to_string().contains("canary"), "{error}");
        }
    }

    #[test]
    fn a_token_is_compared_whole_and_never_shown() {
        let secret = Secret::new(" canary-canary-canary\n").unwrap();
        assert!(secret.is(b"canary-canary-canary"));
        for wrong in ["", "canary-canary-canar", "canary-canary-canarY", "canary-canary-canary "] {
            assert!(!secret.is(wrong.as_bytes()), "{wrong}");
        }
        let options = Options { tokens: vec![secret], ..Options::default() };
        assert!(!format!("{options:?}").contains("canary"));
        assert_eq!(Secret::new("short").unwrap_err(), OptionsError::ShortToken);
        assert_eq!(Secret::new("with a space in the middle").unwrap_err(), OptionsError::UnusableToken);
    }
}
