"""The served hub with the official Python SDKs (`durabletask`, `durabletask.azuremanaged`): every pattern, as their users
write it, and what happens when a worker or the server is killed.
"""

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from durabletask import client
from durabletask.azuremanaged.client import DurableTaskSchedulerClient
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker
from durabletask.client import OrchestrationStatus, TaskHubGrpcClient
from durabletask.grpc_options import GrpcClientResiliencyOptions, GrpcWorkerResiliencyOptions
from durabletask.worker import TaskHubGrpcWorker

from conftest import HANG, scale
from serving import own_server, server  # noqa: F401 (fixtures)

SDK = Path(__file__).parent / "sdk"
sys.path.insert(0, str(SDK))
import orders  # noqa: E402
import stuck_worker_parts as stuck  # noqa: E402

#: Come back soon after a lost connection: the tests wait for it.
SOON = GrpcWorkerResiliencyOptions(reconnect_backoff_base_seconds=0.05, reconnect_backoff_cap_seconds=0.2)


def plain(address: str):
    return TaskHubGrpcWorker(host_address=address), TaskHubGrpcClient(host_address=address)


def managed(address: str):
    hub = {"host_address": f"http://{address}", "secure_channel": False, "taskhub": "managed", "token_credential": None}
    return DurableTaskSchedulerWorker(**hub), DurableTaskSchedulerClient(**hub)


@pytest.fixture(scope="module", params=[plain, managed], ids=["durabletask", "azuremanaged"])
def hub(request, server):  # noqa: F811
    """A client, with a worker that runs everything in `orders`."""
    worker, its_client = request.param(server.address)
    with worker:
        orders.register(worker)
        worker.start()
        yield its_client


def result(hub, instance: str):
    state = hub.wait_for_orchestration_completion(instance, timeout=HANG)
    assert state and state.runtime_status == OrchestrationStatus.COMPLETED, state
    return json.loads(state.serialized_output) if state.serialized_output else None


def run(hub, orchestrator, value, **options):
    return result(hub, hub.schedule_new_orchestration(orchestrator, input=value, **options))


def balance(hub, key: str):
    """The balance of an account and how many operations it has seen; nothing if it has no state yet."""
    entity = hub.get_entity(orders.account(key))
    state = entity.get_state() if entity else None
    return tuple(json.loads(state)) if state else None


def until(condition, what: str):
    deadline = time.monotonic() + HANG
    while not condition():
        assert time.monotonic() < deadline, f"{what} does not happen"
        time.sleep(0.01)


def test_chaining(hub):
    assert run(hub, orders.chain, 5) == 40


def test_fan_out_and_in(hub):
    assert run(hub, orders.fan_out, list(range(100))) == sum(range(100)) * 2


def test_sub_orchestrations(hub):
    assert run(hub, orders.children, [1, 2, 3]) == [8, 16, 24]


def test_monitor(hub):
    instance = hub.schedule_new_orchestration(orders.monitor, input=0)
    looked = result(hub, instance)
    assert looked >= 3
    status = hub.get_orchestration_state(instance).serialized_custom_status
    assert json.loads(status) == f"looked {looked} times"


def test_human_interaction(hub):
    asked = hub.schedule_new_orchestration(orders.approval, input=HANG * 2)
    hub.wait_for_orchestration_start(asked, timeout=HANG)
    hub.raise_orchestration_event(asked, "Approval", data="yes")
    assert result(hub, asked) == "yes"
    assert run(hub, orders.approval, 0.05) == "too late"


def test_aggregator(hub, request):
    key = request.node.name
    with ThreadPoolExecutor(8) as senders:
        list(senders.map(lambda amount: hub.signal_entity(orders.account(key), "add", amount), range(200)))
    until(lambda: balance(hub, key) == (sum(range(200)), 200), "the last signal")


def test_critical_section_over_two_entities(hub, request):
    a, b = (f"{request.node.name}-{name}" for name in "ab")
    for key in (a, b):
        hub.signal_entity(orders.account(key), "add", 50)
    wanted = [{"from": a, "to": b, "amount": 7}, {"from": b, "to": a, "amount": 5}] * 10
    started = [hub.schedule_new_orchestration(orders.transfer, input=order) for order in wanted]
    moved = [result(hub, instance) for instance in started]
    expected = sum(order["amount"] for order, done in zip(wanted, moved) if done and order["to"] == a)
    expected -= sum(order["amount"] for order, done in zip(wanted, moved) if done and order["from"] == a)
    assert any(moved)
    assert (balance(hub, a)[0], balance(hub, b)[0]) == (50 + expected, 50 - expected)


def test_a_failure_inside_a_critical_section_gives_the_lock_back(hub, request):
    key = request.node.name
    instance = hub.schedule_new_orchestration(orders.fails_inside, input=key)
    assert hub.wait_for_orchestration_completion(instance, timeout=HANG).runtime_status == OrchestrationStatus.FAILED
    hub.signal_entity(orders.account(key), "add", 1)
    until(lambda: balance(hub, key) == (1, 1), "an operation after the failure")


def test_failures_say_where_they_come_from(hub):
    instance = hub.schedule_new_orchestration(orders.asks_an_activity_that_fails, input="the reason")
    state = hub.wait_for_orchestration_completion(instance, timeout=HANG)
    assert state.runtime_status == OrchestrationStatus.FAILED
    assert "the reason" in state.failure_details.message


def test_ids_are_used_again_only_if_that_is_allowed(hub, request):
    instance = request.node.name
    assert run(hub, orders.chain, 1, instance_id=instance) == 8
    with pytest.raises(grpc.RpcError) as refused:
        hub.schedule_new_orchestration(orders.chain, input=1, instance_id=instance)
    assert refused.value.code() == grpc.StatusCode.ALREADY_EXISTS
    policy = client.pb.OrchestrationIdReusePolicy(replaceableStatus=[client.pb.ORCHESTRATION_STATUS_COMPLETED])
    assert run(hub, orders.chain, 2, instance_id=instance, reuse_id_policy=policy) == 16


def test_suspend_terminate_restart_purge(hub):
    instance = hub.schedule_new_orchestration(orders.approval, input=HANG * 2)
    hub.wait_for_orchestration_start(instance, timeout=HANG)
    hub.suspend_orchestration(instance)
    hub.raise_orchestration_event(instance, "approval", data="yes")
    assert hub.get_orchestration_state(instance).runtime_status == OrchestrationStatus.SUSPENDED
    hub.resume_orchestration(instance)
    assert result(hub, instance) == "yes"
    again = hub.restart_orchestration(instance, restart_with_new_instance_id=True)
    hub.wait_for_orchestration_start(again, timeout=HANG)
    hub.terminate_orchestration(again, output="enough")
    state = hub.wait_for_orchestration_completion(again, timeout=HANG)
    assert (state.runtime_status, json.loads(state.serialized_output)) == (OrchestrationStatus.TERMINATED, "enough")
    assert hub.purge_orchestration(again).deleted_instance_count == 1
    assert hub.get_orchestration_state(again) is None


@pytest.mark.parametrize("where", ["activity", "turn", "batch"])
def test_another_worker_finishes_what_a_killed_one_had(server, where):  # noqa: F811
    its_client = TaskHubGrpcClient(host_address=server.address)
    instance = its_client.schedule_new_orchestration("all_three", input=where)
    command = [sys.executable, str(SDK / "stuck_worker.py"), server.address, where]
    victim = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert victim.stdout.readline().strip() == where, victim.communicate()[1]
        with TaskHubGrpcWorker(host_address=server.address) as other:
            stuck.register(other, lambda here: None)
            other.start()
            victim.kill()
            assert result(its_client, instance) == 2
    finally:
        victim.kill()
        victim.communicate()
    entity = its_client.get_entity(stuck.count(where))
    assert entity.get_state(int) == 2, "the operation has taken effect once"


def answers(hub) -> bool:
    try:
        hub.get_orchestration_state("any")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNAVAILABLE, error
        return False
    return True


class Load:
    """Starts orchestrations one after another and remembers those that were acknowledged."""

    def __init__(self, address: str, key: str):
        self._address = address
        self._key = key
        self._ending = threading.Event()
        self.acknowledged = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        options = GrpcClientResiliencyOptions(channel_recreate_failure_threshold=1, min_recreate_interval_seconds=0.1)
        its_client = TaskHubGrpcClient(host_address=self._address, resiliency_options=options)
        while not self._ending.is_set():
            try:
                self.acknowledged.append(its_client.schedule_new_orchestration("counted", input=self._key))
            except grpc.RpcError as error:
                assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED), error
                time.sleep(0.02)

    def end(self):
        self._ending.set()
        self._thread.join()


def test_a_server_that_is_killed_under_load_loses_nothing_and_does_nothing_twice(own_server, rng):  # noqa: F811
    server = own_server  # noqa: F811
    key = "counted"
    with TaskHubGrpcWorker(host_address=server.address, resiliency_options=SOON) as worker:
        orders.register(worker)
        worker.start()
        loads = [Load(server.address, key) for _ in range(3)]
        try:
            for _ in range(int(5 * scale())):
                before = sum(len(load.acknowledged) for load in loads)
                more = rng.randint(10, 60)
                until(lambda: sum(len(load.acknowledged) for load in loads) >= before + more, "progress")  # noqa: B023
                server.kill()
                server.start()
        finally:
            for load in loads:
                load.end()
        hub = TaskHubGrpcClient(host_address=server.address)  # noqa: F811
        until(lambda: answers(hub), "an answer")  # gRPC remembers for a while that nobody answered
        acknowledged = [instance for load in loads for instance in load.acknowledged]
        assert len(acknowledged) == len(set(acknowledged))
        for instance in acknowledged:
            result(hub, instance)
        # A start that was on disk when the server died, and whose answer was lost, is there as well.
        states = hub.get_all_orchestration_states()
        for state in states:
            result(hub, state.instance_id)
        numbers = sorted(result(hub, state.instance_id) for state in states)
    assert {state.instance_id for state in states} >= set(acknowledged)
    assert numbers == list(range(1, len(states) + 1)), "each operation took effect once, in some order"
    assert balance(hub, key) == (len(states), len(states))
    assert server.stop() == 0
