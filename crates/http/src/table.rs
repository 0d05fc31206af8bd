//! The table of all routes. The server answers exactly these, and its OpenAPI document lists exactly these. Must never
//! hold logic.

use std::future::ready;

use crate::durable::{entities, instances, lists, start};
use crate::health;
use crate::route::{Access, Base, Handler, Kind, Param, Route, Takes, Verb};
use crate::runs;

const fn param(name: &'static str, kind: Kind, about: &'static str) -> Param {
    Param { name, kind, about }
}

const TASK_HUB: Param = param("taskHub", Kind::Text, "The task hub that is meant; without it, the default one.");
const SHOW_INPUT: Param = param("showInput", Kind::Flag, "Whether inputs are shown. Default: true.");
const CREATED_FROM: Param = param("createdTimeFrom", Kind::Time, "Only those created at this time or later.");
const CREATED_TO: Param = param("createdTimeTo", Kind::Time, "Only those created at this time or earlier.");
const STATUSES: Param = param("runtimeStatus", Kind::Statuses, "Only those with one of these statuses.");
const TOP: Param = param("top", Kind::Count, "At most so many, from 1 to 1000. Default: 100.");
const REASON: Param = param("reason", Kind::Text, "Why, for whoever looks at the history.");
const TIMEOUT: Param = param("timeout", Kind::Seconds, "Seconds to wait for the end before answering 202.");
const INTERVAL: Param =
    param("pollingInterval", Kind::Seconds, "Taken for compatibility: the server waits without asking again.");
const AS_ERROR: Param = param(
    "returnInternalServerErrorOnFailure",
    Kind::Flag,
    "Whether a failure is answered with 500 instead of 200. Default: false.",
);
const OPERATION: Param = param("op", Kind::Text, "The operation's name.");

const GONE: (u16, &str) = (410, "It has ended.");
const UNKNOWN: (u16, &str) = (404, "There is no such instance.");
const TAKEN: (u16, &str) = (202, "It was taken, and happens in a while.");
const MANAGEMENT: (u16, &str) = (202, "It was started; the body and Location say where its status is.");
const OUTPUT: (u16, &str) =
    (200, "It ended while the client waited: its output, or its status if it did not complete.");

/// A route of the Durable Functions contract.
const fn durable(
    verb: Verb,
    path: &'static str,
    id: &'static str,
    about: &'static str,
    query: &'static [Param],
    answers: &'static [(u16, &'static str)],
    handler: Handler,
) -> Route {
    let takes = Takes::Nothing;
    Route { verb, base: Base::Durable, path, id, about, access: Access::Token, query, takes, answers, handler }
}

/// A route at the server's root.
const fn root(
    verb: Verb,
    path: &'static str,
    id: &'static str,
    about: &'static str,
    query: &'static [Param],
    answers: &'static [(u16, &'static str)],
    handler: Handler,
) -> Route {
    Route { base: Base::Root, ..durable(verb, path, id, about, query, answers, handler) }
}

const fn open(route: Route) -> Route {
    Route { access: Access::Open, ..route }
}

const fn taking(takes: Takes, route: Route) -> Route {
    Route { takes, ..route }
}

/// All routes.
pub(crate) static ROUTES: &[Route] = &[
    taking(
        Takes::MaybeJson,
        durable(
            Verb::Post,
            "/orchestrators/{functionName}",
            "startOrchestration",
            "Starts an orchestration under a new id; the body is its input.",
            &[TASK_HUB, TIMEOUT, INTERVAL, AS_ERROR],
            &[MANAGEMENT, OUTPUT],
            |app, call| Box::pin(start::start(app, call)),
        ),
    ),
    taking(
        Takes::MaybeJson,
        durable(
            Verb::Post,
            "/orchestrators/{functionName}/{instanceId}",
            "startOrchestrationWithId",
            "Starts an orchestration under this id; the body is its input. An id whose orchestration has ended is free.",
            &[TASK_HUB, TIMEOUT, INTERVAL, AS_ERROR],
            &[MANAGEMENT, OUTPUT, (409, "An orchestration with this id has not ended.")],
            |app, call| Box::pin(start::start(app, call)),
        ),
    ),
    durable(
        Verb::Get,
        "/instances",
        "listInstances",
        "Lists orchestrations in order of their ids, page by page.",
        &[
            TASK_HUB,
            CREATED_FROM,
            CREATED_TO,
            STATUSES,
            param("instanceIdPrefix", Kind::Text, "Only those whose id begins like this."),
            SHOW_INPUT,
            TOP,
        ],
        &[(200, "Their statuses. The header x-ms-continuation-token, sent back, gives the next page.")],
        |app, call| Box::pin(lists::list(app, call)),
    ),
    durable(
        Verb::Delete,
        "/instances",
        "purgeInstances",
        "Forgets all ended orchestrations that a filter matches, with their histories.",
        &[
            TASK_HUB,
            CREATED_FROM,
            CREATED_TO,
            STATUSES,
            param("confirm", Kind::Flag, "Has to be true: this cannot be undone."),
        ],
        &[(200, "How many were forgotten."), (404, "None matched.")],
        |app, call| Box::pin(lists::purge(app, call)),
    ),
    durable(
        Verb::Get,
        "/instances/{instanceId}",
        "getInstance",
        "The status of an orchestration.",
        &[
            TASK_HUB,
            SHOW_INPUT,
            param("showHistory", Kind::Flag, "Whether the history is shown. Default: false."),
            param("showHistoryOutput", Kind::Flag, "Whether results are shown in the history. Default: false."),
            AS_ERROR,
        ],
        &[
            (200, "It has ended."),
            (202, "It has not ended; Location and Retry-After say where and when to look again."),
            (500, "It failed, and returnInternalServerErrorOnFailure asks for this."),
            UNKNOWN,
        ],
        |app, call| Box::pin(instances::get_status(app, call)),
    ),
    durable(
        Verb::Delete,
        "/instances/{instanceId}",
        "purgeInstance",
        "Forgets an ended orchestration and its history.",
        &[TASK_HUB],
        &[(200, "It was forgotten."), UNKNOWN, (409, "It has not ended.")],
        |app, call| Box::pin(instances::purge(app, call)),
    ),
    taking(
        Takes::Json,
        durable(
            Verb::Post,
            "/instances/{instanceId}/raiseEvent/{eventName}",
            "raiseEvent",
            "Delivers an event to an orchestration; the body is its content.",
            &[TASK_HUB],
            &[TAKEN, UNKNOWN, GONE],
            |app, call| Box::pin(instances::raise_event(app, call)),
        ),
    ),
    durable(
        Verb::Post,
        "/instances/{instanceId}/terminate",
        "terminateInstance",
        "Ends an orchestration, and the ones that it has started.",
        &[TASK_HUB, REASON],
        &[TAKEN, UNKNOWN, GONE],
        |app, call| Box::pin(instances::terminate(app, call)),
    ),
    durable(
        Verb::Post,
        "/instances/{instanceId}/suspend",
        "suspendInstance",
        "Lets an orchestration rest until it is resumed.",
        &[TASK_HUB, REASON],
        &[TAKEN, UNKNOWN, GONE],
        |app, call| Box::pin(instances::suspend(app, call)),
    ),
    durable(
        Verb::Post,
        "/instances/{instanceId}/resume",
        "resumeInstance",
        "Lets a suspended orchestration go on.",
        &[TASK_HUB, REASON],
        &[TAKEN, UNKNOWN, GONE],
        |app, call| Box::pin(instances::resume(app, call)),
    ),
    durable(
        Verb::Post,
        "/instances/{instanceId}/rewind",
        "rewindInstance",
        "Takes a failed orchestration up again where it failed.",
        &[TASK_HUB, REASON],
        &[TAKEN, (400, "It has not failed."), UNKNOWN, (410, "It has ended, and did not fail.")],
        |app, call| Box::pin(instances::rewind(app, call)),
    ),
    durable(
        Verb::Post,
        "/instances/{instanceId}/restart",
        "restartInstance",
        "Starts an orchestration anew with the input that it had.",
        &[
            TASK_HUB,
            param("restartWithNewInstanceId", Kind::Flag, "Whether it gets a new id. Default: true."),
            TIMEOUT,
            INTERVAL,
            AS_ERROR,
        ],
        &[MANAGEMENT, OUTPUT, (400, "There is no such instance.")],
        |app, call| Box::pin(instances::restart(app, call)),
    ),
    durable(
        Verb::Get,
        "/entities",
        "listEntities",
        "Lists entities in order of their ids, page by page.",
        ENTITY_FILTERS,
        ENTITY_PAGE,
        |app, call| Box::pin(entities::list(app, call)),
    ),
    durable(
        Verb::Get,
        "/entities/{entityName}",
        "listEntitiesByName",
        "Lists the entities of one name in order of their keys, page by page.",
        ENTITY_FILTERS,
        ENTITY_PAGE,
        |app, call| Box::pin(entities::list(app, call)),
    ),
    durable(
        Verb::Get,
        "/entities/{entityName}/{entityKey}",
        "getEntity",
        "The state of an entity. The key $ stands for an empty one.",
        &[TASK_HUB],
        &[(200, "Its state."), (404, "There is no such entity, or it has no state.")],
        |app, call| Box::pin(entities::get(app, call)),
    ),
    taking(
        Takes::JsonOrText,
        durable(
            Verb::Post,
            "/entities/{entityName}/{entityKey}",
            "signalEntity",
            "Sends an operation to an entity; the body is its input. The key $ stands for an empty one.",
            &[TASK_HUB, OPERATION],
            &[TAKEN],
            |app, call| Box::pin(entities::signal(app, call)),
        ),
    ),
    durable(
        Verb::Delete,
        "/entities/{entityName}/{entityKey}",
        "deleteEntity",
        "Sends the operation \"delete\" to an entity.",
        &[TASK_HUB],
        &[TAKEN],
        |app, call| Box::pin(entities::delete(app, call)),
    ),
    taking(
        Takes::MaybeJson,
        root(
            Verb::Post,
            "/runs",
            "startRun",
            "Starts a run of a pipeline, or takes up the one that was interrupted. The body is {\"pipeline\": \"name\"}.",
            &[param("pipeline", Kind::Text, "The pipeline, where there is no body.")],
            &[
                (202, "It was started; the body and Location say where its status is."),
                (404, "There is no such pipeline."),
                (409, "Another process has the pipeline's state folder."),
            ],
            |app, call| Box::pin(runs::start(app, call)),
        ),
    ),
    root(
        Verb::Get,
        "/runs",
        "listRuns",
        "Lists runs, the newest first.",
        &[param("pipeline", Kind::Text, "Only those of this pipeline, by its name."), TOP],
        &[(200, "The runs.")],
        |app, call| Box::pin(runs::list(app, call)),
    ),
    root(
        Verb::Get,
        "/runs/{runId}",
        "getRun",
        "Where a run stands, and what it did.",
        &[AS_ERROR],
        &[
            (200, "It has ended."),
            (202, "It has not ended; Location and Retry-After say where and when to look again."),
            (500, "It failed, and returnInternalServerErrorOnFailure asks for this."),
            (404, "There is no such run."),
        ],
        |app, call| Box::pin(runs::get(app, call)),
    ),
    root(
        Verb::Post,
        "/runs/{runId}/cancel",
        "cancelRun",
        "Ends a run without publishing anything of it.",
        &[],
        &[TAKEN, (404, "There is no such run."), GONE],
        |app, call| Box::pin(runs::cancel(app, call)),
    ),
    root(
        Verb::Get,
        "/openapi.json",
        "getDocument",
        "This document.",
        &[],
        &[(200, "The OpenAPI document.")],
        |app, _| Box::pin(ready(Ok(health::document(app)))),
    ),
    root(
        Verb::Get,
        "/metrics",
        "getMetrics",
        "Figures in Prometheus' text format.",
        &[],
        &[(200, "The figures.")],
        |app, call| Box::pin(health::metrics(app, call)),
    ),
    open(root(Verb::Get, "/healthz", "getHealth", "Whether the server answers.", &[], &[(200, "It does.")], |_, _| {
        Box::pin(ready(Ok(health::alive())))
    })),
    open(root(
        Verb::Get,
        "/readyz",
        "getReadiness",
        "Whether the default task hub can work.",
        &[],
        &[(200, "It can."), (503, "It cannot, or the server is about to end.")],
        |app, call| Box::pin(health::ready(app, call)),
    )),
];

const ENTITY_FILTERS: &[Param] = &[
    TASK_HUB,
    param("lastOperationTimeFrom", Kind::Time, "Only those that changed at this time or later."),
    param("lastOperationTimeTo", Kind::Time, "Only those that changed at this time or earlier."),
    param("fetchState", Kind::Flag, "Whether states are shown. Default: false."),
    TOP,
];

const ENTITY_PAGE: &[(u16, &str)] =
    &[(200, "The entities. The header x-ms-continuation-token, sent back, gives the next page.")];
