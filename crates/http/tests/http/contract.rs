//! Orchestrations by the contract of Durable Functions: starting, statuses, histories, lists, purging.

use serde_json::json;

use crate::support::{DURABLE, Served};

#[tokio::test]
async fn an_orchestration_is_started_and_polled_by_its_location() {
    let served = Served::start().await;
    let started = served.post(&format!("{DURABLE}/orchestrators/greet"), "\"Ada\"").await;
    assert_eq!(started.status, 202);
    assert_eq!(started.header("retry-after"), Some("10"));
    let payload = started.json();
    assert_eq!(started.header("location"), payload["statusQueryGetUri"].as_str());
    let location = started.header("location").unwrap();
    let path = location.strip_prefix(&served.base()).unwrap();
    let done = served.until(path, |answer| answer.status == 200).await;
    assert_eq!(done.header("location"), None);
    let status = done.json();
    let fields: Vec<&String> = status.as_object().unwrap().keys().collect();
    assert_eq!(
        fields,
        ["name", "instanceId", "runtimeStatus", "input", "customStatus", "output", "createdTime", "lastUpdatedTime"]
    );
    assert_eq!(status["name"], "greet");
    assert_eq!(status["instanceId"], payload["id"]);
    assert_eq!(status["runtimeStatus"], "Completed");
    assert_eq!(status["input"], "Ada");
    assert_eq!(status["customStatus"], json!({"step": "greeting"}));
    assert_eq!(status["output"], "Hello Ada!");
    for time in ["createdTime", "lastUpdatedTime"] {
        let text = status[time].as_str().unwrap();
        assert!(text.len() == 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T', "{text}");
    }
    served.stop().await;
}

#[tokio::test]
async fn the_management_payload_has_all_uris_with_their_templates() {
    let served = Served::start().await;
    let id = "order 7/é";
    let path = format!("{DURABLE}/orchestrators/wait/order%207%2F%C3%A9?connection=Mine");
    let payload = served.post(&path, "").await.json();
    let own = format!("{}{DURABLE}/instances/order%207%2F%C3%A9", served.base());
    let query = "connection=Mine";
    assert_eq!(
        payload,
        json!({
            "id": id,
            "statusQueryGetUri": format!("{own}?{query}"),
            "sendEventPostUri": format!("{own}/raiseEvent/{{eventName}}?{query}"),
            "terminatePostUri": format!("{own}/terminate?reason={{text}}&{query}"),
            "rewindPostUri": format!("{own}/rewind?reason={{text}}&{query}"),
            "purgeHistoryDeleteUri": format!("{own}?{query}"),
            "restartPostUri": format!("{own}/restart?{query}"),
            "suspendPostUri": format!("{own}/suspend?reason={{text}}&{query}"),
            "resumePostUri": format!("{own}/resume?reason={{text}}&{query}"),
        })
    );
    let follow = |uri: &str| payload[uri].as_str().unwrap().replace("{text}", "because").replace("{eventName}", "go");
    let looked = served.follow("GET", &follow("statusQueryGetUri")).await;
    assert_eq!(looked.status, 202);
    assert_eq!(looked.header("location"), Some(follow("statusQueryGetUri").as_str()));
    assert_eq!(looked.header("retry-after"), Some("5"));
    assert_eq!(served.follow("POST", &follow("suspendPostUri")).await.status, 202);
    assert_eq!(served.follow("GET", &follow("statusQueryGetUri")).await.json()["runtimeStatus"], "Suspended");
    assert_eq!(served.follow("POST", &follow("resumePostUri")).await.status, 202);
    assert_eq!(served.follow("POST", &follow("terminatePostUri")).await.status, 202);
    let status = follow("statusQueryGetUri");
    let path = status.strip_prefix(&served.base()).unwrap();
    let ended = served.until(path, |answer| answer.status == 200).await.json();
    assert_eq!((&ended["runtimeStatus"], &ended["output"]), (&json!("Terminated"), &json!("because")));
    let purged = served.follow("DELETE", &follow("purgeHistoryDeleteUri")).await;
    assert_eq!((purged.status, purged.body.as_str()), (200, r#"{"instancesDeleted":1}"#));
    assert_eq!(served.follow("GET", &follow("statusQueryGetUri")).await.status, 404);
    served.stop().await;
}

#[tokio::test]
async fn a_client_that_waits_gets_the_output_or_an_address() {
    let served = Served::start().await;
    let path = format!("{DURABLE}/orchestrators/greet?timeout=60&pollingInterval=0.5");
    let done = served.post(&path, "\"Ada\"").await;
    assert_eq!((done.status, done.body.as_str()), (200, "\"Hello Ada!\""));

    let pending = served.post(&format!("{DURABLE}/orchestrators/wait/slow?timeout=0.01"), "").await;
    assert_eq!(pending.status, 202);
    assert_eq!(pending.json()["id"], "slow");

    let failed = served.post(&format!("{DURABLE}/orchestrators/fail?timeout=60"), "").await;
    assert_eq!(failed.status, 200);
    assert_eq!(failed.json()["runtimeStatus"], "Failed");
    let path = format!("{DURABLE}/orchestrators/fail?timeout=60&returnInternalServerErrorOnFailure=true");
    assert_eq!(served.post(&path, "").await.status, 500);

    let wrong = served.post(&format!("{DURABLE}/orchestrators/greet?timeout=1&pollingInterval=2"), "\"Ada\"").await;
    assert_eq!((wrong.status, wrong.code().as_str()), (400, "invalid_query"));
    served.stop().await;
}

#[tokio::test]
async fn payloads_go_through_with_all_their_digits() {
    let served = Served::start().await;
    let input = r#"[12345678901234567890123,0.1000,"ü\u0000"]"#;
    served.started("wait", "digits", input, "Running").await;
    let status = served.get(&format!("{DURABLE}/instances/digits")).await;
    assert!(status.body.contains(input), "{}", status.body);
    let hidden = served.get(&format!("{DURABLE}/instances/digits?showInput=false")).await;
    assert_eq!(hidden.json()["input"], json!(null));
    served.stop().await;
}

#[tokio::test]
async fn an_id_is_free_again_once_its_orchestration_has_ended() {
    let served = Served::start().await;
    served.started("wait", "once", "", "Running").await;
    let again = served.post(&format!("{DURABLE}/orchestrators/wait/once"), "").await;
    assert_eq!((again.status, again.code().as_str()), (409, "already_exists"));
    assert_eq!(served.post(&format!("{DURABLE}/instances/once/raiseEvent/go"), "1").await.status, 202);
    served.until(&format!("{DURABLE}/instances/once"), |answer| answer.status == 200).await;
    served.started("wait", "once", "", "Running").await;
    let reserved = served.post(&format!("{DURABLE}/orchestrators/wait/@entity@key"), "").await;
    assert_eq!((reserved.status, reserved.code().as_str()), (400, "invalid_request"));
    served.stop().await;
}

#[tokio::test]
async fn what_is_unknown_is_404_and_what_has_ended_is_410() {
    let served = Served::start().await;
    served.started("echo", "done", "1", "Completed").await;
    for operation in ["raiseEvent/go", "terminate", "suspend", "resume"] {
        let unknown = served.post(&format!("{DURABLE}/instances/nobody/{operation}"), "1").await;
        assert_eq!((unknown.status, unknown.code().as_str()), (404, "not_found"), "{operation}");
        let ended = served.post(&format!("{DURABLE}/instances/done/{operation}"), "1").await;
        assert_eq!((ended.status, ended.code().as_str()), (410, "ended"), "{operation}");
    }
    for path in ["/instances/nobody", "/instances/nobody?showHistory=true"] {
        assert_eq!(served.get(&format!("{DURABLE}{path}")).await.status, 404, "{path}");
    }
    assert_eq!(served.delete(&format!("{DURABLE}/instances/nobody")).await.status, 404);
    assert_eq!(served.post(&format!("{DURABLE}/instances/nobody/rewind"), "").await.status, 404);
    assert_eq!(served.post(&format!("{DURABLE}/instances/done/rewind"), "").await.status, 410);
    assert_eq!(served.post(&format!("{DURABLE}/instances/nobody/restart"), "").await.status, 400);
    served.started("wait", "alive", "", "Running").await;
    assert_eq!(served.post(&format!("{DURABLE}/instances/alive/rewind"), "").await.status, 400);
    let alive = served.delete(&format!("{DURABLE}/instances/alive")).await;
    assert_eq!((alive.status, alive.code().as_str()), (409, "not_possible_now"));
    let elsewhere = served.get(&format!("{DURABLE}/instances/done?taskHub=other")).await;
    assert_eq!((elsewhere.status, elsewhere.code().as_str()), (404, "not_found"));
    served.stop().await;
}

#[tokio::test]
async fn an_event_is_json_and_says_so() {
    let served = Served::start().await;
    served.started("wait", "listener", "", "Running").await;
    let path = format!("{DURABLE}/instances/listener/RAISEEVENT/go");
    let text = served.send("POST", &path, &[("content-type", "text/plain")], "1").await;
    assert_eq!((text.status, text.code().as_str()), (400, "wrong_media_type"));
    for wrong in ["{", ""] {
        let wrong = served.post(&path, wrong).await;
        assert_eq!((wrong.status, wrong.code().as_str()), (400, "invalid_json"));
    }
    let headers = [("content-type", "Application/JSON; charset=utf-8")];
    assert_eq!(served.send("POST", &path, &headers, "{\"a\":1}").await.status, 202);
    let done = served.until(&format!("{DURABLE}/instances/listener"), |answer| answer.status == 200).await;
    assert_eq!(done.json()["output"], json!({"a": 1}));
    served.stop().await;
}

#[tokio::test]
async fn a_failure_is_200_or_500_as_the_client_likes() {
    let served = Served::start().await;
    served.started("fail", "broken", "", "Failed").await;
    let path = format!("{DURABLE}/instances/broken");
    let quiet = served.get(&path).await;
    assert_eq!((quiet.status, quiet.json()["output"].as_str()), (200, Some("Broken: it does not work")));
    assert_eq!(served.get(&format!("{path}?returnInternalServerErrorOnFailure=TRUE")).await.status, 500);
    served.stop().await;
}

#[tokio::test]
async fn a_history_shows_what_was_asked_for_with_its_outcome() {
    let served = Served::start().await;
    served.started("parent", "family", "null", "Completed").await;
    let path = format!("{DURABLE}/instances/family");
    assert_eq!(served.get(&path).await.json().get("historyEvents"), None);
    let events = served.get(&format!("{path}?showHistory=true&showHistoryOutput=true")).await.json();
    let events = events["historyEvents"].as_array().unwrap().clone();
    let kinds: Vec<&str> = events.iter().map(|event| event["EventType"].as_str().unwrap()).collect();
    let expected =
        ["ExecutionStarted", "TimerCreated", "TimerFired", "SubOrchestrationInstanceCompleted", "ExecutionCompleted"];
    assert_eq!(kinds, expected);
    assert_eq!(events[0]["FunctionName"], "parent");
    assert_eq!(events[0]["Input"], "null");
    let child = events[3].as_object().unwrap();
    let fields: Vec<&String> = child.keys().collect();
    assert_eq!(fields, ["EventType", "FunctionName", "Input", "Result", "ScheduledTime", "Timestamp"]);
    assert_eq!((&child["FunctionName"], &child["Input"]), (&json!("greet"), &json!("\"Ada\"")));
    assert_eq!((&child["Result"], &events[4]["Result"]), (&json!("Hello Ada!"), &json!("Hello Ada!")));
    assert_eq!(events[4]["OrchestrationStatus"], "Completed");
    assert_eq!(events[4]["Timestamp"].as_str().unwrap().len(), "2018-02-28T05:18:49.3452372Z".len());

    let plain = served.get(&format!("{path}?showHistory=true&showInput=false")).await;
    assert!(!plain.body.contains("\"Result\"") && !plain.body.contains("\"Input\""), "{}", plain.body);

    // What has no outcome yet has a row of its own.
    served.started("wait", "waiting", "", "Running").await;
    let waiting = served.get(&format!("{DURABLE}/instances/waiting?showHistory=true")).await.json();
    assert_eq!(waiting["historyEvents"][0]["EventType"], "ExecutionStarted");
    served.stop().await;
}

#[tokio::test]
async fn instances_are_listed_by_filter_and_page() {
    let served = Served::start().await;
    for id in ["a-1", "a-2", "b 1"] {
        served.started("echo", &id.replace(' ', "%20"), "[1]", "Completed").await;
    }
    served.started("wait", "a-3", "", "Running").await;
    let ids = |answer: &crate::support::Answer| -> Vec<String> {
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json().as_array().unwrap().iter().map(|s| s["instanceId"].as_str().unwrap().to_owned()).collect()
    };
    let list = format!("{DURABLE}/instances");
    let all = served.get(&list).await;
    assert_eq!(ids(&all), ["a-1", "a-2", "a-3", "b 1"]);
    assert_eq!(all.header("x-ms-continuation-token"), None);
    assert_eq!(all.json()[0]["input"], json!([1]));
    for (query, expected) in [
        ("?instanceIdPrefix=a-", &["a-1", "a-2", "a-3"][..]),
        ("?runtimeStatus=running", &["a-3"]),
        ("?runtimeStatus=Running,Completed&instanceIdPrefix=b", &["b 1"]),
        ("?createdTimeFrom=2999-01-01", &[]),
        ("?createdTimeTo=2000-01-01T00:00:00Z", &[]),
        ("?createdTimeFrom=2000-01-01T00:00:00%2B01:00&createdTimeTo=2999-01-01", &["a-1", "a-2", "a-3", "b 1"]),
    ] {
        assert_eq!(ids(&served.get(&format!("{list}{query}")).await), expected, "{query}");
    }
    assert_eq!(served.get(&format!("{list}?showInput=false")).await.json()[0]["input"], json!(null));

    let mut pages = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let headers: Vec<(&str, &str)> = token.iter().map(|t| ("x-ms-continuation-token", t.as_str())).collect();
        let page = served.send("GET", &format!("{list}?top=3"), &headers, "").await;
        pages.push(ids(&page));
        token = page.header("x-ms-continuation-token").map(str::to_owned);
        if token.is_none() {
            break;
        }
    }
    assert_eq!(pages, [vec!["a-1", "a-2", "a-3"], vec!["b 1"]]);

    for wrong in ["top=0", "top=x", "createdTimeFrom=soon", "runtimeStatus=Asleep", "showInput=perhaps"] {
        let answer = served.get(&format!("{list}?{wrong}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_query"), "{wrong}");
    }
    served.stop().await;
}

#[tokio::test]
async fn many_are_purged_only_with_a_filter_and_a_confirmation() {
    let served = Served::start().await;
    for id in ["one", "two"] {
        served.started("echo", id, "1", "Completed").await;
    }
    served.started("fail", "three", "", "Failed").await;
    served.started("wait", "four", "", "Running").await;
    let path = format!("{DURABLE}/instances");
    let bare = served.delete(&format!("{path}?confirm=true")).await;
    assert_eq!((bare.status, bare.code().as_str()), (400, "invalid_query"));
    let unsure = served.delete(&format!("{path}?createdTimeFrom=2000-01-01")).await;
    assert_eq!((unsure.status, unsure.code().as_str()), (400, "not_confirmed"));
    let none = served.delete(&format!("{path}?createdTimeFrom=2999-01-01&confirm=true")).await;
    assert_eq!((none.status, none.code().as_str()), (404, "nothing_matched"));
    let some = served.delete(&format!("{path}?createdTimeFrom=2000-01-01&runtimeStatus=Completed&confirm=true")).await;
    assert_eq!((some.status, some.body.as_str()), (200, r#"{"instancesDeleted":2}"#));
    let rest = served.delete(&format!("{path}?createdTimeFrom=2000-01-01&confirm=true")).await;
    assert_eq!(rest.body, r#"{"instancesDeleted":1}"#);
    assert_eq!(served.get(&format!("{path}/four")).await.status, 202);
    served.stop().await;
}
