"""G1 to G4 and G6 when several processes want the same sequences at once, and some are killed. Processes on one state
folder take turns: one has it, the others wait or say who has it. Pipelines with a state folder each that share the
sequences of a database take turns at those. Whoever comes first, IDs are unique and dense from the first one, in the
order of the records, and stay.
"""

import contextlib
import glob
import os
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import HANG, assert_verifies, scale
from faulty import each

#: Races for one state folder; they are run in worlds, each with a state folder that outlives its races.
RACES_OF_A_WORLD = 10
WORLDS = max(1, round(10 * scale()))
#: Races of pipelines for the sequences of a database.
SHARED_RACES = max(1, round(15 * scale()))
#: Seconds in which a process may be killed: a run of this size takes a little longer.
LIFE = 0.25

PIPELINE = """
version: 1
name: {name}
source: {{files: "{data}/*.parquet"}}
tables:
  customers: {{key: customer, id: {{column: customer_id{customers}}}, columns: [city]}}
  orders: {{key: [order_no, shop], id: {{column: order_id, start: 1000, step: 3{orders}}}, references: [customers]}}
  lines: {{id: line_id, references: [orders], columns: [amount]}}
output: {{path: out}}
state: .seriatim
"""


def write_records(path: Path, rng, rows: int):
    """Records of a few customers and orders, most of which have come before."""
    columns = {
        "customer": [f"c{rng.randrange(300)}" for _ in range(rows)],
        "city": [f"city {rng.randrange(9)}" for _ in range(rows)],
        "order_no": [rng.randrange(500) for _ in range(rows)],
        "shop": [f"s{rng.randrange(3)}" for _ in range(rows)],
        "amount": [rng.randrange(10_000) for _ in range(rows)],
    }
    # Never seen half-written: a run may look at any time.
    pq.write_table(pa.table(columns), path.with_suffix(".tmp"), row_group_size=40)
    path.with_suffix(".tmp").rename(path)


def rows_of(out: Path, table: str) -> list[dict]:
    files = sorted((out / table).glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


class Oracle:
    """One clerk who numbers the records of files one after another."""

    def __init__(self):
        self.customers: dict = {}
        self.orders: dict = {}
        self.lines: list = []

    def take(self, file: Path):
        for record in pq.read_table(file).to_pylist():
            order = (record["order_no"], record["shop"])
            self.customers.setdefault(record["customer"], 1 + len(self.customers))
            self.orders.setdefault(order, 1000 + 3 * len(self.orders))
            self.lines.append(self.orders[order])

    def check(self, out: Path, is_all: bool):
        """What is published is what the clerk has, to the end or up to somewhere."""
        customers = [(row["customer"], row["customer_id"]) for row in rows_of(out, "customers")]
        orders = [((row["order_no"], row["shop"]), row["order_id"]) for row in rows_of(out, "orders")]
        lines = [(row["line_id"], row["order_id"]) for row in rows_of(out, "lines")]
        assert customers == list(self.customers.items())[: len(customers)]
        assert orders == list(self.orders.items())[: len(orders)]
        assert lines == list(enumerate(self.lines[: len(lines)], start=1))
        if is_all:
            assert (len(customers), len(orders), len(lines)) == (len(self.customers), len(self.orders), len(self.lines))


class Racer:
    """A process that runs a pipeline, and may be killed."""

    def __init__(self, program, pipeline: Path, *arguments, death: float | None):
        self.arguments = arguments
        self.process = program.start("run", pipeline, "--json", "--chunk-rows", 30, *arguments, cwd=pipeline.parent)
        self.death = time.monotonic() + death if death is not None else None

    def end(self) -> "Racer":
        try:
            left = HANG if self.death is None else max(0, self.death - time.monotonic())
            self.out, self.err = self.process.communicate(timeout=left)
        except subprocess.TimeoutExpired:
            assert self.death is not None, "a process hangs"
            self.process.send_signal(signal.SIGKILL)
            self.out, self.err = self.process.communicate(timeout=HANG)
        return self


def said_of(racers: list[Racer]) -> str:
    def said(racer: Racer) -> str:
        return f"{racer.process.pid} {racer.arguments}: exit code {racer.process.returncode}\n{racer.out}\n{racer.err}"

    return "\n".join(map(said, racers))


def race(program, pipeline: Path, rng, seen: dict):
    """Two or three processes at once on one state folder."""
    racers = []
    for _ in range(rng.choice((2, 2, 3))):
        arguments = ["--no-wait"] if rng.random() < 0.3 else []
        death = rng.uniform(0, LIFE) if rng.random() < 0.4 else None
        racers.append(Racer(program, pipeline, *arguments, death=death))
    # Who only looks never waits, and is in nobody's way.
    program.json("runs", "--pipeline", pipeline, cwd=pipeline.parent)
    with ThreadPoolExecutor(len(racers)) as pool:
        list(pool.map(Racer.end, racers))
    for racer in racers:
        others = {str(other.process.pid) for other in racers if other is not racer}
        holders = set(re.findall(r"(?:waiting for|is held by) process (\d+)", racer.err))
        assert holders <= others, f"it names somebody else\n{said_of(racers)}"
        code = racer.process.returncode
        if code == 1:
            assert "--no-wait" in racer.arguments and "is held by" in racer.err, said_of(racers)
            seen["refused"] += 1
        else:
            assert code == 0 or (code == -signal.SIGKILL and racer.death is not None), said_of(racers)
            seen["killed"] += code != 0
            seen["waited"] += bool(holders)


def race_in_a_world(program, folder: Path, rng) -> dict:
    """Races for one state folder, each with a file or two that came since the last one."""
    seen = {"refused": 0, "killed": 0, "waited": 0}
    (folder / "data").mkdir(parents=True)
    pipeline = folder / "pipeline.yaml"
    pipeline.write_text(PIPELINE.format(name="raced", data="data", customers="", orders=""))
    oracle = Oracle()
    for number in range(RACES_OF_A_WORLD):
        for part in range(rng.choice((1, 1, 2))):
            file = folder / "data" / f"part-{number:03}-{part}.parquet"
            write_records(file, rng, 120)
            oracle.take(file)
        race(program, pipeline, rng, seen)
        oracle.check(folder / "out", is_all=False)
    program.call("run", pipeline, cwd=folder)
    oracle.check(folder / "out", is_all=True)
    assert_verifies(program, pipeline)
    runs = program.json("runs", "--pipeline", pipeline, cwd=folder)["runs"]
    numbers = [run["number"] for run in runs if run["status"] == "done"]
    assert numbers == list(range(1, len(numbers) + 1)), "each published run is told of once, in order"
    assert sum(run["records"] for run in runs if run["status"] == "done") == len(oracle.lines)
    assert {run["status"] for run in runs} <= {"done", "nothing_to_do", "failed"}, runs
    # One that was killed between its record and its beginning has done nothing.
    assert all("never started" in run["error"] for run in runs if run["status"] == "failed"), runs
    shutil.rmtree(folder)
    return seen


def test_r8_processes_that_race_for_one_state_folder_take_turns(program, tmp_path, rng):
    worlds = [(tmp_path / f"world-{world}", random.Random(rng.random())) for world in range(WORLDS)]
    found = each(worlds, lambda world: race_in_a_world(program, *world))
    seen = {what: sum(world[what] for world in found) for what in found[0]}
    print(f"{WORLDS * RACES_OF_A_WORLD} races: {seen}")
    assert all(seen.values()), f"there was nothing to race for: {seen}"


def somebody() -> tuple[int, int]:
    """Whom root starts the server as: the user that Debian's package makes, or nobody."""
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            return user.pw_uid, user.pw_gid
    return 65_534, 65_534


class Postgres:
    """A server of the tests' own, which is gone with them."""

    def __init__(self, folder: Path):
        programs = shutil.which("postgres") or max(glob.glob("/usr/lib/postgresql/*/bin/postgres"), default=None)
        if programs is None:
            pytest.skip("PostgreSQL's server is not installed")
        self.programs, self.folder = Path(programs).resolve().parent, folder
        # It refuses to run as root.
        self.user = {}
        if os.geteuid() == 0:
            user, group = somebody()
            self.user = {"user": user, "group": group, "extra_groups": []}
            os.chown(folder, user, group)
        self.call("initdb", "-D", "data", "--username=seriatim", "--auth=trust", "--no-sync", "--no-instructions")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self.call("pg_ctl", "-D", "data", "-w", "-t", "60", "-l", "log", "-o", options, "start")
        self.url = f"postgresql://seriatim@127.0.0.1:{port}/postgres"

    def call(self, name: str, *arguments):
        command = [str(self.programs / name), *arguments]
        done = subprocess.run(
            command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, timeout=HANG, **self.user,
        )
        assert done.returncode == 0, done.stderr

    def stop(self):
        self.call("pg_ctl", "-D", "data", "-m", "immediate", "stop")


@pytest.fixture(scope="module")
def postgres():
    # Not below the folder of pytest, which is root's alone where root runs the tests.
    folder = Path(tempfile.mkdtemp(prefix="seriatim-postgres-"))
    server = None
    try:
        server = Postgres(folder)
        yield server
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(folder)


def ids_of(folders: list[Path], table: str, column: str) -> list[int]:
    return [row[column] for folder in folders for row in rows_of(folder / "out", table)]


def run_until_done(program, pipeline: Path, deaths: list[float]) -> int:
    """A process that is begun again whenever it dies, as a supervisor does: the others wait for what it holds."""
    kills = 0
    for death in [*deaths, None]:
        racer = Racer(program, pipeline, death=death).end()
        if racer.process.returncode == 0:
            return kills
        assert racer.process.returncode == -signal.SIGKILL, said_of([racer])
        kills += 1
    raise AssertionError("it never ended")


def test_r8_pipelines_that_share_sequences_take_turns(program, postgres, tmp_path, rng):
    shared = {"customers": ", sequence: customers", "orders": ", sequence: orders"}
    folders = [tmp_path / name for name in ("first", "second", "third")]
    for folder in folders:
        (folder / "data").mkdir(parents=True)
        text = PIPELINE.format(name=folder.name, data="data", **shared)
        (folder / "pipeline.yaml").write_text(f"{text}ids: {{from: postgres, url: {postgres.url}, wait_seconds: 300}}\n")
    before = [{}, {}, {}]
    kills = 0
    for number in range(SHARED_RACES):
        chosen = rng.sample(range(3), rng.choice((2, 3)))
        for index in chosen:
            write_records(folders[index] / "data" / f"part-{number:03}.parquet", rng, 120)
        deaths = [[rng.uniform(0, LIFE) for _ in range(rng.choice((0, 0, 1, 2)))] for _ in chosen]
        with ThreadPoolExecutor(3) as pool:
            run = lambda index, deaths: run_until_done(program, folders[index] / "pipeline.yaml", deaths)  # noqa: E731
            kills += sum(pool.map(run, chosen, deaths))
        for table, column, start, step in (("customers", "customer_id", 1, 1), ("orders", "order_id", 1000, 3)):
            ids = sorted(ids_of(folders, table, column))
            assert ids == [start + step * place for place in range(len(ids))], "unique and dense over all pipelines"
        for index, folder in enumerate(folders):
            given = {row["customer"]: row["customer_id"] for row in rows_of(folder / "out", "customers")}
            assert before[index].items() <= given.items(), "a key keeps its ID"
            before[index] = given
    for folder in folders:
        if (folder / "out").is_dir():
            assert_verifies(program, folder / "pipeline.yaml")
    print(f"{SHARED_RACES} races of two or three pipelines, {kills} kills")
