"""The orchestrations, activities and entities that the tests of the Python SDK run: one for each pattern."""

from datetime import timedelta

from durabletask import entities, task


def double(_: task.ActivityContext, number: int) -> int:
    return number * 2


def fail(_: task.ActivityContext, text: str):
    raise ValueError(text)


class Account(entities.DurableEntity):
    """A balance, and how many operations have been run on it."""

    def add(self, amount: int) -> int:
        balance, operations = self.get_state(list, [0, 0])
        self.set_state([balance + amount, operations + 1])
        return balance + amount

    def get(self) -> int:
        return self.get_state(list, [0, 0])[0]

    def refuse(self, _: int):
        raise ValueError("no")


def account(key: str) -> entities.EntityInstanceId:
    return entities.EntityInstanceId("Account", key)


def chain(ctx: task.OrchestrationContext, number: int):
    for _ in range(3):
        number = yield ctx.call_activity(double, input=number)
    return number


def fan_out(ctx: task.OrchestrationContext, numbers: list[int]):
    results = yield task.when_all([ctx.call_activity(double, input=number) for number in numbers])
    return sum(results)


def children(ctx: task.OrchestrationContext, numbers: list[int]):
    results = yield task.when_all([ctx.call_sub_orchestrator(chain, input=number) for number in numbers])
    return results


def monitor(ctx: task.OrchestrationContext, seen: int):
    """Looks at an account again and again, each time as a new execution, until there is enough in it."""
    balance = yield ctx.call_entity(account(f"{ctx.instance_id}-watched"), "get")
    ctx.set_custom_status(f"looked {seen + 1} times")
    if balance >= 3:
        return seen + 1
    yield ctx.create_timer(timedelta(milliseconds=20))
    ctx.signal_entity(account(f"{ctx.instance_id}-watched"), "add", 1)
    ctx.continue_as_new(seen + 1)


def approval(ctx: task.OrchestrationContext, patience_seconds: float):
    answer = ctx.wait_for_external_event("approval")
    too_late = ctx.create_timer(timedelta(seconds=patience_seconds))
    first = yield task.when_any([answer, too_late])
    return answer.get_result() if first == answer else "too late"


def transfer(ctx: task.OrchestrationContext, order: dict):
    """Moves an amount between two accounts, in a critical section over both."""
    source, target = account(order["from"]), account(order["to"])
    with (yield ctx.lock_entities([source, target])):
        balance = yield ctx.call_entity(source, "get")
        if balance < order["amount"]:
            return False
        yield ctx.call_entity(source, "add", -order["amount"])
        # Whoever looked in between would see money that is nowhere.
        yield ctx.call_activity(double, input=1)
        yield ctx.call_entity(target, "add", order["amount"])
    return True


def fails_inside(ctx: task.OrchestrationContext, key: str):
    with (yield ctx.lock_entities([account(key)])):
        yield ctx.call_entity(account(key), "refuse", 0)


def counted(ctx: task.OrchestrationContext, key: str):
    """One activity, one operation on an entity; returns what the operation returned."""
    amount = yield ctx.call_activity(double, input=0)
    number = yield ctx.call_entity(account(key), "add", amount + 1)
    return number


def asks_an_activity_that_fails(ctx: task.OrchestrationContext, text: str):
    yield ctx.call_activity(fail, input=text)


ORCHESTRATORS = [
    chain, fan_out, children, monitor, approval, transfer, fails_inside, counted, asks_an_activity_that_fails,
]
ACTIVITIES = [double, fail]


def register(worker):
    for orchestrator in ORCHESTRATORS:
        worker.add_orchestrator(orchestrator)
    for activity in ACTIVITIES:
        worker.add_activity(activity)
    worker.add_entity(Account)
