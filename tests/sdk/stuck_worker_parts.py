"""An orchestration with an activity and an entity, each with a place at which a worker can be made to stick."""

from durabletask import entities, task


def count(key: str) -> entities.EntityInstanceId:
    return entities.EntityInstanceId("Count", key)


def register(worker, stick):
    """Adds them to a worker. `stick` is called with the name of each place that is passed."""

    def work(_: task.ActivityContext, number: int) -> int:
        stick("activity")
        return number + 1

    class Count(entities.DurableEntity):
        def add(self, amount: int) -> int:
            stick("batch")
            total = self.get_state(int, 0) + amount
            self.set_state(total)
            return total

    def all_three(ctx: task.OrchestrationContext, key: str):
        number = yield ctx.call_activity(work, input=1)
        stick("turn")
        total = yield ctx.call_entity(count(key), "add", number)
        return total

    worker.add_orchestrator(all_three)
    worker.add_activity(work)
    worker.add_entity(Count)
