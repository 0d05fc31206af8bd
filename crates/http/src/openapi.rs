//! The OpenAPI 3.1 document, made from the table of routes, so that it cannot say anything else than what is answered.
//! Must never be written by hand.

use serde_json::{Map, Value, json};

use crate::links::Links;
use crate::problem::Code;
use crate::route::{Access, Base, Kind, Param, Route, Takes};
use crate::table::ROUTES;

/// The document of a server that gives out these links; `secured` says whether it asks for a token.
pub(crate) fn document(links: &Links, secured: bool) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let path = full_path(route, &links.durable);
        let item = paths.entry(path).or_insert_with(|| json!({}));
        item[route.verb.name().to_lowercase()] = operation(route, secured);
    }
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.text()).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Seriatim",
            "summary": "A durable task hub and its pipelines",
            "description": "The HTTP contract of Durable Functions, and runs of pipelines.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": links.base }],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": {
                "Problem": {
                    "type": "object",
                    "required": ["type", "title", "status", "code", "detail"],
                    "properties": {
                        "type": { "type": "string" },
                        "title": { "type": "string" },
                        "status": { "type": "integer" },
                        "code": { "type": "string", "enum": codes },
                        "detail": { "type": "string" },
                    },
                },
            },
        },
    })
}

/// A route's path from the server's root.
pub(crate) fn full_path(route: &Route, durable: &str) -> String {
    match route.base {
        Base::Root => route.path.to_owned(),
        Base::Durable => format!("{durable}{}", route.path),
    }
}

fn operation(route: &Route, secured: bool) -> Value {
    let names = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path =
        names.map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }));
    let parameters: Vec<Value> = in_path.chain(route.query.iter().map(parameter)).collect();
    let mut responses: Map<String, Value> = Map::new();
    for (status, about) in route.answers {
        responses.insert(status.to_string(), json!({ "description": about }));
    }
    let problem = json!({ "$ref": "#/components/schemas/Problem" });
    responses.insert(
        "default".to_owned(),
        json!({
            "description": "It was not done; the code says why.",
            "content": { "application/problem+json": { "schema": problem } },
        }),
    );
    let mut operation = json!({
        "operationId": route.id,
        "summary": route.about,
        "parameters": parameters,
        "responses": responses,
    });
    if let Some(body) = body(route.takes) {
        operation["requestBody"] = body;
    }
    if secured && route.access == Access::Token {
        operation["security"] = json!([{ "token": [] }]);
    }
    operation
}

fn parameter(param: &Param) -> Value {
    let schema = match param.kind {
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Time => json!({ "type": "string", "format": "date-time" }),
        Kind::Count => json!({ "type": "integer", "minimum": 1, "maximum": 1000 }),
        Kind::Seconds => json!({ "type": "number", "minimum": 0 }),
        Kind::Statuses | Kind::Text => json!({ "type": "string" }),
    };
    json!({ "name": param.name, "in": "query", "description": param.about, "schema": schema })
}

fn body(takes: Takes) -> Option<Value> {
    let json_body = json!({ "schema": true });
    match takes {
        Takes::Nothing => None,
        Takes::MaybeJson => Some(json!({ "required": false, "content": { "application/json": json_body } })),
        Takes::Json => Some(json!({ "required": true, "content": { "application/json": json_body } })),
        Takes::JsonOrText => Some(json!({
            "required": false,
            "content": { "application/json": json_body, "text/plain": { "schema": { "type": "string" } } },
        })),
    }
}
