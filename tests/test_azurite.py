"""Everything in containers: runs from and to Azure's emulator, killed and taken up, on machines that have nothing, over
requests that are lost, late, broken off or refused. What is published are the bytes of the same runs on local folders;
never a gap, a duplicate or half a run. And no credential is ever seen.
"""

import hashlib
import re
import shutil
import threading
import time
import zlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import HANG, scale, tree
from containers import (
    FACTS, LEASE, MANIFEST, OUT, PARTS, SOURCES, STAGING, TABLES, Killer, Machine, Trouble, after_first, azurite, cloud,
    machines,
)
from proxy import ANSWER_LOST, KINDS, LOST, NONE, Fault, Request, late

#: Fixtures.
__all__ = ["after_first", "azurite", "cloud", "machines"]


def test_g4_runs_in_a_row_on_machines_that_have_nothing_publish_what_local_ones_do(cloud, machines):
    machine = machines.begin(0)
    for runs in range(1, len(PARTS) + 1):
        machine.sees(runs)
        if runs == 1:
            machine.run()
        elif runs % 2 == 0:
            refused = machine.call("run", code=1).stderr
            assert f"az://{TABLES}/{OUT} holds {runs - 1} published run" in refused, refused
            assert "seriatim recover" in refused, refused
            assert f"{runs - 1} run" in machine.call("recover").stdout
            machine.run()
        else:
            machine.run("--recover")
        machine.assert_published(runs)
        cloud.assert_tidy()
        machine.lose_state()
        machine.assert_verifies()
    again = machine.run("--recover")
    assert [run["status"] for run in again] == ["nothing_to_do"]
    assert again[0]["files_known"] == 2 * len(PARTS)
    machine.assert_published(len(PARTS))


def test_a_first_pipeline_file_is_made_of_objects_as_of_files(cloud, machines):
    machine = machines.begin(0)
    address = f"az://{SOURCES}/{PARTS[0]}/*.parquet"
    call = {"cwd": machine.folder, "env": cloud.variables()}
    found = cloud.program.json("init", address, "--out", "first.yaml", **call)
    assert found["source"] == [address]
    tables = {table["name"]: (table["key"], table["columns"]) for table in found["tables"]}
    assert tables["orders"] == (["order_no"], ["day", "email"])
    cloud.program.call("check", "first.yaml", **call)


def test_two_machines_at_once_one_publishes_and_the_other_is_told(cloud, machines):
    first, second = machines.begin(1), machines.fresh(1)
    arrived, may_go_on = threading.Event(), threading.Event()

    def hold():
        arrived.set()
        assert may_go_on.wait(HANG)

    def decide(request: Request) -> Fault:
        is_first = request.name.startswith(STAGING) and request.method == "PUT" and not arrived.is_set()
        return Fault("late", then=hold) if is_first else NONE

    cloud.proxy.begin(decide)
    process = first.start("run", SERIATIM_STORAGE_TIMEOUT="60")
    try:
        assert arrived.wait(HANG)
        before = cloud.azurite.everything(TABLES)
        holder = cloud.document(LEASE)
        for command in (["recover"], ["run", "--recover"]):
            told = second.call(*command, code=1).stderr
            assert f"az://{TABLES}/{OUT} is held by" in told and holder["expires"] in told, told
            assert f"process {process.pid}" in told and "run again" in told, told
        assert cloud.azurite.everything(TABLES) == before, "whoever is refused changes nothing"
    finally:
        may_go_on.set()
        out, err = process.communicate(timeout=HANG)
    assert process.returncode == 0, f"{out}\n{err}"
    first.assert_published(2)
    cloud.assert_tidy()
    assert second.run("--recover")[0]["status"] == "nothing_to_do"
    second.sees(3)
    second.run()
    second.assert_published(3)
    second.assert_verifies()


# Killed.


def nth(number: int):
    return lambda request: request.number == number


class OfPublishing:
    """Knows the changes that publish a run: from the first fact that is kept."""

    def __init__(self, number: int = -1):
        self._wanted, self.count = number, 0

    def __call__(self, request: Request) -> bool:
        is_change = request.method in ("PUT", "POST", "DELETE") and request.container == TABLES
        if not is_change or (self.count == 0 and not request.name.startswith(FACTS)):
            return False
        self.count += 1
        return self.count - 1 == self._wanted


def undisturbed_requests(cloud, machines, published: int) -> tuple[int, int]:
    """How many requests a run makes, and how many of them are changes that publish."""
    machine = machines.begin(published)
    cloud.proxy.begin()
    machine.run()
    machine.assert_published(published + 1)
    publishing = OfPublishing()
    log = list(cloud.proxy.log)
    for request in log:
        publishing(request)
    return len(log), publishing.count


def kill_and_take_up(cloud, machines, published: int, killer: Killer) -> bool:
    """A run is killed, and comes to its end twice: with its state folder, and on a machine that has nothing. False if
    it ended before it could be killed."""
    machine = machines.begin(published)
    cloud.proxy.begin(killer)
    process = machine.start("run")
    killer.victim(process)
    out, err = process.communicate(timeout=HANG)
    if not killer.request:
        assert process.returncode == 0, err
        return False
    assert process.returncode == -9, f"{killer.request}: exit code {process.returncode}\n{out}\n{err}"
    print(f"killed at request {killer.request.number}: {killer.request}")
    cloud.proxy.begin()
    left = cloud.azurite.everything(TABLES)
    runs = published + 1

    taken_up = machine.run()
    assert all(run["status"] == "done" for run in taken_up), taken_up
    machine.assert_published(runs)
    cloud.assert_tidy()

    cloud.azurite.restore(TABLES, left)
    other = machines.fresh(published)
    if cloud.let_lease_expire():
        print("a lease was in the way")
    status = other.run("--recover")[0]["status"]
    other.assert_published(runs)
    # A run that was published before it was killed leaves facts of the run before it, until the next one publishes.
    cloud.assert_tidy(but_facts=status == "nothing_to_do")
    for each in (machine, other):
        shutil.rmtree(each.folder)
    return True


def test_g5_killed_at_any_request_and_taken_up_with_and_without_its_state_it_publishes_the_same_bytes(
    cloud, machines, rng
):
    kills = 0
    for published in (0, 1):
        requests, _ = undisturbed_requests(cloud, machines, published)
        points = max(1, round(4 * scale()))
        for point in range(points):
            number = min(requests - 1, int((point + rng.random()) * requests / points))
            kills += kill_and_take_up(cloud, machines, published, Killer(nth(number), rng.random() < 0.5))
        machines.fresh(published).assert_verifies()
        print(f"{points} kills in {requests} requests")
    # Which request is the last one is not the same in each run.
    assert kills >= 2 * points - 2


def test_g8_killed_at_each_change_that_publishes_it_never_leaves_half_a_run(cloud, machines, rng):
    _, changes = undisturbed_requests(cloud, machines, 1)
    first = rng.randrange(2)
    for number in range(changes):
        for before in (True, False) if scale() > 1 else [(number + first) % 2 == 0]:
            done = kill_and_take_up(cloud, machines, 1, Killer(OfPublishing(number), before))
            assert done, f"no change {number} of {changes}"
    assert changes > 10, "facts, copies of the tables, the manifest, and what is tidied up"


@pytest.mark.skipif(scale() < 10, reason="takes two minutes: SERIATIM_TEST_SCALE=10")
def test_a_lease_of_a_lost_machine_runs_out_by_itself(cloud, machines):
    machine = machines.begin(1)
    killer = Killer(lambda request: request.name == MANIFEST and request.method == "PUT", before=True)
    cloud.proxy.begin(killer)
    process = machine.start("run", SERIATIM_STORAGE_TIMEOUT="1")
    killer.victim(process)
    process.communicate(timeout=HANG)
    cloud.proxy.begin()
    began, other = time.monotonic(), machines.fresh(1)
    refused = other.call("run", "--recover", code=1).stderr
    while "is held by" in refused:
        assert time.monotonic() - began < 60 + 2 + 10 + 30 + 20, refused
        time.sleep(2)
        process = other.start("run", "--recover", "--json")
        _, refused = process.communicate(timeout=HANG)
    assert process.returncode == 0, refused
    other.assert_published(2)
    cloud.assert_tidy()


# Requests that fail.


def test_g8_requests_that_fail_in_any_way_are_made_again_and_change_nothing(cloud, machines, rng):
    met = {}
    for turn in range(len(KINDS)):
        publishing = OfPublishing()

        def choose(request: Request) -> Fault:
            # The same request meets another kind in each turn. Names of runs and state folders are their own.
            name = re.sub(r"sales-\d+-[0-9a-f]+|[0-9a-f]{32}", "RUN", str(request))
            publishing(request)
            if not publishing.count and rng.random() > 0.15 * scale():
                return NONE
            fault = KINDS[(zlib.crc32(name.encode()) + turn) % len(KINDS)]
            met.setdefault(name, set()).add(fault)
            return fault

        published = turn % 2
        machine = machines.begin(published)
        cloud.proxy.begin(Trouble(choose))
        machine.run()
        faults = len(cloud.proxy.faults)
        cloud.proxy.begin()
        machine.assert_published(published + 1)
        cloud.assert_tidy()
        print(f"turn {turn}: {faults} faults")
        assert faults > 10
    manifest = [kinds for name, kinds in met.items() if name.startswith("PUT") and name.endswith(MANIFEST)]
    assert manifest == [set(KINDS)], "the manifest met each kind"


def test_an_answer_that_never_comes_is_not_waited_for_forever(cloud, machines):
    """A request that hangs for longer than the client waits is given up, and what it was for is done again."""
    wanted = [
        lambda request: request.container == SOURCES and "range" in request.headers,
        lambda request: request.name.startswith(STAGING) and request.method == "PUT",
        lambda request: "x-ms-copy-source" in request.headers,
        lambda request: request.name == MANIFEST and request.method == "PUT",
    ]
    left = list(wanted)

    def choose(request: Request) -> Fault:
        for is_it in left:
            if is_it(request):
                left.remove(is_it)
                return late(2.5)
        return NONE

    machine = machines.begin(1)
    cloud.proxy.begin(Trouble(choose))
    machine.run(SERIATIM_STORAGE_TIMEOUT="2")
    assert not left
    cloud.proxy.begin()
    machine.assert_published(2)
    machine.assert_verifies()


#: Where the service goes away for good, and the place that is named then.
AWAY = {
    "the list of sources": (lambda r: r.container == SOURCES and "comp=list" in r.query, f"az://{SOURCES}/one"),
    "a source": (lambda r: r.container == SOURCES and "range" in r.headers, f"az://{SOURCES}/"),
    "the lease": (lambda r: r.name == LEASE, f"az://{TABLES}/{LEASE}"),
    "a finished file": (lambda r: r.name.startswith(STAGING) and r.method == "PUT", f"az://{TABLES}/{STAGING}"),
    # A step that publishes is tried again, and then begins with the manifest.
    "a fact": (lambda r: r.name.startswith(FACTS) and r.method == "PUT", f"az://{TABLES}/{OUT}/_seriatim/"),
    "a copy": (lambda r: "x-ms-copy-source" in r.headers, f"az://{TABLES}/{OUT}/_seriatim/"),
    "the manifest": (lambda r: r.name == MANIFEST and r.method == "PUT", f"az://{TABLES}/{MANIFEST}"),
    "the manifest, written": (lambda r: r.name == MANIFEST and r.method == "PUT", f"az://{TABLES}/{MANIFEST}"),
}


@pytest.mark.parametrize("what", AWAY)
def test_g8_a_service_that_goes_away_is_named_and_the_next_run_publishes(cloud, machines, what, rng):
    is_it, place = AWAY[what]
    is_written = what.endswith("written")
    is_away = False

    def decide(request: Request) -> Fault:
        nonlocal is_away
        if is_away:
            return LOST
        is_away = is_it(request)
        return NONE if not is_away else ANSWER_LOST if is_written else LOST

    published = rng.randrange(2)
    machine = machines.begin(published)
    cloud.proxy.begin(decide)
    told = machine.call("run", code=1, SERIATIM_STORAGE_TIMEOUT="0.3").stderr
    assert place in told and "run again" in told, told
    assert "SERIATIM_STORAGE_TIMEOUT" in told, told
    cloud.proxy.begin()
    name = MANIFEST.removeprefix(f"{OUT}/")
    assert cloud.published().get(name) == cloud.expected[published + is_written].get(name), "all of the run, or nothing"
    if is_written:
        # Nobody could know that the run was published; the next one finds out.
        refused = machine.call("run", code=1).stderr
        assert "seriatim recover" in refused, refused
    machine.run(*["--recover"] * is_written)
    machine.assert_published(published + 1)
    cloud.assert_tidy(but_facts=is_written)
    machine.assert_verifies()


def test_g8_a_manifest_that_arrives_when_its_run_has_failed_publishes_nothing(cloud, machines):
    """Symptom: a run failed because nobody answered to its manifest, and withdrew its files; then the manifest arrived,
    and named files that were gone. Cause: a run that withdraws had not made the manifest another version, as one does
    that takes the output over. What is proved now: a manifest that is late comes too late."""
    machine = machines.begin(1)
    length = len(cloud.azurite.read(TABLES, MANIFEST))
    arrived = threading.Event()
    held = 0

    def decide(request: Request) -> Fault:
        nonlocal held
        is_put = request.name == MANIFEST and request.method == "PUT"
        # The manifest as it was, written once more, is what fences those that are held.
        if not is_put or int(request.headers["content-length"]) == length:
            return NONE
        held += 1
        return Fault("held", then=lambda: arrived.wait(HANG))

    cloud.proxy.begin(decide)
    told = machine.call("run", code=1, SERIATIM_STORAGE_TIMEOUT="0.5").stderr
    assert f"az://{TABLES}/{MANIFEST}" in told and "run again" in told, told
    assert held
    arrived.set()
    cloud.proxy.begin()
    other = machines.fresh(1)
    assert other.call("recover").returncode == 0
    machine.assert_published(1)
    other.assert_verifies()
    machine.run()
    machine.assert_published(2)
    cloud.assert_tidy()
    machine.assert_verifies()


def test_g1_ids_of_a_run_that_may_be_published_go_to_nobody_else(cloud, azurite, machines, tmp_path):
    """Symptom: two pipelines share a counter; a run of one was published, and the other got the same IDs. Cause: the
    answer to the manifest was lost and the service went away, so the run counted as failed, and gave its IDs back. What
    is proved now: it keeps them until it is known whether it is published."""
    counter = f"{azurite.table_endpoint}/counters"
    ids = f"ids: {{from: table, url: {counter}, wait_seconds: 1}}\n"

    def share(machine: Machine, name: str):
        text = machine.pipeline.read_text().replace("name: sales", f"name: {name}") + ids
        machine.pipeline.write_text(text.replace("id: customer_id,", "id: {column: customer_id, sequence: shared},"))

    machine, local = machines.begin(0), machines.fresh(0)
    share(machine, "sales")
    share(local, "others")
    local.pipeline.write_text(local.pipeline.read_text().replace(f"az://{TABLES}/{OUT}", OUT))
    is_away = False

    def decide(request: Request) -> Fault:
        nonlocal is_away
        if is_away and request.container == TABLES:
            return LOST
        is_away = is_away or (request.name == MANIFEST and request.method == "PUT")
        return ANSWER_LOST if is_away and request.container == TABLES else NONE

    cloud.proxy.begin(decide)
    machine.call("run", code=1, SERIATIM_STORAGE_TIMEOUT="0.5")
    waits = local.call("run", code=1).stderr
    assert "shared" in waits, waits
    cloud.proxy.begin()
    refused = machine.call("run", code=1).stderr
    assert "seriatim recover" in refused, refused
    machine.call("recover")
    machine.sees(2)
    share(machine, "sales")
    machine.run()
    local.run()
    taken = []
    for name in azurite.names(TABLES, f"{OUT}/customers/"):
        path = tmp_path / "customers.parquet"
        path.write_bytes(azurite.read(TABLES, name))
        taken += pq.read_table(path)["customer_id"].to_pylist()
    for path in (local.folder / OUT / "customers").glob("*.parquet"):
        taken += pq.read_table(path)["customer_id"].to_pylist()
    assert sorted(taken) == list(range(1, len(taken) + 1)), "each ID once, and none left out"


def test_g5_files_that_travel_in_parts_arrive_whole(cloud, machines, rng, tmp_path):
    """A file of more than 8 MiB is several requests, any of which may fail, and one that makes it an object."""
    local = tmp_path / "large"
    (local / "data/one").mkdir(parents=True)
    rows = 12_000
    notes = pa.array([rng.randbytes(768).decode("latin-1") for _ in range(rows)])
    table = pa.table({"order_no": pa.array(range(rows)), "email": notes})
    pq.write_table(table, local / "data/one/large.parquet", compression="none")
    text = """\
version: 1
name: large
source: {{files: "{source}/one/*.parquet"}}
tables:
  orders: {{key: order_no, id: order_id, columns: [email]}}
output: {{path: "{output}", compression: none}}
"""
    pipeline = local / "large.yaml"
    pipeline.write_text(text.format(source="data", output=OUT))
    cloud.program.call("run", pipeline, cwd=local)
    expected = tree(local / OUT)
    cloud.azurite.make_container("large")
    cloud.azurite.write("large", "one/large.parquet", (local / "data/one/large.parquet").read_bytes())
    for turn in range(max(2, round(2 * scale()))):
        is_part = 0

        def choose(request: Request) -> Fault:
            nonlocal is_part
            if "comp=block" not in request.query:
                return NONE
            is_part += 1
            return rng.choice(KINDS)

        machine = machines.fresh(0)
        machine.pipeline.write_text(text.format(source="az://large", output=f"az://large/{turn}/{OUT}"))
        cloud.proxy.begin(Trouble(choose))
        machine.run()
        assert is_part >= 3, "two parts at least, and what makes an object of them"
        cloud.proxy.begin()
        names = cloud.azurite.names("large", f"{turn}/{OUT}/orders/")
        content = {name.partition(f"/{OUT}/")[2]: cloud.azurite.read("large", name) for name in names}
        found = {name: hashlib.sha256(bytes_).hexdigest() for name, bytes_ in content.items()}
        assert found == {name: digest for name, digest in expected.items() if name.startswith("orders/")}
        machine.assert_verifies()
