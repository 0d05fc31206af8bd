"""Where a row comes from, months later: `who` and `ledger` against DuckDB, which works out by itself which record of which
file is the first one of each thing."""

import json
import shutil

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

FILES = "filename = true, file_row_number = true"

PIPELINE = """\
version: 1
name: shop
source: {files: data/*.parquet}
transform: |
  SELECT * REPLACE (lower(email) AS email) FROM source WHERE quantity > 0
tables:
  customers: {key: email, id: {column: customer_id, start: 1000, step: 10}, columns: [city]}
  orders: {key: [shop, order_no], id: order_id, references: [customers], on_null_key: quarantine}
  lines: {id: line_id, references: [orders], columns: [quantity]}
output: {path: out}
"""


def write(folder, name, rng, rows):
    def pick(values):
        return [rng.choice(values) for _ in range(rows)]

    emails = [None, *(f"{'AbC'[n % 3]}{n}@Example.org" for n in range(40))]
    columns = {
        "shop": pick(["N", "S"]),
        "order_no": pa.array(pick([None, *range(60)]), pa.int32()),
        "email": pick(emails),
        "city": pick(["Ulm", "Oslo", None]),
        "quantity": pa.array(pick([0, 1, 2, 3]), pa.int64()),
    }
    pq.write_table(pa.table(columns), folder / "data" / name, row_group_size=37)


@pytest.fixture
def shop(program, tmp_path, rng):
    """Two runs of two files each, in chunks that are not row groups."""
    (tmp_path / "data").mkdir()
    (tmp_path / "shop.yaml").write_text(PIPELINE)
    for name in ("a", "b", "c", "d"):
        write(tmp_path, f"{name}.parquet", rng, 150)
        if name in "bd":
            program.call("run", "shop.yaml", "--chunk-rows", 50, cwd=tmp_path)
    return tmp_path


def first_records(folder):
    """(table, ID) -> (file, row), by SQL over the sources."""
    db = duckdb.connect()
    db.execute(f"""
        create table records as
        select parse_filename(filename) as file, file_row_number as line, * replace (lower(email) as email)
        from read_parquet('{folder}/data/*.parquet', {FILES})
        where quantity > 0 and order_no is not null
    """)

    def firsts(keys, where="true"):
        # Files are named a to d: text and number together are in the order of the records.
        query = f"select min({{'file': file, 'line': line}}) as first from records where {where} group by {keys} order by first"
        return [(first["file"], first["line"]) for first, in db.execute(query).fetchall()]

    customers, orders = firsts("email", "email is not null"), firsts("shop, order_no")
    lines = db.execute("select file, line from records order by file, line").fetchall()
    return (
        {("customers", 1000 + 10 * n): place for n, place in enumerate(customers)}
        | {("orders", 1 + n): place for n, place in enumerate(orders)}
        | {("lines", 1 + n): place for n, place in enumerate(lines)}
    )


def who(program, folder, table, *ids):
    rows = json.loads(program.call("who", "shop.yaml", table, *ids, "--json", cwd=folder).stdout)["rows"]
    assert [row["id"] for row in rows] == list(ids)
    return rows


def test_each_row_is_traced_to_its_first_record(program, shop):
    expected = first_records(shop)
    sources = {name: pq.read_table(shop / "data" / name) for name in ("a.parquet", "b.parquet", "c.parquet", "d.parquet")}
    for table in ("customers", "orders", "lines"):
        ids = [id for of, id in expected if of == table]
        published = duckdb.execute(f"select * from '{shop}/out/{table}/*.parquet' order by 1").fetchall()
        assert [row[0] for row in published] == ids
        for row, values in zip(who(program, shop, table, *ids), published, strict=True):
            file, at = expected[table, row["id"]]
            assert (row["source_file"], row["source_row"]) == (f"data/{file}", at), row
            assert (row["run"], row["run_name"]) == ((1, "shop-1") if file in ("a.parquet", "b.parquet") else (2, "shop-2"))
            first, count = row["source_rows"]
            assert first <= at < first + count <= 150 and count <= 50
            assert row["remark"] is None and row["started"]
            text = lambda value: None if value is None else str(value)
            assert [value for _, value in row["values"]] == [text(value) for value in values]
            source = sources[file].slice(at, 1).to_pylist()[0]
            assert dict(map(tuple, row["source_values"])) == {name: text(value) for name, value in source.items()}
            out = pq.read_table(shop / "out" / row["output_file"]).slice(row["output_row"], 1)
            assert out.column(0)[0].as_py() == row["id"]


def test_the_ledger_accounts_for_every_id_and_every_record(program, shop):
    report = json.loads(program.call("ledger", "shop.yaml", "--json", cwd=shop).stdout)
    assert report["missing"] == []
    entries = report["entries"]
    assert [(e["run"], e["file"], e["first_row"], e["rows"]) for e in entries] == [
        (1, "data/a.parquet", 0, 150), (1, "data/b.parquet", 0, 150),
        (2, "data/c.parquet", 0, 150), (2, "data/d.parquet", 0, 150),
    ]
    expected = first_records(shop)
    given = {}
    for entry in entries:
        for table in entry["tables"]:
            if ids := table["ids"]:
                of = range(ids["first"], ids["last"] + ids["step"], ids["step"])
                assert len(of) == ids["count"]
                given |= {(table["table"], id): entry["file"] for id in of}
    assert given == {thing: f"data/{file}" for thing, (file, _) in expected.items()}
    only = json.loads(program.call("ledger", "shop.yaml", "--run", 2, "--table", "orders", "--json", cwd=shop).stdout)
    assert [[t["table"] for t in e["tables"]] for e in only["entries"]] == [["orders"], ["orders"]]
    assert {e["run"] for e in only["entries"]} == {2}
    text = program.call("ledger", "shop.yaml", cwd=shop).stdout
    assert "data/a.parquet" in text and "customers" in text and "0..149" in text


def test_what_can_be_told_is_told_when_the_source_or_the_state_is_gone(program, shop):
    before = who(program, shop, "orders", 3)[0]
    place = shop / before["source_file"]
    shutil.move(place, shop / "kept")
    gone = who(program, shop, "orders", 3)[0]
    assert gone["source_row"] is None and gone["source_values"] == [] and "there is no file" in gone["remark"]
    same = {name: before[name] for name in ("run", "source_file", "source_rows", "values", "output_file", "output_row")}
    assert same.items() <= gone.items()
    table = pq.read_table(shop / "kept")
    pq.write_table(table.slice(1), place)
    changed = who(program, shop, "orders", 3)[0]
    assert changed["source_row"] is None and "changed" in changed["remark"]
    shown = program.call("who", "shop.yaml", "orders", 3, cwd=shop).stdout
    assert "one of the rows" in shown and "remark" in shown
    shutil.move(shop / "kept", place)
    # A pipeline that leaves out other records now: no other record is taken for the one that was ingested.
    (shop / "shop.yaml").write_text(PIPELINE.replace("quantity > 0", "quantity > 2"))
    expected = first_records(shop)
    lines = [id for table, id in expected if table == "lines"]
    for row in who(program, shop, "lines", *lines):
        if row["source_row"] is not None:
            # A record with the same values may stand in its place; one with others never.
            values, source = dict(map(tuple, row["values"])), dict(map(tuple, row["source_values"]))
            assert values["quantity"] == source["quantity"], row
        else:
            assert "not found" in row["remark"], row
    (shop / "shop.yaml").write_text(PIPELINE)
    # Without its state folder, from what is kept beside the output.
    shutil.rmtree(shop / ".seriatim")
    lost = who(program, shop, "orders", 3)[0]
    assert same.items() <= lost.items() and lost["started"] is None
    assert "does not remember" in lost["remark"]
    program.call("recover", "shop.yaml", cwd=shop)
    found = who(program, shop, "orders", 3)[0]
    assert found | {"started": before["started"]} == before


def test_what_is_not_there_is_said_with_what_is(program, shop):
    for arguments, code, words in [
        (["who", "shop.yaml", "orders", 9999], 1, ["'orders' has no row with the order_id 9999", "1 to"]),
        (["who", "shop.yaml", "customers", 1001], 1, ["customer_id 1001", "1000 to", "step 10"]),
        (["who", "shop.yaml", "order", 1], 2, ["no table 'order'", "customers, orders, lines"]),
        (["ledger", "shop.yaml", "--run", 7], 2, ["has no run 7", "1 to 2"]),
        (["ledger", "shop.yaml", "--table", "x"], 2, ["no table 'x'"]),
    ]:
        failed = program.call(*arguments, cwd=shop, code=code)
        assert all(word in failed.stderr for word in words), failed.stderr
    shutil.rmtree(shop / "out")
    failed = program.call("who", "shop.yaml", "orders", 1, cwd=shop, code=1)
    assert "nothing is published" in failed.stderr
