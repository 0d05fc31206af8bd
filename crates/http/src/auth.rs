//! Who may use the server: a bearer token where one is set, and where none is, only who speaks to this server by its
//! own name and does not come from a page of somebody else. This module must never log or echo what was given.

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri};
use url::Url;

use crate::call::lookup;
use crate::options::Options;
use crate::problem::{Code, Problem};

/// Checks a request for a route that is not open to everybody.
pub(crate) fn check(
    options: &Options,
    base: &str,
    uri: &Uri,
    headers: &HeaderMap,
    query: &[(String, String)],
) -> Result<(), Problem> {
    let base = Url::parse(base).ok();
    check_origin(base.as_ref(), headers)?;
    if options.tokens.is_empty() {
        return check_host(base.as_ref(), uri, headers);
    }
    let code = options.accept_code.then(|| lookup(query, "code")).flatten().map(str::as_bytes);
    let given = bearer(headers).or(code).unwrap_or_default();
    // Every token is compared, so that the time does not tell which one fitted.
    if options.tokens.iter().filter(|token| token.is(given)).count() > 0 {
        return Ok(());
    }
    let detail = "send the server's token in the header `Authorization: Bearer <token>`";
    Err(Problem::new(Code::Unauthorized, detail))
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// A browser says which page a request comes from; only pages of this server may use it.
fn check_origin(base: Option<&Url>, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(origin) = headers.get(ORIGIN) else {
        return Ok(());
    };
    let ours = base.map(|base| base.origin().ascii_serialization());
    let theirs = origin.to_str().ok().and_then(|text| Url::parse(text).ok());
    if ours.is_some() && ours == theirs.map(|url| url.origin().ascii_serialization()) {
        return Ok(());
    }
    Err(Problem::new(Code::ForbiddenOrigin, "requests from pages of other servers are not answered"))
}

/// Without a token, a page could reach this server under a name of its own that it lets point here. So the name that
/// the request is addressed to has to be a local one, or that of the public URL.
fn check_host(base: Option<&Url>, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let given =
        headers.get(HOST).and_then(|host| host.to_str().ok()).or_else(|| uri.authority().map(Authority::as_str));
    // Requests without a host come from HTTP/1.0 clients, which no browser is.
    let Some(given) = given else {
        return Ok(());
    };
    let host = Url::parse(&format!("http://{given}")).ok().and_then(|url| url.host().map(|host| host.to_owned()));
    let public = base.and_then(|base| base.host().map(|host| host.to_owned()));
    let ours = match &host {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if ours || (host.is_some() && host == public) {
        return Ok(());
    }
    let detail = "the request is addressed to a name that is not this server's; set the public URL to be reached by it";
    Err(Problem::new(Code::ForbiddenHost, detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Secret;

    const BASE: &str = "http://127.0.0.1:8080";
    const TOKEN: &str = "canary-canary-canary";

    fn outcome(options: &Options, header: &[(&'static str, &str)], query: &str) -> Option<Code> {
        let mut headers = HeaderMap::new();
        for (name, value) in header {
            headers.insert(*name, value.parse().unwrap());
        }
        let query = crate::call::query_pairs(Some(query));
        check(options, BASE, &Uri::from_static("/runs"), &headers, &query).err().map(|problem| problem.code())
    }

    #[test]
    fn with_a_token_only_its_bearer_gets_in() {
        let second = Secret::new("another-another-one").unwrap();
        let mut options = Options { tokens: vec![Secret::new(TOKEN).unwrap(), second], ..Options::default() };
        let bearer = |token: &str| format!("Bearer {token}");
        for token in [TOKEN, "another-another-one"] {
            assert_eq!(outcome(&options, &[("authorization", &bearer(token))], ""), None);
        }
        assert_eq!(outcome(&options, &[("authorization", &format!("bearer  {TOKEN} "))], ""), None);
        for wrong in ["", "Bearer", "Bearer ", "Basic canary-canary-canary", "Bearer canary-canary-canarx", TOKEN] {
            assert_eq!(outcome(&options, &[("authorization", wrong)], ""), Some(Code::Unauthorized), "{wrong}");
        }
        let code = format!("code={TOKEN}");
        assert_eq!(outcome(&options, &[], &code), Some(Code::Unauthorized));
        options.accept_code = true;
        assert_eq!(outcome(&options, &[], &code), None);
        assert_eq!(outcome(&options, &[], "code=wrong"), Some(Code::Unauthorized));
    }

    #[test]
    fn without_a_token_foreign_names_and_pages_are_refused() {
        let options = Options::default();
        for host in ["localhost:8080", "127.0.0.1", "[::1]:80", "hub.localhost"] {
            assert_eq!(outcome(&options, &[("host", host)], ""), None, "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8080", "10.0.0.1", "@"] {
            assert_eq!(outcome(&options, &[("host", host)], ""), Some(Code::ForbiddenHost), "{host}");
        }
        assert_eq!(outcome(&options, &[("origin", BASE)], ""), None);
        for origin in ["http://evil.example", "null", "http://127.0.0.1:9999", "https://127.0.0.1:8080"] {
            assert_eq!(outcome(&options, &[("origin", origin)], ""), Some(Code::ForbiddenOrigin), "{origin}");
        }
    }
}
