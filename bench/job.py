"""A job: which tables to make of which records, in terms that every tool understands.

The pipeline file of Seriatim and the queries of its peers are derived from the same job, so that nobody is asked for
less than another. This module must never import more than the standard library: it is part of what is measured.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Table:
    name: str
    #: The column of the natural key; None: every record is a row.
    key: str | None
    #: The column of the ID.
    id: str
    #: Tables, earlier in the list, whose IDs this one carries.
    references: list[str]
    #: Attributes.
    columns: list[str]


@dataclass(frozen=True)
class Transform:
    #: Projections and a condition, in SQL that all tools read alike.
    select: list[str]
    where: str


@dataclass(frozen=True)
class Job:
    name: str
    tables: list[Table]
    compression: str = "snappy"
    transform: Transform | None = None
    #: The files to read, in order; for a peer.
    sources: list[str] = field(default_factory=list)
    #: Where a peer writes: a folder of Parquet files for each table.
    output: str = "out"
    #: Where a peer keeps its key maps for later runs; None: there are none.
    kept: str | None = None
    threads: int = 2

    def table(self, name: str) -> Table:
        return next(table for table in self.tables if table.name == name)

    def keyed(self) -> list[Table]:
        return [table for table in self.tables if table.key]

    def ids_of(self, table: Table) -> list[str]:
        """The ID columns of the tables that a table refers to."""
        return [self.table(name).id for name in table.references]

    def keys_of(self, table: Table) -> list[str]:
        """The key columns of the tables that a table refers to."""
        return [self.table(name).key for name in table.references]

    def used(self, table: Table) -> list[str]:
        """The columns that a table is made from."""
        own = [table.key] if table.key else []
        return list(dict.fromkeys([*own, *self.keys_of(table), *table.columns]))

    def header(self, table: Table) -> list[str]:
        """The columns of a table, in order."""
        own = [table.key] if table.key else []
        return [table.id, *own, *self.ids_of(table), *table.columns]

    def columns(self) -> list[str]:
        """All columns that the job reads, each once."""
        return list(dict.fromkeys(column for table in self.tables for column in self.used(table)))

    def sql(self, source: str, *more: str) -> str:
        """The transformed records of `source`, with more columns of it in front."""
        if self.transform is None:
            return f"SELECT {', '.join([*more, '*'])} FROM {source}"
        return f"SELECT {', '.join([*more, *self.transform.select])} FROM {source} WHERE {self.transform.where}"

    def pipeline(self, files: str = "data/*.parquet") -> str:
        """The pipeline file: it reads `data`, or what is given, and writes `out` beside itself. JSON is YAML, too."""

        def written(table: Table) -> dict:
            entry = {"key": table.key, "id": table.id, "references": table.references, "columns": table.columns}
            return {name: value for name, value in entry.items() if value}

        document = {"version": 1, "name": self.name, "source": {"files": files}}
        if self.transform:
            document["transform"] = self.sql("source")
        document["tables"] = {table.name: written(table) for table in self.tables}
        document["output"] = {"path": "out", "compression": self.compression}
        document["state"] = "state"
        return json.dumps(document, indent=2)

    def save(self, path: Path):
        path.write_text(json.dumps(asdict(self)))


def load(path: Path) -> Job:
    fields = json.loads(path.read_text())
    fields["tables"] = [Table(**table) for table in fields["tables"]]
    fields["transform"] = Transform(**fields["transform"]) if fields["transform"] else None
    return Job(**fields)
