//! Many orchestrations at once: listing them page by page, and purging those that match a filter. Must never purge
//! without a filter and a confirmation.

use std::time::SystemTime;

use percent_encoding::percent_decode_str;
use seriatim_durable::proto;
use seriatim_durable::proto::purge_instances_request::Request as PurgeRequest;

use super::answers::{CONTINUATION, json_response, status, with_next_page};
use crate::app::App;
use crate::call::Call;
use crate::json;
use crate::problem::{Code, Problem};
use crate::route::Answer;

/// Rows of a page, where nothing else is asked for.
pub(crate) const PAGE: u32 = 100;

/// The token with which a listing goes on, as it was before it became a header.
pub(super) fn continuation(call: &Call) -> Result<Option<String>, Problem> {
    let Some(token) = call.header(CONTINUATION) else {
        return Ok(None);
    };
    let token = percent_decode_str(token).decode_utf8().map_err(|_| {
        let detail = format!("the header {CONTINUATION} is not one that this server has given");
        Problem::new(Code::InvalidRequest, detail)
    })?;
    Ok(Some(token.into_owned()))
}

/// `GET /instances`
pub(crate) async fn list(app: &App, call: &Call) -> Answer {
    let hub = app.hub(call).await?;
    let with_input = call.flag("showInput", true);
    let query = proto::InstanceQuery {
        runtime_status: call.statuses("runtimeStatus"),
        created_time_from: call.time("createdTimeFrom"),
        created_time_to: call.time("createdTimeTo"),
        max_instance_count: i32::try_from(call.count("top").unwrap_or(PAGE)).unwrap_or(i32::MAX),
        continuation_token: continuation(call)?,
        instance_id_prefix: call.text("instanceIdPrefix").map(str::to_owned),
        fetch_inputs_and_outputs: true,
        ..Default::default()
    };
    let found = hub.query_instances(proto::QueryInstancesRequest { query: Some(query) }).await?;
    let rows = found.orchestration_state.iter().map(|state| status(state, with_input, None));
    with_next_page(json_response(200, json::array(rows)), found.continuation_token.as_deref())
}

/// `DELETE /instances`
pub(crate) async fn purge(app: &App, call: &Call) -> Answer {
    let from = call.time("createdTimeFrom").ok_or_else(|| {
        let detail = "createdTimeFrom is missing: say since when the instances were created that shall be purged";
        Problem::new(Code::InvalidQuery, detail)
    })?;
    if !call.flag("confirm", false) {
        let detail = "this purges every ended instance that the filter matches; add confirm=true to do it";
        return Err(Problem::new(Code::NotConfirmed, detail));
    }
    let filter = proto::PurgeInstanceFilter {
        created_time_from: Some(from),
        created_time_to: Some(call.time("createdTimeTo").unwrap_or_else(|| SystemTime::now().into())),
        runtime_status: call.statuses("runtimeStatus"),
        timeout: None,
    };
    let request = proto::PurgeInstancesRequest {
        request: Some(PurgeRequest::PurgeInstanceFilter(filter)),
        recursive: false,
        is_orchestration: true,
    };
    match app.hub(call).await?.purge_instances(request).await?.deleted_instance_count {
        0 => Err(Problem::new(Code::NothingMatched, "no ended instance matches the filter")),
        deleted => Ok(json_response(200, format!("{{\"instancesDeleted\":{deleted}}}"))),
    }
}
