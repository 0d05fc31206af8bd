"""What a person reads who has made a mistake: each one gives one error, which names the place and says what to do. The words
are kept in messages/, one file for each mistake, and compared as a whole; SERIATIM_UPDATE=1 writes them anew.

How mistakes in the pipeline file look is kept with its reader (crates/pipeline/tests/messages.rs); here it is the program,
with data, whose stderr is read. Records that are bad rather than mistaken go to quarantine, each with its reason.
"""

import os
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import assert_verifies, tree
from test_mistakes import GOOD as PIPELINE

MESSAGES = Path(__file__).parent / "messages"

GOOD = {"email": ["x@example.org", "y@example.org"], "city": ["Ulm", "Bonn"], "order_no": [1, 2]}


def write(folder, name="b", **columns):
    table = {**GOOD, **columns}
    pq.write_table(pa.table({name: values for name, values in table.items() if values is not None}), folder / "data" / f"{name}.parquet")


def text(old, new):
    """A mistake in the pipeline file."""

    def make(folder):
        assert old in PIPELINE
        (folder / "pipeline.yaml").write_text(PIPELINE.replace(old, new))

    return make


def transform(sql):
    """One whose column x is used."""

    def make(folder):
        used = PIPELINE.replace("references: [customers]", "references: [customers], columns: [x]")
        (folder / "pipeline.yaml").write_text(used.replace("tables:", f"transform: {sql}\ntables:"))

    return make


def data(**columns):
    """A second file with other columns, or columns of another kind."""
    return lambda folder: write(folder, **columns)


def both(*makers):
    return lambda folder: [make(folder) for make in makers]


def broken(content: bytes):
    return lambda folder: (folder / "data" / "b.parquet").write_bytes(content)


def ingested(after):
    """Something that happens to the folder between two runs."""

    def make(folder):
        folder.program.call("run", "pipeline.yaml", cwd=folder.path)
        after(folder)

    return make


CUSTOMERS = "{key: email, id: customer_id, columns: [city]}"

#: The exit code, and what is done to a good pipeline with good data.
MISTAKES = {
    "unknown-key": (2, text("columns: [city]", "colums: [city]")),
    "unknown-column": (2, text("columns: [city]", "columns: [ctiy]")),
    "unknown-key-column": (2, text("key: email", "key: e_mail")),
    "wrong-type-of-setting": (2, text("version: 1", "version: one")),
    "cyclic-reference": (2, text("columns: [city]", "columns: [city], references: [orders]")),
    "reference-to-itself": (2, text("references: [customers]", "references: [orders]")),
    "unknown-reference": (2, text("references: [customers]", "references: [custmers]")),
    "no-such-source": (1, text("data/*.parquet", "dta/*.parquet")),
    "no-such-variable": (2, text("data/*.parquet", '"${SERIATIM_NOWHERE}/*.parquet"')),
    "transform-not-row-wise": (2, text("tables:", "transform: SELECT email, count(*) AS n FROM source GROUP BY email\ntables:")),
    "transform-unknown-column": (2, text("tables:", "transform: SELECT emial FROM source\ntables:")),
    "transform-loses-a-column": (2, text("tables:", "transform: SELECT email, city FROM source\ntables:")),
    "transform-fails-at-a-record": (1, transform("SELECT *, 1 / (order_no - 2) AS x FROM source")),
    "transform-cannot-cast": (1, transform("SELECT *, CAST(city AS BIGINT) AS x FROM source")),
    "column-of-two-types": (1, data(order_no=["one", "two"])),
    "column-missing-in-one-file": (1, data(city=None)),
    "key-missing-in-one-file": (1, data(email=None)),
    "column-in-two-cases": (1, data(city=None, City=["Ulm", "Bonn"])),
    "key-of-a-list": (2, both(text("key: order_no", "key: tags"), lambda folder: write(folder, "a", tags=[[1], [2]]))),
    "null-key": (1, both(text(CUSTOMERS, CUSTOMERS.replace("}", ", on_null_key: error}")), data(email=["z@example.org", None]))),
    "conflicting-attributes": (1, both(text(CUSTOMERS, CUSTOMERS.replace("}", ", on_conflict: error}")), data(city=["Ulm", "Köln"]))),
    "not-parquet": (1, broken(b"email,city\nx@example.org,Ulm\n")),
    "empty-file": (1, broken(b"")),
    "parquet-cut-off": (1, lambda folder: (write(folder), (file := folder / "data" / "b.parquet").write_bytes(file.read_bytes()[:-9]))),
    "output-of-somebody-else": (1, lambda folder: ((folder / "out").mkdir(), (folder / "out" / "theirs.txt").write_text("mine"))),
    "output-in-the-source": (2, text("path: out", "path: data")),
    "ingested-file-changed": (1, ingested(lambda folder: write(folder, "a", city=["Ulm", "Trier"]))),
    "layout-changed": (2, ingested(both(text("id: customer_id", "id: customer_no"), data()))),
    "type-changed-in-a-later-file": (1, ingested(data(order_no=["one", "two"]))),
    "table-added": (2, ingested(both(text("output:", "  cities: {key: city, id: city_id}\noutput:"), data()))),
    "output-of-another-pipeline": (1, ingested(both(text("name: mistakes", "name: others"), data()))),
}


@pytest.fixture
def folder(program, tmp_path):
    class Place:
        """A folder, and the program for what has to be run in it first."""

        def __init__(self):
            self.path, self.program = tmp_path, program

        def __truediv__(self, name):
            return self.path / name

    (tmp_path / "data").mkdir()
    place = Place()
    write(place, "a")
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    return place


def told(err: str, folder: Path) -> str:
    """What stands on stderr, without what is different each time."""
    return re.sub(r"\b\d+(\.\d+)? m?s\b", "TIME", err.replace(str(folder), "FOLDER"))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_error_with_a_place_and_a_remedy(program, folder, mistake):
    code, make = MISTAKES[mistake]
    make(folder)
    before = tree(folder / "out")
    failed = program.call("run", "pipeline.yaml", "--quiet", cwd=folder.path, code=code)
    said = told(failed.stderr, folder.path)
    errors = re.findall(r"^(?:error: |pipeline\.yaml:\d+:\d+: )", said, re.MULTILINE)
    assert len(errors) == 1 and failed.stdout == "", said
    assert re.search(r"^\s*help: \S", said, re.MULTILINE), f"it says what to do:\n{said}"
    assert tree(folder / "out") == before, "nothing is half done"
    kept = MESSAGES / f"{mistake}.txt"
    if os.environ.get("SERIATIM_UPDATE"):
        kept.write_text(said)
    assert said == kept.read_text()


def test_no_message_is_kept_that_no_mistake_gives():
    assert sorted(path.stem for path in MESSAGES.glob("*.txt")) == sorted(MISTAKES)


def test_bad_records_go_to_quarantine_each_with_its_reason(program, folder):
    """Null keys of one table, of another, and of both in one record; in several files and runs. Everything else goes on, and
    nobody's IDs have a gap."""
    pipeline = PIPELINE.replace(CUSTOMERS, CUSTOMERS.replace("}", ", on_null_key: quarantine}"))
    pipeline = pipeline.replace("references: [customers]}", "references: [customers], on_null_key: quarantine}")
    (folder / "pipeline.yaml").write_text(pipeline)
    write(folder, "b", email=[None, "z@example.org", None], city=["Ulm"] * 3, order_no=[3, None, None])
    program.call("run", "pipeline.yaml", cwd=folder.path)
    write(folder, "c", email=["x@example.org", None], city=["Ulm"] * 2, order_no=[4, 5])
    [report] = program.json("run", "pipeline.yaml", cwd=folder.path)["runs"]
    assert (report["records"], report["quarantined"]) == (2, 1)
    files = sorted((folder / "out" / "_quarantine").glob("*.parquet"))
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    places = [(Path(row["_file"]).name, row["_row"], row["_table"]) for row in rows]
    assert places == [("b.parquet", 0, "customers"), ("b.parquet", 1, "orders"), ("b.parquet", 2, "customers"), ("c.parquet", 1, "customers")]
    assert all(row["_table"] in row["_reason"] and "null" in row["_reason"] for row in rows), rows
    assert [row["order_no"] for row in rows] == [3, None, None, 5], "the records are kept as they were"
    orders = [row for file in sorted((folder / "out" / "orders").glob("*.parquet")) for row in pq.read_table(file).to_pylist()]
    assert [(row["order_id"], row["order_no"]) for row in orders] == [(1, 1), (2, 2), (3, 4)]
    assert_verifies(program, folder / "pipeline.yaml")
