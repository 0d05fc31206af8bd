//! The clients' side: requests for the deeds of a script, what has to be done so that all comes to rest, and what
//! clients can see in the end. This module must never change the ledgers.

use std::collections::{BTreeMap, BTreeSet};

use seriatim_durable::proto;
use seriatim_durable::proto::OrchestrationStatus as Status;
use seriatim_durable::proto::history_event::EventType;
use seriatim_hub::core::{Moment, Request};

use crate::dice::{SECOND, Time};
use crate::model::{Ledger, Run, Sent, Verdict, mark, marks, must};
use crate::script::Deed;

/// A time that is still to be counted from the hub's clock when the request comes there.
fn relative(after: Option<Time>) -> Option<prost_types::Timestamp> {
    after.map(|after| prost_types::Timestamp { seconds: (after / SECOND) as i64, nanos: 0 })
}

/// Puts absolute times into a request.
pub(crate) fn by_the_clock(request: &mut Request, now: Moment) {
    let at = match request {
        Request::StartInstance(request) => &mut request.scheduled_start_timestamp,
        Request::SignalEntity(request) => &mut request.scheduled_time,
        _ => return,
    };
    if let Some(at) = at {
        *at = now.plus(std::time::Duration::from_secs(at.seconds as u64)).to_timestamp();
    }
}

pub(crate) fn rewind(id: &str) -> proto::RewindInstanceRequest {
    proto::RewindInstanceRequest { instance_id: id.to_owned(), reason: None }
}

fn get(id: String) -> proto::GetInstanceRequest {
    proto::GetInstanceRequest { instance_id: id, get_inputs_and_outputs: true }
}

fn purge(id: String, recursive: bool) -> Request {
    let request = Some(proto::purge_instances_request::Request::InstanceId(id));
    Request::PurgeInstances(proto::PurgeInstancesRequest { request, recursive, ..Default::default() })
}

fn raise(id: String, letter: &str) -> Request {
    let input = Some(serde_json::to_string(letter).expect("a text is JSON"));
    Request::RaiseEvent(proto::RaiseEventRequest { instance_id: id, name: "mail".to_owned(), input })
}

fn start(deed: Deed) -> proto::CreateInstanceRequest {
    let Deed::Start { id, name, input, after, replaces } = deed else {
        return proto::CreateInstanceRequest::default();
    };
    let all = [Status::Pending, Status::Running, Status::Suspended, Status::Completed, Status::Failed];
    let all = all.into_iter().chain([Status::Terminated]).map(|status| status as i32);
    let policy = proto::OrchestrationIdReusePolicy { replaceable_status: all.collect() };
    proto::CreateInstanceRequest {
        instance_id: id,
        name: name.to_owned(),
        input: Some(input),
        scheduled_start_timestamp: relative(after),
        orchestration_id_reuse_policy: replaces.then_some(policy),
        ..Default::default()
    }
}

/// What a client sends.
pub(crate) fn request(deed: Deed) -> Request {
    match deed {
        Deed::Start { .. } => Request::StartInstance(start(deed)),
        Deed::Raise { id, letter } => raise(id, &letter),
        Deed::Signal { entity, request_id, after } => Request::SignalEntity(proto::SignalEntityRequest {
            instance_id: entity,
            name: "touch".to_owned(),
            request_id,
            scheduled_time: relative(after),
            ..Default::default()
        }),
        Deed::Terminate { id, recursive } => {
            let output = Some("\"stop\"".to_owned());
            Request::TerminateInstance(proto::TerminateRequest { instance_id: id, output, recursive })
        }
        Deed::Suspend(id) => Request::SuspendInstance(proto::SuspendRequest { instance_id: id, reason: None }),
        Deed::Resume(id) => Request::ResumeInstance(proto::ResumeRequest { instance_id: id, reason: None }),
        Deed::Purge { id, recursive } => purge(id, recursive),
        Deed::PurgeEntity(id) => purge(id, false),
        Deed::Rewind(id) => Request::RewindPlan(rewind(&id)),
        Deed::Restart { id, as_new } => Request::RestartInstance(proto::RestartInstanceRequest {
            instance_id: id,
            restart_with_new_instance_id: as_new,
        }),
        Deed::Skip(id) => {
            let batch = proto::InstanceBatch { instance_ids: vec![id] };
            let request =
                proto::SkipGracefulOrchestrationTerminationsRequest { instance_batch: Some(batch), reason: None };
            Request::SkipGracefulTerminations(request)
        }
        Deed::Clean => Request::CleanEntityStorage(proto::CleanEntityStorageRequest {
            remove_empty_entities: true,
            release_orphaned_locks: true,
            ..Default::default()
        }),
        Deed::Get(id) => Request::GetInstance(get(id)),
        Deed::Wait(id) => Request::WaitForCompletion(get(id)),
        Deed::GetEntity(id) => Request::GetEntity(proto::GetEntityRequest { instance_id: id, include_state: true }),
        Deed::List => Request::ListInstanceIds(proto::ListInstanceIdsRequest::default()),
    }
}

/// The instance that a request is about.
pub(crate) fn about(request: &Request) -> Option<&str> {
    match request {
        Request::TerminateInstance(request) => Some(&request.instance_id),
        Request::PurgeInstances(request) => match &request.request {
            Some(proto::purge_instances_request::Request::InstanceId(id)) => Some(id),
            _ => None,
        },
        _ => None,
    }
}

/// What a request must bring about somewhere else, if it is taken.
pub(crate) fn sent(request: &Request, ledger: &Ledger) -> Option<Sent> {
    match request {
        Request::RaiseEvent(request) if ledger.is_live(&request.instance_id) => {
            Some(Sent::Letter(request.instance_id.clone(), request.input.clone().unwrap_or_default()))
        }
        Request::SignalEntity(request) if !request.instance_id.starts_with("@temp@") => {
            Some(Sent::Operation(mark(&request.name, &request.request_id)))
        }
        _ => None,
    }
}

/// What must be done so that everything can end: suspended instances go on; mailboxes are told to stop once nobody
/// writes letters any more.
pub(crate) fn let_go_on(ledger: &Ledger) -> Vec<Request> {
    let mut requests = Vec::new();
    let writes = ledger.executions.values().any(|run| run.is_live() && run.start.name != "mailbox");
    for run in ledger.executions.values().filter(|run| run.is_live()) {
        if run.state.suspended {
            requests.push(request(Deed::Resume(run.instance.clone())));
        }
        if run.start.name == "mailbox" && !writes {
            requests.push(raise(run.instance.clone(), "stop"));
        }
    }
    requests
}

/// What must be true when all has come to rest, beside what is true at every moment.
pub(crate) fn check_end(ledger: &Ledger) -> Verdict {
    for run in ledger.executions.values().filter(|run| run.start.name == "mailbox") {
        let output = run.state.output.as_deref().unwrap_or("null");
        let got: Vec<String> = serde_json::from_str(output).map_err(|error| format!("{error}: {output}"))?;
        let sent = ledger.collected(&run.instance);
        must!(got == sent, "{} got {got:?}, and was sent {sent:?}", run.instance);
    }
    let mut sum = 0;
    let mut applied = BTreeSet::new();
    for (id, thing) in ledger.entities.iter().filter(|(id, _)| !id.starts_with("@temp@")) {
        let state = thing.state.as_deref();
        if id.starts_with("@acct@") {
            sum += state.and_then(|s| s.split_once('|')).and_then(|(n, _)| n.parse::<i64>().ok()).unwrap_or(0);
        }
        for mark in marks(state).split(',').filter(|mark| !mark.is_empty()) {
            must!(applied.insert(mark.to_owned()), "operation {mark} took effect twice");
        }
    }
    must!(sum == 0, "the accounts hold {sum}, not 0");
    let lost: Vec<_> = ledger.asked.difference(&applied).collect();
    must!(lost.is_empty(), "operations were sent and had no effect: {lost:?}");
    // What nobody else has sent was passed on by an entity.
    let relayed = applied.difference(&ledger.asked).count();
    let relays = applied.iter().filter(|mark| mark.starts_with('r')).count();
    must!(relayed == relays, "{relays} operations passed a signal on, {relayed} signals came");
    let unborn: Vec<_> = ledger.launched.difference(&ledger.ever).collect();
    must!(unborn.is_empty(), "entities were to start orchestrations, which never were: {unborn:?}");
    Ok(())
}

/// All histories without what may differ between two worlds: times, ids that the hub gives, the grouping into turns and
/// the order in which outcomes came.
pub(crate) fn normal_histories(ledger: &Ledger) -> BTreeMap<String, Vec<String>> {
    let runs = ledger.executions.values();
    runs.map(|run| {
        let mut lines: Vec<String> = run.events().filter_map(|event| line(run, event)).map(|l| plain(&l)).collect();
        lines.sort();
        (plain(&run.instance), lines)
    })
    .collect()
}

/// A text without the random part of the ids that the worker derives for sub-orchestrations, `parent:0001:0123456789abcdef`.
fn plain(text: &str) -> String {
    let is_random = |part: &str| part.len() >= 16 && part.bytes().take(16).all(|b| b.is_ascii_hexdigit());
    text.split(':').map(|part| if is_random(part) { &part[16..] } else { part }).collect::<Vec<_>>().join(":")
}

fn line(run: &Run, event: &proto::HistoryEvent) -> Option<String> {
    let id = event.event_id;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    if run.start.name == "mailbox" {
        // Where it continues as new depends on when letters come; the letters themselves do not.
        let Some(EventType::ExecutionCompleted(end)) = &event.event_type else { return None };
        let letters: Vec<String> = serde_json::from_str(&text(&end.result)).unwrap_or_default();
        let mut letters: Vec<String> = letters.iter().map(|letter| plain(letter)).collect();
        letters.sort();
        return Some(letters.join(", "));
    }
    Some(match event.event_type.as_ref()? {
        EventType::ExecutionStarted(e) => format!("start {}({})", e.name, text(&e.input)),
        EventType::ExecutionCompleted(e) => format!("end {:?} {}", e.orchestration_status(), text(&e.result)),
        EventType::TaskScheduled(e) => format!("{id} task {}({})", e.name, text(&e.input)),
        EventType::TaskCompleted(e) => format!("{} task done {}", e.task_scheduled_id, text(&e.result)),
        EventType::SubOrchestrationInstanceCreated(e) => format!("{id} sub {}({})", e.instance_id, text(&e.input)),
        EventType::SubOrchestrationInstanceCompleted(e) => {
            format!("{} sub done {}", e.task_scheduled_id, text(&e.result))
        }
        EventType::TimerCreated(_) => format!("{id} timer"),
        EventType::TimerFired(e) => format!("{} timer fired", e.timer_id),
        EventType::EntityOperationCalled(e) => {
            format!("{id} call {}.{}({})", text(&e.target_instance_id), e.operation, text(&e.input))
        }
        EventType::EntityOperationCompleted(_) => "call done".to_owned(),
        EventType::EntityOperationSignaled(e) => format!("{id} signal {}.{}", text(&e.target_instance_id), e.operation),
        EventType::EntityLockRequested(e) => format!("{id} lock {:?}", e.lock_set),
        EventType::EntityLockGranted(_) => "granted".to_owned(),
        EventType::EntityUnlockSent(e) => format!("{id} unlock {}", text(&e.target_instance_id)),
        EventType::EventSent(e) => format!("{id} event to {} {}", e.instance_id, text(&e.input)),
        EventType::OrchestratorStarted(_) | EventType::OrchestratorCompleted(_) => return None,
        other => format!("{other:?}"),
    })
}

/// Of each entity: its balance, and how often each operation ran.
pub(crate) fn entity_counts(ledger: &Ledger) -> BTreeMap<String, (String, BTreeMap<char, u64>)> {
    let of = |state: &str| {
        let mut counts = BTreeMap::new();
        for letter in marks(Some(state)).split(',').filter_map(|mark| mark.chars().next()) {
            *counts.entry(letter).or_default() += 1;
        }
        (state.split('|').next().unwrap_or_default().to_owned(), counts)
    };
    let things = ledger.entities.iter();
    things.filter_map(|(id, thing)| Some((id.clone(), of(thing.state.as_deref()?)))).collect()
}
