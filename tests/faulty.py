"""Runs the real program while the disk fails at chosen moments. `preload.c` is loaded before it and counts the calls
that change files below one folder; it can kill the process at one of them, or let it fail. This must never touch what a
test does not name.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from conftest import HANG, Program, tree

#: Errors by number: their names are the same everywhere, their numbers are Linux's.
EIO, ENOSPC = 5, 28
#: As a fault's `count`: from there on, always.
ALWAYS = 1 << 40
#: At once: as many as a small machine has cores. The program waits for the disk most of the time.
AT_ONCE = 3
#: Records of a chunk: small, so that a few thousand records are several chunks and have every kind of step.
SMALL_CHUNKS = ("--chunk-rows", 400)


@dataclass(frozen=True)
class Fault:
    """Which calls fail. `kinds` are those of `preload.c`: sync, name (rename, link), write, make, remove."""

    kinds: tuple[str, ...]
    at: int = 0
    what: str | int = ""
    count: int = 1
    path: str = ""
    #: Syncs of paths with this text are left out.
    skip: str = ""

    def environment(self) -> dict[str, str]:
        return {
            "FAULTS_KINDS": f",{','.join(self.kinds)},",
            "FAULTS_PATH": self.path,
            "FAULTS_AT": str(self.at),
            "FAULTS_COUNT": str(self.count),
            "FAULTS_DO": str(self.what),
            "FAULTS_SKIP": self.skip,
        }


@dataclass(frozen=True)
class Call:
    """A call that changed something, or would have: a line of the log, in the order in which calls ended."""

    number: int
    kind: str
    name: str
    outcome: str
    path: str
    other: str
    detail: str


@dataclass
class Outcome:
    """How a process ended."""

    code: int
    out: str
    err: str
    calls: list[Call] = field(default_factory=list)

    @property
    def faults(self) -> list[Call]:
        return [call for call in self.calls if call.outcome not in ("done", "failed", "skipped")]

    def said(self) -> str:
        return f"exit code {self.code}\n{self.out}\n{self.err}\n" + "\n".join(map(str, self.faults[:3]))


class Faulty:
    """The program behind `preload.c`."""

    def __init__(self, program: Program, library: Path):
        self.program = program
        self.library = library

    def run(self, pipeline: Path, *arguments, fault: Fault, prefix: tuple = (), keep: Path | None = None) -> Outcome:
        """`seriatim run` with this fault. Files whose names are given to others are kept in `keep`."""
        folder = pipeline.parent.resolve()
        log = folder.with_name(f"{folder.name}.log")
        log.unlink(missing_ok=True)
        settings = {
            **fault.environment(),
            "FAULTS_ROOT": str(folder),
            "FAULTS_LOG": str(log),
            "FAULTS_KEEP": str(keep.resolve()) if keep else "",
            "LD_PRELOAD": str(self.library),
        }
        command = ["env", *(f"{name}={value}" for name, value in settings.items())]
        command = [*prefix, *command, str(self.program.path), "run", pipeline.name, *map(str, arguments)]
        ended = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=HANG, stdin=subprocess.DEVNULL
        )
        calls = [call_of(line) for line in log.read_text().splitlines()] if log.exists() else []
        return Outcome(ended.returncode, ended.stdout, ended.stderr, calls)


def call_of(line: str) -> Call:
    number, *rest = line.split("\t")
    return Call(int(number), *rest)


@pytest.fixture(scope="session")
def faulty(program, tmp_path_factory) -> Faulty:
    compiler = shutil.which("cc")
    assert compiler, "the tests need a C compiler, as the program does"
    library = tmp_path_factory.mktemp("preload") / "preload.so"
    source = Path(__file__).with_name("preload.c")
    options = ["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    command = [compiler, *options, "-o", library, source, "-ldl", "-pthread"]
    subprocess.run(command, check=True, timeout=HANG)
    return Faulty(program, library)


class Shop:
    """A pipeline and its source files, for runs in folders of their own: the first run finds all files but one, the
    second finds that one too."""

    def __init__(self, program: Program, folder: Path):
        program.call("demo", "--data-only", "--rows", 6_000, "--files", 4, "--folder", folder, cwd=folder)
        self.program = program
        self.pipeline = next(folder.glob("*.yaml"))
        self.files = sorted((folder / "data").glob("*.parquet"))

    def place(self, folder: Path, later: bool = False) -> Path:
        """The pipeline file in `folder`, which has the files of the first run, or those of the second too."""
        (folder / "data").mkdir(parents=True, exist_ok=True)
        for file in self.files if later else self.files[:-1]:
            (folder / "data" / file.name).exists() or (folder / "data" / file.name).symlink_to(file)
        pipeline = folder / self.pipeline.name
        pipeline.write_text(self.pipeline.read_text())
        return pipeline

    def published(self, folder: Path) -> Path:
        """The same after the first run, before the second."""
        pipeline = self.place(folder)
        self.program.call("run", pipeline, *SMALL_CHUNKS, cwd=folder)
        return self.place(folder, later=True)


@dataclass
class Undisturbed:
    """What a run that nobody disturbs leaves, and the calls that it makes."""

    tree: dict[str, str]
    calls: list[Call]

    def count(self, *kinds: str, path: str = "") -> int:
        """How many calls a fault of these kinds can choose from."""
        return sum(call.kind in kinds and (path in call.path or path in call.other) for call in self.calls)


def runs(program: Program, pipeline: Path) -> list[dict]:
    """What `seriatim runs` says, if there is a state folder."""
    return program.json("runs", "--pipeline", pipeline, cwd=pipeline.parent)["runs"]


def assert_runs_make_sense(program: Program, pipeline: Path, ended: bool, published: int) -> list[str]:
    """`runs` and `show` need nobody, and what they say fits what happened: `published` runs are done; others were
    interrupted, or (`ended`) have failed. Gives the statuses."""
    records = runs(program, pipeline)
    if records:
        shown = program.json("show", records[-1]["run"], "--pipeline", pipeline, cwd=pipeline.parent)
        assert shown == records[-1]
    statuses = [record["status"] for record in records]
    open_ones = {"interrupted", "running"} & set(statuses)
    assert "running" not in open_ones, f"nobody runs it: {statuses}"
    assert not (ended and open_ones), f"all have ended: {statuses}"
    assert statuses.count("interrupted") <= 1, statuses
    assert statuses.count("done") <= published and (statuses.count("done") == published or not ended), statuses
    assert len({record["run"] for record in records}) == len(records)
    return statuses


def assert_nothing_half_written(folder: Path, expected: dict[str, str]):
    """G8: whatever the moment, a table's files that a glob finds are those of a finished run."""
    for name, digest in tree(folder / "out").items():
        if not name.startswith("_"):
            assert expected.get(name) == digest, f"{name} is visible and not finished"


def assert_resumes(program: Program, pipeline: Path, expected: dict[str, str], published: int, *arguments):
    """G5: the next run ends what was begun, with the bytes of a run that nobody disturbed, and that was audited."""
    program.call("run", pipeline, *SMALL_CHUNKS, *arguments, cwd=pipeline.parent)
    assert tree(pipeline.parent / "out") == expected
    assert_runs_make_sense(program, pipeline, ended=True, published=published)


def each(cases: Iterable, check: Callable):
    """Checks cases, some at once; the first failure names its case. Gives the results in order."""

    def checked(case):
        try:
            return check(case)
        except Exception as error:
            raise AssertionError(f"{case}: {error}") from error

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(checked, cases))
