"""Keys of which records differ are counted as DuckDB counts them: in `plan`, in `run`, with one worker and with several, and
against what earlier runs have published.
"""

import shutil
import subprocess

import duckdb
import pytest

from conftest import HANG, assert_verifies
from test_examples import EXAMPLES, complaints, execute

# Of each table: its key, what its records are compared by, and the same of what is published.
TABLES = {
    "customers": ("customer_no", "ROW(email, city)", "FROM 'out/customers/*.parquet'"),
    "products": ("sku", "ROW(title)", "FROM 'out/products/*.parquet'"),
    "orders": ("order_no", "ROW(customer_no)", "FROM 'out/orders/*.parquet' JOIN 'out/customers/*.parquet' USING (customer_id)"),
}


def count(files: str, is_published: bool) -> dict[str, int]:
    """Keys whose records in some files differ, among themselves or from what is published."""
    found = {}
    for table, (key, said, published) in TABLES.items():
        differ = f"SELECT {key} FROM read_parquet({files}) GROUP BY {key} HAVING count(DISTINCT {said}) > 1"
        if is_published:
            differ += f"""
                UNION SELECT {key} FROM (SELECT {key}, {said} AS said FROM read_parquet({files})) new
                JOIN (SELECT {key}, {said} AS said {published}) old USING ({key})
                WHERE new.said IS DISTINCT FROM old.said"""
        [(found[table],)] = duckdb.sql(f"SELECT count(*) FROM ({differ})").fetchall()
    return found


def counted(report: dict) -> dict[str, int]:
    return {table["table"]: table["conflicting_keys"] for table in report["tables"] if "conflicting_keys" in table}


@pytest.mark.parametrize("workers", ["1", "3"])
def test_conflicts_are_counted(program, tmp_path, monkeypatch, workers):
    folder = tmp_path / "conflicts"
    shutil.copytree(EXAMPLES / "conflicts", folder)
    (folder / "data").mkdir()
    monkeypatch.chdir(folder)
    deliveries = [("data.sql", "['data/part-1.parquet', 'data/part-2.parquet']"), ("data-2.sql", "['data/part-3.parquet']")]
    for run, (data, files) in enumerate(deliveries):
        execute((folder / data).read_text())
        expected = count(files, is_published=run > 0)
        assert all(expected.values()), "there is something to count"
        assert counted(program.json("plan", "pipeline.yaml", cwd=folder)) == expected
        [report] = program.json("run", "pipeline.yaml", "--workers", workers, cwd=folder)["runs"]
        assert counted(report) == expected
    assert_verifies(program, folder / "pipeline.yaml")
    assert not complaints((folder / "check.sql").read_text())
    said = program.call("show", report["run"], "--pipeline", "pipeline.yaml", cwd=folder).stdout
    assert f"customers: the records of {expected['customers']} keys differ" in said


def test_what_was_published_before_is_not_compared_without_a_memory_of_it(program, tmp_path, monkeypatch):
    """A table that begins to count has no memory of what its keys had: the records of each run are compared."""
    folder = tmp_path / "conflicts"
    shutil.copytree(EXAMPLES / "conflicts", folder)
    (folder / "data").mkdir()
    monkeypatch.chdir(folder)
    pipeline = folder / "pipeline.yaml"
    text = pipeline.read_text()
    pipeline.write_text("".join(line for line in text.splitlines(True) if "count_conflicts" not in line))
    execute((folder / "data.sql").read_text())
    [report] = program.json("run", "pipeline.yaml", cwd=folder)["runs"]
    assert counted(report) == {}
    pipeline.write_text(text)
    execute((folder / "data-2.sql").read_text())
    [report] = program.json("run", "pipeline.yaml", cwd=folder)["runs"]
    new = count("['data/part-3.parquet']", is_published=False)
    assert counted(report) == new
    assert_verifies(program, pipeline)


def test_what_cannot_be_compared_is_refused(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    duckdb.sql("COPY (SELECT 'a' AS k, [1, 2] AS list) TO 'data.parquet'")
    (tmp_path / "p.yaml").write_text(
        "version: 1\nname: p\nsource: {files: data.parquet}\noutput: {path: out}\n"
        "tables: {t: {key: k, id: i, columns: [list], count_conflicts: true}}\n"
    )
    refused = subprocess.run([program.path, "check", "p.yaml"], cwd=tmp_path, capture_output=True, text=True, timeout=HANG)
    assert refused.returncode == 2
    assert "count_conflicts cannot compare 'list'" in refused.stderr + refused.stdout
