"""The cases on the official Python SDK's in-memory backend, with its own worker and client in one process: nothing is
ever written to a disk. `python_backend.py CASE FOLDER [N]`, one JSON line each; the folder is not used."""

import json
import logging
import socket
import sys
import time

from durabletask import client, task, worker
from durabletask.entities import DurableEntity, EntityInstanceId
from durabletask.testing import create_test_backend

logging.disable(logging.INFO)
HANG = 600


class Counter(DurableEntity):
    def add(self, _=None):
        value = self.get_state(int, 0) + 1
        self.set_state(value)
        return value


def nothing(_, n):
    return n


def fan_out(ctx: task.OrchestrationContext, n):
    return len((yield task.when_all([ctx.call_activity(nothing, input=i) for i in range(n)])))


def chain(ctx: task.OrchestrationContext, n):
    for i in range(n):
        yield ctx.call_activity(nothing, input=i)
    return n


def serial_calls(ctx: task.OrchestrationContext, n):
    last = 0
    for _ in range(n):
        last = yield ctx.call_entity(EntityInstanceId("counter", "one"), "add")
    return last


def run(hub, function, n, times=1):
    ids = [hub.schedule_new_orchestration(function, input=n) for _ in range(times)]
    outputs = [hub.wait_for_orchestration_completion(id, timeout=HANG).serialized_output for id in ids]
    return [json.loads(output) for output in outputs]


def main():
    case, n = sys.argv[1], [int(n) for n in sys.argv[3:]]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    backend = create_test_backend(port=port, max_history_size=10_000_000)
    backend.start()
    address = f"127.0.0.1:{port}"
    with worker.TaskHubGrpcWorker(host_address=address) as at_work:
        for function in (fan_out, chain, serial_calls):
            at_work.add_orchestrator(function)
        at_work.add_activity(nothing)
        at_work.add_entity(Counter)
        at_work.start()
        hub = client.TaskHubGrpcClient(host_address=address)
        run(hub, chain, 2)
        began = time.perf_counter()
        if case == "fan-out":
            work = (n or [2_000])[0]
            assert run(hub, fan_out, work) == [work]
        elif case == "serial-calls":
            work = (n or [1_000])[0]
            assert run(hub, serial_calls, work) == [work]
        elif case == "one-entity":
            work = (n or [64])[0] // 64 * 64
            assert max(run(hub, serial_calls, work // 64, 64)) == work
        elif case == "many":
            count = (n or [200])[0]
            assert run(hub, chain, 5, count) == [5] * count
            work = 5 * count
        else:
            sys.exit(f"there is no case {case} here")
        print(json.dumps({"seconds": time.perf_counter() - began, "work": work}), flush=True)
    backend.stop()


main()
