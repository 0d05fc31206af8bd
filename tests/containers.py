"""A pipeline whose sources and output are in containers of the emulator, machines that run it, and what the same runs
publish in folders, which is what they all are compared with."""

import base64
import hashlib
import json
import os
import random
import shutil
import subprocess
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from azurite import Azurite, missing
from conftest import HANG, Program, assert_verifies, tree
from proxy import LOST, NONE, Fault, Proxy, Request

#: Both are like no others, so that they can be looked for.
ACCOUNT, KEY = "canaryaccount", base64.b64encode(b"canary of the account key, " * 2).decode()

SOURCES, TABLES = "sources", "tables"
OUT = "out"
MANIFEST, LEASE = f"{OUT}/_seriatim/manifest.json", f"{OUT}/_seriatim/lease.json"
STAGING, FACTS = f"{OUT}/_seriatim/staging/", f"{OUT}/_seriatim/state/"

#: What comes from run to run: a folder of two files each.
PARTS = ("one", "two", "three", "four")
ROWS = 600

PIPELINE = """\
version: 1
name: sales
source:
  files: [{files}]
tables:
  customers: {{key: email, id: customer_id, columns: [name, city]}}
  products: {{key: sku, id: {{column: product_id, start: 100, step: 10}}, columns: [price]}}
  orders: {{key: order_no, id: order_id, references: [customers], columns: [day]}}
  lines: {{id: line_id, references: [orders, products], columns: [quantity]}}
output: {{path: "{output}"}}
"""


def write_pipeline(folder: Path, source: str, output: str, parts: int) -> Path:
    """A pipeline over the first so many parts."""
    path = folder / "sales.yaml"
    files = ", ".join(f'"{source}/{part}/*.parquet"' for part in PARTS[:parts])
    path.write_text(PIPELINE.format(files=files, output=output))
    return path


def make_parts(folder: Path, rng: random.Random):
    """Records in which each part has things that earlier parts have, and new ones."""
    for place, part in enumerate(PARTS):
        (folder / part).mkdir(parents=True)
        for number in range(2):
            orders = [rng.randrange(250 * (place + 1)) for _ in range(ROWS)]
            table = pa.table({
                "order_no": pa.array([f"2025-{order:05}" for order in orders]),
                "day": pa.array([order // 7 for order in orders], pa.int32()),
                "email": pa.array([f"{order * 31 % (120 * (place + 1))}@example.com" for order in orders]),
                "name": pa.array([f"name {rng.randrange(1000)}" for _ in orders]),
                "city": pa.array([f"city {rng.randrange(40)}" for _ in orders]),
                "sku": pa.array([f"sku-{rng.randrange(60 * (place + 1))}" for _ in orders]),
                "price": pa.array([rng.randrange(100, 99_999) / 100 for _ in orders]),
                "quantity": pa.array([rng.randrange(1, 9) for _ in orders], pa.int32()),
            })
            pq.write_table(table, folder / part / f"sales-{number}.parquet", row_group_size=250)


class Cloud:
    """The emulator with the sources in it, and the proxy that the program reaches it through."""

    def __init__(self, program: Program, azurite: Azurite, folder: Path, rng: random.Random):
        self.program, self.azurite = program, azurite
        self.proxy = Proxy(azurite)
        data = folder / "data"
        make_parts(data, rng)
        for container in (SOURCES, TABLES):
            azurite.make_container(container)
        for path in sorted(data.rglob("*.parquet")):
            azurite.write(SOURCES, str(path.relative_to(data)), path.read_bytes())
        #: What is published in a folder after so many runs, each of which finds one part more.
        self.expected: list[dict[str, str]] = [{}]
        for parts in range(1, len(PARTS) + 1):
            pipeline = write_pipeline(folder, "data", OUT, parts)
            program.call("run", pipeline, cwd=folder)
            self.expected.append(tree(folder / OUT))
        assert_verifies(program, pipeline)

    def variables(self, **more: str) -> dict[str, str]:
        """A program's variables: the place and the key of the account, and no credential of whoever runs the tests."""
        clouds = ("AZURE_", "AZURITE_", "AWS_", "GOOGLE_", "IDENTITY_", "MSI_", "SERIATIM_")
        own = {name: value for name, value in os.environ.items() if not name.startswith(clouds)}
        place = {"AZURE_STORAGE_ENDPOINT": self.proxy.endpoint, "AZURE_STORAGE_KEY": self.azurite.key}
        return own | place | {"SERIATIM_STORAGE_TIMEOUT": "10"} | more

    def published(self, container: str = TABLES) -> dict[str, str]:
        """The hash of everything that a reader is meant to see."""
        names = self.azurite.names(container, f"{OUT}/")
        names = [name for name in names if "/_seriatim/" not in name or name == MANIFEST]
        content = {name.removeprefix(f"{OUT}/"): self.azurite.read(container, name) for name in names}
        return {name: hashlib.sha256(bytes_).hexdigest() for name, bytes_ in content.items()}

    def document(self, name: str):
        return json.loads(self.azurite.read(TABLES, name))

    def assert_tidy(self, but_facts: bool = False):
        """Nothing waits any more, the lease is given back, and the facts are those of the last run and no others."""
        number = len(self.document(MANIFEST)["runs"])
        index = f"{FACTS}{number:06}.json"
        kept = {MANIFEST, LEASE, index} | {FACTS + fact["name"] for fact in self.document(index)["files"]}
        own = {name for name in self.azurite.names(TABLES) if "/_seriatim/" in name}
        assert kept <= own, f"gone: {kept - own}"
        left = {name for name in own - kept if not (but_facts and name.startswith(FACTS))}
        assert not left, f"left behind: {left}"
        assert self.document(LEASE)["released"]

    def let_lease_expire(self) -> bool:
        """As if the time of whoever has the lease had passed; whether anybody has it."""
        if LEASE not in self.azurite.names(TABLES, LEASE):
            return False
        lease = self.document(LEASE)
        content = json.dumps(lease | {"expires": "2020-01-01T00:00:00.000Z"})
        self.azurite.write(TABLES, LEASE, content.encode())
        return not lease["released"]


class Machine:
    """A folder with the pipeline, and a state folder that may be lost."""

    def __init__(self, cloud: Cloud, folder: Path, parts: int = 1):
        folder.mkdir(parents=True)
        self.cloud, self.folder = cloud, folder
        self.state = folder / ".seriatim"
        self.sees(parts)

    def sees(self, parts: int):
        """The sources have so many parts now."""
        self.pipeline = write_pipeline(self.folder, f"az://{SOURCES}", f"az://{TABLES}/{OUT}", parts)

    def start(self, command: str, *arguments, **variables: str) -> subprocess.Popen:
        env = self.cloud.variables(**variables)
        return self.cloud.program.start(command, self.pipeline, *arguments, cwd=self.folder, env=env)

    def call(self, command: str, *arguments, code: int = 0, env=None, **variables: str):
        """Runs a command to its end; `env` takes the place of all variables."""
        env = env or self.cloud.variables(**variables)
        return self.cloud.program.call(command, self.pipeline, *arguments, cwd=self.folder, code=code, env=env)

    def run(self, *arguments, **variables: str) -> list[dict]:
        """Runs, and returns the reports."""
        return json.loads(self.call("run", "--json", *arguments, **variables).stdout)["runs"]

    def lose_state(self):
        shutil.rmtree(self.state, ignore_errors=True)

    def take_state(self, state: Path):
        """Puts a copy of another state folder in the place of this one."""
        self.lose_state()
        shutil.copytree(state, self.state)

    def assert_published(self, runs: int, container: str = TABLES):
        """What is published are the bytes that so many runs publish in a folder."""
        published, expected = self.cloud.published(container), self.cloud.expected[runs]
        differ = {name for name in published.keys() | expected.keys() if published.get(name) != expected.get(name)}
        assert not differ, f"other bytes than in a folder after {runs} runs: {sorted(differ)}"

    def assert_verifies(self):
        report = json.loads(self.call("verify", "--json").stdout)
        assert report["ok"], report


@pytest.fixture(scope="module")
def azurite():
    if reason := missing():
        pytest.skip(reason)
    azurite = Azurite(ACCOUNT, KEY)
    yield azurite
    azurite.stop()


@pytest.fixture(scope="module")
def cloud(program, azurite, seed, tmp_path_factory):
    cloud = Cloud(program, azurite, tmp_path_factory.mktemp("local"), random.Random(f"{seed} azurite"))
    yield cloud
    cloud.proxy.stop()


@pytest.fixture(scope="module")
def after_first(cloud, tmp_path_factory):
    """What is in the container after an undisturbed first run, and that run's state folder."""
    cloud.azurite.restore(TABLES, {})
    cloud.proxy.begin()
    machine = Machine(cloud, tmp_path_factory.mktemp("after") / "first")
    machine.run()
    machine.assert_published(1)
    return cloud.azurite.everything(TABLES), machine.state


class Machines:
    """Makes machines for a pipeline that has published no run yet, or one."""

    def __init__(self, cloud: Cloud, after_first, folder):
        self._cloud, self._folder, self._made = cloud, folder, 0
        self._blobs, self._state = after_first

    def begin(self, published: int) -> Machine:
        """The first one of a test: the store is as it was then, and so is the state folder."""
        self._cloud.proxy.begin()
        self._cloud.azurite.restore(TABLES, self._blobs if published else {})
        machine = self.fresh(published)
        if published:
            machine.take_state(self._state)
        return machine

    def fresh(self, published: int) -> Machine:
        """One that has nothing."""
        self._made += 1
        return Machine(self._cloud, self._folder / f"machine-{self._made}", published + 1)


@pytest.fixture
def machines(cloud, after_first, tmp_path):
    return Machines(cloud, after_first, tmp_path)


class Killer:
    """Kills a process when a request comes: before the service hears of it, or when it has done it."""

    def __init__(self, is_it, before: bool):
        self._is_it, self._before = is_it, before
        self._victim, self._is_known = None, threading.Event()
        self.request: Request | None = None

    def victim(self, process: subprocess.Popen):
        self._victim = process
        self._is_known.set()

    def _kill(self):
        assert self._is_known.wait(HANG)
        self._victim.kill()

    def __call__(self, request: Request) -> Fault:
        if self.request or not self._is_it(request):
            return NONE
        self.request = request
        if self._before:
            self._kill()
            return LOST
        return Fault("answer lost", then=self._kill)


class Trouble:
    """Faults, each of which a request meets once: when it comes again, it passes."""

    def __init__(self, choose):
        self._choose, self._met = choose, set()

    def __call__(self, request: Request) -> Fault:
        what = str(request)
        if what in self._met:
            self._met.remove(what)
            return NONE
        fault = self._choose(request)
        if fault is not NONE:
            self._met.add(what)
        return fault
