//! The URIs that clients are given. They begin with the configured public URL, never with what a request says about
//! itself, and never carry a token.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::call::Call;
use crate::json::Object;

/// All that RFC 3986 does not leave unreserved.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The name of the storage connection that Durable Functions' clients expect to be given back.
const CONNECTION: &str = "Storage";

/// Encodes one part of a path or a value of a query.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// Makes URIs.
#[derive(Debug)]
pub(crate) struct Links {
    /// The public URL, without a slash at its end.
    pub(crate) base: String,
    /// The path of the Durable Functions contract.
    pub(crate) durable: String,
}

impl Links {
    /// An orchestration's own URI, without a query.
    fn instance(&self, id: &str) -> String {
        format!("{}{}/instances/{}", self.base, self.durable, encode(id))
    }

    /// A run's own URI.
    pub(crate) fn run(&self, id: &str) -> String {
        format!("{}/runs/{}", self.base, encode(id))
    }

    /// Where a client that waits shall look again: what it has just asked, under the public URL and without a token.
    pub(crate) fn again(&self, call: &Call) -> String {
        let mut uri = self.instance(call.part("instanceId"));
        append_query(&mut uri, &call.query);
        uri
    }

    /// The same for a run.
    pub(crate) fn run_again(&self, id: &str, call: &Call) -> String {
        let mut uri = self.run(id);
        append_query(&mut uri, &call.query);
        uri
    }

    /// All that can be done with an orchestration, and where its status is.
    pub(crate) fn management(&self, id: &str, call: &Call, with_failure: bool) -> (String, Object) {
        let own = self.instance(id);
        let hub = crate::call::lookup(&call.query, "taskHub").map(|hub| format!("taskHub={}&", encode(hub)));
        let connection = crate::call::lookup(&call.query, "connection").unwrap_or(CONNECTION);
        // Clients add parameters with `&`, so there is always a query to add to.
        let query = format!("{}connection={}", hub.unwrap_or_default(), encode(connection));
        let failure = if with_failure { "&returnInternalServerErrorOnFailure=true" } else { "" };
        let status = format!("{own}?{query}{failure}");
        let payload = Object::new()
            .text("id", id)
            .text("statusQueryGetUri", &status)
            .text("sendEventPostUri", &format!("{own}/raiseEvent/{{eventName}}?{query}"))
            .text("terminatePostUri", &format!("{own}/terminate?reason={{text}}&{query}"))
            .text("rewindPostUri", &format!("{own}/rewind?reason={{text}}&{query}"))
            .text("purgeHistoryDeleteUri", &format!("{own}?{query}"))
            .text("restartPostUri", &format!("{own}/restart?{query}"))
            .text("suspendPostUri", &format!("{own}/suspend?reason={{text}}&{query}"))
            .text("resumePostUri", &format!("{own}/resume?reason={{text}}&{query}"));
        (status, payload)
    }
}

/// Adds a query, without any `code`, which is a token.
fn append_query(uri: &mut String, query: &[(String, String)]) {
    let mut before = '?';
    for (name, value) in query.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("code")) {
        uri.push(before);
        uri.push_str(&encode(name));
        uri.push('=');
        uri.push_str(&encode(value));
        before = '&';
    }
}
