"""What the system tests share: the program, the scale, the seed, and ways to run and to read.

The tests here use the real binary and files of writers other than the Rust one. They never look into a state folder.
"""

import hashlib
import json
import os
import random
import secrets
import subprocess
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

pytest.register_assert_rewrite("faulty")

#: Seconds after which a command that hangs is killed; nothing here takes a tenth of it.
HANG = 600


def scale() -> float:
    """How much to test: 1 is what one CI run does, a nightly run takes 10."""
    return float(os.environ.get("SERIATIM_TEST_SCALE", "1"))


def cases(least: int) -> Iterator[int]:
    """Numbers of random cases for what reads a thing that somebody may have changed: some at least, and then as many as a
    minute holds. Case n is the same on every machine."""
    end = time.monotonic() + 60 * scale()
    for number in count():
        if number >= least and time.monotonic() >= end:
            return
        yield number


@pytest.fixture(scope="session")
def seed(pytestconfig) -> int:
    """The seed of all random choices; printed in the header, taken from SERIATIM_TEST_SEED."""
    return pytestconfig.stash[SEED]


SEED = pytest.StashKey[int]()


def pytest_configure(config):
    config.stash[SEED] = int(os.environ.get("SERIATIM_TEST_SEED") or secrets.randbits(64))
    # Processes that run a part of the tests draw none of their own: it is this one that the header shows.
    os.environ["SERIATIM_TEST_SEED"] = str(config.stash[SEED])


def pytest_report_header(config):
    return f"SERIATIM_TEST_SEED={config.stash[SEED]} replays the random choices, SERIATIM_TEST_SCALE is {scale():g}"


@pytest.fixture
def rng(seed, request) -> random.Random:
    """Random choices of one test: the same whether it runs alone or after others."""
    return random.Random(f"{seed} {request.node.name}")


class Program:
    """The binary."""

    def __init__(self, path: Path):
        self.path = path

    def start(self, *arguments, cwd: Path, env: dict[str, str] | None = None) -> subprocess.Popen:
        """Starts a command; `env` takes the place of this process's variables."""
        command = [str(self.path), *map(str, arguments)]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, cwd=cwd, env=env, text=True, **pipes)

    def call(self, *arguments, cwd: Path, code: int = 0, env=None) -> subprocess.CompletedProcess:
        """Runs a command to its end and checks its exit code."""
        process = self.start(*arguments, cwd=cwd, env=env)
        try:
            out, err = process.communicate(timeout=HANG)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"{arguments} hangs\n{out}\n{err}") from None
        assert process.returncode == code, f"{arguments}: exit code {process.returncode}, not {code}\n{out}\n{err}"
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def json(self, *arguments, cwd: Path, env=None):
        return json.loads(self.call(*arguments, "--json", cwd=cwd, env=env).stdout)


@pytest.fixture(scope="session")
def program() -> Program:
    path = os.environ.get("SERIATIM_BIN")
    assert path, "SERIATIM_BIN names the program; `scripts/test system` builds it and sets this"
    assert Path(path).is_file(), f"there is no program at {path}"
    return Program(Path(path))


@pytest.fixture(scope="session")
def demo(program, tmp_path_factory) -> Path:
    """A folder with the demo's data and pipeline, and nothing run."""
    folder = tmp_path_factory.mktemp("demo")
    rows = min(int(300_000 * scale()), 2_000_000)
    program.call("demo", "--data-only", "--rows", rows, "--folder", folder, cwd=folder)
    return folder


def with_own_output(demo: Path, folder: Path) -> Path:
    """A copy of the demo in `folder` that shares its data and nothing else; returns its pipeline file."""
    folder.mkdir(parents=True, exist_ok=True)
    pipelines = sorted(demo.glob("*.yaml"))
    assert len(pipelines) == 1, pipelines
    pipeline = folder / pipelines[0].name
    pipeline.write_text(pipelines[0].read_text())
    (folder / "data").symlink_to(demo / "data")
    return pipeline


def tree(folder: Path) -> dict[str, str]:
    """The hash of every file below a folder; without the facts beside an output, which name runs and times."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    hashes = {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return {name: digest for name, digest in hashes.items() if not name.startswith("_seriatim/state/")}


def assert_verifies(program: Program, pipeline: Path):
    report = program.json("verify", pipeline, cwd=pipeline.parent)
    assert report["ok"], report
