//! Listing, purging, and what is seen of things that are not on disk yet.

use std::time::Duration;

use seriatim_durable::hub::HubError;
use seriatim_durable::proto;
use seriatim_durable::proto::OrchestrationStatus as Status;
use seriatim_durable::proto::purge_instances_request::Request as What;
use seriatim_hub::core::{Answer, Request};

use crate::driver::*;

fn list(hub: &mut Driver, query: proto::InstanceQuery) -> (Vec<String>, Option<String>) {
    match hub.ok(Request::QueryInstances(proto::QueryInstancesRequest { query: Some(query) })) {
        Answer::Instances(page) => {
            (page.orchestration_state.into_iter().map(|s| s.instance_id).collect(), page.continuation_token)
        }
        other => panic!("{other:?}"),
    }
}

fn purge(hub: &mut Driver, what: What, recursive: bool) -> i32 {
    let request = proto::PurgeInstancesRequest { request: Some(what), recursive, ..Default::default() };
    match hub.ok(Request::PurgeInstances(request)) {
        Answer::Purged(response) => response.deleted_instance_count,
        other => panic!("{other:?}"),
    }
}

#[test]
fn instances_are_listed_page_by_page_in_order_of_id() {
    let mut hub = Driver::new();
    for id in ["b1", "a2", "a1", "b3", "b2", "c"] {
        hub.start(id, "any");
    }
    let mut query =
        proto::InstanceQuery { max_instance_count: 2, instance_id_prefix: Some("b".into()), ..Default::default() };
    let (page, token) = list(&mut hub, query.clone());
    assert_eq!(page, ["b1", "b2"]);
    query.continuation_token = token;
    assert_eq!(list(&mut hub, query.clone()), (vec!["b3".to_owned()], None));
    query.instance_id_prefix = Some("c".into());
    let foreign = Request::QueryInstances(proto::QueryInstancesRequest { query: Some(query) });
    assert!(matches!(hub.call(foreign), Err(HubError::InvalidArgument(_))));
    assert_eq!(list(&mut hub, proto::InstanceQuery::default()).0, ["a1", "a2", "b1", "b2", "b3", "c"]);
}

#[test]
fn instances_are_listed_by_status_and_time_of_creation() {
    let mut hub = Driver::new();
    hub.start("early", "any");
    hub.pass(Duration::from_secs(10));
    let between = hub.clock.to_timestamp();
    hub.pass(Duration::from_secs(10));
    hub.start("late", "any");
    hub.terminate("late", false);
    let by_status = |status: Status| proto::InstanceQuery { runtime_status: vec![status as i32], ..Default::default() };
    assert_eq!(list(&mut hub, by_status(Status::Terminated)).0, ["late"]);
    assert_eq!(list(&mut hub, by_status(Status::Pending)).0, ["early"]);
    let from = proto::InstanceQuery { created_time_from: Some(between), ..Default::default() };
    let to = proto::InstanceQuery { created_time_to: Some(between), ..Default::default() };
    assert_eq!((list(&mut hub, from).0, list(&mut hub, to).0), (vec!["late".into()], vec!["early".into()]));
}

#[test]
fn inputs_and_outputs_are_shown_when_asked_for() {
    let mut hub = Driver::new();
    hub.start("a", "any");
    for wanted in [false, true] {
        let query = proto::InstanceQuery { fetch_inputs_and_outputs: wanted, ..Default::default() };
        match hub.ok(Request::QueryInstances(proto::QueryInstancesRequest { query: Some(query) })) {
            Answer::Instances(page) => assert_eq!(page.orchestration_state[0].input.is_some(), wanted),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn entities_are_listed_and_transient_ones_only_when_asked_for() {
    let mut hub = Driver::new();
    hub.worker();
    for id in ["@a@1", "@a@2", "@b@1"] {
        hub.signal(id, "op");
        hub.finish_batch(Some("s"));
    }
    hub.start("o", "any");
    hub.play("o", vec![lock(0, "s", &["@a@0"])]);
    let mut ids = |query: proto::EntityQuery| match hub
        .ok(Request::QueryEntities(proto::QueryEntitiesRequest { query: Some(query) }))
    {
        Answer::Entities(page) => page.entities.into_iter().map(|e| e.instance_id).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(ids(proto::EntityQuery::default()), ["@a@1", "@a@2", "@b@1"]);
    let named = proto::EntityQuery { instance_id_starts_with: Some("@A@".into()), ..Default::default() };
    assert_eq!(ids(named.clone()), ["@a@1", "@a@2"]);
    assert_eq!(ids(proto::EntityQuery { include_transient: true, ..named.clone() }), ["@a@0", "@a@1", "@a@2"]);
    let next = proto::EntityQuery { continuation_token: Some("@a@1".into()), page_size: Some(1), ..named };
    assert_eq!(ids(next), ["@a@2"]);
}

#[test]
fn entities_are_listed_page_by_page_in_order_of_id() {
    let mut hub = Driver::new();
    hub.worker();
    for id in ["@b@1", "@a@3", "@a@1", "@a@2", "@c@1"] {
        hub.signal(id, "op");
        hub.finish_batch(Some("s"));
    }
    for (size, wanted) in [(1, 5), (2, 3), (3, 2), (4, 2), (5, 1), (6, 1)] {
        let (mut pages, mut seen, mut next) = (0, Vec::new(), None);
        loop {
            let query = proto::EntityQuery { page_size: Some(size), continuation_token: next, ..Default::default() };
            let Answer::Entities(page) =
                hub.ok(Request::QueryEntities(proto::QueryEntitiesRequest { query: Some(query) }))
            else {
                panic!("no page")
            };
            pages += 1;
            seen.extend(page.entities.into_iter().map(|entity| entity.instance_id));
            next = page.continuation_token;
            if next.is_none() {
                break;
            }
        }
        assert_eq!(seen, ["@a@1", "@a@2", "@a@3", "@b@1", "@c@1"], "pages of {size}");
        assert_eq!(pages, wanted, "pages of {size}");
    }
}

#[test]
fn purging_forgets_what_has_ended_and_nothing_else() {
    let mut hub = Driver::new();
    hub.start("running", "any");
    hub.start("ended", "any");
    hub.terminate("ended", false);
    assert_eq!(purge(&mut hub, What::InstanceId("running".into()), false), 0);
    assert_eq!(purge(&mut hub, What::InstanceId("nobody".into()), false), 0);
    assert_eq!(purge(&mut hub, What::InstanceId("ended".into()), false), 1);
    assert!(hub.state("ended").is_none() && hub.history("ended").is_empty());
    let mut hub = hub.crash();
    assert!(hub.state("ended").is_none() && hub.state("running").is_some());
    let nothing = hub.call(Request::PurgeInstances(proto::PurgeInstancesRequest::default()));
    assert!(matches!(nothing, Err(HubError::InvalidArgument(_))));
}

#[test]
fn purging_by_filter_and_by_batch() {
    let mut hub = Driver::new();
    hub.worker();
    for id in ["a", "b", "c", "d"] {
        hub.start(id, "any");
        hub.pass(Duration::from_secs(1));
    }
    hub.play("a", vec![complete(0)]);
    hub.play("b", vec![end(0, Status::Failed, None)]);
    hub.play("c", vec![complete(0)]);
    let filter = proto::PurgeInstanceFilter { runtime_status: vec![Status::Failed as i32], ..Default::default() };
    assert_eq!(purge(&mut hub, What::PurgeInstanceFilter(filter), false), 1);
    assert!(hub.state("b").is_none());
    let ids = proto::InstanceBatch { instance_ids: vec!["a".into(), "d".into()] };
    assert_eq!(purge(&mut hub, What::InstanceBatch(ids), false), 1);
    assert_eq!(purge(&mut hub, What::PurgeInstanceFilter(proto::PurgeInstanceFilter::default()), false), 1);
    assert_eq!(list(&mut hub, proto::InstanceQuery::default()).0, ["d"]);
}

#[test]
fn purging_recursively_takes_the_descendants_along() {
    let mut hub = Driver::new();
    hub.worker();
    hub.start("p", "any");
    hub.play("p", vec![sub(0, "any", "c1"), sub(1, "any", "c2")]);
    hub.play("c1", vec![sub(0, "any", "g"), complete(1)]);
    hub.play("g", vec![complete(0)]);
    hub.terminate("p", false);
    let mut hub = hub.crash();
    assert_eq!(purge(&mut hub, What::InstanceId("p".into()), true), 3);
    assert_eq!(list(&mut hub, proto::InstanceQuery::default()).0, ["c2"], "what is still at work stays");
}

#[test]
fn a_child_that_is_purged_leaves_the_others_to_their_parent() {
    let mut hub = Driver::new();
    hub.worker();
    hub.start("p", "any");
    hub.play("p", vec![sub(0, "any", "c1"), sub(1, "any", "c2")]);
    hub.play("c1", vec![complete(0)]);
    hub.play("c2", vec![]);
    assert_eq!(purge(&mut hub, What::InstanceId("c1".into()), false), 1);
    hub.play("p", vec![]);
    hub.terminate("p", true);
    assert_eq!(hub.status("c2"), Status::Terminated);
}

#[test]
fn nobody_sees_what_a_crash_could_undo() {
    let mut hub = Driver::new();
    hub.commit_at_once = false;
    let started = hub.ask(Request::StartInstance(proto::CreateInstanceRequest {
        instance_id: "a".into(),
        name: "any".into(),
        ..Default::default()
    }));
    let seen =
        hub.ask(Request::GetInstance(proto::GetInstanceRequest { instance_id: "a".into(), ..Default::default() }));
    assert!(hub.answer(started).is_none() && hub.answer(seen).is_none());
    let mut hub = hub.crash();
    assert!(hub.state("a").is_none(), "it was never acknowledged");
}

#[test]
fn ids_of_ended_instances_are_listed_in_order_of_their_end() {
    let mut hub = Driver::new();
    for id in ["z", "still at work", "b", "a"] {
        hub.start(id, "any");
    }
    for id in ["z", "b", "a"] {
        hub.pass(Duration::from_secs(1));
        hub.terminate(id, false);
    }
    let mut ids = |request: proto::ListInstanceIdsRequest| match hub.ok(Request::ListInstanceIds(request)) {
        Answer::Ids(page) => (page.instance_ids, page.last_instance_key),
        other => panic!("{other:?}"),
    };
    let (page, key) = ids(proto::ListInstanceIdsRequest { page_size: 2, ..Default::default() });
    assert_eq!(page, ["z", "b"]);
    let next = proto::ListInstanceIdsRequest { page_size: 2, last_instance_key: key, ..Default::default() };
    assert_eq!(ids(next.clone()), (vec!["a".to_owned()], None));
    let none = proto::ListInstanceIdsRequest { runtime_status: vec![Status::Failed as i32], ..Default::default() };
    assert!(ids(none).0.is_empty());

    // Whoever goes on later finds what has ended since, also when the hub was opened anew.
    let mut hub = hub.crash();
    hub.pass(Duration::from_secs(1));
    hub.terminate("still at work", false);
    let purged = purge(&mut hub, What::InstanceId("a".into()), false);
    let Answer::Ids(page) = hub.ok(Request::ListInstanceIds(next)) else { panic!() };
    assert_eq!((purged, page.instance_ids), (1, vec!["still at work".to_owned()]));
    let wrong = proto::ListInstanceIdsRequest { last_instance_key: Some("b".into()), ..Default::default() };
    assert!(matches!(hub.call(Request::ListInstanceIds(wrong)), Err(HubError::InvalidArgument(_))));
}

#[test]
fn an_entity_is_purged_when_nobody_wants_anything_of_it() {
    let mut hub = Driver::new();
    hub.worker();
    hub.signal("@e@k", "op");
    let what = || What::InstanceId("@E@k".into());
    assert_eq!(purge(&mut hub, what(), false), 0, "it is at work");
    hub.finish_batch(Some("1"));
    assert_eq!(purge(&mut hub, What::InstanceId("@e".into()), false), 0, "that is none");
    assert_eq!(purge(&mut hub, what(), false), 1);
    assert_eq!(purge(&mut hub, what(), false), 0);
    let mut hub = hub.crash();
    assert_eq!(hub.entity("@e@k"), None);
}

#[test]
fn the_hub_leaves_nothing_to_clean() {
    let mut hub = Driver::new();
    hub.worker();
    hub.start("a", "any");
    hub.play("a", vec![lock(1, "s", &["@e@k"])]);
    hub.play("a", vec![]);
    assert!(hub.entity("@e@k").unwrap().locked_by.is_some());
    hub.terminate("a", false);
    hub.signal("@e@other", "delete");
    hub.finish_batch(None);
    let request = proto::CleanEntityStorageRequest {
        remove_empty_entities: true,
        release_orphaned_locks: true,
        ..Default::default()
    };
    assert_eq!(
        hub.ok(Request::CleanEntityStorage(request)),
        Answer::Cleaned(proto::CleanEntityStorageResponse::default())
    );
    assert_eq!((hub.entity("@e@k"), hub.entity("@e@other")), (None, None));
}
