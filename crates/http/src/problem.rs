//! The errors of the API: `application/problem+json` (RFC 9457) with a code that does not change between versions. This
//! module must never let through what goes on inside: that goes to the log.

use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Response, StatusCode};
use serde_json::json;
use seriatim_durable::HubError;

macro_rules! codes {
    ($($code:ident = $status:ident, $text:literal, $title:literal;)*) => {
        /// What went wrong, for a program.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Code {
            $(#[doc = $title] $code,)*
        }

        impl Code {
            /// All of them, for the API's document.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$code,)*];

            /// The code as clients see it.
            pub(crate) fn text(self) -> &'static str {
                match self { $(Self::$code => $text,)* }
            }

            fn title(self) -> &'static str {
                match self { $(Self::$code => $title,)* }
            }

            fn status(self) -> StatusCode {
                match self { $(Self::$code => StatusCode::$status,)* }
            }
        }
    };
}

codes! {
    InvalidRequest = BAD_REQUEST, "invalid_request", "The request is not valid";
    InvalidQuery = BAD_REQUEST, "invalid_query", "A query parameter is not valid";
    InvalidJson = BAD_REQUEST, "invalid_json", "The body is not JSON";
    JsonTooDeep = BAD_REQUEST, "json_too_deep", "The body is nested too deeply";
    WrongMediaType = BAD_REQUEST, "wrong_media_type", "The body has the wrong media type";
    NotConfirmed = BAD_REQUEST, "not_confirmed", "The request has to be confirmed";
    InvalidPipeline = BAD_REQUEST, "invalid_pipeline", "The pipeline file is not valid";
    Unauthorized = UNAUTHORIZED, "unauthorized", "A token is needed";
    ForbiddenHost = FORBIDDEN, "forbidden_host", "The request is addressed to another host";
    ForbiddenOrigin = FORBIDDEN, "forbidden_origin", "The request comes from a foreign page";
    NoSuchRoute = NOT_FOUND, "no_such_route", "There is nothing at this address";
    NotFound = NOT_FOUND, "not_found", "There is no such thing";
    NothingMatched = NOT_FOUND, "nothing_matched", "Nothing matches the filter";
    RunsDisabled = NOT_FOUND, "runs_disabled", "This server runs no pipelines";
    RequestTimeout = REQUEST_TIMEOUT, "request_timeout", "The body did not arrive in time";
    AlreadyExists = CONFLICT, "already_exists", "There is one with this id";
    NotPossibleNow = CONFLICT, "not_possible_now", "This is not possible now";
    Ended = GONE, "ended", "It has ended";
    BodyTooLarge = PAYLOAD_TOO_LARGE, "body_too_large", "The body is too large";
    Internal = INTERNAL_SERVER_ERROR, "internal", "The server failed";
    NotSupported = NOT_IMPLEMENTED, "not_supported", "The task hub does not offer this";
    Unavailable = SERVICE_UNAVAILABLE, "unavailable", "The task hub is not available";
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    code: Code,
    status: StatusCode,
    detail: String,
}

impl Problem {
    /// A problem; `detail` says what happened to what, and what to do, in words that a client may see.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, status: code.status(), detail: detail.into() }
    }

    /// Something failed inside: the cause goes to the log, not to the client.
    pub(crate) fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, "a request failed");
        Self::new(Code::Internal, "the request failed for a reason that the server's log tells")
    }

    /// The same with another status, where the contract asks for one.
    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The status that it is answered with.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// Its code.
    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// The answer.
    pub(crate) fn into_response(self) -> Response<Body> {
        let document = json!({
            "type": "about:blank",
            "title": self.code.title(),
            "status": self.status.as_u16(),
            "code": self.code.text(),
            "detail": self.detail,
        });
        let mut response = Response::new(Body::from(document.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self.code {
            Code::Unauthorized => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Code::Unavailable => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
            }
            // What is left of the body is not read, so nothing can follow it on this connection.
            Code::BodyTooLarge | Code::RequestTimeout => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}

impl From<HubError> for Problem {
    fn from(error: HubError) -> Self {
        match error {
            HubError::InvalidArgument(detail) => Self::new(Code::InvalidRequest, detail),
            HubError::NotFound(detail) => Self::new(Code::NotFound, detail),
            HubError::AlreadyExists(detail) => Self::new(Code::AlreadyExists, detail),
            HubError::FailedPrecondition(detail) => Self::new(Code::NotPossibleNow, detail),
            HubError::Unimplemented(call) => {
                Self::new(Code::NotSupported, format!("this task hub does not offer {call}"))
            }
            HubError::Unavailable(cause) => {
                tracing::warn!(%cause, "a task hub is not available");
                Self::new(Code::Unavailable, "the task hub is closing or out of reach; try again in a while")
            }
            HubError::Fenced(cause) => {
                tracing::error!(%cause, "a task hub stopped after a storage failure");
                Self::new(
                    Code::Unavailable,
                    "the task hub stopped after a storage failure; its operator has to mend it",
                )
            }
            // The enum may grow; what is new is not a client's business until somebody says so here.
            error => Self::internal(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_inside_does_not_get_out() {
        for error in [HubError::Fenced("/secret/hub.db: EIO".into()), HubError::Unavailable("/secret/socket".into())] {
            let problem = Problem::from(error);
            assert_eq!(problem.status, StatusCode::SERVICE_UNAVAILABLE);
            assert!(!problem.detail.contains("secret"), "{}", problem.detail);
        }
        assert!(!Problem::internal("/secret").detail.contains("secret"));
    }
}
