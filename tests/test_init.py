"""`seriatim init`: a first pipeline file from sample files. What is written is one that `check` accepts and `run` can run,
it has the tables that a person would have made of data whose things are known, it is the same each time, and it never
takes the place of a file that is there.
"""

import random
import re
import shutil
from decimal import Decimal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import assert_verifies

#: The lines of docs/tutorial.md: both months.
SHOP = [
    ("A-1", "ada@example.org", "Ada", "London", "tea", 2, Decimal("3.50")),
    ("A-1", "ada@example.org", "Ada", "London", "coffee", 1, Decimal("16.00")),
    ("A-2", "grace@example.org", "Grace", "New York", "tea", 1, Decimal("3.50")),
    ("A-3", None, None, None, "sugar", 5, Decimal("1.20")),
    ("A-4", "ada@example.org", "Ada", "London", "sugar", 1, Decimal("1.20")),
    ("B-1", "grace@example.org", "Grace", "New York", "cocoa", 1, Decimal("12.80")),
    ("B-2", "linus@example.org", "Linus", "Helsinki", "tea", 4, Decimal("3.50")),
]
COLUMNS = ["order_no", "email", "name", "city", "product", "quantity", "price"]


def write(path, table):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table), path)


def shop(folder, lines=SHOP):
    write(folder / "data" / "2026-01.parquet", dict(zip(COLUMNS, map(list, zip(*lines)))))


@pytest.fixture(scope="module")
def retail(program, tmp_path_factory):
    """The demo's data, 20,000 records in 8 files, without its pipeline file."""
    folder = tmp_path_factory.mktemp("retail")
    program.call("demo", "--data-only", "--rows", 20_000, "--folder", folder / "made", cwd=folder)
    (folder / "made" / "data").rename(folder / "data")
    shutil.rmtree(folder / "made")
    return folder


def copy(folder, to):
    shutil.copytree(folder / "data", to / "data")
    return to


def tables(found):
    """Of each table: key, references, columns."""
    return {table["name"]: (table["key"], table["references"], table["columns"]) for table in found["tables"]}


def works(program, folder, pipeline="pipeline.yaml"):
    """The file is accepted, and what it makes of the records is sound; returns the run's tables with their rows."""
    program.call("check", pipeline, cwd=folder)
    [run] = program.json("run", pipeline, cwd=folder)["runs"]
    assert_verifies(program, folder / pipeline)
    return {table["table"]: table["rows"] for table in run["tables"]}


def test_the_demo_s_data_gives_the_demo_s_tables(program, retail, tmp_path):
    folder = copy(retail, tmp_path)
    found = program.json("init", "data", cwd=folder)
    assert tables(found) == {
        "customers": (["customer_email"], [], ["customer_name", "city", "country", "segment"]),
        "products": (["sku"], [], ["gtin", "product", "category", "brand", "list_price"]),
        "orders": (["order_no"], ["customers"], ["ordered_at", "order_date", "status", "store"]),
        "order_lines": ([], ["orders", "products"], ["quantity", "unit_price", "discount_percent", "line_total"]),
    }
    assert [table["id"] for table in found["tables"]] == ["customer_id", "product_id", "order_id", "line_id"]
    assert found["name"] == "sales" and found["files"] == 8 and found["records"] == found["looked_at"] == 20_000
    rows = works(program, folder)
    assert rows == {"customers": 798, "products": 50, "orders": 7542, "order_lines": 20_000}


def test_it_says_why(program, retail, tmp_path):
    folder = copy(retail, tmp_path)
    said = program.call("init", "data", cwd=folder).stdout
    text = (folder / "pipeline.yaml").read_text()
    plain = re.sub(r"\s+", " ", text.replace("#", ""))
    for reason in [
        "looked at all 20,000 records in 8 files",
        "customer_email has 798 values in 19,205 records",
        "each order_no has one customer_email",
        "gtin would do as the key as well",
        "city (48 values) determines country, which is too little for a table",
        "795 records without customer_email make no row here",
        "what they say in customer_name, city and country is kept nowhere",
        "No key: every record is a row.",
    ]:
        assert reason in plain, f"{reason}\n{text}"
        if "looked at" not in reason:
            assert reason in re.sub(r"\s+", " ", said), f"{reason}\n{said}"
    assert all(f"seriatim {command} pipeline.yaml" in said for command in ["check", "plan", "run"])
    assert max(map(len, text.splitlines())) <= 120


def test_the_same_files_give_the_same_bytes(program, retail, tmp_path):
    texts = []
    for name in ["a", "b"]:
        (tmp_path / name).mkdir()
        folder = copy(retail, tmp_path / name)
        program.call("init", "data", "--sample", 7_000, cwd=folder)
        texts.append((folder / "pipeline.yaml").read_bytes())
    assert texts[0] == texts[1]
    assert b"7,000 of 20,000 records" in texts[0]


#: What is written of the demo's records, by DuckDB, and what the pipeline says of it.
TEXTS = {
    "csv": (["a.csv", "b.csv.gz"], "HEADER", "csv", None),
    "semicolons": (["a.csv", "b.csv"], "HEADER, DELIMITER ';'", "csv", ";"),
    "tsv": (["a.tsv", "b.tsv.zst"], "HEADER, DELIMITER '\t'", "csv", None),
    "ndjson": (["a.ndjson", "b.ndjson.gz"], "FORMAT json", "ndjson", None),
}


def as_texts(folder, to, names, how):
    to.mkdir()
    files = sorted((folder / "data").iterdir())
    for name, some in zip(names, [files[:4], files[4:]]):
        packing = {"gz": "gzip", "zst": "zstd"}.get(name.rsplit(".")[-1], "none")
        records = f"read_parquet({[str(file) for file in some]})"
        duckdb.sql(f"COPY (SELECT * FROM {records}) TO '{to / name}' ({how}, COMPRESSION {packing})")


@pytest.mark.parametrize("form", TEXTS)
@pytest.mark.parametrize("given", ["a folder", "files"])
def test_text_files_give_the_tables_of_parquet_files(program, retail, tmp_path, form, given):
    names, how, format, delimiter = TEXTS[form]
    as_texts(retail, tmp_path / "data", names, how)
    named = ["data"] if given == "a folder" else [f"data/{name}" for name in names]
    found = program.json("init", *named, cwd=tmp_path)
    (tmp_path / "parquet").mkdir()
    expected = program.json("init", "data", cwd=copy(retail, tmp_path / "parquet"))
    if format == "ndjson":
        # Members of an object have no order: columns are in that of their names, and of two keys the first one is taken.
        assert {name: references for name, (_, references, _) in tables(found).items()} == {
            name: references for name, (_, references, _) in tables(expected).items()
        }
    else:
        assert tables(found) == tables(expected)
    assert found["records"] == 20_000 and found["files"] == 2 and found.get("delimiter") == delimiter
    # Where names tell the format, the pipeline need not.
    assert found.get("format") == (format if given == "a folder" else None)
    declared = {column["name"]: column["declared"] for column in found["columns"]}
    # A text of JSON is one.
    date = "string" if format == "ndjson" else "date"
    assert declared["order_no"] == "string" and declared["order_date"] == date and declared["quantity"] == "int64"
    assert f"\n    order_date: {date}\n" in (tmp_path / "pipeline.yaml").read_text()
    rows = works(program, tmp_path)
    assert rows == works(program, tmp_path / "parquet")


def test_what_is_declared_is_what_later_files_have(program, tmp_path):
    """The first files have numbers in a column, and the next ones a letter: told by its place, not taken for another type."""
    (tmp_path / "sales-1.csv").write_text("order_no,zip\nA-1,10115\nA-2,20095\nA-1,10115\n")
    program.call("init", cwd=tmp_path)
    text = (tmp_path / "pipeline.yaml").read_text()
    assert '  files: "*.csv"\n' in text and "    zip: int64\n" in text and "format:" not in text
    works(program, tmp_path)
    (tmp_path / "sales-2.csv").write_text("order_no,zip\nA-3,SW1A\n")
    failed = program.call("run", "pipeline.yaml", cwd=tmp_path, code=1)
    assert "sales-2.csv, column 'zip': row 0 (line 2): 'SW1A' is no Int64" in failed.stderr, failed.stderr


@pytest.mark.parametrize("sample", [1_000, 5_000])
def test_a_sample_is_enough(program, retail, tmp_path, sample):
    folder = copy(retail, tmp_path)
    found = program.json("init", "data", "--sample", sample, cwd=folder)
    assert found["looked_at"] == sample
    assert {"customers", "products", "orders", "order_lines"} <= set(tables(found))
    works(program, folder)


def test_the_shop_of_the_tutorial(program, tmp_path):
    shop(tmp_path)
    found = program.json("init", "data/2026-01.parquet", "--name", "shop", cwd=tmp_path)
    assert tables(found) == {
        "customers": (["email"], [], ["name", "city"]),
        "products": (["product"], [], ["price"]),
        "orders": (["order_no"], ["customers"], []),
        "order_lines": ([], ["orders", "products"], ["quantity"]),
    }
    assert any("look at it twice" in beware for table in found["tables"] for beware in table["beware"]), "7 records are few"
    assert works(program, tmp_path) == {"customers": 3, "products": 4, "orders": 6, "order_lines": 7}


def test_its_first_month_alone(program, tmp_path):
    shop(tmp_path, SHOP[:5])
    program.call("init", "data", cwd=tmp_path)
    works(program, tmp_path)


def test_records_without_any_key(program, rng, tmp_path):
    values = {
        "measured": [rng.random() for _ in range(2_000)],
        "sensor": [rng.randrange(7) for _ in range(2_000)],
        "weather": [rng.choice(["sun", "rain", "snow"]) for _ in range(2_000)],
        "late": [rng.random() < 0.01 for _ in range(2_000)],
    }
    write(tmp_path / "measurements.parquet", values)
    found = program.json("init", "measurements.parquet", cwd=tmp_path)
    assert tables(found) == {"records": ([], [], list(values))}
    assert works(program, tmp_path) == {"records": 2_000}


def test_a_record_with_a_key_of_its_own(program, tmp_path):
    count = 400
    lines = {
        "ticket_id": list(range(count)),
        "customer_id": [i % 20 for i in range(count)],
        "customer_name": [f"Name {i % 20}" for i in range(count)],
        "text": [f"something different {i}" for i in range(count)],
    }
    write(tmp_path / "tickets.parquet", lines)
    found = program.json("init", "tickets.parquet", "--out", "support.yaml", cwd=tmp_path)
    assert found["name"] == "support"
    assert tables(found) == {
        "customers": (["customer_id"], [], ["customer_name"]),
        "tickets": (["ticket_id"], ["customers"], ["text"]),
    }
    ids = [table["id"] for table in found["tables"]]
    assert not set(ids) & set(lines), "an ID has a name that no source column has"
    assert works(program, tmp_path, "support.yaml") == {"customers": 20, "tickets": count}


def test_keys_that_determine_keys_become_references(program, rng, tmp_path):
    """A region has nations, a nation has customers, a customer has orders, an order has numbered lines."""
    orders, lines = [(order * 4, rng.randrange(150), rng.choice("OFP")) for order in range(900)], []
    for order, customer, status in orders:
        nation = customer * 7 % 25
        for number in range(1, rng.randint(2, 6)):
            part = rng.randrange(200)
            lines.append((
                order, status, customer, f"Customer {customer}", nation, f"Nation {nation}", nation % 5, f"Region {nation % 5}",
                number, part, f"Part {part % 170}", f"Brand {part % 17}", rng.randint(1, 50), rng.random(),
            ))
    names = (
        "o_orderkey o_status c_custkey c_name c_nationkey c_nation c_regionkey c_region l_linenumber p_partkey p_name "
        "p_brand l_quantity l_price"
    ).split()
    write(tmp_path / "lineitem.parquet", dict(zip(names, map(list, zip(*lines)))))
    found = program.json("init", "lineitem.parquet", cwd=tmp_path)
    assert tables(found) == {
        "regions": (["c_regionkey"], [], ["c_region"]),
        "parts": (["p_partkey"], [], ["p_name", "p_brand"]),
        "nations": (["c_nationkey"], ["regions"], ["c_nation"]),
        "custs": (["c_custkey"], ["nations"], ["c_name"]),
        "orders": (["o_orderkey"], ["custs"], ["o_status"]),
        "order_lines": (["o_orderkey", "l_linenumber"], ["orders", "parts"], ["l_quantity", "l_price"]),
    }
    assert works(program, tmp_path)["order_lines"] == len(lines)


def test_names_that_yaml_or_a_terminal_would_mistake(program, tmp_path):
    names = ["no", "${HOME}", "a: b", '"q"', "x # y", "Größe", "line\nbreak", "\x1b[2J", "city", "CITY", "- 1", "*", "{}", "1", "null"]
    write(tmp_path / "odd.parquet", {name: [n, n, n + 1] for n, name in enumerate(names)})
    found = program.json("init", "odd.parquet", cwd=tmp_path)
    placed = [column for table in found["tables"] for column in [*table["key"], *table["columns"]]]
    assert sorted(placed) == sorted(set(names) - {"CITY"})
    assert found["left_out"] == [{"column": "CITY", "why": "another column has the same name but for the case of letters"}]
    works(program, tmp_path)
    said = program.call("init", "odd.parquet", "--force", cwd=tmp_path).stdout
    assert "\x1b" not in said


def test_what_no_table_can_take_is_listed(program, tmp_path):
    more = {"tags": [["x"], [], ["y", "z"]], "address": [{"city": "Ulm"}] * 3}
    write(tmp_path / "data" / "a.parquet", {"order_no": [1, 1, 2], "city": ["Ulm", "Ulm", "Bonn"], "old": [1, 2, 3], **more})
    write(tmp_path / "data" / "b.parquet", {"order_no": [3, 3, 4], "city": [1, 2, 3], "new": [1, 2, 3], **more})
    found = program.json("init", "data", cwd=tmp_path)
    why = {left["column"]: left["why"] for left in found["left_out"]}
    assert set(why) == {"tags", "address", "city", "old", "new"}
    assert "nested" in why["tags"] and "data/b.parquet" in why["old"] and "data/a.parquet" in why["new"] and "Utf8" in why["city"]
    text = (tmp_path / "pipeline.yaml").read_text()
    assert "# - tags: it is nested" in text
    works(program, tmp_path)


@pytest.mark.parametrize(
    ("given", "source"),
    [
        (["data"], ["data"]),
        (["./data/"], ["data"]),
        (["data/*.parquet"], ["data/*.parquet"]),
        (["data/sales-2025-01.parquet"], ["data/sales-2025-01.parquet"]),
        ("all", ["data/sales-*.parquet"]),
        ("some", ["data/sales-2025-01.parquet", "data/sales-2025-02.parquet"]),
        ([], ["data"]),
        (["."], ["data"]),
    ],
)
def test_what_is_named_is_what_the_pipeline_reads(program, retail, tmp_path, given, source):
    """A shell puts every file in the place of a glob; files that come later are to be found all the same."""
    folder = copy(retail, tmp_path)
    every = sorted(f"data/{path.name}" for path in (folder / "data").iterdir())
    given = {"all": every, "some": every[:2]}.get(given, given) if isinstance(given, str) else given
    assert program.json("init", *given, cwd=folder)["source"] == source
    works(program, folder)
    program.call("init", *given, "--force", cwd=folder)
    program.call("check", "pipeline.yaml", cwd=folder)


def test_a_pipeline_file_elsewhere_finds_its_files(program, retail, tmp_path):
    folder = copy(retail, tmp_path)
    (folder / "pipelines").mkdir()
    found = program.json("init", "data", "--out", "pipelines/sales.yaml", cwd=folder)
    assert found["source"] == ["../data"]
    assert works(program, folder / "pipelines", "sales.yaml")["order_lines"] == 20_000


def test_it_never_writes_over_a_file(program, tmp_path):
    shop(tmp_path)
    (tmp_path / "pipeline.yaml").write_text("mine")
    refused = program.call("init", "data", cwd=tmp_path, code=2)
    assert (tmp_path / "pipeline.yaml").read_text() == "mine" and refused.stdout == ""
    assert refused.stderr == (
        "error: pipeline.yaml is there already, and was not touched\n"
        "help: name another file with --out, or write over this one with --force\n"
    )
    program.call("init", "data", "--force", cwd=tmp_path)
    works(program, tmp_path)


def damaged(folder):
    shop(folder)
    (folder / "data" / "2026-02.parquet").write_bytes(b"order_no,email\n")


def empty(folder):
    shop(folder)
    table = pq.read_table(folder / "data" / "2026-01.parquet")
    pq.write_table(table.slice(0, 0), folder / "data" / "2026-01.parquet")


def nested(folder):
    write(folder / "data" / "a.parquet", {"tags": [["x"], ["y"]]})


def both(folder):
    shop(folder)
    (folder / "more").mkdir()
    (folder / "more" / "a.csv").write_text("order_no,email\n")


def ragged(folder):
    (folder / "data").mkdir()
    (folder / "data" / "a.csv").write_text("order_no,email\nA-1,ada@example.org\nA-2,grace@example.org,Grace\n")


MISTAKES = {
    "missing": (lambda folder: None, ["data"], 1, ["there is no file and no folder", "data", "name Parquet, CSV or NDJSON files"]),
    "nothing matches": (shop, ["dta/*.parquet"], 1, ["no file matches 'dta/*.parquet'", "glob in quotes"]),
    "nothing there": (lambda folder: None, [], 1, ["there is no Parquet, CSV or NDJSON file below", "name Parquet"]),
    "two formats": (both, ["data", "more"], 1, ["more has another format than the files in data", "globs in quotes"]),
    "a file of another format": (both, ["more", "data/2026-01.parquet"], 1, ["data/2026-01.parquet has another format than"]),
    "a CSV that is none": (ragged, ["data"], 1, ["data/a.csv", "row 1 (line 3)"]),
    "no Parquet": (damaged, ["data"], 1, ["data/2026-02.parquet is not a Parquet file"]),
    "no records": (empty, ["data"], 1, ["no records"]),
    "no columns": (nested, ["data"], 1, ["no column that a table could take"]),
    "no name": (shop, ["data", "--name", "a b"], 2, ["'a b' is no name for a pipeline", "begin with a letter"]),
    "no folder": (shop, ["data", "--out", "x/y.yaml"], 1, ["there is no folder", "--out"]),
    "a password": (shop, ["s3://key:secret@bucket/data"], 2, ["s3://"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told_and_nothing_is_written(program, tmp_path, mistake):
    make, arguments, code, words = MISTAKES[mistake]
    make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    failed = program.call("init", *arguments, cwd=tmp_path, code=code)
    assert failed.stdout == "" and sorted(tmp_path.rglob("*")) == before
    for word in words:
        assert word in failed.stderr, failed.stderr
    assert "help:" in failed.stderr and "secret" not in failed.stderr


def test_many_columns_and_random_data_always_give_a_pipeline_that_runs(program, rng, tmp_path):
    """Whatever is guessed, the file is one that runs, and no record is lost."""
    names = ["id", "order_no", "customer", "customer_id", "email", "sku", "line_no", "code", "name", "city", "country", "amount"]
    for case in range(12):
        folder = tmp_path / str(case)
        count = rng.choice([1, 2, 30, 500])
        chosen = rng.sample(names, rng.randint(1, len(names)))
        write(folder / "data" / "a.parquet", {name: column(rng, count) for name in chosen})
        found = program.json("init", "data", cwd=folder)
        placed = {left["column"] for left in found["left_out"]} | {column for table in found["tables"] for column in [*table["key"], *table["columns"]]}
        assert placed == set(chosen), (folder / "pipeline.yaml").read_text()
        rows = works(program, folder)
        assert rows[found["tables"][-1]["name"]] == count


def column(rng: random.Random, count: int) -> list:
    kinds = rng.choice([1, 2, 5, 40, 10_000])
    value = rng.choice([lambda n: n, lambda n: f"v{n}", lambda n: f"word {'x' * (n % 50)}", lambda n: None if n == 1 else n])
    values = [value(rng.randint(1, kinds)) for _ in range(count)]
    return values if any(value is not None for value in values) else [7] * count
