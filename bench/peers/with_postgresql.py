"""The job done by PostgreSQL: copy in, distinct keys by their first place, row numbers, copy out.

It reads and writes no Parquet, so pyarrow stands on both sides, and CSV lies between. The server is made for the job;
that takes about a second of it. A transform is not supported. This module must never do what the job does not ask for.
"""

import subprocess
from pathlib import Path

import pyarrow
import pyarrow.csv
import pyarrow.parquet

from job import Job, Table
from peers.postgres_server import Server

#: Bytes of CSV that are converted at once.
BLOCK = 16 << 20


def run(job: Job, _form: str):
    pyarrow.set_cpu_count(job.threads)
    schema = pyarrow.parquet.read_schema(job.sources[0])
    types = {name: schema.field(name).type for name in job.columns()}
    output = Path(job.output)
    with Server(output.parent, job.threads) as server:
        load(server, job, types)
        for table in job.tables:
            if table.key:
                make_map(server, table)
            (output / table.name).mkdir(parents=True)
            save(server, job, table, types, output / table.name / "part-0.parquet")


def sql_type(kind: pyarrow.DataType) -> str:
    if pyarrow.types.is_decimal(kind):
        return f"numeric({kind.precision}, {kind.scale})"
    if pyarrow.types.is_timestamp(kind):
        return "timestamptz" if kind.tz else "timestamp"
    return {
        pyarrow.int32(): "integer", pyarrow.int64(): "bigint", pyarrow.float64(): "double precision",
        pyarrow.date32(): "date", pyarrow.string(): "text", pyarrow.bool_(): "boolean",
    }[kind]


def load(server: Server, job: Job, types: dict[str, pyarrow.DataType]):
    """Copies the records in, each with its place: 0, 1, 2, ..."""
    columns = ", ".join(f"{name} {sql_type(kind)}" for name, kind in types.items())
    server.execute(f"CREATE UNLOGGED TABLE source (place bigint, {columns})")
    process = server.psql("COPY source FROM STDIN (FORMAT csv)", stdin=subprocess.PIPE)
    options = pyarrow.csv.WriteOptions(include_header=False)
    place = 0
    for path in job.sources:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(131_072, columns=list(types)):
            batch = batch.select(list(types))
            places = pyarrow.array(range(place, place + batch.num_rows), pyarrow.int64())
            place += batch.num_rows
            batch = pyarrow.RecordBatch.from_arrays([places, *batch.columns], ["place", *types])
            pyarrow.csv.write_csv(batch, process.stdin, options)
    process.stdin.close()
    if process.wait() != 0:
        raise SystemExit("the records could not be copied in")
    server.execute("ANALYZE source")


def make_map(server: Server, table: Table):
    key = table.key
    server.execute(f"""
        CREATE UNLOGGED TABLE map_{table.name} AS
        SELECT row_number() OVER (ORDER BY place) AS {table.id}, {key} AS key, place
        FROM (SELECT {key}, min(place) AS place FROM source WHERE {key} IS NOT NULL GROUP BY {key}) AS found
    """)
    server.execute(f"ANALYZE map_{table.name}")


def save(server: Server, job: Job, table: Table, types: dict[str, pyarrow.DataType], path: Path):
    """Copies a table out, in the order of its IDs."""
    joins = " ".join(
        f"LEFT JOIN map_{name} AS {name} ON {name}.key = s.{job.table(name).key}" for name in table.references
    )
    ids = [f"{name}.{job.table(name).id}" for name in table.references]
    columns = [f"s.{column}" for column in table.columns]
    if table.key:
        joins = f"JOIN map_{table.name} AS own ON own.place = s.place {joins}"
        columns = [f"own.{table.id}", "own.key", *ids, *columns]
    else:
        columns = ["s.place + 1", *ids, *columns]
    process = server.psql(
        f"COPY (SELECT {', '.join(columns)} FROM source AS s {joins} ORDER BY 1) TO STDOUT (FORMAT csv)",
        stdout=subprocess.PIPE,
    )
    reader = pyarrow.csv.open_csv(
        process.stdout,
        pyarrow.csv.ReadOptions(column_names=job.header(table), block_size=BLOCK),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={name: types.get(name, pyarrow.int64()) for name in job.header(table)},
            null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False,
        ),
    )
    codec, _, level = job.compression.rstrip(")").partition("(")
    level = int(level) if level else None
    with pyarrow.parquet.ParquetWriter(path, reader.schema, compression=codec, compression_level=level) as writer:
        for batch in reader:
            writer.write_batch(batch)
    if process.wait() != 0:
        raise SystemExit(f"{table.name} could not be copied out")
