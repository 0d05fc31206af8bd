//! What a route is, and how a request finds its own. The table of all routes is in [`crate::table`]; the API's document
//! is made from it as well. This module must never know what any route does.

use axum::body::Body;
use axum::http::{Method, Response};
use futures::future::BoxFuture;
use percent_encoding::percent_decode_str;

use crate::app::App;
use crate::call::Call;
use crate::problem::Problem;

/// What a handler gives back.
pub(crate) type Answer = Result<Response<Body>, Problem>;

/// What answers a request.
pub(crate) type Handler = for<'a> fn(&'a App, &'a Call) -> BoxFuture<'a, Answer>;

/// The methods that routes have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Post,
    Delete,
}

impl Verb {
    /// The method as HTTP writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }
}

/// Where a route's path begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    /// At the root of the server.
    Root,
    /// Where the Durable Functions contract lies. Fixed parts mean the same in upper and lower case there.
    Durable,
}

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody: it tells nothing but that the server is there.
    Open,
    /// Who has a token, if the server has one.
    Token,
}

/// What the value of a query parameter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `true` or `false`.
    Flag,
    /// A point in time.
    Time,
    /// A number from 1 to 1,000.
    Count,
    /// A number of seconds, 0 or more.
    Seconds,
    /// Statuses of orchestrations, with commas between them.
    Statuses,
    /// Any text.
    Text,
}

/// A query parameter. Names mean the same in upper and lower case.
#[derive(Debug)]
pub(crate) struct Param {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) about: &'static str,
}

/// What a route takes as its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Nothing; a body is not read.
    Nothing,
    /// JSON or nothing, whatever the media type says.
    MaybeJson,
    /// JSON, and the media type has to say so.
    Json,
    /// JSON if the media type says so, any other text, or nothing.
    JsonOrText,
}

/// One route.
#[derive(Clone, Copy)]
pub(crate) struct Route {
    pub(crate) verb: Verb,
    pub(crate) base: Base,
    /// The path behind the base; parts in braces stand for anything.
    pub(crate) path: &'static str,
    /// Its name in the API's document and in the metrics.
    pub(crate) id: &'static str,
    pub(crate) about: &'static str,
    pub(crate) access: Access,
    pub(crate) query: &'static [Param],
    pub(crate) takes: Takes,
    /// Statuses that it answers with, apart from those that any route can.
    pub(crate) answers: &'static [(u16, &'static str)],
    pub(crate) handler: Handler,
}

/// A route that a request has found, with what stands in the place of its parts in braces.
pub(crate) struct Found {
    pub(crate) route: &'static Route,
    pub(crate) parts: Vec<(&'static str, String)>,
}

/// Finds the route of a request in `routes`. A wrong method is not told apart from a wrong path, as in the contract.
pub(crate) fn find(routes: &'static [Route], method: &Method, path: &str, durable: &str) -> Option<Found> {
    let (base, rest) = match without_prefix(path, durable) {
        Some(rest) => (Base::Durable, rest),
        None => (Base::Root, path),
    };
    let given: Vec<String> = rest.trim_matches('/').split('/').map(decode).collect::<Option<_>>()?;
    routes.iter().filter(|route| route.base == base && route.verb.name() == method.as_str()).find_map(|route| {
        let parts = matches(route, &given)?;
        Some(Found { route, parts })
    })
}

/// What follows `prefix` in `path`, in upper or lower case; `None` if the path does not begin with these parts.
pub(crate) fn without_prefix<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = path.split_at_checked(prefix.len())?;
    (head.eq_ignore_ascii_case(prefix) && (rest.is_empty() || rest.starts_with('/'))).then_some(rest)
}

/// A part of a path as text; `None` for what no name can be: not UTF-8, with control characters, or a step in folders.
fn decode(part: &str) -> Option<String> {
    let text = percent_decode_str(part).decode_utf8().ok()?;
    let odd = text == "." || text == ".." || text.chars().any(char::is_control);
    (!odd).then(|| text.into_owned())
}

fn matches(route: &Route, given: &[String]) -> Option<Vec<(&'static str, String)>> {
    let pattern = route.path.trim_matches('/').split('/');
    if pattern.clone().count() != given.len() {
        return None;
    }
    let mut parts = Vec::new();
    for (wanted, given) in pattern.zip(given) {
        match wanted.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            Some(_) if given.is_empty() => return None,
            Some(name) => parts.push((name, given.clone())),
            None if wanted == given => {}
            None if route.base == Base::Durable && wanted.eq_ignore_ascii_case(given) => {}
            None => return None,
        }
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::DURABLE_PATH;
    use crate::table::ROUTES;

    fn id(method: &Method, path: &str) -> Option<(&'static str, Vec<String>)> {
        let found = find(ROUTES, method, path, DURABLE_PATH)?;
        Some((found.route.id, found.parts.into_iter().map(|(_, part)| part).collect()))
    }

    #[test]
    fn the_contract_is_matched_without_regard_to_case_and_ids_keep_theirs() {
        let path = "/Runtime/WebHooks/durableTask/INSTANCES/My%20Id%2F1/Terminate";
        assert_eq!(id(&Method::POST, path), Some(("terminateInstance", vec!["My Id/1".to_owned()])));
        assert_eq!(id(&Method::GET, "/runtime/webhooks/durabletask/instances/"), Some(("listInstances", vec![])));
        assert_eq!(id(&Method::GET, "/Healthz"), None);
    }

    #[test]
    fn wrong_methods_and_strange_paths_lead_nowhere() {
        assert_eq!(id(&Method::PUT, "/healthz"), None);
        for path in [
            "/runs/..",
            "/runs/%2e%2e",
            "/runs/../../etc/passwd",
            "/runs/a%00b",
            "/runs/%ff",
            "/runtime/webhooks/durabletaskx/instances",
            "/runtime/webhooks/durabletask/instances/%2e%2e",
            "/runtime/webhooks/durabletask/instances//terminate",
            "",
            "/",
            "//",
        ] {
            assert_eq!(id(&Method::GET, path), None, "{path}");
        }
    }
}
