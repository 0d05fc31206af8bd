"""Mistakes that people make, at the command line: the exit code, the place, the remedy, and nothing half-written."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import assert_verifies, tree

GOOD = """\
version: 1
name: mistakes
source: {files: data/*.parquet}
tables:
  customers: {key: email, id: customer_id, columns: [city]}
  orders: {key: order_no, id: order_id, references: [customers]}
output: {path: out}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "a.parquet", ["x@example.org", "y@example.org"])
    (tmp_path / "pipeline.yaml").write_text(GOOD)
    return tmp_path


def write(path, emails, order_type=pa.int64()):
    numbers = pa.array(range(len(emails)), pa.int64()).cast(order_type)
    pq.write_table(pa.table({"email": emails, "city": ["Ulm"] * len(emails), "order_no": numbers}), path)


def fails(program, folder, code, *words):
    """A run that must fail with this exit code, say these words on stderr, and leave the output as it was."""
    before = tree(folder / "out")
    failed = program.call("run", "pipeline.yaml", cwd=folder, code=code)
    for word in words:
        assert word in failed.stderr, f"the error names {word}:\n{failed.stderr}"
    assert failed.stdout == "", "nothing that failed goes to stdout"
    assert tree(folder / "out") == before
    assert not list(folder.glob("out/_seriatim/staging/*"))


def works_again(program, folder):
    program.call("run", "pipeline.yaml", cwd=folder)
    assert_verifies(program, folder / "pipeline.yaml")


@pytest.mark.parametrize(
    ("good", "wrong", "words"),
    [
        pytest.param("references: [customers]", "references: [custmers]", ["custmers", "customers"], id="reference"),
        pytest.param("id: customer_id, columns", "id: customer_id, colums", ["colums", "columns"], id="unknown key"),
        pytest.param("columns: [city]", "columns: [ctiy]", ["ctiy", "city"], id="column"),
        pytest.param("columns: [city]", "columns: [city, city]", ["city"], id="duplicate column"),
        pytest.param("columns: [city]", "columns: [customer_id]", ["customer_id"], id="duplicate output column"),
        pytest.param("columns: [city]", "references: [orders]", ["customers", "orders"], id="circle"),
        pytest.param("version: 1", "version: one", ["version"], id="version"),
        pytest.param("key: email", "key: []", ["key"], id="empty key"),
    ],
)
def test_a_wrong_pipeline_is_exit_code_2_and_names_the_place(program, folder, good, wrong, words):
    assert good in GOOD
    (folder / "pipeline.yaml").write_text(GOOD.replace(good, wrong))
    fails(program, folder, 2, *words)
    (folder / "pipeline.yaml").write_text(GOOD)
    works_again(program, folder)


def test_a_missing_pipeline_file_is_exit_code_2(program, tmp_path):
    failed = program.call("run", "nowhere.yaml", cwd=tmp_path, code=2)
    assert "nowhere.yaml" in failed.stderr


def test_a_missing_source_is_exit_code_1(program, folder):
    (folder / "data" / "a.parquet").unlink()
    fails(program, folder, 1, "data/*.parquet", "source.files")
    write(folder / "data" / "a.parquet", ["x@example.org"])
    works_again(program, folder)


@pytest.mark.parametrize("content", [b"", b"email\nx@example.org\n", b"PAR1"], ids=["empty", "text", "magic only"])
def test_a_file_that_is_not_parquet_is_exit_code_1(program, folder, content):
    works_again(program, folder)
    bad = folder / "data" / "b.parquet"
    bad.write_bytes(content)
    fails(program, folder, 1, "b.parquet")
    write(bad, ["z@example.org"])
    works_again(program, folder)


def test_a_truncated_file_is_exit_code_1(program, folder):
    works_again(program, folder)
    bad = folder / "data" / "b.parquet"
    write(bad, ["z@example.org"] * 1000)
    whole = bad.read_bytes()
    for length in [len(whole) // 3, len(whole) - 4, len(whole) - 1]:
        bad.write_bytes(whole[:length])
        fails(program, folder, 1, "b.parquet")
    bad.write_bytes(whole)
    works_again(program, folder)


def test_a_column_of_two_types_is_exit_code_1(program, folder):
    write(folder / "data" / "b.parquet", ["z@example.org"], pa.string())
    fails(program, folder, 1, "order_no", "a.parquet", "b.parquet")
    write(folder / "data" / "b.parquet", ["z@example.org"])
    works_again(program, folder)


def test_an_output_folder_with_foreign_files_is_exit_code_1(program, folder):
    (folder / "out" / "orders").mkdir(parents=True)
    (folder / "out" / "orders" / "mine.parquet").write_bytes(b"somebody's")
    fails(program, folder, 1, "mine.parquet")
    (folder / "out" / "orders" / "mine.parquet").unlink()
    works_again(program, folder)


def test_verify_says_what_to_do_with_a_foreign_file(program, folder):
    works_again(program, folder)
    (folder / "out" / "orders" / "mine.parquet").write_bytes(b"somebody's")
    audit = program.call("verify", "pipeline.yaml", cwd=folder, code=1)
    assert "mine.parquet" in audit.stdout and "help: move it away" in audit.stdout
    assert "restore" not in audit.stderr, "what was published is as it was"
    (folder / "out" / "orders" / "mine.parquet").unlink()
    assert_verifies(program, folder / "pipeline.yaml")


def test_a_changed_ingested_file_is_exit_code_1(program, folder):
    works_again(program, folder)
    kept = (folder / "data" / "a.parquet").read_bytes()
    write(folder / "data" / "a.parquet", ["other@example.org"])
    fails(program, folder, 1, "a.parquet")
    (folder / "data" / "a.parquet").write_bytes(kept)
    works_again(program, folder)


def test_nothing_new_is_exit_code_0(program, folder):
    works_again(program, folder)
    before = tree(folder / "out")
    report = program.json("run", "pipeline.yaml", cwd=folder)["runs"]
    assert [run["status"] for run in report] == ["nothing_to_do"]
    assert tree(folder / "out") == before


def test_verify_is_exit_code_1_if_rows_were_taken_away(program, folder):
    works_again(program, folder)
    [path] = (folder / "out" / "customers").glob("*.parquet")
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    failed = program.call("verify", "pipeline.yaml", cwd=folder, code=1)
    assert "customers" in failed.stdout + failed.stderr
