//! What a failed instance's history becomes when it is rewound. A pure function of the history: this module must never
//! look at, or change, anything else.

use std::collections::BTreeSet;

use seriatim_durable::proto;
use seriatim_durable::proto::HistoryEvent;
use seriatim_durable::proto::history_event::EventType;

/// Something that the code asked for and waits for the outcome of; the number is that of its action.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Asked {
    Task(i32, proto::TaskScheduledEvent),
    Timer(i32, proto::TimerCreatedEvent),
    Child(i32, proto::SubOrchestrationInstanceCreatedEvent),
    Call(proto::EntityOperationCalledEvent),
}

impl Asked {
    fn of(event: &HistoryEvent) -> Option<Self> {
        let number = event.event_id;
        Some(match event.event_type.clone()? {
            EventType::TaskScheduled(task) => Self::Task(number, task),
            EventType::TimerCreated(timer) => Self::Timer(number, timer),
            EventType::SubOrchestrationInstanceCreated(sub) => Self::Child(number, sub),
            EventType::EntityOperationCalled(call) => Self::Call(call),
            _ => return None,
        })
    }
}

/// A rewound history, and what is to be done so that it goes on.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Rewritten {
    /// The new history.
    pub(super) events: Vec<HistoryEvent>,
    /// What the code asked for, and what has no outcome in the new history.
    pub(super) wanted: Vec<Asked>,
    /// What the code asked for in its last turn, because of a failure that is forgotten now.
    pub(super) forgotten: Vec<Asked>,
}

impl Rewritten {
    /// Rewinds a failed instance's history; the error says why that cannot be done.
    ///
    /// Forgotten are the end, all failures of the last turn with what the code asked for in that turn, and failures of
    /// earlier turns in which it asked for nothing. A failure that it answered by asking for something (a retry, a
    /// compensation) was dealt with and stays: without it, the code would be replayed against a history that it did not
    /// make.
    pub(super) fn of(mut events: Vec<HistoryEvent>) -> Result<Self, String> {
        events.retain(|event| !matches!(event.event_type, Some(EventType::ExecutionCompleted(_))));
        let last_turn = events.iter().rposition(is_turn_start).unwrap_or(0);
        check_sections(&events, last_turn)?;

        let mut new = Self::default();
        let mut turn_start = 0;
        while turn_start < events.len() {
            let next = events[turn_start + 1..].iter().position(is_turn_start);
            let turn_end = next.map_or(events.len(), |length| turn_start + 1 + length);
            let turn = &events[turn_start..turn_end];
            let is_last = turn_end == events.len();
            let has_failures = turn.iter().any(is_failure);
            for event in turn {
                let dropped = if is_record(event) {
                    is_last && has_failures
                } else {
                    is_failure(event) && (is_last || !turn.iter().any(is_record))
                };
                if !dropped {
                    new.events.push(event.clone());
                } else if let Some(asked) = Asked::of(event) {
                    new.forgotten.push(asked);
                }
            }
            turn_start = turn_end;
        }
        let outcomes = Outcomes::of(&new.events);
        new.wanted = new.events.iter().filter_map(Asked::of).filter(|asked| !outcomes.has(asked)).collect();
        Ok(new)
    }

    /// The sub-orchestrations that are waited for: number of the action and id.
    pub(super) fn children(&self) -> impl Iterator<Item = (i32, &str)> {
        self.wanted.iter().filter_map(|asked| match asked {
            Asked::Child(number, sub) => Some((*number, sub.instance_id.as_str())),
            _ => None,
        })
    }
}

/// What has an outcome in a history.
#[derive(Debug, Default)]
struct Outcomes<'a> {
    /// Activities, timers and sub-orchestrations, by the number of their action: no two actions share one.
    numbers: BTreeSet<i32>,
    calls: BTreeSet<&'a str>,
}

impl<'a> Outcomes<'a> {
    fn of(events: &'a [HistoryEvent]) -> Self {
        let mut outcomes = Self::default();
        for event in events {
            match &event.event_type {
                Some(EventType::TaskCompleted(e)) => outcomes.numbers.insert(e.task_scheduled_id),
                Some(EventType::TaskFailed(e)) => outcomes.numbers.insert(e.task_scheduled_id),
                Some(EventType::TimerFired(e)) => outcomes.numbers.insert(e.timer_id),
                Some(EventType::SubOrchestrationInstanceCompleted(e)) => outcomes.numbers.insert(e.task_scheduled_id),
                Some(EventType::SubOrchestrationInstanceFailed(e)) => outcomes.numbers.insert(e.task_scheduled_id),
                Some(EventType::EntityOperationCompleted(e)) => outcomes.calls.insert(e.request_id.as_str()),
                Some(EventType::EntityOperationFailed(e)) => outcomes.calls.insert(e.request_id.as_str()),
                _ => false,
            };
        }
        outcomes
    }

    fn has(&self, asked: &Asked) -> bool {
        match asked {
            Asked::Task(number, _) | Asked::Timer(number, _) | Asked::Child(number, _) => self.numbers.contains(number),
            Asked::Call(call) => self.calls.contains(call.request_id.as_str()),
        }
    }
}

/// A critical section that was open when the instance failed has been left since: others may have changed what it
/// protects, so going on inside it would break its promise.
fn check_sections(events: &[HistoryEvent], last_turn: usize) -> Result<(), String> {
    let mut open = BTreeSet::new();
    for event in &events[..last_turn] {
        match &event.event_type {
            Some(EventType::EntityLockRequested(request)) => {
                open.insert(request.critical_section_id.as_str());
            }
            Some(EventType::EntityUnlockSent(unlock)) => {
                open.remove(unlock.critical_section_id.as_str());
            }
            _ => {}
        }
    }
    if open.is_empty() {
        return Ok(());
    }
    Err("it failed inside a critical section, whose locks others may have had since; restart it instead".to_owned())
}

fn is_turn_start(event: &HistoryEvent) -> bool {
    matches!(event.event_type, Some(EventType::OrchestratorStarted(_)))
}

fn is_failure(event: &HistoryEvent) -> bool {
    matches!(
        event.event_type,
        Some(
            EventType::TaskFailed(_)
                | EventType::SubOrchestrationInstanceFailed(_)
                | EventType::EntityOperationFailed(_)
        )
    )
}

/// Whether the event records what the code asked for.
fn is_record(event: &HistoryEvent) -> bool {
    matches!(
        event.event_type,
        Some(
            EventType::TaskScheduled(_)
                | EventType::TimerCreated(_)
                | EventType::SubOrchestrationInstanceCreated(_)
                | EventType::EventSent(_)
                | EventType::EntityOperationSignaled(_)
                | EventType::EntityOperationCalled(_)
                | EventType::EntityLockRequested(_)
                | EventType::EntityUnlockSent(_)
        )
    )
}
