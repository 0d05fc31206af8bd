"""Source files that cannot be read, at the command line: named, or set aside and told of; never a panic or a hang."""

import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import assert_verifies, tree

PIPELINE = """\
version: 1
name: bad
source: {{files: data/*.parquet, on_bad_file: {choice}}}
tables:
  customers: {{key: email, id: customer_id, columns: [city]}}
  lines: {{id: line_id, references: [customers], columns: [n]}}
output: {{path: out}}
"""


def write(path, emails, **options):
    columns = {"email": emails, "city": ["Ulm"] * len(emails), "n": pa.array(range(len(emails)), pa.int64())}
    pq.write_table(pa.table(columns), path, **options)


def choose(folder, choice):
    (folder / "pipeline.yaml").write_text(PIPELINE.format(choice=choice))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "a.parquet", ["x@example.org", "y@example.org"])
    write(tmp_path / "data" / "c.parquet", ["z@example.org", "x@example.org"])
    return tmp_path


def flip(path, column, group):
    """Changes a byte in the middle of a column chunk."""
    chunk = pq.ParquetFile(path).metadata.row_group(group).column(column)
    content = bytearray(path.read_bytes())
    content[chunk.data_page_offset + chunk.total_compressed_size // 2] ^= 0xFF
    path.write_bytes(content)


def test_a_page_with_a_wrong_checksum_is_named_with_its_place(program, folder):
    bad = folder / "data" / "b.parquet"
    emails = [f"{n}@example.org" for n in range(3000)]
    write(bad, emails, row_group_size=1000, write_page_checksum=True, use_dictionary=False, compression="none")
    flip(bad, 2, 2)
    choose(folder, "fail")
    failed = program.call("run", "pipeline.yaml", cwd=folder, code=1)
    for word in ["data/b.parquet", "row group 2", "column 'n'", "checksum", "write it again"]:
        assert word.lower() in failed.stderr.lower(), failed.stderr
    assert "panicked" not in failed.stderr
    assert not list(folder.glob("out/**/*.parquet"))


def test_g2_g7_a_bad_file_is_set_aside_and_told_of(program, folder):
    bad = folder / "data" / "b.parquet"
    choose(folder, "quarantine")
    program.call("run", "pipeline.yaml", cwd=folder)
    expected = {name: digest for name, digest in tree(folder / "out").items() if name.endswith(".parquet")}
    for name in ["out", ".seriatim"]:
        (folder / name).rename(folder / f"before-{name}")

    emails = [f"{n}@example.org" for n in range(3000)]
    write(bad, emails, row_group_size=1000, write_page_checksum=True, use_dictionary=False, compression="none")
    flip(bad, 0, 2)
    (folder / "data" / "d.parquet").write_bytes(bad.read_bytes()[:-100])
    planned = program.json("plan", "pipeline.yaml", cwd=folder)
    [run] = program.json("run", "pipeline.yaml", cwd=folder)["runs"]
    assert (run["status"], run["files"], run["records"]) == ("done", 2, 4)
    assert planned["aside"] == run["aside"]
    first, second = run["aside"]
    assert (first["file"], first["row_group"], first["column"]) == ("data/b.parquet", 2, "email")
    assert (first["records"], second["file"]) == (3000, "data/d.parquet")
    found = {name: digest for name, digest in tree(folder / "out").items() if name.endswith(".parquet")}
    assert found == expected, "as if the bad files had never been there"
    assert_verifies(program, folder / "pipeline.yaml")
    for arguments in [("verify", "pipeline.yaml"), ("show", run["run"])]:
        said = program.call(*arguments, cwd=folder).stdout
        assert "data/b.parquet, row group 2, column 'email'" in said, said
    assert "1 file set aside before" not in program.call("run", "pipeline.yaml", cwd=folder).stdout
    assert "2 files set aside before" in program.call("run", "pipeline.yaml", cwd=folder).stdout

    write(bad, ["new@example.org"])
    [run] = program.json("run", "pipeline.yaml", cwd=folder)["runs"]
    assert (run["files"], run["tables"][0]["ids"]["first"], run["aside_known"]) == (1, 4, 1)
    assert_verifies(program, folder / "pipeline.yaml")


def test_a_file_that_was_cut_anywhere_is_named_at_once(program, folder, rng):
    whole = (folder / "data" / "a.parquet").read_bytes()
    bad = folder / "data" / "b.parquet"
    choose(folder, "fail")
    for length in [0, 1, 4, 8, 11, 12, len(whole) - 1, *(rng.randrange(len(whole)) for _ in range(6))]:
        bad.write_bytes(whole[:length])
        begun = time.monotonic()
        failed = program.call("run", "pipeline.yaml", cwd=folder, code=1)
        assert time.monotonic() - begun < 30
        assert "data/b.parquet" in failed.stderr and "panicked" not in failed.stderr, failed.stderr
