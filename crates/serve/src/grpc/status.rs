//! What a hub's errors are called in gRPC. The SDKs go by the code: they drop the work for `FAILED_PRECONDITION`, tell
//! their caller `NOT_FOUND` and `ALREADY_EXISTS`, and come again for `UNAVAILABLE`. This module must never lose the
//! message, which says what to do.

use seriatim_durable::hub::{HubError, HubResult};
use tonic::{Code, Response, Status};

/// The status that a client sees.
pub(super) fn status(error: &HubError) -> Status {
    let code = match error {
        HubError::InvalidArgument(_) => Code::InvalidArgument,
        HubError::NotFound(_) => Code::NotFound,
        HubError::AlreadyExists(_) => Code::AlreadyExists,
        HubError::FailedPrecondition(_) => Code::FailedPrecondition,
        // Nothing of the request was acknowledged, and somebody has to mend the server: the caller is to wait for that.
        HubError::Unavailable(_) | HubError::Fenced(_) => Code::Unavailable,
        HubError::Unimplemented(_) => Code::Unimplemented,
        _ => Code::Internal,
    };
    Status::new(code, error.to_string())
}

/// A hub's answer as a client sees it.
pub(super) fn answer<T>(outcome: HubResult<T>) -> Result<Response<T>, Status> {
    outcome.map(Response::new).map_err(|error| status(&error))
}
