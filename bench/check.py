"""Whether two tools gave the same tables: `check.py JOB EXPECTED FOUND [PATTERN]`, with two output folders.

Two tables are the same if, sorted by ID, they have the same rows. Sorting 24 million rows takes longer than making
them, so the number of rows and the sum of the rows' hashes are compared, and rows are looked at only where these
differ. Integers and decimals may have other widths in the other table. PATTERN chooses the files of EXPECTED, if it
holds more than FOUND. This is never part of what is measured.
"""

import sys
from pathlib import Path

import duckdb

from job import Job, Table, load


def main(job: Job, expected: Path, found: Path, pattern: str = "*.parquet"):
    with duckdb.connect() as connection:
        connection.execute(f"SET threads = {job.threads}")
        connection.execute("SET preserve_insertion_order = false")
        for table in job.tables:
            files = sorted(str(path) for path in (expected / table.name).glob(pattern))
            compare(connection, table, files, f"{found}/{table.name}/*.parquet")


def compare(connection, table: Table, expected: list[str], found: str):
    if not expected:
        # A table that nothing was added to may have no file.
        [(rows,)] = connection.execute(f"SELECT count(*) FROM '{found}'").fetchall()
        if rows:
            sys.exit(f"{table.name}: no rows expected, {rows:,} found")
        return
    described = connection.execute(f"DESCRIBE FROM read_parquet({expected})").fetchall()
    columns = [column[0] for column in described]
    casts = [f"CAST({column[0]} AS {column[1]}) AS {column[0]}" for column in described]
    connection.execute(f"CREATE OR REPLACE VIEW expected AS FROM read_parquet({expected})")
    connection.execute(f"CREATE OR REPLACE VIEW found AS SELECT {', '.join(casts)} FROM '{found}'")
    summed = f"SELECT count(*), sum(hash({', '.join(columns)})::HUGEINT)"
    sums = [connection.execute(f"{summed} FROM {view}").fetchall()[0] for view in ("expected", "found")]
    if sums[0] == sums[1]:
        return
    differing = connection.execute(f"""
        SELECT * FROM (
            (SELECT 'expected' AS side, * FROM (FROM expected EXCEPT ALL FROM found))
            UNION ALL (SELECT 'found' AS side, * FROM (FROM found EXCEPT ALL FROM expected)))
        ORDER BY {table.id}, side LIMIT 6
    """)
    rows = "\n".join(str(row) for row in differing.fetchall())
    sys.exit(f"{table.name}: {sums[0][0]:,} rows expected, {sums[1][0]:,} found; the first that differ:\n{rows}")


if __name__ == "__main__":
    main(load(Path(sys.argv[1])), *map(Path, sys.argv[2:4]), *sys.argv[4:])
