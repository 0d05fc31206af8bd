"""Delta Lake as readers of Delta see it: the `deltalake` package opens what the program has written, and each version is
a whole run of a table. What a table should hold is computed by DuckDB from the source. G5 and G8: killed at any step of
a log, the program ends with the same versions and the same bytes, and nothing is in a table twice.
"""

import datetime
import decimal
import json
import shutil
import signal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from conftest import assert_verifies, scale, tree
from faulty import (  # noqa: F401 (a fixture)
    ALWAYS, ENOSPC, SMALL_CHUNKS, Fault, Shop, assert_nothing_half_written, assert_resumes, each, faulty,
)
from test_faults import DURABLE, sampled

TABLES = ("customers", "products", "orders", "order_lines")
MANIFEST = "_seriatim/manifest.json"


class DeltaShop(Shop):
    """The shop with tables of Delta Lake."""

    def place(self, folder: Path, later: bool = False) -> Path:
        pipeline = super().place(folder, later)
        pipeline.write_text(pipeline.read_text().replace("output:\n", "output:\n  format: delta\n"))
        return pipeline


@pytest.fixture(scope="module")
def shop(program, tmp_path_factory) -> DeltaShop:
    return DeltaShop(program, tmp_path_factory.mktemp("shop"))


def rows(folder: Path, table: str, version: int | None = None) -> pa.Table:
    return DeltaTable(str(folder / "out" / table), version=version).to_pyarrow_table()


#: What each table of the demo should hold, without its ID: computed from the source, by nothing of Seriatim.
EXPECTED = {
    "customers": "SELECT DISTINCT customer_email FROM source WHERE customer_email IS NOT NULL",
    "products": "SELECT DISTINCT sku FROM source",
    "orders": "SELECT DISTINCT order_no FROM source",
    "order_lines": "SELECT quantity, unit_price FROM source",
}


def assert_is_the_source(folder: Path, files: list[Path], version: int | None = None):
    """The tables hold what DuckDB makes of these files, each thing once and with the next ID."""
    db = duckdb.connect()

    def ask(query: str) -> list[tuple]:
        with db.cursor() as cursor:
            return cursor.execute(query).fetchall()

    ask(f"CREATE VIEW source AS SELECT * FROM read_parquet({[str(file) for file in files]})")
    for table, query in EXPECTED.items():
        found = rows(folder, table, version)
        pq.write_table(found, folder / "found.parquet")
        found_in = f"FROM read_parquet('{folder}/found.parquet')"
        columns = query.removeprefix("SELECT ").removeprefix("DISTINCT ").partition(" FROM")[0]
        for one, other in ((query, f"SELECT {columns} {found_in}"), (f"SELECT {columns} {found_in}", query)):
            difference = ask(f"({one}) EXCEPT ALL ({other})")
            assert not difference, f"{table}: {difference[:3]}"
        id_column = found.column_names[0]
        ids = ask(f"SELECT count(DISTINCT {id_column}), min({id_column}), max({id_column}) {found_in}")
        assert ids == [(len(found), 1, len(found))], table
    db.close()


def versions(folder: Path, table: str) -> list[int | None]:
    """The run of each version of a table, as its transactions say; a version has one at most."""
    log = sorted((folder / "out" / table / "_delta_log").glob("*.json"))
    assert [int(path.stem) for path in log] == list(range(len(log)))
    actions = [[json.loads(line) for line in path.read_text().splitlines()] for path in log]
    runs = [[action["txn"]["version"] for action in commit if "txn" in action] for commit in actions]
    assert all(len(run) <= 1 for run in runs)
    return [run[0] if run else None for run in runs]


def test_g8_every_version_is_a_whole_run_and_holds_what_duckdb_computes(program, shop, tmp_path):
    pipeline = shop.place(tmp_path)
    for run, files in ((1, shop.files[:-1]), (2, shop.files)):
        shop.place(tmp_path, later=run == 2)
        program.call("run", pipeline, *SMALL_CHUNKS, cwd=tmp_path)
        assert_is_the_source(tmp_path, files)
    assert_is_the_source(tmp_path, shop.files[:-1], version=0)
    for table in ("customers", "orders", "order_lines"):
        assert versions(tmp_path, table) == [1, 2], table
        delta = DeltaTable(str(tmp_path / "out" / table))
        assert delta.transaction_version(f"seriatim/retail/{table}") == 2
        id_field = delta.schema().fields[0]
        assert (id_field.nullable, id_field.type.type) == (False, "long")
        # What a reader leaves files out by is true of the files.
        for add in delta.get_add_actions(flatten=True).to_struct_array().to_pylist():
            found = pq.read_table(tmp_path / "out" / table / add["path"])
            ids = found[id_field.name].to_pylist()
            assert (add["num_records"], add["size_bytes"]) == (len(ids), (tmp_path / "out" / table / add["path"]).stat().st_size)
            assert (add[f"min.{id_field.name}"], add[f"max.{id_field.name}"]) == (min(ids), max(ids))
    # A run without new rows of a table is no version of it; all products are in the first run.
    assert versions(tmp_path, "products") == [1]
    before = tree(tmp_path / "out")
    program.call("run", pipeline, *SMALL_CHUNKS, cwd=tmp_path)
    assert tree(tmp_path / "out") == before, "nothing new is no commit"
    assert_verifies(program, pipeline)


class Undisturbed:
    """Both runs in a folder that nobody disturbs: what they leave, and the steps that they take."""

    def __init__(self, shop, faulty, folder):  # noqa: F811
        self.trees, self.steps = [], []
        for later in (False, True):
            pipeline = shop.place(folder, later)
            outcome = faulty.run(pipeline, *SMALL_CHUNKS, fault=Fault(DURABLE))
            assert outcome.code == 0, outcome.said()
            self.trees.append(tree(folder / "out"))
            calls = [call for call in outcome.calls if call.kind in DURABLE]
            # From the manifest on, which is where a run becomes visible, to the last log.
            marked = [n for n, call in enumerate(calls, start=1) if MANIFEST in call.other or "_delta_log" in call.other]
            self.steps.append(range(marked[0], marked[-1] + 3))


@pytest.fixture(scope="module")
def undisturbed(shop, faulty, tmp_path_factory) -> Undisturbed:  # noqa: F811
    return Undisturbed(shop, faulty, (tmp_path_factory.mktemp("undisturbed") / "shop").resolve())


def test_g5_g8_killed_around_any_step_of_a_log_it_ends_with_the_same_versions(
    program, shop, faulty, undisturbed, tmp_path, rng  # noqa: F811
):
    published = shop.published(tmp_path / "published" / "shop").parent
    cases = [
        (later, Fault(DURABLE, at, what, path=path))
        for later in (0, 1)
        for path, steps in (("", undisturbed.steps[later]), ("_delta_log", range(1, 3 * len(TABLES) + 1)))
        for at in steps
        for what in ("before", "after")
    ]
    cases = sampled(rng, cases, 80)

    def check(case) -> bool:
        number, (later, fault) = case
        folder = (tmp_path / f"case-{number}").resolve()
        if later:
            shutil.copytree(published, folder, symlinks=True)
        pipeline = shop.place(folder, bool(later))
        outcome = faulty.run(pipeline, *SMALL_CHUNKS, fault=fault)
        assert outcome.code in (0, -signal.SIGKILL), outcome.said()
        # Readers find whole runs of every table, and nothing that is not published.
        assert_nothing_half_written(folder, undisturbed.trees[later])
        runs = len(json.loads((folder / "out" / MANIFEST).read_text())["runs"]) if (folder / "out" / MANIFEST).exists() else 0
        for table in TABLES:
            if (folder / "out" / table / "_delta_log").is_dir():
                seen = [run for run in versions(folder, table) if run]
                assert seen == sorted(set(seen)) and all(run <= runs for run in seen), (table, seen, runs)
        assert_resumes(program, pipeline, undisturbed.trees[later], 1 + later)
        assert_is_the_source(folder, shop.files if later else shop.files[:-1])
        shutil.rmtree(folder)
        return outcome.code != 0

    killed = sum(each(enumerate(cases), check))
    print(f"{killed} of {len(cases)} runs were killed")
    assert killed > len(cases) / 2


def test_a_log_that_cannot_be_written_is_told_of_and_the_next_run_brings_it_up(
    program, shop, faulty, undisturbed, tmp_path  # noqa: F811
):
    folder = (tmp_path / "full").resolve()
    pipeline = shop.place(folder)
    outcome = faulty.run(pipeline, *SMALL_CHUNKS, fault=Fault(("name",), 2, ENOSPC, ALWAYS, path="_delta_log"))
    assert outcome.code == 1 and "is published, but not yet in all Delta logs" in outcome.err, outcome.said()
    assert "help: run again" in outcome.err and "nothing of this run was published" not in outcome.err
    report = program.call("verify", pipeline, cwd=folder, code=1).stdout
    assert "the next run brings it up" in report
    # There is nothing to ingest, and still something to do.
    program.call("run", pipeline, *SMALL_CHUNKS, cwd=folder)
    assert tree(folder / "out") == undisturbed.trees[0]
    assert_is_the_source(folder, shop.files[:-1])
    assert_verifies(program, pipeline)


def test_an_output_of_parquet_becomes_one_of_delta_and_not_the_other_way(program, shop, undisturbed, tmp_path):
    pipeline = shop.place(tmp_path)
    delta = pipeline.read_text()
    parquet = delta.replace("  format: delta\n", "")
    pipeline.write_text(parquet)
    program.call("run", pipeline, *SMALL_CHUNKS, cwd=tmp_path)
    shop.place(tmp_path, later=True)
    pipeline.write_text(parquet)
    program.call("run", pipeline, *SMALL_CHUNKS, cwd=tmp_path)
    assert not list((tmp_path / "out").glob("*/_delta_log"))
    pipeline.write_text(delta)
    program.call("run", pipeline, *SMALL_CHUNKS, cwd=tmp_path)
    assert tree(tmp_path / "out") == undisturbed.trees[1], "the log is the one that would have been written at once"
    assert versions(tmp_path, "order_lines") == [1, 2]
    assert_verifies(program, pipeline)
    pipeline.write_text(parquet)
    for command in ("check", "plan"):
        refused = program.call(command, pipeline, cwd=tmp_path, code=2)
        assert "holds tables of Delta Lake" in refused.stderr and "output.format: delta" in refused.stderr
    shutil.copy(shop.files[0], tmp_path / "data" / "sales-zz.parquet")
    refused = program.call("run", pipeline, *SMALL_CHUNKS, cwd=tmp_path, code=2)
    assert "holds tables of Delta Lake" in refused.stderr
    assert tree(tmp_path / "out") == undisturbed.trees[1]


def small(folder: Path, more: str = "") -> Path:
    (folder / "data").mkdir(parents=True, exist_ok=True)
    pipeline = folder / "things.yaml"
    pipeline.write_text(
        "version: 1\nname: small\nsource: {files: data/*.parquet}\n"
        f"tables: {{things: {{key: key, id: thing_id{more}}}}}\noutput: {{path: out, format: delta}}\n"
    )
    return pipeline


def test_hundreds_of_versions_checkpoints_of_others_and_commits_that_are_gone(program, tmp_path):
    """Others may write checkpoints and take away what these have; the log goes on from what is left."""
    pipeline = small(tmp_path)
    count = max(30, round(120 * scale()))
    for run in range(1, count + 1):
        pq.write_table(pa.table({"key": [run * 10 + n for n in range(3)]}), tmp_path / "data" / f"{run:04}.parquet")
        program.call("run", pipeline, cwd=tmp_path)
        if run == count // 2:
            DeltaTable(str(tmp_path / "out/things")).create_checkpoint()
            for version in range(run - 1):
                (tmp_path / f"out/things/_delta_log/{version:020}.json").unlink()
            assert_verifies(program, pipeline)
    delta = DeltaTable(str(tmp_path / "out/things"))
    assert delta.version() == count - 1
    assert sorted(delta.to_pyarrow_table()["thing_id"].to_pylist()) == list(range(1, 3 * count + 1))
    assert_verifies(program, pipeline)
    # All commits that a checkpoint has may be gone, the last one too.
    delta.create_checkpoint()
    for commit in (tmp_path / "out/things/_delta_log").glob("*.json"):
        commit.unlink()
    assert_verifies(program, pipeline)
    pq.write_table(pa.table({"key": [-1]}), tmp_path / "data" / "9999.parquet")
    program.call("run", pipeline, cwd=tmp_path)
    delta = DeltaTable(str(tmp_path / "out/things"))
    assert (delta.version(), delta.to_pyarrow_table().num_rows) == (count, 3 * count + 1)


def test_verify_finds_a_log_that_others_have_changed(program, shop, tmp_path):
    folder = tmp_path / "shop"
    pipeline = shop.published(folder)
    log = folder / "out/orders/_delta_log"
    first = log / f"{0:020}.json"
    actions = [json.loads(line) for line in first.read_text().splitlines()]
    add = next(action["add"] for action in actions if "add" in action)

    def complaint(text: str) -> str:
        first.write_text(text)
        answer = program.call("verify", pipeline, "--json", cwd=folder, code=1)
        wrong = [check for check in json.loads(answer.stdout)["checks"] if not check["ok"]]
        assert len(wrong) == 1 and wrong[0]["guarantee"] == "delta", wrong
        return wrong[0]["message"]

    whole = first.read_text()
    lines = whole.splitlines(keepends=True)
    assert "does not have" in complaint("".join(line for line in lines if add["path"] not in line))
    assert "rows" in complaint(whole.replace(json.dumps(add["stats"])[1:-1], json.dumps(add["stats"].replace('"numRecords":', '"numRecords":1'))[1:-1]))
    assert "is not published" in complaint(whole + json.dumps({"add": {**add, "path": "part-x.parquet"}}) + "\n")
    first.write_text(whole)
    assert_verifies(program, pipeline)
    # A transaction that the manifest has not heard of: the output is of two times.
    (log / f"{1:020}.json").write_text(json.dumps({"txn": {"appId": "seriatim/retail/orders", "version": 7}}) + "\n")
    refused = program.call("run", pipeline, *SMALL_CHUNKS, cwd=folder, code=1)
    assert "has run 7, and the manifest has 1 runs" in refused.stderr


def test_a_delta_table_of_somebody_else_is_left_alone(program, tmp_path):
    pipeline = small(tmp_path)
    pq.write_table(pa.table({"key": [1]}), tmp_path / "data/a.parquet")
    log = tmp_path / "out/things/_delta_log"
    log.mkdir(parents=True)
    (log / f"{0:020}.json").write_text('{"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}\n')
    before = tree(tmp_path / "out")
    refused = program.call("run", pipeline, cwd=tmp_path, code=1)
    assert "was not written by this pipeline" in refused.stderr
    assert tree(tmp_path / "out") == before


#: A column of every type that Delta has a form for.
TYPES = {
    "flag": pa.array([True, None, False]),
    "tiny": pa.array([-128, None, 127], pa.int8()),
    "small": pa.array([-32768, None, 32767], pa.int16()),
    "medium": pa.array([-(1 << 31), None, (1 << 31) - 1], pa.int32()),
    "large": pa.array([-(1 << 63), None, (1 << 63) - 1], pa.int64()),
    "single": pa.array([0.5, None, -1.25], pa.float32()),
    "double": pa.array([0.1, None, -1e300], pa.float64()),
    "words": pa.array(["ä", None, ""]),
    "bytes": pa.array([b"\x00\xff", None, b""], pa.binary()),
    "fixed": pa.array([b"12345", None, b"\x00abcd"], pa.binary(5)),
    "day": pa.array([datetime.date(1969, 12, 31), None, datetime.date(2024, 2, 29)]),
    "moment": pa.array([0, None, 1_700_000_000_123_456], pa.timestamp("us", "UTC")),
    "local": pa.array([0, None, 1_700_000_000_123_456], pa.timestamp("us")),
    "coarse": pa.array([0, None, 1_700_000_000_123], pa.timestamp("ms", "UTC")),
    "coarse_local": pa.array([0, None, 1_700_000_000_123], pa.timestamp("ms")),
    "price": pa.array([decimal.Decimal("1.25"), None, decimal.Decimal("-99999.99")], pa.decimal128(7, 2)),
    "exact": pa.array([decimal.Decimal("1." + "0" * 9 + "1"), None, decimal.Decimal("7")], pa.decimal128(38, 10)),
    "tags": pa.array([["a", None], None, []], pa.list_(pa.string())),
    "address": pa.array([{"city": "x", "zip": 1}, None, {"city": None, "zip": 2}]),
    "scores": pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int64())),
}


def test_every_type_is_read_as_it_was(program, tmp_path):
    source = pa.table({"key": [1, 2, 3], **TYPES})
    pipeline = small(tmp_path, f", columns: [{', '.join(TYPES)}]")
    pq.write_table(source, tmp_path / "data/a.parquet")
    program.call("run", pipeline, cwd=tmp_path)
    found = rows(tmp_path, "things")
    for name in TYPES:
        assert found[name].to_pylist() == source[name].to_pylist(), name
    assert DeltaTable(str(tmp_path / "out/things")).protocol().reader_features == ["timestampNtz"]
    assert_verifies(program, pipeline)


@pytest.mark.parametrize("name, column, advice", [
    ("unsigned", pa.array([1], pa.uint64()), "DECIMAL(20, 0)"),
    ("unsigned", pa.array([1], pa.uint32()), "BIGINT"),
    ("fine", pa.array([1], pa.timestamp("ns")), "TIMESTAMP(6)"),
    ("clock", pa.array([1], pa.time64("us")), "VARCHAR"),
    ("two words", pa.array([1]), "another name"),
])
def test_what_delta_has_no_form_for_is_refused_before_anything_is_done(program, tmp_path, name, column, advice):
    pipeline = small(tmp_path, f", columns: ['{name}']")
    pq.write_table(pa.table({"key": [1], name: column}), tmp_path / "data/a.parquet")
    for command in ("check", "run"):
        refused = program.call(command, pipeline, cwd=tmp_path, code=2)
        assert f"'{name}'" in refused.stderr and advice in refused.stderr, refused.stderr
    assert not (tmp_path / "out").exists()
    if "CAST" in refused.stderr and advice != "VARCHAR":
        # The advice helps.
        text = pipeline.read_text()
        pipeline.write_text(text + f"transform: SELECT key, CAST({name} AS {advice}) AS {name} FROM source\n")
        program.call("run", pipeline, cwd=tmp_path)
        assert rows(tmp_path, "things")[name].null_count == 0
