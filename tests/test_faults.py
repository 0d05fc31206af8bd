"""G5 and G8 with the real program, when it dies around any durable step and when the disk fails: what is published has
the bytes of a run that nobody disturbed, what was not acknowledged is not taken for done, and the error says what to do.
Disks that are full are in `test_disk_full.py`; kills at random moments in `test_kill.py`.
"""

import math
import re
import shutil
from pathlib import Path

import pytest

from conftest import assert_verifies, scale, tree
from faulty import (  # noqa: F401 (a fixture)
    ALWAYS, EIO, ENOSPC, SMALL_CHUNKS, Call, Fault, Outcome, Shop, Undisturbed, assert_nothing_half_written,
    assert_resumes, assert_runs_make_sense, each, faulty,
)

#: What makes something durable: a sync, and a rename (or link), which is a change of what readers find.
DURABLE = ("sync", "name")
#: Syncs at which the disk fails, counted from the start of the program.
FIRST_SYNCS = 20
#: What an error must say besides what happened.
ADVICE = re.compile(r"^help: .*run again", re.MULTILINE)
#: Nothing of a run is published before this name is given.
MANIFEST = "/out/_seriatim/manifest.json"


@pytest.fixture(scope="module")
def shop(program, tmp_path_factory) -> Shop:
    return Shop(program, tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def published(shop, tmp_path_factory):
    """A folder where the first run is done and the second is not begun."""
    return shop.published(tmp_path_factory.mktemp("published") / "shop").parent


@pytest.fixture(scope="module")
def undisturbed(program, shop, published, faulty, tmp_path_factory) -> list[Undisturbed]:  # noqa: F811
    """The first run and the second, both audited."""
    folder = tmp_path_factory.mktemp("undisturbed").resolve() / "shop"
    runs = []
    for later in (False, True):
        pipeline = shop.place(folder, later)
        outcome = faulty.run(pipeline, *SMALL_CHUNKS, fault=Fault(DURABLE))
        assert outcome.code == 0, outcome.said()
        assert_verifies(program, pipeline)
        runs.append(Undisturbed(tree(folder / "out"), outcome.calls))
    return runs


class Scene:
    """A folder of its own in which one run is disturbed: the first one, or the second."""

    def __init__(self, shop, published, undisturbed, folder, later: bool):
        self.shop, self.later = shop, later
        self._anew = (shop, published, undisturbed, folder, later)
        self.folder = folder.resolve()
        if later:
            shutil.copytree(published, self.folder, symlinks=True)
        self.pipeline = shop.place(self.folder, later)
        self.before = undisturbed[0].tree if later else {}
        self.expected = undisturbed[later].tree

    def again(self) -> "Scene":
        """The same from the beginning."""
        shutil.rmtree(self.folder)
        return Scene(*self._anew)

    @property
    def is_published(self) -> bool:
        return tree(self.folder / "out").get("_seriatim/manifest.json") == self.expected["_seriatim/manifest.json"]

    def assert_kept(self):
        """Readers find the run before this one, or this one, and nothing between."""
        assert_nothing_half_written(self.folder, self.expected)
        found, manifest = tree(self.folder / "out"), "_seriatim/manifest.json"
        assert found.get(manifest) in (self.before.get(manifest), self.expected[manifest])

    def assert_resumes(self):
        assert_resumes(self.shop.program, self.pipeline, self.expected, 1 + self.later)
        shutil.rmtree(self.folder)


@pytest.fixture
def scene(shop, published, undisturbed, tmp_path):
    """Makes scenes by number."""
    return lambda number, later: Scene(shop, published, undisturbed, tmp_path / f"scene-{number}", later)


def sampled(rng, cases: list, most: int) -> list:
    """Some of the cases, evenly over the whole of them."""
    most = round(most * scale())
    if len(cases) <= most:
        return cases
    step = len(cases) / most
    return [cases[math.floor(step * (index + rng.random()))] for index in range(most)]


def test_the_library_sees_every_change_that_the_kernel_sees(shop, faulty, tmp_path):  # noqa: F811
    """The faults below are made where the program calls the C library; none of its changes may go by another way."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("there is no strace")
    pipeline = shop.place(tmp_path.resolve() / "traced")
    trace = tmp_path / "trace"
    kinds = "fsync,fdatasync,sync_file_range,rename,renameat,renameat2,link,linkat,write,pwrite64,writev,pwritev"
    kinds += ",ftruncate,mkdir,mkdirat,unlink,unlinkat,rmdir,copy_file_range,sendfile,fallocate,io_uring_setup"
    prefix = (strace, "--seccomp-bpf", "-f", "-y", "-qq", "-e", "signal=none", "-e", f"trace={kinds}", "-o", str(trace))
    outcome = faulty.run(pipeline, *SMALL_CHUNKS, fault=Fault(DURABLE), prefix=prefix)
    if outcome.code != 0 and "ptrace" in outcome.err:
        pytest.skip(f"tracing is not permitted: {outcome.err.strip().splitlines()[0]}")
    assert outcome.code == 0, outcome.said()
    inside = re.compile(rf"^\d+ +(\w+)\(.*[<\"]{re.escape(str(pipeline.parent))}[/>\"]")
    traced = [match[1] for match in map(inside.match, trace.read_text().splitlines()) if match]
    counted = [call.name.removesuffix("64") for call in outcome.calls if not call.name.startswith("open")]
    counts = {name: traced.count(name) for name in {*traced}}
    assert counts == {name.replace("pwrite", "pwrite64"): counted.count(name) for name in {*counted}}


def test_g5_killed_just_before_and_just_after_durable_steps_it_publishes_the_same_bytes(
    program, faulty, undisturbed, scene, rng  # noqa: F811
):
    cases = []
    for later, run in enumerate(undisturbed):
        steps = run.count(*DURABLE)
        cases += [(later, at, what) for at in range(1, steps + 1) for what in ("before", "after")]
    print(f"{len(cases) // 2} durable steps in two runs")
    # All of them take a while; each test run takes another sample.
    cases = sampled(rng, cases, 100)

    def check(case):
        number, (later, at, what) = case
        place = scene(number, bool(later))
        outcome = faulty.run(place.pipeline, *SMALL_CHUNKS, fault=Fault(DURABLE, at, what))
        while not outcome.faults:
            # How many steps there are depends on what the hub could write in one group: an earlier one, then.
            assert outcome.code == 0 and at > 1, outcome.said()
            place, at = place.again(), at * 3 // 4
            outcome = faulty.run(place.pipeline, *SMALL_CHUNKS, fault=Fault(DURABLE, at, what))
        assert outcome.code == -9, outcome.said()
        place.assert_kept()
        if (place.folder / ".seriatim").is_dir():
            assert_runs_make_sense(program, place.pipeline, ended=False, published=1 + later)
        place.assert_resumes()

    each(enumerate(cases), check)


def after_fault(outcome: Outcome) -> list[Call]:
    first = next(index for index, call in enumerate(outcome.calls) if call in outcome.faults)
    return outcome.calls[first + 1 :]


def assert_fenced(place: Scene, outcome: Outcome):
    """The hub that a sync has failed writes nothing more, and nothing is published that rests on it."""
    assert outcome.code == 1 and not outcome.out, outcome.said()
    assert "error: " in outcome.err and ADVICE.search(outcome.err), outcome.said()
    hub = [call for call in after_fault(outcome) if "/hub.db" in call.path and call.outcome == "done"]
    # One that never opened has promised nothing; SQLite tidies up after itself then.
    assert not hub or "cannot open the hub's store" in outcome.err, f"written after the failed sync: {hub}"
    named = [call for call in after_fault(outcome) if call.kind == "name" and call.other.endswith(MANIFEST)]
    assert not named, f"published after the failed sync: {named}"
    place.assert_kept()


def test_r4_the_hub_stops_at_the_first_sync_that_fails(program, faulty, undisturbed, scene, rng):  # noqa: F811
    syncs = undisturbed[0].count("sync", path="/hub.db")
    # The last ones are of a log that is tidied up when all is done; how many come before depends on what fits in a group.
    later = sampled(rng, list(range(FIRST_SYNCS + 1, syncs * 3 // 4)), 5)

    def check(case):
        number, at = case
        place = scene(number, False)
        outcome = faulty.run(place.pipeline, *SMALL_CHUNKS, fault=Fault(("sync",), at, EIO, path="/hub.db"))
        if not outcome.faults:
            assert at > FIRST_SYNCS and outcome.code == 0, outcome.said()
            return
        if at > FIRST_SYNCS and "could not be tidied up; nothing is lost" in outcome.err:
            # The run was faster than the one whose syncs were counted: this one is of the log when all is done.
            assert outcome.code == 0 and [Path(call.path).name for call in outcome.faults] == ["hub.db"], outcome.said()
            place.assert_resumes()
            return
        assert_fenced(place, outcome)
        statuses = assert_runs_make_sense(program, place.pipeline, ended=False, published=1)
        assert "done" not in statuses
        place.assert_resumes()

    each(enumerate([*range(1, FIRST_SYNCS + 1), *later]), check)


def assert_failed_well(place: Scene, outcome: Outcome) -> bool:
    """A fault that the program could not get over is an error that says what to do; one that it could has changed
    nothing. Whether it could."""
    if outcome.code == 0:
        assert tree(place.folder / "out") == place.expected, outcome.said()
        return True
    assert outcome.code == 1 and "error: " in outcome.err, outcome.said()
    assert "defect of the program" not in outcome.err and "panicked" not in outcome.err, outcome.said()
    assert ADVICE.search(outcome.err), outcome.said()
    if place.is_published:
        assert "nothing of this run was published" not in outcome.err, outcome.said()
    place.assert_kept()
    return False


def failures(faulty, scene, faults: list[tuple[bool, Fault]]) -> int:  # noqa: F811
    """Runs with each of these faults, in the first run or the second, and without it afterwards. How many failed."""

    def check(case) -> bool:
        number, (later, fault) = case
        place = scene(number, later)
        outcome = faulty.run(place.pipeline, *SMALL_CHUNKS, fault=fault)
        got_over = assert_failed_well(place, outcome)
        assert_runs_make_sense(place.shop.program, place.pipeline, ended=False, published=1 + later)
        place.assert_resumes()
        return bool(outcome.faults) and not got_over

    failed = sum(each(enumerate(faults), check))
    print(f"{failed} of {len(faults)} runs failed")
    return failed


def test_r4_a_disk_that_fails_the_first_syncs(faulty, scene):  # noqa: F811
    """Once, and from then on: a step that is done again writes its file anew; a hub never is."""
    once = [(False, Fault(("sync",), at, EIO)) for at in range(1, FIRST_SYNCS + 1)]
    for_good = [(False, Fault(("sync",), at, EIO, ALWAYS)) for at in range(1, FIRST_SYNCS + 1)]
    assert failures(faulty, scene, once + for_good) > FIRST_SYNCS


def test_g7_a_run_whose_work_folder_cannot_be_removed_is_done(program, faulty, scene):  # noqa: F811
    """Symptom: a run was published and told of as failed, with the advice that nothing of it was; the next one found
    nothing to do. Cause: removing the work folder was a step like any other, and its error the run's. Now what cannot
    be removed only takes room."""
    place = scene(0, False)
    outcome = faulty.run(place.pipeline, *SMALL_CHUNKS, fault=Fault(("remove",), 1, EIO, ALWAYS, path="/work/"))
    assert outcome.faults and outcome.code == 0, outcome.said()
    assert assert_runs_make_sense(program, place.pipeline, ended=True, published=1) == ["done"]
    place.assert_resumes()


def test_r4_a_disk_that_fails_writes_and_names(faulty, undisturbed, scene, rng):  # noqa: F811
    faults = []
    for kind in ("write", "name", "make", "remove", "sync"):
        for later, run in enumerate(undisturbed):
            points = range(1, run.count(kind) + 1)
            for error in (EIO, ENOSPC):
                chosen = sampled(rng, list(points), 2)
                faults += [(bool(later), Fault((kind,), at, error, rng.choice((1, ALWAYS)))) for at in chosen]
    failures(faulty, scene, faults)
