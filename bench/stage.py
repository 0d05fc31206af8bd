"""The folders that a case runs in: its records, a fresh folder for each run, and what runs are compared with.

All lie in one working folder, in a file system in memory if there is one with room, so that the moods of a disk are not
measured. Nothing here is part of a measurement: it happens before or after.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from azurite import CONTAINER, Azurite, Relay
from cases import Case, Kind
from measure import measure
from variants import Tools, Variant

HERE = Path(__file__).resolve().parent
MEMORY = Path("/dev/shm")
#: A working folder holds the records of a case, a run's output and state, and the output it is compared with.
ROOM = 4


def working_folder(given: str | None, size: int) -> Path:
    """A new folder with room for a case whose records have so many bytes."""
    if given:
        Path(given).mkdir(parents=True, exist_ok=True)
    elif MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM * size:
        given = MEMORY
    else:
        print("no file system in memory has room: the disk is measured, too", file=sys.stderr)
    folder = Path(tempfile.mkdtemp(prefix="seriatim-bench-", dir=given))
    # A database server may run as another user.
    folder.chmod(0o711)
    return folder


class Stage:
    """One case, staged in a folder of its own."""

    def __init__(self, folder: Path, case: Case, sets: dict[str, list[Path]], tools: Tools):
        self.folder = folder
        self.case = case
        self.tools = tools
        #: How many records a run reads; known once there is a run.
        self.records = 0
        #: The records, and of these what a later run finds ingested already.
        self.data = folder / "data"
        self.earlier: list[Path] = []
        self.new: list[Path] = []
        self.data.mkdir()
        for place, name in enumerate(case.sets):
            files = [Path(shutil.copy(path, self.data / f"{place}-{path.name}")) for path in sets[name]]
            if case.kind is Kind.LATER and place < len(case.sets) - 1:
                self.earlier += files
            else:
                self.new += files
        #: Where the records are, too, in a case of objects.
        self.azurite: Azurite | None = None
        if case.kind is Kind.OBJECTS:
            self.azurite = Azurite()
            self.azurite.fill(self.new)

    def close(self):
        if self.azurite:
            self.azurite.stop()

    def traffic(self, variant: Variant) -> dict[str, int]:
        """Bytes that a run over objects reads, with all headers, and those of the columns that it uses."""
        relay = Relay(self.azurite.port)
        folder = self.fresh(variant)
        measure(variant.command(folder), folder, self.azurite.environment(relay.port))
        command = [self.tools.interpreter, HERE / "needed.py", ",".join(self.case.job.columns()), *self.new]
        needed = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout
        return {"read": relay.bytes, "needed": int(needed)}

    def prepare(self, variant: Variant):
        """The state that a variant's later runs start from: made once, copied for each run."""
        if self.earlier:
            base = self.base(variant)
            self.fill(base, self.earlier)
            measure(variant.command(base), base, variant.environment)

    def fresh(self, variant: Variant) -> Path:
        """A folder in which a variant can run: records, job and pipeline, and the state if there is one."""
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        self.fill(work, self.new if variant.is_peer else self.earlier + self.new)
        if self.earlier:
            for kept in ["kept"] if variant.is_peer else ["state", "out"]:
                shutil.copytree(self.base(variant) / kept, work / kept)
        return work

    def base(self, variant: Variant) -> Path:
        return self.folder / "base" / variant.slug

    def fill(self, work: Path, files: list[Path]):
        (work / "data").mkdir(parents=True)
        for path in files:
            (work / "data" / path.name).hardlink_to(path)
        sources = [str(work / "data" / path.name) for path in files]
        kept = str(work / "kept") if self.earlier else None
        job = replace(
            self.case.job, sources=sources, output=str(work / "out"), kept=kept, threads=self.tools.threads
        )
        job.save(work / "job.json")
        (work / "pipeline.yaml").write_text(job.pipeline())
        if self.case.kind is Kind.OBJECTS:
            (work / "objects.yaml").write_text(job.pipeline(f"az://{CONTAINER}/data/*.parquet"))

    def keep(self):
        """Makes the output of the run before, of Seriatim, that which others are compared with."""
        (self.folder / "work" / "out").rename(self.folder / "expected")
        self.records = manifest(self.folder / "expected")["runs"][-1]["records"]

    def compare(self, variant: Variant):
        """Ends the program if the output of the run before is not the one that was kept."""
        work = self.folder / "work"
        if not variant.is_peer:
            differing = sorted(set(published(work / "out")) ^ set(published(self.folder / "expected")))
            if differing:
                files = "\n".join(dict.fromkeys(path for path, _ in differing))
                sys.exit(f"{variant.name}: not the files that a run with the usual settings publishes:\n{files}")
            return
        # A later run adds its files to those of the first.
        pattern = "part-000002-*.parquet" if self.earlier else "*.parquet"
        command = [HERE / "check.py", work / "job.json", self.folder / "expected", work / "out", pattern]
        found = subprocess.run([self.tools.interpreter, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if found.returncode != 0:
            sys.exit(f"{variant.name} gives another result\n{found.stdout.decode(errors='replace')}")

    def forget(self):
        """Removes what is only needed for comparing."""
        shutil.rmtree(self.folder / "expected", ignore_errors=True)


def published(output: Path) -> list[tuple[str, str]]:
    """Path and checksum of every published file, by the manifest."""
    return [(file["path"], file["xxh3"]) for table in manifest(output)["tables"] for file in table["files"]]


def manifest(output: Path) -> dict:
    return json.loads((output / "_seriatim" / "manifest.json").read_text())
