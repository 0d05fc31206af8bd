//! The drawing of an instance's life: every state against everything that can happen to it, in one table. An entry
//! says what a client then sees, and what became of the turn: `held` (the worker that had it still has it), `given` (it went
//! out, anew), or nothing.

use std::fmt::Write as _;
use std::time::Duration;

use seriatim_durable::hub::HubError;
use seriatim_durable::proto;
use seriatim_durable::proto::OrchestrationStatus as Status;
use seriatim_hub::core::{Request, WorkerId};

use crate::driver::*;

/// What is seen when this happens (first column) to an instance in this state (heading).
const TABLE: &str = "
missing:
    event raised   -> not found, missing
    suspend        -> not found, missing
    resume         -> not found, missing
    terminate      -> not found, missing
    purge          -> missing
    start          -> pending given
    start anew     -> pending given
    an hour passes -> missing
    worker is lost -> missing
    crash          -> missing
    activity ends  -> missing
scheduled:
    event raised   -> pending
    suspend        -> suspended
    resume         -> pending
    terminate      -> terminated
    purge          -> pending
    start          -> exists, pending
    start anew     -> pending given
    an hour passes -> pending given
    worker is lost -> pending
    crash          -> pending
    activity ends  -> pending
in a turn:
    event raised   -> running held
    suspend        -> suspended held
    resume         -> running held
    terminate      -> running held
    purge          -> running held
    start          -> exists, running held
    start anew     -> pending given
    an hour passes -> running given
    worker is lost -> running given
    crash          -> running given
    activity ends  -> running held
waiting:
    event raised   -> running given
    suspend        -> suspended
    resume         -> running
    terminate      -> terminated
    purge          -> running
    start          -> exists, running
    start anew     -> pending given
    an hour passes -> running
    worker is lost -> running
    crash          -> running
    activity ends  -> running given
suspended:
    event raised   -> suspended
    suspend        -> suspended
    resume         -> running given
    terminate      -> terminated
    purge          -> suspended
    start          -> exists, suspended
    start anew     -> pending given
    an hour passes -> suspended
    worker is lost -> suspended
    crash          -> suspended
    activity ends  -> suspended
suspended in a turn:
    event raised   -> suspended held
    suspend        -> suspended held
    resume         -> running held
    terminate      -> suspended held
    purge          -> suspended held
    start          -> exists, suspended held
    start anew     -> pending given
    an hour passes -> suspended
    worker is lost -> suspended
    crash          -> suspended
    activity ends  -> suspended held
terminating in a turn:
    event raised   -> running held
    suspend        -> suspended held
    resume         -> running held
    terminate      -> running held
    purge          -> running held
    start          -> exists, running held
    start anew     -> pending given
    an hour passes -> terminated
    worker is lost -> terminated
    crash          -> terminated
    activity ends  -> running held
completed:
    event raised   -> completed
    suspend        -> completed
    resume         -> completed
    terminate      -> completed
    purge          -> missing
    start          -> exists, completed
    start anew     -> pending given
    an hour passes -> completed
    worker is lost -> completed
    crash          -> completed
    activity ends  -> completed
failed:
    event raised   -> failed
    suspend        -> failed
    resume         -> failed
    terminate      -> failed
    purge          -> missing
    start          -> exists, failed
    start anew     -> pending given
    an hour passes -> failed
    worker is lost -> failed
    crash          -> failed
    activity ends  -> failed
terminated:
    event raised   -> terminated
    suspend        -> terminated
    resume         -> terminated
    terminate      -> terminated
    purge          -> missing
    start          -> exists, terminated
    start anew     -> pending given
    an hour passes -> terminated
    worker is lost -> terminated
    crash          -> terminated
    activity ends  -> terminated
";

struct Life {
    hub: Driver,
    worker: WorkerId,
    held: Option<Turn>,
    activity: Option<Activity>,
}

/// An instance `a` in this state, with one worker there.
fn life(state: &str) -> Life {
    let mut hub = Driver::new();
    let worker = hub.worker();
    let mut life = Life { hub, worker, held: None, activity: None };
    let hub = &mut life.hub;
    match state {
        "missing" => return life,
        "scheduled" => {
            let at = hub.clock.plus(Duration::from_hours(1));
            hub.ok(Request::StartInstance(proto::CreateInstanceRequest {
                instance_id: "a".into(),
                name: "any".into(),
                scheduled_start_timestamp: Some(at.to_timestamp()),
                ..Default::default()
            }));
            return life;
        }
        _ => hub.start("a", "any"),
    }
    hub.play("a", vec![task(0, "t")]);
    life.activity = hub.activities.pop_front();
    if state.ends_with("in a turn") {
        hub.raise("a", "e").unwrap();
        life.held = Some(hub.turn_of("a"));
    }
    if state.starts_with("suspended") {
        hub.ok(Request::SuspendInstance(proto::SuspendRequest { instance_id: "a".into(), reason: None }));
    }
    let ends = match state {
        "completed" => Some(Status::Completed),
        "failed" => Some(Status::Failed),
        _ => None,
    };
    if let Some(status) = ends {
        hub.raise("a", "e").unwrap();
        hub.play("a", vec![end(1, status, None)]);
    }
    if state.starts_with("terminat") {
        hub.terminate("a", false);
    }
    life
}

impl Life {
    /// Lets it happen; says if the request was refused.
    fn happen(&mut self, event: &str) -> Result<(), HubError> {
        let id = || "a".to_owned();
        let start = proto::CreateInstanceRequest { instance_id: id(), name: "any".into(), ..Default::default() };
        let all = [Status::Pending, Status::Running, Status::Suspended, Status::Completed, Status::Failed];
        let replaceable_status = all.into_iter().chain([Status::Terminated]).map(|status| status as i32).collect();
        let anew = proto::CreateInstanceRequest {
            orchestration_id_reuse_policy: Some(proto::OrchestrationIdReusePolicy { replaceable_status }),
            ..start.clone()
        };
        let request = match event {
            "event raised" => Request::RaiseEvent(proto::RaiseEventRequest { instance_id: id(), ..Default::default() }),
            "suspend" => Request::SuspendInstance(proto::SuspendRequest { instance_id: id(), reason: None }),
            "resume" => Request::ResumeInstance(proto::ResumeRequest { instance_id: id(), reason: None }),
            "terminate" => {
                Request::TerminateInstance(proto::TerminateRequest { instance_id: id(), ..Default::default() })
            }
            "purge" => Request::PurgeInstances(proto::PurgeInstancesRequest {
                request: Some(proto::purge_instances_request::Request::InstanceId(id())),
                ..Default::default()
            }),
            "start" => Request::StartInstance(start),
            "start anew" => Request::StartInstance(anew),
            "an hour passes" => {
                self.hub.pass(Duration::from_hours(1));
                return Ok(());
            }
            "worker is lost" => {
                self.hub.leave(self.worker);
                self.hub.worker();
                return Ok(());
            }
            "crash" => {
                let old = std::mem::replace(&mut self.hub, Driver::new());
                self.hub = old.crash();
                self.hub.worker();
                return Ok(());
            }
            "activity ends" => match self.activity.clone() {
                Some(activity) => return self.hub.finish_activity(&activity, "done").map(|_| ()),
                None => return Ok(()),
            },
            other => panic!("{other}"),
        };
        self.hub.call(request).map(|_| ())
    }

    /// What is seen then.
    fn outcome(mut self, refused: Result<(), HubError>) -> String {
        let refused = match refused {
            Ok(()) => "",
            Err(HubError::NotFound(_)) => "not found, ",
            Err(HubError::AlreadyExists(_)) => "exists, ",
            Err(other) => panic!("{other}"),
        };
        let status = self.hub.state("a").map_or("missing".to_owned(), |state| {
            let name = state.orchestration_status().as_str_name();
            name.trim_start_matches("ORCHESTRATION_STATUS_").to_lowercase()
        });
        let given = if self.hub.turns.is_empty() { "" } else { " given" };
        let held = match self.held.take() {
            Some(turn) if self.hub.try_turn(&turn, vec![]).is_ok() => " held",
            _ => "",
        };
        format!("{refused}{status}{given}{held}")
    }
}

#[test]
fn every_state_meets_every_event() {
    let mut found = String::from("\n");
    let mut state = "";
    for line in TABLE.lines().filter(|line| !line.is_empty()) {
        if let Some(heading) = line.strip_suffix(':') {
            state = heading;
            writeln!(found, "{line}").expect("a string takes all");
            continue;
        }
        let (event, _) = line.split_once("->").expect("a line says what is seen");
        let mut life = life(state);
        let refused = life.happen(event.trim());
        writeln!(found, "{event}-> {}", life.outcome(refused)).expect("a string takes all");
    }
    assert!(found == TABLE, "the table does not hold; it is now:\n{found}");
}
