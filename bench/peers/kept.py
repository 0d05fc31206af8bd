"""What a peer keeps between runs: key maps as Parquet files, and the number of rows of each table without a key.

Plain files without a journal: a peer that is killed half-way leaves a mess, and is not charged for preventing it. This
module must never import more than the standard library: it is part of what is measured.
"""

from pathlib import Path

from job import Job, Table


def files(job: Job, table: Table) -> list[str]:
    """The files of a table's key map: key and ID of all earlier runs."""
    return sorted(str(path) for path in Path(job.kept, table.name).glob("*.parquet")) if job.kept else []


def new_file(job: Job, table: Table) -> Path:
    """Where this run's new keys go."""
    folder = Path(job.kept, table.name)
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{len(files(job, table)):06}.parquet"


def rows(job: Job, table: Table) -> int:
    """How many rows earlier runs gave a table without a key."""
    path = Path(job.kept or "", f"{table.name}.rows")
    return int(path.read_text()) if job.kept and path.is_file() else 0


def add_rows(job: Job, table: Table, new: int):
    Path(job.kept, f"{table.name}.rows").write_text(str(rows(job, table) + new))
