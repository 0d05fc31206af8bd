"""Partitions and the size of files, as readers see them: DuckDB and PyArrow read the folders as Hive's, `deltalake` as a
partitioned table, and what they find is what DuckDB computes from the source. Killed anywhere, the program ends with the
same folders and the same bytes.
"""

import datetime
import json
import random
import shutil
import signal
from pathlib import Path
from urllib.parse import quote

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from cluster import Cluster, ends_well
from conftest import assert_verifies, tree
from faulty import Fault, each, faulty  # noqa: F401 (a fixture)
from test_faults import DURABLE, sampled

COUNTRIES = ["DE", "FR", "Côte d'Ivoire", "a/b=c%20 d", "..", "日本", None]
CHUNKS = ("--chunk-rows", 500)
PIPELINE = """
version: 1
name: parts
source: {{files: data/*.parquet}}
tables:
  customers:
    key: [country, customer]
    id: customer_id
    columns: [active]
    on_conflict: last
    partition_by: [country]
  sales:
    id: {{column: sale_id, start: 100, step: -3}}
    references: [customers]
    columns: [country, day, active, amount]
    partition_by: [day, active]
  notes:
    columns: [country, amount]
    partition_by: [country]
output: {{path: out, format: {format}}}
"""


def write_source(folder: Path, file: int, rows: int) -> None:
    rng = random.Random(file)
    country = [rng.choice(COUNTRIES) for _ in range(rows)]
    pq.write_table(
        pa.table({
            "country": pa.array(country),
            "customer": pa.array([rng.randrange(200) for _ in range(rows)], pa.int32()),
            "active": pa.array([rng.choice([True, False, None]) for _ in range(rows)]),
            "day": pa.array([datetime.date(2025, 1, 1) + datetime.timedelta(rng.randrange(3)) for _ in range(rows)]),
            "amount": pa.array([rng.random() for _ in range(rows)]),
        }),
        folder / f"data/{file}.parquet",
        row_group_size=700,
    )


def place(folder: Path, form: str, later: bool = False) -> Path:
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for file in range(3 if later else 2):
        (folder / f"data/{file}.parquet").exists() or write_source(folder, file, 3000)
    pipeline = folder / "parts.yaml"
    pipeline.write_text(PIPELINE.format(format=form))
    return pipeline


def ask(query: str) -> list[tuple]:
    with duckdb.connect() as db:
        return db.execute(query).fetchall()


def hive(folder: Path, table: str, columns: dict[str, str]) -> str:
    types = ", ".join(f"{name}: {kind}" for name, kind in columns.items())
    depth = "/".join("*" for _ in columns)
    return (
        f"read_parquet('{folder}/out/{table}/{depth}/*.parquet', hive_partitioning = true, hive_types = {{{types}}}, "
        "filename = true, file_row_number = true)"
    )


def assert_same(one: str, other: str) -> None:
    for a, b in ((one, other), (other, one)):
        difference = ask(f"({a}) EXCEPT ALL ({b})")
        assert not difference, difference[:3]


def assert_is_the_source(folder: Path, count: int) -> None:
    files = [str(folder / f"data/{file}.parquet") for file in range(count)]
    source = f"read_parquet({files}, filename = true, file_row_number = true)"
    sales = hive(folder, "sales", {"day": "DATE", "active": "BOOLEAN"})
    # Each record, with the ID of its place.
    numbered = f"SELECT *, row_number() OVER (ORDER BY filename, file_row_number) - 1 AS place FROM {source}"
    assert_same(
        f"SELECT 100 - 3 * place, country, day, active, amount FROM ({numbered})",
        f"SELECT sale_id, country, day, active, amount FROM {sales}",
    )
    unsorted = f"SELECT sale_id, lag(sale_id) OVER (PARTITION BY day, active ORDER BY filename, file_row_number) before FROM {sales}"
    assert ask(f"SELECT count(*) FROM ({unsorted}) WHERE sale_id > before") == [(0,)]
    customers = hive(folder, "customers", {"country": "VARCHAR"})
    assert_same(
        f"SELECT DISTINCT country, customer FROM {source} WHERE country IS NOT NULL",
        f"SELECT country, customer FROM {customers}",
    )
    ids = ask(f"SELECT count(DISTINCT customer_id), min(customer_id), max(customer_id), count(*) FROM {customers}")[0]
    assert ids[0] == ids[2] == ids[3] and ids[1] == 1, ids
    # A sale refers to the customer that its record names.
    strangers = f"""
        SELECT count(*) FROM ({numbered}) s JOIN {sales} f ON f.sale_id = 100 - 3 * s.place
        LEFT JOIN {customers} c USING (customer_id)
        WHERE s.country IS DISTINCT FROM c.country OR (s.country IS NOT NULL AND s.customer IS DISTINCT FROM c.customer)"""
    assert ask(strangers) == [(0,)]
    # A table without key or ID keeps its records, in their order within a partition.
    notes = hive(folder, "notes", {"country": "VARCHAR"})
    order = "ORDER BY filename, file_row_number"
    assert_same(
        f"SELECT country, list(amount ORDER BY place) FROM ({numbered}) GROUP BY country",
        f"SELECT country, list(amount {order}) FROM {notes} GROUP BY country",
    )
    # A partition has one file of a run: chunks and spans leave no crowd.
    assert ask(f"SELECT max(n) FROM (SELECT day, active, count(DISTINCT filename) n FROM {sales} GROUP BY ALL)") == [(count - 1,)]


def test_readers_of_hive_s_folders_find_what_duckdb_computes(program, tmp_path):
    pipeline = place(tmp_path, "parquet")
    program.call("run", pipeline, *CHUNKS, cwd=tmp_path)
    assert_is_the_source(tmp_path, 2)
    place(tmp_path, "parquet", later=True)
    program.call("run", pipeline, *CHUNKS, cwd=tmp_path)
    assert_is_the_source(tmp_path, 3)
    assert_verifies(program, pipeline)
    # PyArrow reads the same names; a partition's column is in no file.
    found = ds.dataset(tmp_path / "out/customers", partitioning=ds.partitioning(flavor="hive")).to_table()
    assert set(found["country"].to_pylist()) == {country for country in COUNTRIES if country}
    for table, columns in (("customers", {"country"}), ("sales", {"day", "active"}), ("notes", {"country"})):
        for file in (tmp_path / "out" / table).rglob("*.parquet"):
            assert not columns & set(pq.read_schema(file).names)
    assert (tmp_path / "out/notes/country=__HIVE_DEFAULT_PARTITION__").is_dir()
    assert (tmp_path / "out/notes/country=a%2Fb%3Dc%2520%20d").is_dir()
    # Where a row of a partition comes from.
    told = program.json("who", pipeline, "sales", 100 - 3 * 4321, cwd=tmp_path)["rows"][0]
    assert (told["source_file"], told["source_row"]) == ("data/1.parquet", 1321)
    assert told["output_file"].startswith("sales/day=2025-01-0")
    told = program.json("who", pipeline, "customers", 7, cwd=tmp_path)["rows"][0]
    country = dict(told["values"])["country"]
    assert told["output_file"].startswith(f"customers/country={quote(country, safe='')}/")


def test_a_delta_table_has_partition_columns(program, tmp_path):
    pipeline = place(tmp_path, "delta")
    program.call("run", pipeline, *CHUNKS, cwd=tmp_path)
    place(tmp_path, "delta", later=True)
    program.call("run", pipeline, *CHUNKS, cwd=tmp_path)
    assert_is_the_source(tmp_path, 3)
    assert_verifies(program, pipeline)
    for table, columns in (("customers", ["country"]), ("sales", ["day", "active"]), ("notes", ["country"])):
        delta = DeltaTable(str(tmp_path / "out" / table))
        assert delta.metadata().partition_columns == columns and delta.version() == 1
    source = pa.concat_tables([pq.read_table(tmp_path / f"data/{file}.parquet") for file in range(3)])
    sales = DeltaTable(str(tmp_path / "out/sales")).to_pyarrow_table().sort_by([("sale_id", "descending")])
    for column in ("country", "day", "active", "amount"):
        assert sales[column].to_pylist() == source[column].to_pylist(), column
    one = DeltaTable(str(tmp_path / "out/notes")).to_pyarrow_table(filters=[("country", "=", "a/b=c%20 d")])
    assert len(one) == source["country"].to_pylist().count("a/b=c%20 d")


@pytest.mark.parametrize("form", ["parquet", "delta"])
def test_g5_g8_killed_at_any_step_it_publishes_the_same_folders(program, faulty, tmp_path, rng, form):  # noqa: F811
    undisturbed = (tmp_path / "undisturbed").resolve()
    trees, steps = [], []
    for later in (False, True):
        outcome = faulty.run(place(undisturbed, form, later), *CHUNKS, fault=Fault(DURABLE))
        assert outcome.code == 0, outcome.said()
        trees.append(tree(undisturbed / "out"))
        steps.append(sum(call.kind in DURABLE for call in outcome.calls))
    first = tmp_path / "first"
    program.call("run", place(first, form), *CHUNKS, cwd=first)
    cases = [(later, at, what) for later in (0, 1) for at in range(1, steps[later] + 1) for what in ("before", "after")]

    def check(case) -> None:
        number, (later, at, what) = case
        folder = (tmp_path / f"case-{number}").resolve()
        if later:
            shutil.copytree(first, folder)
        pipeline = place(folder, form, bool(later))
        outcome = faulty.run(pipeline, *CHUNKS, fault=Fault(DURABLE, at, what))
        assert outcome.code in (0, -signal.SIGKILL), outcome.said()
        program.call("run", pipeline, *CHUNKS, cwd=folder)
        assert tree(folder / "out") == trees[later]
        assert_verifies(program, pipeline)
        shutil.rmtree(folder)

    each(enumerate(sampled(rng, cases, 30)), check)


def small(folder: Path, table: pa.Table, more: str, form: str = "parquet") -> Path:
    (folder / "data").mkdir(exist_ok=True)
    pq.write_table(table, folder / "data/a.parquet")
    pipeline = folder / "small.yaml"
    pipeline.write_text(
        "version: 1\nname: small\nsource: {files: data/*.parquet}\n"
        f"tables: {{things: {{key: key, id: thing_id, {more}}}}}\noutput: {{path: out, format: {form}}}\n"
    )
    return pipeline


@pytest.mark.parametrize("values, complaint", [
    (["x", ""], "would be taken for null"),
    (["__HIVE_DEFAULT_PARTITION__"], "would be taken for null"),
    (["ä" * 60], "longer than disks allow"),
    ([f"v{n}" for n in range(10_001)], "more than 10000 partitions"),
])
def test_a_partition_that_cannot_be_named_is_told_and_nothing_is_published(program, tmp_path, values, complaint):
    source = pa.table({"key": list(range(len(values))), "value": values})
    pipeline = small(tmp_path, source, "columns: [value], partition_by: value")
    refused = program.call("run", pipeline, cwd=tmp_path, code=2)
    assert complaint in refused.stderr and "help: " in refused.stderr
    assert not list(tmp_path.glob("out/**/*.parquet"))
    # What is mended has no gap.
    small(tmp_path, pa.table({"key": [1, 2], "value": ["x", None]}), "columns: [value], partition_by: value")
    program.call("run", pipeline, cwd=tmp_path)
    assert_verifies(program, pipeline)


@pytest.mark.parametrize("column", [
    pa.array([1.5]), pa.array([0], pa.timestamp("us")), pa.array([b"x"]), pa.array([[1]]),
])
def test_a_column_that_makes_no_names_is_refused(program, tmp_path, column):
    pipeline = small(tmp_path, pa.table({"key": [1], "value": column}), "columns: [value], partition_by: value")
    for command in ("check", "run"):
        refused = program.call(command, pipeline, cwd=tmp_path, code=2)
        assert "'value'" in refused.stderr and "CAST(... AS DATE)" in refused.stderr


def test_partitions_that_are_published_are_fixed(program, tmp_path):
    source = pa.table({"key": [1, 2], "a": ["x", "y"]})
    pipeline = small(tmp_path, source, "columns: [a], partition_by: a")
    program.call("run", pipeline, cwd=tmp_path)
    (tmp_path / "data/a.parquet").rename(tmp_path / "data/b.parquet")
    small(tmp_path, source, "columns: [a]")
    refused = program.call("run", pipeline, cwd=tmp_path, code=2)
    assert "is partitioned by a in published files, and not partitioned in the pipeline" in refused.stderr


def test_verify_finds_what_is_wrong_in_a_partition(program, tmp_path):
    pipeline = place(tmp_path, "parquet")
    program.call("run", pipeline, *CHUNKS, cwd=tmp_path)
    # A file that is in another partition's folder.
    stranger = next((tmp_path / "out/sales").rglob("*.parquet"))
    other = tmp_path / "out/sales/day=1999-01-01/active=true" / stranger.name
    other.parent.mkdir(parents=True)
    shutil.copy(stranger, other)
    report = json.loads(program.call("verify", pipeline, "--json", cwd=tmp_path, code=1).stdout)
    assert any("day=1999-01-01" in check["message"] for check in report["checks"] if not check["ok"])
    shutil.rmtree(other.parent.parent)
    # Two rows whose IDs have changed places: dense all the same, and in no order.
    table = pq.read_table(stranger, partitioning=None)
    swapped = table.take([1, 0, *range(2, len(table))])
    pq.write_table(swapped.select(table.column_names), stranger)
    report = json.loads(program.call("verify", pipeline, "--json", cwd=tmp_path, code=1).stdout)
    wrong = {check["guarantee"] for check in report["checks"] if not check["ok"]}
    assert {"G2", "files"} <= wrong


def test_files_have_about_the_size_that_is_wanted(program, tmp_path):
    (tmp_path / "data").mkdir()
    rng = random.Random(1)
    rows = 400_000
    for file in range(2):
        source = pa.table({
            "key": pa.array([rng.randrange(1 << 40) for _ in range(rows)]),
            "words": pa.array([f"{rng.getrandbits(64):016x}" for _ in range(rows)]),
        })
        pq.write_table(source, tmp_path / f"data/{file}.parquet", compression="zstd", row_group_size=400_000)
    pipeline = tmp_path / "sized.yaml"
    trees = {}
    for size, workers in ((None, 2), ("2 MiB", 1), ("2 MiB", 4), ("1GB", 2)):
        out = f"out-{size}-{workers}".replace(" ", "")
        pipeline.write_text(
            "version: 1\nname: sized\nsource: {files: data/*.parquet}\ntables:\n"
            "  things: {key: key, id: thing_id, columns: [words]}\n"
            "  lines: {id: line_id, references: [things], columns: [words]}\n"
            f"state: state-{out}\noutput:\n  path: {out}\n" + (f"  target_file_size: {size}\n" if size else "")
        )
        program.call("run", pipeline, "--workers", workers, cwd=tmp_path)
        assert_verifies(program, pipeline)
        trees[size, workers] = tree(tmp_path / out)
        sizes = {
            name: sorted(file.stat().st_size for file in (tmp_path / out / name).glob("*.parquet"))
            for name in ("things", "lines")
        }
        for name, found in sizes.items():
            if size == "2 MiB":
                # All but the last of a run are about as large as they should be.
                assert all(2 << 19 <= bytes <= 2 << 21 for bytes in found[1:]), (name, found)
            if size == "1GB":
                assert len(found) == 1, (name, found)
    assert trees["2 MiB", 1] == trees["2 MiB", 4], "the number of workers changes nothing"


@pytest.mark.parametrize("form", ["parquet", "delta"])
def test_g5_workers_on_several_machines_publish_the_same_folders(program, tmp_path, form):
    """What spans leave for partitions goes from machine to machine through the work location."""
    alone = place(tmp_path / "alone", form)
    program.call("run", alone, *CHUNKS, cwd=alone.parent)
    cluster = Cluster(program, tmp_path / "cluster", chunk_rows=CHUNKS[1])
    try:
        for later in (False, True):
            pipeline = place(tmp_path / "shared", form, later)
            ends_well(cluster.run(pipeline))
            if not later:
                assert tree(tmp_path / "shared/out") == tree(tmp_path / "alone/out")
    finally:
        cluster.close()
    assert_is_the_source(tmp_path / "shared", 3)
    assert_verifies(program, pipeline)
