"""Tables with a history as readers see them: those of Delta Lake follow removed and added files, version by version, and
readers of Parquet find the same rows in the folder. What they should hold is the example's own check, in SQL.
"""

import json
import shutil

import duckdb
import pytest
from deltalake import DeltaTable

from conftest import assert_verifies
from test_examples import EXAMPLES, complaints, execute


@pytest.mark.parametrize("name", ["history-scd1", "history-scd2"])
def test_readers_of_delta_see_what_changes(program, name, tmp_path, monkeypatch):
    folder = tmp_path / name
    shutil.copytree(EXAMPLES / name, folder)
    (folder / "data").mkdir()
    monkeypatch.chdir(folder)
    pipeline = folder / "pipeline.yaml"
    pipeline.write_text(pipeline.read_text().replace("output: {path: out}", "output: {path: out, format: delta}"))
    table = "customers" if name == "history-scd1" else "products"
    deliveries = [data for data in ("data.sql", "data-2.sql", "data-3.sql") if (folder / data).exists()]
    for run, data in enumerate(deliveries):
        execute((folder / data).read_text())
        [report] = program.json("run", "pipeline.yaml", cwd=folder)["runs"]
        [counts] = [counts for counts in report["tables"] if counts["table"] == table]
        assert (run > 0) == (counts.get("updated_keys", 0) > 0)
        delta = DeltaTable(str(folder / "out" / table))
        assert delta.version() == run
        seen = delta.to_pyarrow_table()
        assert len(seen) == counts["total_rows"]
        with duckdb.connect() as db:
            db.register("seen", seen)
            there = f"FROM 'out/{table}/*.parquet'"
            for one, other in (("FROM seen", there), (there, "FROM seen")):
                assert db.execute(f"({one}) EXCEPT ALL ({other})").fetchall() == []
        operations = [entry["operation"] for entry in delta.history()]
        assert operations[0] == ("MERGE" if run else "WRITE"), operations
    assert_verifies(program, pipeline)
    assert not complaints((folder / "check.sql").read_text())
    manifest = json.loads((folder / "out/_seriatim/manifest.json").read_text())
    assert [changes["table"] for run in manifest["runs"] for changes in run.get("changes", [])] == [table] * (len(deliveries) - 1)
