//! Runs of pipelines over HTTP, with a stand-in for who runs them. That pipelines are run for real is tested where they
//! are, in the program.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::json;
use seriatim_durable::proto;
use seriatim_http::{Options, Run, RunPhase, Runs, RunsError};

use crate::support::Served;

/// Runs whose end somebody else decides.
#[derive(Debug, Default)]
pub(crate) struct Fake {
    runs: Mutex<BTreeMap<String, Run>>,
    /// At which look at a run it ends, and how.
    script: Mutex<Option<(u32, RunPhase)>>,
}

impl Fake {
    pub(crate) fn end(&self, id: &str, phase: RunPhase) {
        let mut runs = self.runs.lock().unwrap();
        let run = runs.get_mut(id).unwrap();
        run.phase = phase;
        let error = (phase == RunPhase::Failed).then_some("a file is damaged");
        run.document = json!({"run": id, "records": 12_345, "error": error});
    }

    /// The next run that is looked at ends when it is looked at for this time.
    pub(crate) fn end_at_look(&self, look: u32, phase: RunPhase) {
        *self.script.lock().unwrap() = Some((look, phase));
    }

    fn look(&self, id: &str) {
        let mut script = self.script.lock().unwrap();
        if let Some((left, phase)) = script.as_mut() {
            *left -= 1;
            if *left == 0 {
                self.end(id, *phase);
                *script = None;
            }
        }
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        self.runs.lock().unwrap().keys().cloned().collect()
    }
}

#[async_trait]
impl Runs for Fake {
    async fn start(&self, pipeline: &str, _: Option<proto::TraceContext>) -> Result<Run, RunsError> {
        match pipeline {
            "sales" => {
                let mut runs = self.runs.lock().unwrap();
                let id = format!("sales-{}", runs.len() + 1);
                let run =
                    Run { id: id.clone(), pipeline: "sales".into(), phase: RunPhase::Running, document: json!({}) };
                runs.insert(id, run.clone());
                Ok(run)
            }
            "broken" => Err(RunsError::Invalid("broken.yaml has no tables".into())),
            "held" => Err(RunsError::NotPossibleNow("another process has it".into())),
            "bad-disk" => Err(RunsError::Failed("/secret/place: EIO".into())),
            other => Err(RunsError::NotFound(format!("there is no pipeline \"{other}\""))),
        }
    }

    async fn get(&self, id: &str) -> Result<Run, RunsError> {
        self.look(id);
        let found = self.runs.lock().unwrap().get(id).cloned();
        found.ok_or_else(|| RunsError::NotFound(format!("there is no run \"{id}\"")))
    }

    async fn list(&self) -> Result<Vec<Run>, RunsError> {
        Ok(self.runs.lock().unwrap().values().rev().cloned().collect())
    }

    async fn cancel(&self, id: &str) -> Result<(), RunsError> {
        if self.get(id).await?.phase != RunPhase::Running {
            return Err(RunsError::Ended(format!("run \"{id}\" has ended")));
        }
        self.end(id, RunPhase::Cancelled);
        Ok(())
    }
}

pub(crate) async fn served() -> (Served, Arc<Fake>) {
    let runs = Arc::new(Fake::default());
    (Served::with(Options::default(), Some(Arc::clone(&runs) as Arc<dyn Runs>)).await, runs)
}

#[tokio::test]
async fn a_run_is_started_and_polled_by_its_location() {
    let (served, runs) = served().await;
    let started = served.post("/runs", "{\"pipeline\": \"sales\"}").await;
    assert_eq!((started.status, started.header("retry-after")), (202, Some("5")));
    let own = format!("{}/runs/sales-1", served.base());
    assert_eq!(started.header("location"), Some(own.as_str()));
    assert_eq!(
        started.json(),
        json!({
            "id": "sales-1",
            "pipeline": "sales",
            "runtimeStatus": "Running",
            "statusQueryGetUri": own,
            "cancelPostUri": format!("{own}/cancel"),
            "run": {},
        })
    );
    let looked = served.get("/runs/sales-1?returnInternalServerErrorOnFailure=true").await;
    let again = format!("{own}?returnInternalServerErrorOnFailure=true");
    assert_eq!((looked.status, looked.header("location")), (202, Some(again.as_str())));
    runs.end("sales-1", RunPhase::Completed);
    let done = served.follow("GET", &again).await;
    assert_eq!((done.status, done.header("location")), (200, None));
    assert_eq!(done.json()["run"]["records"], 12_345);
    runs.end("sales-1", RunPhase::Failed);
    assert_eq!(served.follow("GET", &again).await.status, 500);
    assert_eq!(served.follow("GET", &own).await.status, 200);
    served.stop().await;
}

#[tokio::test]
async fn a_run_can_be_asked_for_without_a_body_and_cancelled() {
    let (served, _) = served().await;
    for path in ["/runs?pipeline=sales", "/runs?PIPELINE=sales"] {
        assert_eq!(served.send("POST", path, &[], "").await.status, 202);
    }
    let cancel = served.get("/runs/sales-1").await.json()["cancelPostUri"].as_str().unwrap().to_owned();
    assert_eq!(served.follow("POST", &cancel).await.status, 202);
    let ended = served.follow("POST", &cancel).await;
    assert_eq!((ended.status, ended.code().as_str()), (410, "ended"));
    let list = served.get("/runs").await.json();
    let rows: Vec<(&str, &str)> = list["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| (run["id"].as_str().unwrap(), run["runtimeStatus"].as_str().unwrap()))
        .collect();
    assert_eq!(rows, [("sales-2", "Running"), ("sales-1", "Terminated")]);
    assert_eq!(served.get("/runs?top=1").await.json()["runs"].as_array().unwrap().len(), 1);
    assert_eq!(served.get("/runs?pipeline=other").await.json(), json!({"runs": []}));
    served.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_run_is_told_and_what_is_wrong_inside_is_not() {
    let (served, runs) = served().await;
    for (body, status, code) in [
        ("", 400, "invalid_request"),
        ("{}", 400, "invalid_request"),
        ("{\"pipeline\": 1}", 400, "invalid_request"),
        ("{\"pipeline\": \"sales\", \"set\": {}}", 400, "invalid_request"),
        ("[", 400, "invalid_json"),
        ("{\"pipeline\": \"broken\"}", 400, "invalid_pipeline"),
        ("{\"pipeline\": \"../sales\"}", 404, "not_found"),
        ("{\"pipeline\": \"held\"}", 409, "not_possible_now"),
        ("{\"pipeline\": \"bad-disk\"}", 500, "internal"),
    ] {
        let answer = served.post("/runs", body).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{body}");
        assert!(!answer.body.contains("/secret"), "{}", answer.body);
    }
    assert_eq!(served.get("/runs/sales-1").await.status, 404);
    assert!(runs.ids().is_empty());
    let none = Served::start().await;
    let answer = none.post("/runs", "{\"pipeline\": \"sales\"}").await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "runs_disabled"));
    none.stop().await;
    served.stop().await;
}
