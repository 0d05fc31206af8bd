//! Entities over HTTP.

use serde_json::json;

use crate::support::{DURABLE, Served};

#[tokio::test]
async fn an_entity_is_signalled_read_and_deleted() {
    let served = Served::start().await;
    let path = format!("{DURABLE}/entities/Counter/Key%201");
    assert_eq!(served.get(&path).await.status, 404);
    for _ in 0..2 {
        let signalled = served.post(&format!("{path}?op=add"), "21").await;
        assert_eq!((signalled.status, signalled.body.as_str()), (202, ""));
    }
    let state = served.until(&path, |answer| answer.body == "42").await;
    assert_eq!(state.status, 200);
    assert_eq!(served.delete(&path).await.status, 202);
    served.until(&path, |answer| answer.status == 404).await;
    served.stop().await;
}

#[tokio::test]
async fn other_bodies_than_json_are_strings_and_none_is_allowed() {
    let served = Served::start().await;
    let path = format!("{DURABLE}/entities/counter/$");
    let headers = [("content-type", "text/plain")];
    assert_eq!(served.send("POST", &format!("{path}?op=set"), &headers, "{plain}").await.status, 202);
    served.until(&path, |answer| answer.body == "\"{plain}\"").await;
    let id = served.get(&format!("{DURABLE}/entities")).await.json()[0]["entityId"].clone();
    assert_eq!(id, json!({"name": "counter", "key": ""}), "$ is the empty key");
    assert_eq!(served.post(&format!("{path}?op=delete"), "").await.status, 202);
    served.until(&path, |answer| answer.status == 404).await;
    let wrong = served.post(&format!("{path}?op=set"), "{").await;
    assert_eq!((wrong.status, wrong.code().as_str()), (400, "invalid_json"));
    let wrong = served.post(&format!("{DURABLE}/entities/a@b/key?op=set"), "1").await;
    assert_eq!((wrong.status, wrong.code().as_str()), (400, "invalid_request"));
    served.stop().await;
}

#[tokio::test]
async fn entities_are_listed_by_name_and_page() {
    let served = Served::start().await;
    for key in ["a", "b", "c"] {
        assert_eq!(served.post(&format!("{DURABLE}/entities/counter/{key}?op=set"), "{\"n\":1.50}").await.status, 202);
        served.until(&format!("{DURABLE}/entities/counter/{key}"), |answer| answer.status == 200).await;
    }
    let list = format!("{DURABLE}/entities/Counter");
    let plain = served.get(&list).await.json();
    let keys: Vec<&str> = plain.as_array().unwrap().iter().map(|e| e["entityId"]["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["a", "b", "c"]);
    assert_eq!(plain[0].get("state"), None);
    assert_eq!(plain[0]["lastOperationTime"].as_str().unwrap().len(), "2018-02-28T05:18:49.3452372Z".len());
    let full = served.get(&format!("{list}?fetchState=true&top=2")).await;
    assert!(full.body.contains(r#""state":{"n":1.5"#), "{}", full.body);
    let token = full.header("x-ms-continuation-token").unwrap();
    let rest = served.send("GET", &format!("{list}?top=2"), &[("x-ms-continuation-token", token)], "").await.json();
    assert_eq!(rest[0]["entityId"]["key"], "c");
    assert_eq!(served.get(&format!("{DURABLE}/entities/other")).await.body, "[]");
    assert_eq!(served.get(&format!("{list}?lastOperationTimeFrom=2999-01-01")).await.body, "[]");
    assert_eq!(served.get(&format!("{list}?lastOperationTimeTo=2000-01-01")).await.body, "[]");
    served.stop().await;
}
