//! Who may come in: the rule for addresses, TLS, and the token that every call must carry. This module must never let a
//! token into a message, a log line or a `Debug` output.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use subtle::ConstantTimeEq as _;
use tonic::service::Interceptor;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};
use tonic::{Request, Status};

use super::ServeError;
use super::incoming::Peer;

/// The shortest token that is accepted: 16 characters of base64 are 96 bits.
const SHORTEST_TOKEN: usize = 16;

/// The secret that a client shows with each call, as `authorization: Bearer <token>`.
#[derive(Clone)]
pub struct Token(Arc<str>);

impl Token {
    /// Takes a token; white space around it (a file's last line feed) does not count.
    pub fn new(text: &str) -> Result<Self, ServeError> {
        let text = text.trim();
        if text.len() < SHORTEST_TOKEN {
            return Err(ServeError::Token("it is shorter than 16 characters; make one with `openssl rand -base64 32`"));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ServeError::Token("it has characters that a header cannot carry; use letters and digits"));
        }
        Ok(Self(text.into()))
    }

    /// Whether this is the token. Takes equally long wherever the first difference is.
    fn is(&self, shown: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(shown).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

/// A certificate with its key, and whose certificates clients must have. All in PEM.
#[derive(Clone)]
pub struct Tls {
    /// The server's certificate, followed by those that it rests on.
    pub certificate: Vec<u8>,
    /// Its private key.
    pub key: Vec<u8>,
    /// If set, a client must show a certificate that one of these has signed (mutual TLS).
    pub client_ca: Option<Vec<u8>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("mutual", &self.client_ca.is_some()).finish_non_exhaustive()
    }
}

impl Tls {
    pub(super) fn config(&self, handshake: Duration) -> ServerTlsConfig {
        let config = ServerTlsConfig::new().identity(Identity::from_pem(&self.certificate, &self.key));
        let config = config.timeout(handshake);
        match &self.client_ca {
            Some(ca) => config.client_ca_root(Certificate::from_pem(ca)),
            None => config,
        }
    }
}

/// What protects a server.
#[derive(Debug, Clone, Default)]
pub struct Security {
    /// TLS; plain text without.
    pub tls: Option<Tls>,
    /// The token; without one, calls need none.
    pub token: Option<Token>,
}

impl Security {
    /// Whether the address may be served: one that other machines can reach needs TLS, and a token or mutual TLS.
    pub(super) fn check(&self, address: SocketAddr) -> Result<(), ServeError> {
        if address.ip().to_canonical().is_loopback() {
            return Ok(());
        }
        let mutual = self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        let missing = if self.tls.is_none() {
            "it needs TLS: give a certificate and its key (--tls-cert, --tls-key), or listen on 127.0.0.1"
        } else if self.token.is_none() && !mutual {
            "it needs a token (SERIATIM_TOKEN or --token-file) or mutual TLS (--tls-client-ca)"
        } else {
            return Ok(());
        };
        Err(ServeError::Unprotected { address, missing })
    }
}

/// Lets calls through that carry the token.
#[derive(Debug, Clone)]
pub(super) struct Access {
    token: Option<Token>,
}

impl Access {
    pub(super) fn new(token: Option<Token>) -> Self {
        Self { token }
    }
}

impl Interceptor for Access {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.token {
            let shown = request.metadata().get("authorization").and_then(|value| bearer(value.as_encoded_bytes()));
            match shown {
                None => {
                    let what = "the call carries no token; send `authorization: Bearer <token>`";
                    return Err(Status::unauthenticated(what));
                }
                Some(shown) if !token.is(shown) => {
                    return Err(Status::unauthenticated("the token is wrong; ask whoever runs this server for it"));
                }
                Some(_) => {}
            }
        }
        if let Some(peer) = request.extensions().get::<Peer>() {
            peer.is_let_in();
        }
        Ok(request)
    }
}

/// What follows `Bearer `, whose case does not matter.
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, shown) = header.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| shown.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "canary-0123456789";

    fn tls(client_ca: Option<Vec<u8>>) -> Tls {
        Tls { certificate: Vec::new(), key: SECRET.into(), client_ca }
    }

    #[test]
    fn only_loopback_is_served_without_protection() {
        let token = Some(Token::new(SECRET).unwrap());
        let cases = [
            ("127.0.0.1:1", Security::default(), ""),
            ("127.8.8.8:1", Security::default(), ""),
            ("[::1]:1", Security::default(), ""),
            ("[::ffff:127.0.0.1]:1", Security::default(), ""),
            ("0.0.0.0:1", Security::default(), "--tls-cert"),
            ("[::]:1", Security::default(), "--tls-cert"),
            ("192.168.0.1:1", Security { token: token.clone(), tls: None }, "--tls-cert"),
            ("192.168.0.1:1", Security { token: None, tls: Some(tls(None)) }, "SERIATIM_TOKEN"),
            ("192.168.0.1:1", Security { token, tls: Some(tls(None)) }, ""),
            ("192.168.0.1:1", Security { token: None, tls: Some(tls(Some(Vec::new()))) }, ""),
        ];
        for (address, security, missing) in cases {
            match security.check(address.parse().unwrap()) {
                Ok(()) => assert_eq!(missing, "", "{address}"),
                Err(error) => assert!(!missing.is_empty() && error.to_string().contains(missing), "{address}: {error}"),
            }
        }
    }

    #[test]
    fn nothing_but_the_token_opens() {
        let mut access = Access::new(Some(Token::new(&format!(" {SECRET}\n")).unwrap()));
        let mut call = |header: Option<String>| {
            let mut request = Request::new(());
            if let Some(header) = header {
                request.metadata_mut().insert("authorization", header.parse().unwrap());
            }
            access.call(request).map(drop).map_err(|status| status.code())
        };
        assert!(call(Some(format!("Bearer {SECRET}"))).is_ok());
        assert!(call(Some(format!("bearer {SECRET}"))).is_ok());
        let longer = format!("Bearer {SECRET}x");
        let wrong = ["Bearer ", "Bearer", "", SECRET, "Basic canary-0123456789", "Bearer canary-012345678", &longer];
        for wrong in wrong {
            assert_eq!(call(Some(wrong.to_owned())), Err(tonic::Code::Unauthenticated), "{wrong}");
        }
        assert_eq!(call(None), Err(tonic::Code::Unauthenticated));
    }

    #[test]
    fn secrets_are_never_shown() {
        let security = Security { token: Some(Token::new(SECRET).unwrap()), tls: Some(tls(None)) };
        let shown = format!("{security:?} {:?}", Access::new(security.token.clone()));
        assert!(!shown.contains("canary"), "{shown}");
        assert!(!Token::new("canary").unwrap_err().to_string().contains("canary"));
        assert!(Token::new("canary 0123456789 with spaces").is_err());
    }
}
