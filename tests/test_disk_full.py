"""A disk that is full, with the real program on a small file system of its own: the state folder on it, or the output, or
both; in the first run, or in a later one; and with keys that leave memory for the disk. Whatever step finds no room, the
error says what to do, all that only reads goes on, and once there is room the next run ends with the bytes of a run that
nobody disturbed.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import HANG, Program, assert_verifies, scale, tree
from faulty import SMALL_CHUNKS, Shop, assert_runs_make_sense, each

#: Larger than all that a run leaves; what a test leaves free is a part of it.
DISK = 16 << 20
#: How much is free, for each place and kind of run: from nothing to nearly enough.
SIZES = max(2, round(6 * scale()))
#: A run's memory, so small that scans, mappings and keys go to the disk.
NO_MEMORY = ("--memory", "1KiB")


class Disk(Program):
    """A file system in memory that only a few processes see, and the program among them. It is gone with this."""

    def __init__(self, program: Program, place: Path):
        super().__init__(program.path)
        place.mkdir(parents=True)
        script = f'mount -t tmpfs -o size={DISK} tmpfs "$0" && echo mounted && exec cat'
        command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, str(place)]
        # It lives until its stdin ends, which it does with this process at the latest.
        self.holder = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        if self.holder.stdout.readline() != "mounted\n":
            why = self.holder.communicate()[1].strip()
            pytest.skip(f"a small file system cannot be mounted here: {why}")
        #: The file system as processes outside see it.
        self.seen = Path(f"/proc/{self.holder.pid}/root{place}")
        self.ballast = self.seen / "ballast"

    def start(self, *arguments, cwd: Path, env=None) -> subprocess.Popen:
        enter = ["nsenter", "--target", str(self.holder.pid), "--user", "--mount", "--preserve-credentials"]
        command = [*enter, "sh", "-c", 'cd "$0" && exec "$@"', str(cwd), str(self.path), *map(str, arguments)]
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
        )

    def leave(self, free: int):
        """Fills the disk up to so many bytes."""
        size = self.free() - free
        with open(self.ballast, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(size, 4096))

    def free(self) -> int:
        found = os.statvfs(self.seen)
        return found.f_bavail * found.f_frsize

    def close(self):
        self.holder.stdin.close()
        self.holder.wait(timeout=HANG)


@pytest.fixture(scope="module")
def shop(program, tmp_path_factory) -> Shop:
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        pytest.skip("there is no unshare or no nsenter")
    return Shop(program, tmp_path_factory.mktemp("shop"))


class Place:
    """A pipeline whose state folder, output or both are on a disk of their own."""

    def __init__(self, shop: Shop, folder: Path, on_disk: tuple[str, ...]):
        self.shop, self.folder = shop, folder.resolve()
        self.disk = Disk(shop.program, self.folder / "disk")
        text = shop.pipeline.read_text()
        for name in on_disk:
            setting = {"state": "\nstate: ", "output": "\n  path: "}[name]
            assert text.count(setting) == 1
            text = text.replace(setting, f"{setting}disk/")
        self.text = text
        self.output = self.disk.seen / "out" if "output" in on_disk else self.folder / "out"

    def pipeline(self, later: bool) -> Path:
        """The pipeline file, with the source files of the first run or those of the second too."""
        pipeline = self.shop.place(self.folder, later)
        pipeline.write_text(self.text)
        return pipeline

    def run(self, later: bool, *arguments) -> tuple[int, str]:
        process = self.disk.start("run", self.pipeline(later), *SMALL_CHUNKS, *arguments, cwd=self.folder)
        out, err = process.communicate(timeout=HANG)
        return process.returncode, f"{out}\n{err}"


@pytest.fixture(scope="module")
def undisturbed(shop, tmp_path_factory) -> tuple[list[dict[str, str]], dict[tuple, int]]:
    """What the runs publish; and the room that each of them takes, at most, by what is on the disk."""
    trees, needed = [], {}
    for on_disk in [("state",), ("output",), ("state", "output")]:
        place = Place(shop, tmp_path_factory.mktemp("undisturbed") / "shop", on_disk)
        trees = []
        for later in (False, True):
            before = place.disk.free()
            code, said = place.run(later, *NO_MEMORY)
            assert code == 0, said
            trees.append(tree(place.output))
            assert_verifies(place.disk, place.pipeline(later))
            # The log and the staged files are gone again; as much as is left is enough for them.
            needed[on_disk, later] = before - place.disk.free() + (600 << 10) * ("state" in on_disk)
        place.disk.close()
    return trees, needed


def test_r5_a_full_disk_is_an_error_that_says_so_and_the_run_goes_on_when_there_is_room(
    shop, undisturbed, tmp_path, rng
):
    trees, needed = undisturbed
    cases = []
    for (on_disk, later), room in needed.items():
        for index in range(SIZES):
            # More often little than much: most steps come when little is written.
            free = int(room * ((index + rng.random()) / SIZES) ** 2)
            cases.append((on_disk, later, free, NO_MEMORY if index % 2 else ()))

    def check(numbered) -> str:
        number, (on_disk, later, free, arguments) = numbered
        place = Place(shop, tmp_path / f"disk-{number}", on_disk)
        if later:
            code, said = place.run(False)
            assert code == 0, said
        before, expected = trees[0] if later else {}, trees[later]
        place.disk.leave(free)
        code, said = place.run(later, *arguments)
        if code != 0:
            # SQLite calls it a failing disk where it has no room for the memory that it shares.
            assert code == 1 and re.search("(?i)no space left|disk is full|a full or failing disk", said), said
            assert re.search("^help: .*run again", said, re.MULTILINE), said
            assert "defect of the program" not in said and "panicked" not in said, said
        # While there is no room, all that reads goes on, and readers find the last run whole.
        found, manifest = tree(place.output), "_seriatim/manifest.json"
        assert found.get(manifest) in (before.get(manifest), expected[manifest]), said
        assert all(expected.get(name) == digest for name, digest in found.items() if not name.startswith("_")), said
        pipeline = place.pipeline(later)
        if later:
            assert_verifies(place.disk, pipeline)
        has_state = (place.disk.seen / ".seriatim" if "state" in on_disk else place.folder / ".seriatim").is_dir()
        if has_state:
            assert_runs_make_sense(place.disk, pipeline, ended=False, published=1 + later)
        place.disk.ballast.unlink()
        again, text = place.run(later)
        assert again == 0, f"{said}\nand then, with room:\n{text}"
        assert tree(place.output) == expected, said
        assert_runs_make_sense(place.disk, pipeline, ended=True, published=1 + later)
        place.disk.close()
        return step_of(said) if code else "enough room"

    found = each(enumerate(cases), check)
    steps = {step: found.count(step) for step in sorted({*found})}
    print("\n".join(f"{count:4} {step}" for step, count in steps.items()))
    assert len(steps) > 4, "the disk was full in different steps"


def step_of(said: str) -> str:
    """What could not be done, without the names that differ from run to run."""
    error = next(line for line in said.splitlines() if line.startswith("error: "))
    error = re.sub(r"/\S*/(disk|disk-\d+)/", "", error)
    return re.sub(r"retail-\d+|\d{5,}|\d+-\d+", "N", error)
