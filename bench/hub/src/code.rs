//! The durable code of the cases. Activities do nothing, so that what is measured is the hub.

use seriatim_durable::{
    ActivityContext, Entity, EntityContext, EntityId, Failure, Operation, OrchestrationContext, Registry,
};

struct Counter;

impl Entity for Counter {
    type State = u64;

    fn operation(&mut self, _: &mut EntityContext, state: &mut u64, operation: &Operation) -> Result<serde_json::Value, Failure> {
        *state += 1;
        operation.reply(state)
    }
}

async fn fan_out(context: OrchestrationContext, n: u64) -> Result<u64, Failure> {
    let tasks = (0..n).map(|n| context.call_activity::<u64>("nothing", &n)).collect();
    Ok(context.all(tasks).await?.len() as u64)
}

async fn calls(context: OrchestrationContext, entity: EntityId, n: u64) -> Result<u64, Failure> {
    let mut last = 0;
    for _ in 0..n {
        last = context.call_entity(&entity, "add", &()).await?;
    }
    Ok(last)
}

async fn chain(context: OrchestrationContext, steps: u64) -> Result<u64, Failure> {
    for n in 0..steps {
        context.call_activity::<u64>("nothing", &n).await?;
    }
    Ok(steps)
}

pub fn registry() -> Registry {
    let mut registry = Registry::new();
    registry
        .orchestration("fan-out", fan_out)
        .orchestration("serial-calls", |context: OrchestrationContext, n: u64| {
            calls(context, EntityId::new("counter", "one"), n)
        })
        .orchestration("same-entity", |context: OrchestrationContext, n: u64| {
            calls(context, EntityId::new("counter", "same"), n)
        })
        .orchestration("chain", chain)
        .orchestration("five", |context: OrchestrationContext, _: u64| chain(context, 5))
        .orchestration("wait", |context: OrchestrationContext, steps: u64| async move {
            chain(context.clone(), steps).await?;
            context.external_event::<u64>("go").await
        })
        .activity("nothing", |_: ActivityContext, n: u64| async move { Ok(n) })
        .entity("counter", || Counter);
    registry
}
