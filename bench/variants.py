"""The variants of a case: who does the job, and by which command.

This module must never run anything; it says what would be run in a folder that `stage.py` has made ready.
"""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from azurite import Azurite
from cases import Case, Kind
from peers import postgres_server

HERE = Path(__file__).resolve().parent
#: The names of the tools in tables and charts, and of their forms in `peers`.
PEERS = {
    "DuckDB": ["semi-join", "any_value"],
    "Polars": ["any order", "in order"],
}
#: The form of a run over objects.
OBJECTS = "from Azurite"
OPTIONAL = {"spark": "Spark", "postgres": "PostgreSQL"}


@dataclass(frozen=True)
class Variant:
    tool: str
    #: What tells it from other variants of its tool.
    form: str
    #: The command, given the folder that it runs in.
    command: Callable[[Path], list]
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return " ".join(filter(None, [self.tool, self.form]))

    @property
    def is_peer(self) -> bool:
        return self.tool not in ("Seriatim", "floor")

    @property
    def slug(self) -> str:
        """Its name as that of a folder."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.name)


@dataclass(frozen=True)
class Tools:
    """What there is to run, and how."""

    program: Path
    interpreter: Path
    threads: int
    #: The program of `floor/`, if it was asked for.
    floor: Path | None
    peers: bool
    #: Those of OPTIONAL that were asked for.
    more: list[str]


def of(case: Case, tools: Tools, azurite: Azurite | None) -> list[Variant]:
    """All variants of a case, Seriatim as anybody runs it first."""
    found = [ours(tools)]
    if azurite:
        return [*found, over_objects(tools, azurite)]
    if case.journal:
        found.append(ours(tools, "--journal", "off"))
    if case.kind is Kind.MEMORY:
        return [*found, ours(tools, "--memory", "512MiB")]
    if tools.peers:
        found += [peer(tools, tool, form) for tool, forms in PEERS.items() for form in forms]
    found += [peer(tools, OPTIONAL[name], "") for name in tools.more if can(name, case)]
    if tools.floor and case.kind is Kind.FIRST and not case.job.transform:
        found += [floor(tools, case, "decode"), floor(tools, case, "encode")]
    return found


def ours(tools: Tools, *more: str) -> Variant:
    def command(folder: Path) -> list:
        return [tools.program, "run", folder / "pipeline.yaml", "--quiet", "--workers", tools.threads, *more]

    return Variant("Seriatim", " ".join(more), command)


def over_objects(tools: Tools, azurite: Azurite) -> Variant:
    def command(folder: Path) -> list:
        return [tools.program, "run", folder / "objects.yaml", "--quiet", "--workers", tools.threads]

    return Variant("Seriatim", OBJECTS, command, azurite.environment())


def peer(tools: Tools, tool: str, form: str) -> Variant:
    def command(folder: Path) -> list:
        return [tools.interpreter, HERE / "peer.py", f"{tool.lower()}:{form}", folder / "job.json"]

    return Variant(tool, form, command, {"POLARS_MAX_THREADS": str(tools.threads)})


def floor(tools: Tools, case: Case, mode: str) -> Variant:
    def command(folder: Path) -> list:
        columns = ",".join(case.job.columns())
        files = sorted((folder / "data").glob("*.parquet"))
        return [tools.floor, mode, tools.threads, case.job.compression, columns, folder / "out", *files]

    return Variant("floor", mode, command)


def can(name: str, case: Case) -> bool:
    """Whether an optional tool does the job of a case: none keeps key maps, PostgreSQL's SQL has no DOUBLE."""
    return case.kind is Kind.FIRST and (name != "postgres" or case.job.transform is None)


def missing(name: str, interpreter: Path) -> str | None:
    """Why an optional tool cannot run; None if it can."""
    if name == "spark":
        if not shutil.which("java"):
            return "there is no java"
        found = subprocess.run([interpreter, "-c", "import pyspark"], capture_output=True)
        return None if found.returncode == 0 else f"say: {interpreter} -m pip install pyspark==4.3.0"
    return None if postgres_server.binaries() else "there is no initdb, in the path or in /usr/lib/postgresql"

