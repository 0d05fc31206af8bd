//! Entities: signalling one, reading one, listing them. The key `$` stands for an empty one, because a path cannot have
//! an empty part. Must never call an entity and wait for it: only orchestrations do.

use seriatim_durable::{EntityId, proto};

use super::answers::{accepted, json_response, with_next_page};
use super::lists::{PAGE, continuation};
use crate::app::App;
use crate::call::{Call, Payload};
use crate::json::{self, Object};
use crate::problem::{Code, Problem};
use crate::route::Answer;
use crate::time;

/// What stands for an empty key.
const EMPTY_KEY: &str = "$";

fn entity(call: &Call) -> Result<EntityId, Problem> {
    let key = Some(call.part("entityKey")).filter(|key| *key != EMPTY_KEY).unwrap_or_default();
    EntityId::try_new(call.part("entityName"), key)
        .map_err(|error| Problem::new(Code::InvalidRequest, error.to_string()))
}

/// `POST /entities/{entityName}/{entityKey}`
pub(crate) async fn signal(app: &App, call: &Call) -> Answer {
    let input = match &call.payload {
        Payload::Nothing => None,
        Payload::Json(text) => Some(text.clone()),
        Payload::Text(text) => Some(json::quoted(text)),
    };
    send(app, call, call.text("op").unwrap_or_default(), input).await
}

/// `DELETE /entities/{entityName}/{entityKey}`
pub(crate) async fn delete(app: &App, call: &Call) -> Answer {
    send(app, call, "delete", None).await
}

async fn send(app: &App, call: &Call, operation: &str, input: Option<String>) -> Answer {
    let request = proto::SignalEntityRequest {
        instance_id: entity(call)?.to_string(),
        name: operation.to_owned(),
        input,
        request_id: uuid::Uuid::new_v4().to_string(),
        scheduled_time: None,
        parent_trace_context: call.trace.clone(),
        request_time: Some(std::time::SystemTime::now().into()),
    };
    app.hub(call).await?.signal_entity(request).await?;
    Ok(accepted())
}

/// `GET /entities/{entityName}/{entityKey}`
pub(crate) async fn get(app: &App, call: &Call) -> Answer {
    let id = entity(call)?;
    let request = proto::GetEntityRequest { instance_id: id.to_string(), include_state: true };
    let found = app.hub(call).await?.get_entity(request).await?;
    // An entity that is only locked, or whose state was deleted, has nothing to show.
    let state = found.entity.filter(|_| found.exists).and_then(|entity| entity.serialized_state);
    match state {
        Some(state) => Ok(json_response(200, json::stored(Some(&state)))),
        None => Err(Problem::new(Code::NotFound, format!("there is no entity {id}"))),
    }
}

/// `GET /entities` and `GET /entities/{entityName}`
pub(crate) async fn list(app: &App, call: &Call) -> Answer {
    let name = call.part("entityName");
    let with_state = call.flag("fetchState", false);
    let prefix = if name.is_empty() { "@".to_owned() } else { format!("@{}@", name.to_lowercase()) };
    let query = proto::EntityQuery {
        instance_id_starts_with: Some(prefix),
        last_modified_from: call.time("lastOperationTimeFrom"),
        last_modified_to: call.time("lastOperationTimeTo"),
        include_state: with_state,
        include_transient: false,
        page_size: i32::try_from(call.count("top").unwrap_or(PAGE)).ok(),
        continuation_token: continuation(call)?,
    };
    let found = app.hub(call).await?.query_entities(proto::QueryEntitiesRequest { query: Some(query) }).await?;
    let rows = found.entities.iter().filter_map(|entity| row(entity, with_state));
    with_next_page(json_response(200, json::array(rows)), found.continuation_token.as_deref())
}

fn row(entity: &proto::EntityMetadata, with_state: bool) -> Option<String> {
    let id: EntityId = entity.instance_id.parse().ok()?;
    let at = entity.last_modified_time.as_ref().map(time::full).unwrap_or_default();
    let row = Object::new()
        .raw("entityId", &Object::new().text("name", id.name()).text("key", id.key()).end())
        .text("lastOperationTime", &at);
    let row = if with_state { row.raw("state", &json::stored(entity.serialized_state.as_deref())) } else { row };
    Some(row.end())
}
