//! The Data Factory pipeline of `deploy/data-factory`, played against the real server: its activities in their order,
//! its expressions, its Until loop. A run that completes lets it succeed, one that fails lets it fail with the reason.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use seriatim_http::{Options, RunPhase, Runs, Secret};

use crate::runs::Fake;
use crate::support::{Served, send};

const TOKEN: &str = "canary-canary-canary";

/// What the activities and expressions of a pipeline see.
struct Player<'a> {
    served: &'a Served,
    parameters: Value,
    variables: BTreeMap<String, String>,
    outputs: BTreeMap<String, Value>,
    /// Times that a status was looked at.
    looks: u32,
}

/// Why a pipeline failed: the message and the code.
type Failed = (String, String);

impl Player<'_> {
    async fn play(&mut self, activities: &Value) -> Result<(), Failed> {
        let mut done: Vec<&str> = Vec::new();
        for activity in activities.as_array().unwrap() {
            for before in activity["dependsOn"].as_array().unwrap() {
                assert!(done.contains(&before["activity"].as_str().unwrap()), "{before} comes later");
                assert_eq!(before["dependencyConditions"], json!(["Succeeded"]));
            }
            let name = activity["name"].as_str().unwrap();
            let properties = &activity["typeProperties"];
            match activity["type"].as_str().unwrap() {
                "WebActivity" => self.web(name, activity).await?,
                "Wait" => {}
                "SetVariable" => {
                    let value = self.text(&properties["value"]);
                    self.variables.insert(properties["variableName"].as_str().unwrap().to_owned(), value);
                }
                "Until" => loop {
                    Box::pin(self.play(&properties["activities"])).await?;
                    if self.value(&properties["expression"]) == true {
                        break;
                    }
                    assert!(self.looks < 50, "the loop does not end");
                },
                "IfCondition" => {
                    let branch = self.value(&properties["expression"]) == true;
                    let branch = &properties[if branch { "ifTrueActivities" } else { "ifFalseActivities" }];
                    if !branch.is_null() {
                        Box::pin(self.play(branch)).await?;
                    }
                }
                "Fail" => return Err((self.text(&properties["message"]), self.text(&properties["errorCode"]))),
                other => panic!("this player does not know the activity {other}"),
            }
            done.push(name);
        }
        Ok(())
    }

    async fn web(&mut self, name: &str, activity: &Value) -> Result<(), Failed> {
        let properties = &activity["typeProperties"];
        let url = self.text(&properties["url"]);
        if url.starts_with("https://vault.example/") {
            assert_eq!(properties["authentication"]["type"], "MSI");
            assert_eq!(activity["policy"]["secureOutput"], true, "the token would be shown");
            self.outputs.insert(name.to_owned(), json!({"value": TOKEN}));
            return Ok(());
        }
        assert_eq!(activity["policy"]["secureInput"], true, "{name}: the token would be shown");
        assert_eq!(properties["turnOffAsync"], true, "{name}: Data Factory would poll by itself");
        let method = properties["method"].as_str().unwrap();
        self.looks += u32::from(method == "GET");
        let mut headers = Vec::new();
        for (header, value) in properties["headers"].as_object().unwrap() {
            headers.push((header.to_lowercase(), self.text(value)));
        }
        let headers: Vec<(&str, &str)> = headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let body = if properties["body"].is_null() { String::new() } else { self.text(&properties["body"]) };
        let base = self.served.base();
        let path = url.strip_prefix(&base).unwrap_or_else(|| panic!("{url} is not under {base}"));
        let answer = send(self.served.address, method, path, &headers, &body).await;
        if answer.status >= 400 {
            return Err((answer.body, answer.status.to_string()));
        }
        self.outputs.insert(name.to_owned(), answer.json());
        Ok(())
    }

    /// A property: a plain value, or an expression.
    fn value(&self, property: &Value) -> Value {
        if property["type"] != "Expression" {
            return property.clone();
        }
        let text = property["value"].as_str().unwrap();
        let mut rest = text.strip_prefix('@').unwrap_or_else(|| panic!("{text} is no expression"));
        let value = self.expression(&mut rest);
        assert!(rest.is_empty(), "{rest:?} is left over of {text}");
        value
    }

    fn text(&self, property: &Value) -> String {
        self.value(property).as_str().unwrap_or_else(|| panic!("{property} is no text")).to_owned()
    }

    /// Data Factory's expressions, as far as they are used: strings in single quotes, functions, and members.
    fn expression(&self, rest: &mut &str) -> Value {
        *rest = rest.trim_start();
        if let Some(quoted) = rest.strip_prefix('\'') {
            let end = quoted.find('\'').expect("a string ends");
            *rest = &quoted[end + 1..];
            return json!(quoted[..end]);
        }
        let open = rest.find('(').unwrap_or_else(|| panic!("{rest:?} is no function"));
        let function = &rest[..open];
        *rest = &rest[open + 1..];
        let mut arguments = Vec::new();
        while !rest.trim_start().starts_with(')') {
            arguments.push(self.expression(rest));
            *rest = rest.trim_start();
            *rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        *rest = &rest.trim_start()[1..];
        let mut value = self.call(function, &arguments);
        while let Some(member) = rest.strip_prefix("?.").or_else(|| rest.strip_prefix('.')) {
            let forgiving = rest.starts_with('?');
            let end = member.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(member.len());
            let found = value.get(&member[..end]).cloned();
            assert!(found.is_some() || forgiving, "{value} has no {}", &member[..end]);
            value = found.unwrap_or_default();
            *rest = &member[end..];
        }
        value
    }

    fn call(&self, function: &str, arguments: &[Value]) -> Value {
        let text = |n: usize| arguments[n].as_str().unwrap_or_else(|| panic!("{arguments:?} of {function}"));
        match function {
            "concat" => (0..arguments.len()).map(text).collect::<String>().into(),
            "equals" => (arguments[0] == arguments[1]).into(),
            "not" => (arguments[0] == false).into(),
            "coalesce" => arguments.iter().find(|value| !value.is_null()).cloned().unwrap_or_default(),
            "string" => arguments[0].as_str().map_or_else(|| arguments[0].to_string(), str::to_owned).into(),
            "pipeline" => json!({"parameters": self.parameters}),
            "variables" => self.variables[text(0)].clone().into(),
            "activity" => json!({"output": self.outputs[text(0)]}),
            other => panic!("this player does not know the function {other}"),
        }
    }
}

/// Plays the pipeline for a run that ends at the third look at it.
async fn play(pipeline: &str, end: RunPhase) -> (Result<(), Failed>, u32) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/data-factory/run-pipeline.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let properties = &file["properties"];
    let runs = Arc::new(Fake::default());
    runs.end_at_look(3, end);
    let options = Options { tokens: vec![Secret::new(TOKEN).unwrap()], ..Options::default() };
    let served = Served::with(options, Some(Arc::clone(&runs) as Arc<dyn Runs>)).await;
    let mut parameters = json!({});
    for (name, parameter) in properties["parameters"].as_object().unwrap() {
        parameters[name] = parameter["defaultValue"].clone();
    }
    parameters["baseUrl"] = served.base().into();
    parameters["pipeline"] = pipeline.into();
    parameters["tokenSecretUrl"] = "https://vault.example/secrets/token".into();
    let variables = properties["variables"].as_object().unwrap();
    let variables =
        variables.iter().map(|(name, v)| (name.clone(), v["defaultValue"].as_str().unwrap().to_owned())).collect();
    let mut player = Player { served: &served, parameters, variables, outputs: BTreeMap::new(), looks: 0 };
    let outcome = player.play(&properties["activities"]).await;
    let looks = player.looks;
    served.stop().await;
    (outcome, looks)
}

#[tokio::test]
async fn the_factory_waits_for_a_run_that_completes() {
    assert_eq!(play("sales", RunPhase::Completed).await, (Ok(()), 3));
}

#[tokio::test]
async fn the_factory_fails_with_the_reason_of_a_run_that_fails() {
    let (outcome, looks) = play("sales", RunPhase::Failed).await;
    let message = "Run sales-1 is Failed: a file is damaged".to_owned();
    assert_eq!((outcome, looks), (Err((message, "Failed".to_owned())), 3));
    let (outcome, _) = play("sales", RunPhase::Cancelled).await;
    assert_eq!(outcome.unwrap_err().1, "Terminated");
}

#[tokio::test]
async fn the_factory_fails_at_once_if_there_is_no_such_pipeline() {
    let (outcome, looks) = play("nothing", RunPhase::Completed).await;
    assert_eq!((outcome.unwrap_err().1.as_str(), looks), ("404", 0));
}
