"""Every folder in `examples/` does what it says. It is run in a copy, and what comes out is judged by SQL of DuckDB that
knows nothing of Seriatim:

    README.md       what the example shows; the table of examples/README.md has a line for it
    pipeline.yaml   the pipeline
    data.sql        writes the source files of the first run: COPY ... TO 'data/...'; the folder data exists
    data-2.sql ...  write those of later runs
    check.sql       statements of which none may return a row: a row is a complaint
    steps.txt       optional: what to do, line by line, a .sql file or a command `seriatim ...`. Without it: data.sql,
                    `seriatim run pipeline.yaml`, data-2.sql, the same again, and so on

At last `seriatim verify` audits each pipeline that was run. A check that would not see a row of a table missing is no
check, so that is tried too.
"""

import json
import re
import shlex
import shutil
from pathlib import Path

import duckdb
import pytest

from conftest import assert_verifies

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
NAMES = sorted(folder.name for folder in EXAMPLES.iterdir() if folder.is_dir())


def execute(sql: str) -> list[tuple[str, list]]:
    """Executes statements in the folder that one is in; returns each SELECT with its rows."""
    with duckdb.connect(config={"threads": 2}) as connection:
        selects = []
        for statement in connection.extract_statements(sql):
            rows = connection.execute(statement).fetchall()
            if statement.type == duckdb.StatementType.SELECT:
                selects.append((statement.query.strip(), rows))
        return selects


def complaints(check: str) -> list[str]:
    """What a check finds wrong: each statement that returns rows, with some of them."""
    return [f"{query}\nreturns {len(rows)} rows: {rows[:5]}" for query, rows in execute(check) if rows]


def steps(folder: Path) -> list[str]:
    """The steps of an example, those of steps.txt or the usual ones."""
    if (folder / "steps.txt").exists():
        lines = (line.strip() for line in (folder / "steps.txt").read_text().splitlines())
        return [line for line in lines if line and not line.startswith("#")]
    data = sorted(folder.glob("data*.sql"), key=lambda path: int(re.search(r"\d+|$", path.stem)[0] or 1))
    return [step for path in data for step in (path.name, "seriatim run pipeline.yaml")]


def run(program, folder: Path, step: str) -> int:
    """Does a step; returns how many rows it published."""
    if step.endswith(".sql"):
        execute((folder / step).read_text())
        return 0
    name, *arguments = shlex.split(step)
    assert name == "seriatim", f"a step is a .sql file or a command of seriatim: {step}"
    if arguments[0] != "run":
        program.call(*arguments, cwd=folder)
        return 0
    reports = program.json(*arguments, cwd=folder)["runs"]
    return sum(table["rows"] for report in reports for table in report["tables"])


def first_files(folder: Path) -> dict[str, Path]:
    """Of each table that was published, the first file."""
    found = {}
    for path in sorted(folder.rglob("_seriatim/manifest.json")):
        for table in json.loads(path.read_text())["tables"]:
            if table["files"]:
                found[table["table"]] = path.parent.parent / table["files"][0]["path"]
    return found


def notices_a_missing_row(check: str, file: Path) -> bool:
    """Whether a check complains when a file of a table lacks its first row."""
    whole = file.read_bytes()
    try:
        rows = f"SELECT * FROM read_parquet('{file}', hive_partitioning = false) OFFSET 1"
        execute(f"CREATE TABLE rest AS {rows}; COPY rest TO '{file}' (FORMAT parquet)")
        return bool(complaints(check))
    except duckdb.Error:
        return True
    finally:
        file.write_bytes(whole)


@pytest.mark.parametrize("name", NAMES)
def test_an_example_does_what_it_says(program, name, tmp_path, monkeypatch):
    folder = tmp_path / name
    shutil.copytree(EXAMPLES / name, folder)
    (folder / "data").mkdir()
    monkeypatch.chdir(folder)
    todo = steps(folder)
    published = sum([run(program, folder, step) for step in todo])
    assert published > 0, f"nothing was published: {todo}"

    ran = {word for step in todo if step.startswith("seriatim run ") for word in step.split() if word.endswith(".yaml")}
    for pipeline in sorted(ran):
        assert_verifies(program, folder / pipeline)

    check = (folder / "check.sql").read_text()
    assert len(execute(check)) >= 2, "a check has two statements at least"
    found = complaints(check)
    assert not found, "\n\n".join(found)
    blind = [table for table, file in first_files(folder).items() if not notices_a_missing_row(check, file)]
    assert not blind, f"check.sql would not see a row missing in {blind}"


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_told_of(name):
    assert (EXAMPLES / name / "README.md").read_text().startswith("# "), "its README.md has a title"
    lines = (EXAMPLES / "README.md").read_text().splitlines()
    assert any(line.startswith(f"| [{name}]({name}/") for line in lines), f"examples/README.md has no line for {name}"


def test_a_row_is_a_complaint():
    [complaint] = complaints("SELECT 1 WHERE false; SELECT 'a line without an order'; CREATE TABLE t AS SELECT 2")
    assert "a line without an order" in complaint
