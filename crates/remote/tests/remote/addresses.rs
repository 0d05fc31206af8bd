//! What is refused before anything is sent.

use std::sync::Arc;

use seriatim_remote::credential::StaticToken;
use seriatim_remote::{RemoteHub, Secret, Variables};

#[tokio::test]
async fn a_token_does_not_go_over_the_network_in_plain_text() {
    let build = |url: &str| {
        let token = Arc::new(StaticToken::new(Secret::new("canary-91")));
        RemoteHub::builder(url.parse().unwrap()).credential(token).build(&Variables::of::<&str, &str>([]))
    };
    let error = build("http://hub.example.com:4001").unwrap_err().to_string();
    assert!(error.contains("plain text") && error.contains("hub.example.com") && !error.contains("canary"), "{error}");
    for fine in ["http://127.0.0.1:4001", "http://localhost:4001", "http://[::1]:4001", "https://hub.example.com"] {
        let hub = build(fine).unwrap();
        assert!(!format!("{hub:?}").contains("canary"), "{hub:?}");
    }
}

#[tokio::test]
async fn what_a_connection_string_asks_for_must_be_there() {
    let build = |text: &str, variables: &Variables| RemoteHub::builder(text.parse().unwrap()).build(variables);
    let text = "Endpoint=https://h.durabletask.io;TaskHub=t;Authentication=Environment";
    let error = build(text, &Variables::of([("AZURE_TENANT_ID", "t")])).unwrap_err().to_string();
    assert!(error.contains("AZURE_CLIENT_ID"), "{error}");
    let unsafe_authority = Variables::of([
        ("AZURE_TENANT_ID", "t"),
        ("AZURE_CLIENT_ID", "c"),
        ("AZURE_CLIENT_SECRET", "canary-92"),
        ("AZURE_AUTHORITY_HOST", "http://login.example.com"),
    ]);
    let error = build(text, &unsafe_authority).unwrap_err().to_string();
    assert!(error.contains("https://") && !error.contains("canary"), "{error}");
    let error = RemoteHub::builder("https://h".parse().unwrap())
        .task_hub("a\nb")
        .build(&Variables::of::<&str, &str>([]))
        .unwrap_err()
        .to_string();
    assert!(error.contains("task hub's name"), "{error}");
}
