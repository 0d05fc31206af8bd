"""The job done by DuckDB, in two forms that differ in how attributes come to their keys.

`semi-join`: the first place of each key by `min`, then the records at these places. `any_value`: key, first place and
attributes in one aggregation, which may take any record's attributes because the data's keys determine them.

Tried, and slower or no faster: `row_number` over all records where their place will do, all records in a table in
memory instead of reading columns again, output in any order; for later runs, key maps in a DuckDB database. This
module must never do what the job does not ask for.
"""

from pathlib import Path

import duckdb

from job import Job, Table
from peers import kept


def run(job: Job, form: str):
    with duckdb.connect() as connection:
        connection.execute(f"SET threads = {job.threads}")
        make_source(connection, job)
        for table in job.tables:
            folder = Path(job.output, table.name)
            folder.mkdir(parents=True)
            query = FORMS[form](connection, job, table) if table.key else lines(job, table)
            connection.execute(f"COPY ({query}) TO '{folder}/part-0.parquet' (FORMAT parquet, {compression(job)})")
        if job.kept:
            keep(connection, job)


def compression(job: Job) -> str:
    codec, _, level = job.compression.rstrip(")").partition("(")
    return f"COMPRESSION {codec}" + (f", COMPRESSION_LEVEL {level}" if level else "")


def make_source(connection, job: Job):
    """The records, each with its place: 0, 1, 2, ... What a transform leaves is kept as a table, so that it is computed
    once and numbered without gaps: its rows lie in the order of the records."""
    parts = []
    before = 0
    for path in job.sources:
        place = [] if job.transform else [f"{before} + file_row_number AS place"]
        parts.append(job.sql(f"read_parquet('{path}', file_row_number = true)", *place))
        counted = connection.execute(f"SELECT num_rows FROM parquet_file_metadata('{path}')").fetchall()
        before += counted[0][0]
    records = " UNION ALL ".join(parts)
    if job.transform:
        connection.execute(f"CREATE TABLE records AS {records}")
        records = "SELECT rowid AS place, * FROM records"
    connection.execute(f"CREATE VIEW source AS {records}")


def number(connection, job: Job, table: Table, found: str):
    """Makes the map of a table: the keys of the query `found` with their IDs. A key that is new has its place, too, and
    whatever else `found` gives."""
    if not kept.files(job, table):
        connection.execute(f"""
            CREATE TABLE map_{table.name} AS SELECT row_number() OVER (ORDER BY place) AS {table.id}, * FROM ({found})
        """)
        return
    known = f"read_parquet({kept.files(job, table)})"
    connection.execute(f"CREATE TABLE found_{table.name} AS {found}")
    connection.execute(f"""
        CREATE TABLE map_{table.name} AS
        SELECT (SELECT count(*) FROM {known}) + row_number() OVER (ORDER BY place) AS {table.id}, *
        FROM found_{table.name} ANTI JOIN {known} USING ({table.key})
        UNION ALL BY NAME
        SELECT {table.id}, {table.key} FROM {known} SEMI JOIN found_{table.name} USING ({table.key})
    """)


def selected(job: Job, table: Table, own: str) -> str:
    """The columns of a table after its ID; `own` is where its key comes from, `s` where its attributes do."""
    key = [f"{own}.{table.key}"] if table.key else []
    ids = [f"{name}.{job.table(name).id}" for name in table.references]
    return ", ".join([*key, *ids, *(f"s.{column}" for column in table.columns)])


def joins(job: Job, table: Table) -> str:
    return " ".join(
        f"LEFT JOIN map_{name} AS {name} ON {name}.{job.table(name).key} = s.{job.table(name).key}"
        for name in table.references
    )


def things_by_semi_join(connection, job: Job, table: Table) -> str:
    key = table.key
    number(
        connection, job, table, f"SELECT {key}, min(place) AS place FROM source WHERE {key} IS NOT NULL GROUP BY {key}"
    )
    return f"""
        SELECT own.{table.id}, {selected(job, table, "own")}
        FROM source AS s JOIN map_{table.name} AS own ON own.place = s.place {joins(job, table)}
        ORDER BY own.{table.id}
    """


def things_by_any_value(connection, job: Job, table: Table) -> str:
    key = table.key
    others = "".join(f", any_value({column}) AS {column}" for column in job.used(table) if column != key)
    number(
        connection, job, table,
        f"SELECT {key}, min(place) AS place {others} FROM source WHERE {key} IS NOT NULL GROUP BY {key}",
    )
    return f"""
        SELECT s.{table.id}, {selected(job, table, "s")} FROM map_{table.name} AS s {joins(job, table)}
        WHERE s.place IS NOT NULL ORDER BY s.{table.id}
    """


FORMS = {"semi-join": things_by_semi_join, "any_value": things_by_any_value}


def lines(job: Job, table: Table) -> str:
    """The table without a key. Its rows come in the order of the records without being asked to."""
    number = f"s.place + {kept.rows(job, table) + 1} AS {table.id}"
    return f"SELECT {number}, {selected(job, table, 's')} FROM source AS s {joins(job, table)}"


def keep(connection, job: Job):
    """Leaves the new keys, and how many rows there are without one, for later runs."""
    for table in job.tables:
        if table.key:
            query = f"SELECT {table.key}, {table.id} FROM map_{table.name} WHERE place IS NOT NULL"
            connection.execute(f"COPY ({query}) TO '{kept.new_file(job, table)}' (FORMAT parquet, COMPRESSION snappy)")
        else:
            [(rows,)] = connection.execute("SELECT count(*) FROM source").fetchall()
            kept.add_rows(job, table, rows)
