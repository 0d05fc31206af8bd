"""G5 and G8 when the power is cut: the process is gone, and with it what was not synced. The program is killed at a
random call that changes a file. Then what its log of calls shows as not synced is taken away: the end of a file that was
written since its last sync, and a name that was given since its folder's last sync; each of them, or some by chance.
The next runs end with the bytes of runs that nobody disturbed.

That this finds a sync that is missing is proved by leaving some out.
"""

import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import assert_verifies, scale, tree
from faulty import (  # noqa: F401 (a fixture)
    SMALL_CHUNKS, Call, Fault, Outcome, Shop, assert_nothing_half_written, assert_resumes, each, faulty,
)

CHANGES = ("write", "name", "make", "remove", "sync")
CUTS = max(1, round(40 * scale()))
#: Syncs that are left out, each group by itself; of so many cuts with everything lost, one must be noticed.
LEFT_OUT = [
    "/hub.db-wal", "/staging/", "/keys/", "/work/", "/out/_seriatim/manifest", "/out/customers", "/retail/files",
]
TRIES = 40


@dataclass
class Content:
    """What a file holds, whatever its names are."""

    #: Its size when it was last synced; `None` if it is older than the log and was not synced since.
    synced: int | None = None
    is_dirty: bool = False


class Lost:
    """What the disk may have lost when the power is cut after these calls."""

    def __init__(self, calls: list[Call], folder: Path, kept: Path):
        self.folder, self.kept = folder, kept
        self.files: dict[str, Content] = {}
        #: Names that were given while their folder was not synced since, in order.
        self.names: list[Call] = []
        for call in calls:
            if call.outcome in ("done", "killed after"):
                self.take(call)

    def take(self, call: Call):
        content = self.files.get(call.path) or Content()
        if call.kind == "make" and call.name != "mkdir":
            if call.detail:
                content = Content(0, is_dirty=True)
            self.files[call.path] = content
        elif call.kind == "write":
            content.is_dirty = True
            self.files[call.path] = content
        elif call.kind == "sync" and (self.folder / call.path[1:]).is_dir():
            self.names = [name for name in self.names if os.path.dirname(name.other) != call.path]
        elif call.kind == "sync":
            content.synced, content.is_dirty = int(call.detail), False
            self.files[call.path] = content
        elif call.kind == "name":
            self.names.append(call)
            self.files[call.other] = content
            if "rename" in call.name:
                self.files.pop(call.path, None)
        elif call.kind == "remove":
            self.files.pop(call.path, None)

    def place(self, name: str) -> Path:
        return self.folder / name[1:]

    def lose(self, is_lost) -> int:
        """Takes away what `is_lost`, which is asked for each thing; gives how many were."""
        lost = 0
        for name, content in self.files.items():
            if content.is_dirty and content.synced is not None and self.place(name).is_file() and is_lost():
                os.truncate(self.place(name), min(content.synced, self.place(name).stat().st_size))
                content.is_dirty = False
                lost += 1
        for call in reversed(self.names):
            old, new = self.place(call.path), self.place(call.other)
            if not new.exists() or not is_lost():
                continue
            if "link" in call.name:
                new.unlink()
            elif old.parent.is_dir() and not old.exists():
                new.rename(old)
            else:
                continue
            if call.detail:
                os.link(self.kept / call.detail, new)
            lost += 1
        return lost


@pytest.fixture(scope="module")
def shop(program, tmp_path_factory) -> Shop:
    return Shop(program, tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def published(shop, tmp_path_factory) -> Path:
    return shop.published(tmp_path_factory.mktemp("published") / "shop").parent


@pytest.fixture(scope="module")
def undisturbed(program, shop, faulty, tmp_path_factory) -> list[tuple[dict[str, str], list[Call]]]:  # noqa: F811
    """What the first run and the second publish, and the calls that they make."""
    folder, found = tmp_path_factory.mktemp("undisturbed").resolve() / "shop", []
    for later in (False, True):
        pipeline = shop.place(folder, later)
        outcome = faulty.run(pipeline, *SMALL_CHUNKS, fault=Fault(CHANGES))
        assert outcome.code == 0, outcome.said()
        assert_verifies(program, pipeline)
        found.append((tree(folder / "out"), outcome.calls))
    return found


def cut(shop, published, faulty, folder: Path, later: bool, fault: Fault, is_lost) -> tuple[Outcome, int]:  # noqa: F811
    """A run whose power is cut, in a folder of its own. How it ended, and how many things were lost."""
    folder = folder.resolve()
    if later:
        shutil.copytree(published, folder, symlinks=True)
    kept = folder.with_name(f"{folder.name}.kept")
    kept.mkdir()
    outcome = faulty.run(shop.place(folder, later), *SMALL_CHUNKS, fault=fault, keep=kept)
    lost = Lost(outcome.calls, folder, kept).lose(is_lost)
    shutil.rmtree(kept)
    return outcome, lost


def assert_goes_on(program, shop, undisturbed, folder: Path, later: bool):
    """The next run ends what was begun; in the first run's place, the second one then goes on from it."""
    for index in range(later, 2):
        pipeline = shop.place(folder, bool(index))
        assert_nothing_half_written(folder, undisturbed[index][0])
        assert_resumes(program, pipeline, undisturbed[index][0], 1 + index)
    shutil.rmtree(folder)


def test_g5_a_power_cut_at_any_moment_loses_nothing_that_matters(
    program, shop, published, faulty, undisturbed, tmp_path, rng  # noqa: F811
):
    cases = []
    for index in range(CUTS):
        later = index % 3 == 2
        # Some after the end: what was said to be done is on disk.
        at = rng.randint(1, round(len(undisturbed[later][1]) * 1.05))
        cases.append((index, later, at, rng.choice(("before", "after")), rng.choice((0.5, 1.0)), rng.random()))

    def check(case):
        index, later, at, what, share, seed = case
        chance = random.Random(seed)
        folder = tmp_path / f"cut-{index}"
        fault = Fault(CHANGES, at, what)
        outcome, lost = cut(shop, published, faulty, folder, later, fault, lambda: chance.random() < share)
        assert outcome.code == (-9 if outcome.faults else 0), outcome.said()
        assert_goes_on(program, shop, undisturbed, folder, later)
        return lost

    lost = each(cases, check)
    print(f"{CUTS} cuts took {sum(lost)} things away")
    assert sum(lost) > CUTS, "there was something to lose"


@pytest.mark.parametrize("left_out", LEFT_OUT)
def test_a_sync_that_is_left_out_is_noticed(
    program, shop, published, faulty, undisturbed, tmp_path, rng, left_out  # noqa: F811
):
    """This tests the test above: had the program not this sync, cuts would be noticed."""
    calls = len(undisturbed[0][1])
    for index in range(TRIES):
        # What a sync protects matters most when the run is about to be published, or is.
        at = rng.randint(calls * 3 // 4, calls + 5)
        folder = tmp_path / f"cut-{index}"
        fault = Fault(CHANGES, at, "after", skip=left_out)
        cut(shop, published, faulty, folder, False, fault, lambda: True)
        try:
            assert_goes_on(program, shop, undisturbed, folder, False)
        except AssertionError as error:
            print(f"{left_out}: noticed at cut {index + 1}: {str(error).splitlines()[0]}")
            return
    raise AssertionError(f"nobody noticed in {TRIES} cuts that syncs of {left_out} were left out")
