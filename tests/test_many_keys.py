"""Ten million distinct keys in one run: each has one ID, there are no gaps, and the order is that of the first records.
What is expected is worked out by DuckDB, which shares no code with the program."""

import duckdb

from conftest import assert_verifies

KEYS, AGAIN, FILES = 10_000_000, 400_000, 3

PIPELINE = """\
version: 1
name: many
source: {files: data/*.parquet}
tables:
  things: {key: key, id: thing_id}
  lines: {id: line_id, references: [things], columns: [line]}
output: {path: out}
"""


def test_g1_g2_g4_g7_ten_million_distinct_keys_have_ten_million_dense_ids(program, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    db = duckdb.connect()
    # Multiplied by an odd number, keys are distinct, of all lengths, and in no order; some of them come again.
    db.execute(f"""
        create table records as
        select line, (case when line < {KEYS} then line else (line * 7919) % {KEYS} end * 2654435761) % 4294967296 as key
        from range({KEYS + AGAIN}) r(line)
    """)

    def only(query: str) -> tuple:
        return db.execute(query).fetchall()[0]

    assert only("select count(distinct key) from records") == (KEYS,)
    for file in range(FILES):
        db.execute(f"""
            copy (select key::bigint as key, line::bigint as line from records
                  where line * {FILES} // {KEYS + AGAIN} = {file} order by line)
            to '{tmp_path}/data/{file}.parquet' (format parquet, row_group_size 500000)
        """)
    program.call("run", "pipeline.yaml", cwd=tmp_path)
    things, lines = f"'{tmp_path}/out/things/*.parquet'", f"'{tmp_path}/out/lines/*.parquet'"
    counts = "count(*), count(distinct thing_id), min(thing_id), max(thing_id), count(distinct key)"
    assert only(f"select {counts} from {things}") == (KEYS, KEYS, 1, KEYS, KEYS)
    # A key's ID is one more than how many keys have come before its first record: that is the line it stands in.
    wrong = only(f"""
        select count(*) from {things} t left join (select key, min(line) as first from records group by key) e using (key)
        where e.first is distinct from t.thing_id - 1
    """)
    assert wrong == (0,)
    astray = only(f"""
        select count(*), count(*) filter (where r.key is distinct from t.key or l.line_id is distinct from l.line + 1)
        from {lines} l left join {things} t using (thing_id) left join records r using (line)
    """)
    assert astray == (KEYS + AGAIN, 0)
    assert_verifies(program, tmp_path / "pipeline.yaml")
