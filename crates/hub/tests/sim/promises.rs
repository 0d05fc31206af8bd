//! What the hub has promised to somebody, held against what is on disk at that moment: whoever has an answer, a read
//! state or an activity must never see it undone by a crash. This module must never look at what the core believes,
//! except to compare it with what it hands out.

use std::collections::{BTreeMap, BTreeSet};

use seriatim_durable::proto;
use seriatim_durable::proto::OrchestrationStatus as Status;
use seriatim_durable::proto::history_event::EventType;
use seriatim_hub::core::{ActivitySeq, Answer, ExecutionNo, Request, TimerKind};

use crate::model::{Ledger, Verdict, mark, marks, must, operation_mark};
use crate::workers::Job;
use crate::world::Outcome;

/// What a completion token stands for.
#[derive(Debug)]
enum Work {
    /// The execution, and how long its history is at least when the turn is recorded.
    Turn(ExecutionNo, u64),
    Activity(ActivitySeq),
    /// The entity, and the marks of the operations.
    Batch(String, Vec<String>),
}

/// The work items that are or were out.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    work: BTreeMap<String, Work>,
    accepted: BTreeSet<String>,
}

fn has_ended(status: Status) -> bool {
    matches!(status, Status::Completed | Status::Failed | Status::Terminated)
}

impl Promises {
    /// A work item goes out: nobody else has it, what it says is so, and an activity rests on what is on disk.
    pub(crate) fn handed_out(&mut self, token: &str, job: &Job, ledger: &Ledger, durable: &Ledger) -> Verdict {
        let work = match job {
            Job::Turn(request) => {
                let execution = ledger.current.get(&request.instance_id).copied().unwrap_or_default();
                let run = ledger.executions.get(&execution).ok_or("a turn of an instance that is not there")?;
                must!(
                    run.is_live() && !run.state.suspended && !run.state.waits_for_start,
                    "a turn of {}, which is not to have one: {:?}",
                    run.instance,
                    run.state
                );
                must!(Some(run.execution_id()) == request.execution_id.as_deref(), "a turn of another execution");
                let new = request.new_events.len().saturating_sub(1);
                let events = run.inbox.values().take(new).map(|event| &event.event_type);
                let given = request.new_events.iter().skip(1).map(|event| &event.event_type);
                must!(events.eq(given), "a turn of {} does not have what is first in its inbox", run.instance);
                Work::Turn(execution, run.state.history_len + request.new_events.len() as u64 + 1)
            }
            Job::Activity(request) => {
                // One whose orchestration has ended, or is another by now, still runs.
                let is_it = |ledger: &Ledger| {
                    let found = ledger.activities.iter().find(|(_, record)| record.request == *request);
                    found.map(|(seq, _)| *seq)
                };
                must!(is_it(durable).is_some(), "{request:?} is handed out before it is on disk");
                Work::Activity(is_it(ledger).ok_or("an activity is handed out that was dropped")?)
            }
            Job::Batch(request) => {
                let state = ledger.entities.get(&request.instance_id).and_then(|thing| thing.state.as_deref());
                must!(request.entity_state.as_deref() == state, "{} is given with an old state", request.instance_id);
                let wanted = request.operations.iter().map(|o| mark(&o.operation, &o.request_id)).collect::<Vec<_>>();
                for mark in &wanted {
                    must!(!marks(state).contains(mark), "operation {mark} of {} comes again", request.instance_id);
                }
                Work::Batch(request.instance_id.clone(), wanted)
            }
        };
        must!(self.work.insert(token.to_owned(), work).is_none(), "the token {token} is given twice");
        Ok(())
    }

    /// An answer is given: what it says is on disk. `of` is the execution that the request was about when it came.
    pub(crate) fn given(
        &mut self,
        request: &Request,
        of: Option<ExecutionNo>,
        outcome: &Outcome,
        disk: &Ledger,
    ) -> Verdict {
        let Ok(answer) = outcome else { return Ok(()) };
        match (request, answer) {
            (Request::StartInstance(_), Answer::Started(started)) => {
                must!(disk.ever.contains(&started.instance_id), "{} was started, and is lost", started.instance_id);
            }
            (Request::SignalEntity(signal), _) => {
                let mark = mark(&signal.name, &signal.request_id);
                let waits = disk.timers.values().any(|timer| match &timer.kind {
                    Some(TimerKind::Operation(record)) => operation_mark(&record.event).as_ref() == Some(&mark),
                    _ => false,
                });
                must!(waits || disk.sent.contains(&mark), "a signal to {} is lost", signal.instance_id);
            }
            (Request::TerminateInstance(_), _) => {
                let run = of.and_then(|execution| disk.executions.get(&execution)).filter(|run| run.is_live());
                let comes =
                    |event: &proto::HistoryEvent| matches!(event.event_type, Some(EventType::ExecutionTerminated(_)));
                let asked =
                    run.is_none_or(|run| run.inbox.values().any(|event| comes(event)) || run.events().any(is_rewind));
                must!(asked, "a termination is lost");
            }
            (Request::PurgeInstances(_), Answer::Purged(purged)) if purged.deleted_instance_count > 0 => {
                let gone = of.is_none_or(|execution| !disk.executions.contains_key(&execution));
                must!(gone, "what was purged is still there");
            }
            (Request::CleanEntityStorage(_), Answer::Cleaned(cleaned)) => {
                let left = cleaned.orphaned_locks_released + cleaned.empty_entities_removed;
                must!(left == 0, "locks without a holder, or entities of which nothing is left: {cleaned:?}");
            }
            (_, Answer::Instance(response)) => Self::seen(response, disk)?,
            (_, Answer::Entity(response)) => {
                let seen = response.entity.as_ref().filter(|e| !e.instance_id.starts_with("@temp@"));
                if let Some(seen) = seen {
                    let state = disk.entities.get(&seen.instance_id).and_then(|thing| thing.state.as_deref());
                    let is_there = marks(state).starts_with(marks(seen.serialized_state.as_deref()));
                    must!(is_there, "a state of {} was shown, and is lost", seen.instance_id);
                }
            }
            (Request::CompleteActivity(response), _) => self.taken(&response.completion_token, None, disk)?,
            (Request::CompleteOrchestrator(response), _) => self.taken(&response.completion_token, None, disk)?,
            (Request::CompleteEntity(result), _) => {
                self.taken(&result.completion_token, Some(result.results.len()), disk)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Somebody was shown an instance. If it had ended, it has.
    fn seen(response: &proto::GetInstanceResponse, disk: &Ledger) -> Verdict {
        let Some(seen) = response.orchestration_state.as_ref().filter(|s| has_ended(s.orchestration_status())) else {
            return Ok(());
        };
        let run = disk.current.get(&seen.instance_id).and_then(|execution| disk.executions.get(execution));
        let same = run.filter(|run| Some(run.execution_id()) == seen.execution_id.as_deref() && run.is_live());
        must!(
            same.is_none_or(|run| run.inbox.values().any(|e| is_rewind(e)) || run.events().any(is_rewind)),
            "{} was shown to have ended, and has not",
            seen.instance_id
        );
        Ok(())
    }

    /// A completion was accepted: it is on disk, and it is the only one.
    fn taken(&mut self, token: &str, results: Option<usize>, disk: &Ledger) -> Verdict {
        let work = self.work.get(token).ok_or(format!("a completion with the unknown token {token} is accepted"))?;
        must!(self.accepted.insert(token.to_owned()), "two completions with the token {token} are accepted: {work:?}");
        match work {
            Work::Turn(execution, len) => {
                let run = disk.executions.get(execution).filter(|run| run.is_live());
                let recorded = run.is_none_or(|run| run.state.history_len >= *len - 1 || run.events().any(is_rewind));
                must!(recorded, "a turn was accepted, and is lost");
            }
            Work::Activity(activity) => {
                must!(
                    !disk.activities.contains_key(activity),
                    "the result of activity {activity} was accepted, and is lost"
                );
            }
            Work::Batch(entity, wanted) if !entity.starts_with("@temp@") => {
                let state = disk.entities.get(entity).and_then(|thing| thing.state.as_deref());
                for mark in wanted.iter().take(results.unwrap_or(0)) {
                    must!(marks(state).contains(mark), "operation {mark} of {entity} was accepted, and is lost");
                }
            }
            Work::Batch(..) => {}
        }
        Ok(())
    }
}

fn is_rewind(event: &proto::HistoryEvent) -> bool {
    matches!(event.event_type, Some(EventType::ExecutionRewound(_)))
}
