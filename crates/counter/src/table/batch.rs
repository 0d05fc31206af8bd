//! A transaction of Azure Table Storage on the wire: several requests in one, as a change set within a batch. This module
//! must never send anything.

use std::fmt::Write as _;

use hyper::{Method, StatusCode};
use uuid::Uuid;

/// One request of a transaction.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) etag: Option<String>,
    pub(super) body: String,
}

/// The content type and the body of a transaction. The emulator knows the boundaries by their names.
pub(super) fn body(parts: &[Part]) -> (String, String) {
    let (batch, changes) = (format!("batch_{}", Uuid::new_v4()), format!("changeset_{}", Uuid::new_v4()));
    let mut body = format!("--{batch}\r\nContent-Type: multipart/mixed; boundary={changes}\r\n\r\n");
    for part in parts {
        let etag = part.etag.as_ref().map(|etag| format!("If-Match: {etag}\r\n")).unwrap_or_default();
        // A String takes everything.
        let _ = write!(
            body,
            "--{changes}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n\
             {} {} HTTP/1.1\r\nContent-Type: application/json\r\nAccept: application/json;odata=nometadata\r\n\
             DataServiceVersion: 3.0;\r\nPrefer: return-no-content\r\n{etag}\r\n{}\r\n",
            part.method, part.url, part.body
        );
    }
    let _ = write!(body, "--{changes}--\r\n--{batch}--\r\n");
    (format!("multipart/mixed; boundary={batch}"), body)
}

/// The outcome of a transaction: success, or the status and the body of the request that failed. `None` if there is
/// none in the answer.
pub(super) fn outcome(answer: &[u8]) -> Option<(StatusCode, String)> {
    let text = String::from_utf8_lossy(answer);
    let mut good = None;
    for (at, _) in text.match_indices("HTTP/1.1 ") {
        let rest = &text[at + "HTTP/1.1 ".len()..];
        let status = StatusCode::from_bytes(rest.get(..3)?.as_bytes()).ok()?;
        if !status.is_success() {
            let body = rest.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            return Some((status, body.split("\r\n--").next().unwrap_or_default().to_owned()));
        }
        good = Some((status, String::new()));
    }
    good
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_the_outcome() {
        let good = "--batchresponse_1\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n--c\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(outcome(good.as_bytes()).map(|(status, _)| status), Some(StatusCode::NO_CONTENT));
        let bad = "--b\r\n\r\nHTTP/1.1 412 Precondition Failed\r\nA: b\r\n\r\n{\"odata.error\":{}}\r\n--b--";
        let found = outcome(bad.as_bytes());
        assert_eq!(found, Some((StatusCode::PRECONDITION_FAILED, "{\"odata.error\":{}}".to_owned())));
        assert_eq!(outcome(b"nothing"), None);
    }
}
