//! W3C trace context: read from `traceparent` and `tracestate`, handed to the hub in the protocol's `TraceContext`, so
//! that a trace goes on from the client through the orchestration to its activities. What is malformed is ignored, as
//! the recommendation asks. This module must never invent a trace.

use axum::http::HeaderMap;
use seriatim_durable::proto;

/// More than this many characters of `tracestate` need not be handed on.
const STATE_LENGTH: usize = 512;

/// The request's trace context, if it has a valid one.
pub(crate) fn read(headers: &HeaderMap) -> Option<proto::TraceContext> {
    let mut parents = headers.get_all("traceparent").iter();
    let parent = parents.next()?.to_str().ok()?;
    if parents.next().is_some() {
        return None;
    }
    let states: Vec<&str> = headers.get_all("tracestate").iter().filter_map(|value| value.to_str().ok()).collect();
    context(parent.to_owned(), states.join(","))
}

/// The protocol's form of a context; `None` if `parent` is not valid.
pub(crate) fn context(parent: String, state: String) -> Option<proto::TraceContext> {
    if !is_parent(&parent) {
        return None;
    }
    let keep = !state.is_empty() && state.len() <= STATE_LENGTH;
    // The field is deprecated, and still what older workers read.
    #[allow(deprecated)]
    Some(proto::TraceContext {
        span_id: parent.get(36..52).unwrap_or_default().to_owned(),
        trace_parent: parent,
        trace_state: keep.then_some(state),
    })
}

/// `version-traceid-spanid-flags` in lower-case hex, where neither id is all zeroes. A later version may have more
/// behind that.
fn is_parent(text: &str) -> bool {
    let hex = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let set = |part: &str| hex(part) && part.bytes().any(|b| b != b'0');
    let parts: Vec<&str> = text.split('-').collect();
    let [version, trace, span, flags, more @ ..] = parts.as_slice() else {
        return false;
    };
    version.len() == 2
        && hex(version)
        && *version != "ff"
        && (more.is_empty() || *version != "00")
        && trace.len() == 32
        && set(trace)
        && span.len() == 16
        && set(span)
        && flags.len() == 2
        && hex(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_valid_context_is_taken_as_it_is() {
        let context = read(&headers(&[("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")])).unwrap();
        assert_eq!(context.trace_parent, PARENT);
        assert_eq!(context.trace_state.as_deref(), Some("a=1,b=2"));
        #[allow(deprecated)]
        let span = context.span_id;
        assert_eq!(span, "b7ad6b7169203331");
    }

    #[test]
    fn what_is_malformed_is_ignored() {
        let zeroes = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        for wrong in ["", "00", &PARENT[1..], &PARENT.to_uppercase(), zeroes, &format!("{PARENT}-more")] {
            assert_eq!(read(&headers(&[("traceparent", wrong)])), None, "{wrong}");
        }
        assert_eq!(read(&headers(&[("traceparent", PARENT), ("traceparent", PARENT)])), None);
        let long = read(&headers(&[("traceparent", PARENT), ("tracestate", &"x".repeat(600))])).unwrap();
        assert_eq!(long.trace_state, None);
    }
}
