"""A run tells of itself as OpenLineage events: to a file, to a service, also when it fails; and a service that is not there,
or does not want them, holds nothing up.
"""

import json
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import duckdb
import pytest

from conftest import HANG
from test_serve_http import serve  # noqa: F401 (a fixture)

PIPELINE = """
version: 1
name: shop
source: {files: data/*.parquet}
checks: [{name: positive, where: quantity > 0, severity: SEVERITY}]
tables:
  customers: {key: email, id: customer_id}
  lines: {id: line_id, references: [customers], columns: [quantity]}
output: {path: out}
"""


class Service:
    """Takes events, and answers with a status."""

    def __init__(self, status=201):
        taken = self.taken = []
        arrived = self.arrived = threading.Semaphore(0)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                taken.append((self.path, self.headers.get("authorization"), json.loads(body)))
                arrived.release()
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def shop(program, tmp_path):
    (tmp_path / "data").mkdir()
    duckdb.sql(f"""
        COPY (SELECT * FROM (VALUES ('a@x', 1), ('b@x', -2), ('a@x', 3)) AS line(email, quantity))
        TO '{tmp_path}/data/1.parquet'
    """)

    def run(*arguments, severity="quarantine", **environment):
        (tmp_path / "shop.yaml").write_text(PIPELINE.replace("SEVERITY", severity))
        command = [program.path, "run", "shop.yaml", "--json", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True, timeout=HANG
        )

    run.folder = tmp_path
    return run


def test_a_file_has_the_beginning_and_the_end_of_a_run(shop):
    assert shop("--lineage", str(shop.folder / "events.ndjson")).returncode == 0
    begun, ended = [json.loads(line) for line in (shop.folder / "events.ndjson").read_text().splitlines()]
    assert (begun["eventType"], ended["eventType"]) == ("START", "COMPLETE")
    assert begun["run"]["runId"] == ended["run"]["runId"]
    assert ended["job"]["namespace"] == "seriatim" and ended["job"]["name"] == "shop"
    folder = str(shop.folder)
    [source] = ended["inputs"]
    assert (source["namespace"], source["name"]) == ("file", f"{folder}/data/*.parquet")
    [assertion] = source["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert (assertion["assertion"], assertion["success"]) == ("positive", False)
    outputs = {output["name"]: output for output in ended["outputs"]}
    assert outputs.keys() == {f"{folder}/out/customers", f"{folder}/out/lines"}
    lines = outputs[f"{folder}/out/lines"]
    assert lines["outputFacets"]["outputStatistics"]["rowCount"] == 2
    size = sum(file.stat().st_size for file in (shop.folder / "out/lines").iterdir())
    assert lines["outputFacets"]["outputStatistics"]["size"] == size
    assert [field["name"] for field in lines["facets"]["schema"]["fields"]] == ["line_id", "customer_id", "quantity"]
    [made_of] = lines["facets"]["columnLineage"]["fields"]["customer_id"]["inputFields"]
    assert (made_of["name"], made_of["field"]) == (source["name"], "email")
    # Every facet says by whom it is, and what its schema is.
    for facet in [*lines["facets"].values(), *lines["outputFacets"].values(), *ended["run"]["facets"].values()]:
        assert facet["_producer"].startswith("urn:seriatim:") and facet["_schemaURL"].startswith("https://openlineage.io/")


def test_a_service_is_told_of_a_run_that_fails_and_of_one_that_does_not(shop):
    service = Service()
    told = {"OPENLINEAGE_URL": service.url, "OPENLINEAGE_API_KEY": "canary-key", "OPENLINEAGE_NAMESPACE": "night"}
    failed = shop(severity="fail", **told)
    assert failed.returncode == 1
    assert "canary-key" not in failed.stdout + failed.stderr
    assert shop(**told).returncode == 0
    assert {(path, key) for path, key, _ in service.taken} == {("/api/v1/lineage", "Bearer canary-key")}
    events = [event for _, _, event in service.taken]
    assert [event["eventType"] for event in events] == ["START", "FAIL", "START", "COMPLETE"]
    assert "positive" in events[1]["run"]["facets"]["errorMessage"]["message"]
    assert len({event["run"]["runId"] for event in events}) == 2
    assert {event["job"]["namespace"] for event in events} == {"night"}


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", None], ids=["nobody", "refused"])
def test_who_cannot_be_told_holds_nothing_up(shop, url):
    done = shop("--lineage", url or Service(status=500).url)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("an OpenLineage event was not delivered") == 2, done.stderr
    assert json.loads(done.stdout)["runs"][0]["status"] == "done"


def test_runs_that_begin_over_http_are_told_of(shop, serve):  # noqa: F811
    pipelines = shop.folder / "pipelines"
    pipelines.mkdir()
    (shop.folder / "data").rename(pipelines / "data")
    (pipelines / "shop.yaml").write_text(PIPELINE.replace("SEVERITY", "quarantine"))
    service = Service()
    served = serve("--pipelines", pipelines, "--lineage", service.url)
    for ends in ("COMPLETE", "COMPLETE"):
        status, headers, _ = served.api.call("POST", "/runs", {"pipeline": "shop"})
        assert status == 202
        assert served.api.ended(headers["location"])[0] == 200
        assert all(service.arrived.acquire(timeout=HANG) for _ in range(2))
        [begun, ended] = [event for _, _, event in service.taken[-2:]]
        assert (begun["eventType"], ended["eventType"]) == ("START", ends)
        assert begun["run"]["runId"] == ended["run"]["runId"]
        assert ended["job"]["name"] == "shop"
    rows = [output["outputFacets"]["outputStatistics"]["rowCount"] for output in service.taken[1][2]["outputs"]]
    assert sorted(rows) == [1, 2]
    served.stop()


def test_a_server_goes_on_if_nobody_can_be_told(shop, serve):  # noqa: F811
    pipelines = shop.folder / "pipelines"
    pipelines.mkdir()
    (shop.folder / "data").rename(pipelines / "data")
    (pipelines / "shop.yaml").write_text(PIPELINE.replace("SEVERITY", "quarantine"))
    served = serve("--pipelines", pipelines, "--lineage", "http://127.0.0.1:1", "--log", "warn")
    _, headers, _ = served.api.call("POST", "/runs", {"pipeline": "shop"})
    status, ended = served.api.ended(headers["location"])
    assert (status, ended["runtimeStatus"]) == (200, "Completed")
    assert "an OpenLineage event was not delivered" in served.stop()
