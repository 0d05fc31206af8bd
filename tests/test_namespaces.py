"""Three machines that share nothing but a network: workers in network namespaces of their own, a hub that they reach over
TLS with a token, and Azurite, which has the source, the output and what the workers leave for each other. Machines are
lost in each step of a run, so is the hub, and cables are pulled. What is published is what one process publishes."""

import re
import subprocess
from itertools import count
from pathlib import Path

import pytest

from azurite import Azurite
from cluster import Cluster, ends_well
from conftest import HANG, assert_verifies
from network import HUB, Machine, cannot, machines

REASON = cannot("openssl")
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

#: Few, so that Azurite is quick; with chunks as small as these they are some thirty parts, files of one span and of many.
ROWS, CHUNK_ROWS = 60_000, 500

#: What a machine has just put into storage when it is in the middle of a step: it has not told the hub yet that the step
#: is done. Where, which name, and the how many of those.
STEPS = {
    "the plan": ("work", r"plan", 1),
    "the first part scanned": ("work", r"part-\d+", 1),
    "a later part scanned": ("work", r"part-\d+", 12),
    "the output taken": ("out", r"_seriatim/lease\.json", 1),
    "keys resolved": ("work", r"table-.*", 2),
    "the first part claimed": ("work", r"claim-\d+", 1),
    "a later part claimed": ("work", r"claim-\d+", 12),
    "rows staged": ("out", r"_seriatim/staging/.*", 1),
    "a key map written": ("work", r"segment/.*", 1),
    "facts kept": ("out", r"_seriatim/state/.*", 2),
    "files named": ("out", r"\w+/part-.*\.parquet", 2),
    "the manifest published": ("out", r"_seriatim/manifest\.json", 1),
}

#: Steps in which a cable is pulled, each in a run of its own. These runs go on side by side, because a hub takes forty
#: seconds to give up a machine that is silent.
CUTS = ["a later part scanned", "rows staged", "facts kept", "files named"]


class Site:
    """The machines and the storage, which has the demo's records."""

    def __init__(self, program, folder: Path, network: list[Machine], azurite: Azurite):
        self.program, self.network, self.azurite = program, network, azurite
        self._numbers = count()
        program.call("demo", "--data-only", "--rows", ROWS, "--folder", folder, cwd=folder)
        [demo] = folder.glob("*.yaml")
        self._demo = demo.read_text()
        self.files = sorted((folder / "data").glob("*.parquet"))
        self.source = self.container("source")
        self.put(self.source, self.files)
        cert, key, token = (folder / name for name in ("cert.pem", "key.pem", "token"))
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-keyout", key, "-out", cert, "-subj", "/CN=hub", "-addext", f"subjectAltName=IP:{HUB}"],
            check=True, capture_output=True,
        )
        token.write_text("a token for these tests")
        self.protection = ["--tls-cert", cert, "--tls-key", key, "--token-file", token]
        self.reach = ["--ca", cert, "--token-file", token]

    def container(self, name: str) -> str:
        """One that nobody has used."""
        name = f"{name}-{next(self._numbers)}"
        self.azurite.make_container(name)
        return name

    def put(self, source: str, files: list[Path]):
        for file in files:
            self.azurite.put(source, file.name, file.read_bytes())

    def pipeline(self, folder: Path, source: str, out: str) -> Path:
        """The demo's, with its source in one container and its output in another."""
        text = self._demo
        for ours, theirs in (("data/sales-*", f"az://{source}/sales-*"), ("path: out", f"path: az://{out}/retail")):
            assert text.count(ours) == 1, text
            text = text.replace(ours, theirs)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "retail.yaml").write_text(text)
        return folder / "retail.yaml"

    def published(self, out: str) -> dict[str, str]:
        """What is published; the facts beside it and the lease name runs and state folders."""
        tree = self.azurite.tree(out, "retail/")
        return {name: digest for name, digest in tree.items() if not re.match(r"_seriatim/(state/|lease\.json)", name)}


class Shared:
    """A hub, machines and containers for one test, in which a run is carried out."""

    def __init__(self, site: Site, folder: Path, machines: list[Machine], source: str):
        self.site, self.machines = site, machines
        self.out, self.work = site.container("out"), site.container("work")
        self.pipeline = site.pipeline(folder / "submitted", source, self.out)
        self.cluster = Cluster(
            site.program, folder / "cluster", [machine.inside for machine in machines], HUB,
            site.protection, site.reach, CHUNK_ROWS,
        )

    def run(self) -> subprocess.Popen:
        return self.cluster.run(self.pipeline, "--work", f"az://{self.work}/here")

    def wait_for(self, process: subprocess.Popen, step: str) -> int:
        """Waits until a machine is in the middle of a step; its index."""
        place, pattern, several = STEPS[step]
        container, before = (self.work, "here/.*/") if place == "work" else (self.out, "retail/")
        indices = {machine.address: index for index, machine in enumerate(self.machines)}
        for _ in range(several):
            request = self.site.azurite.wait_for(
                lambda request: request.method == "PUT" and request.container == container and request.status < 300
                and request.client in indices and re.fullmatch(before + pattern, request.blob),
                lambda: process.poll() is None,
            )
            assert request, f"the run ended before this was seen: {step}\n{process.communicate(timeout=HANG)}"
        return indices[request.client]

    def assert_published(self, alone: dict[str, str]):
        assert self.site.published(self.out) == alone
        assert_verifies(self.site.program, self.pipeline)
        left = self.site.azurite.blobs(self.work)
        assert not left, "nothing is left in the work location"


@pytest.fixture(scope="module")
def network():
    with machines(3 + 3 * len(CUTS)) as made:
        yield made


@pytest.fixture(scope="module")
def site(network, program, tmp_path_factory):
    """The environment says where the storage is, as on machines that are set up for it."""
    folder = tmp_path_factory.mktemp("site")
    azurite = Azurite(folder, HUB)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in azurite.variables.items():
            patch.setenv(name, value)
        yield Site(program, folder, network, azurite)
    azurite.close()


@pytest.fixture(scope="module")
def alone(site, program, tmp_path_factory):
    """What one process publishes."""
    out = site.container("out")
    pipeline = site.pipeline(tmp_path_factory.mktemp("alone"), site.source, out)
    program.call("run", pipeline, "--chunk-rows", CHUNK_ROWS, cwd=pipeline.parent)
    return site.published(out)


@pytest.fixture
def shared(site, tmp_path):
    shared = Shared(site, tmp_path, site.network[:3], site.source)
    yield shared
    shared.cluster.close()


def test_g5_three_machines_publish_what_one_process_does_and_later_ones_go_on(shared, alone):
    ends_well(shared.run())
    shared.assert_published(alone)
    for index in range(3):
        shared.cluster.lose(index)
        shared.cluster.start(index)
    ends_well(shared.run())
    shared.assert_published(alone)


@pytest.mark.parametrize("step", STEPS)
def test_g5_a_machine_that_is_lost_in_a_step_is_done_without(shared, alone, step):
    process = shared.run()
    shared.cluster.lose(shared.wait_for(process, step))
    ends_well(process)
    shared.assert_published(alone)


@pytest.mark.parametrize("step", STEPS)
def test_g5_the_hub_is_killed_in_a_step_and_comes_back(shared, alone, step):
    process = shared.run()
    shared.wait_for(process, step)
    shared.cluster.server.kill()
    shared.cluster.server.start()
    # Whoever waits for a run may be told that its hub was away; the run goes on.
    process.communicate(timeout=HANG)
    ends_well(shared.run())
    shared.assert_published(alone)


def test_g5_a_machine_that_is_cut_off_is_done_without_and_does_no_harm_when_it_is_back(site, program, tmp_path):
    source, out = site.container("source"), site.container("out")
    site.put(source, site.files[:-1])
    pipeline = site.pipeline(tmp_path / "alone", source, out)
    program.call("run", pipeline, "--chunk-rows", CHUNK_ROWS, cwd=pipeline.parent)
    alone = site.published(out)
    runs = []
    try:
        for number, step in enumerate(CUTS, start=1):
            machines = site.network[3 * number:3 * number + 3]
            shared = Shared(site, tmp_path / f"run-{number}", machines, source)
            runs.append((step, shared))
            shared.process = shared.run()
            shared.cut = shared.wait_for(shared.process, step)
            machines[shared.cut].pull_cable()
        for step, shared in runs:
            ends_well(shared.process)
            assert site.published(shared.out) == alone, step
        # The machine is back, in the middle of its step, and the only one that is left: when it takes up steps of the
        # next run, it is done with those of the last one.
        site.put(source, site.files[-1:])
        program.call("run", pipeline, "--chunk-rows", CHUNK_ROWS, cwd=pipeline.parent)
        alone = site.published(out)
        for _, shared in runs:
            shared.machines[shared.cut].plug_in()
            for index in {0, 1, 2} - {shared.cut}:
                shared.cluster.lose(index)
            shared.process = shared.run()
        for _, shared in runs:
            ends_well(shared.process)
            shared.assert_published(alone)
    finally:
        for _, shared in runs:
            shared.cluster.close()
