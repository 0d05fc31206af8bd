"""A worker of the official SDK for the hub at argv[1]. Its orchestration calls activities and entities of a Rust worker
on the same hub; only what is registered here is asked for. It ends with its input."""

import sys

from durabletask import task
from durabletask.entities import DurableEntity, EntityInstanceId
from durabletask.worker import TaskHubGrpcWorker


class Note(DurableEntity):
    def write(self, value):
        self.set_state(value)
        return value


def mixed(ctx: task.OrchestrationContext, text: str):
    exclaimed = yield ctx.call_activity("exclaim", input=text)
    account, note = EntityInstanceId("account", ctx.instance_id), EntityInstanceId("Note", ctx.instance_id)
    ctx.signal_entity(account, "add", 2)
    with (yield ctx.lock_entities([account, note])):
        held = yield ctx.call_entity(account, "add", 3)
        noted = yield ctx.call_entity(note, "write", held)
    failure = None
    try:
        yield ctx.call_activity("break")
    except task.TaskFailedError as error:
        failure = error.details.error_type
    return {"text": exclaimed, "held": held, "noted": noted, "failure": failure}


with TaskHubGrpcWorker(host_address=sys.argv[1]) as worker:
    worker.add_orchestrator(mixed)
    worker.add_entity(Note)
    worker.use_work_item_filters()
    worker.start()
    print("ready", flush=True)
    sys.stdin.read()
