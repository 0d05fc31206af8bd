"""`seriatim serve --http` as a program: orchestrations of the Python SDK by HTTP, runs of pipelines, what it refuses."""

import json
import signal
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import duckdb
import pytest
from durabletask.worker import TaskHubGrpcWorker

from conftest import HANG

sys.path.insert(0, str(Path(__file__).parent / "sdk"))
import orders  # noqa: E402

TOKEN = "canary-0123456789abcdef"
DURABLE = "/runtime/webhooks/durabletask"


class Api:
    """A client that sees nothing but HTTP."""

    def __init__(self, base: str, token: str | None = None):
        self.base = base
        self.token = token

    def call(self, method: str, path: str, body=None):
        """The status, the headers and the body, from JSON if it is some; redirects and errors are answers, too."""
        url = path if path.startswith("http") else self.base + path
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data=data, method=method)
        if data is not None:
            request.add_header("content-type", "application/json")
        if self.token:
            request.add_header("authorization", f"Bearer {self.token}")
        try:
            answer = urllib.request.urlopen(request, timeout=HANG)
        except urllib.error.HTTPError as refused:
            answer = refused
        with answer:
            text = answer.read().decode()
            is_json = "json" in answer.headers.get("content-type", "")
            return answer.status, answer.headers, json.loads(text) if is_json and text else text

    def ended(self, location: str):
        """Follows a status until it is no longer 202, as Data Factory and Logic Apps do."""
        deadline = time.monotonic() + HANG
        while time.monotonic() < deadline:
            status, headers, body = self.call("GET", location)
            if status != 202:
                return status, body
            location = headers["location"]
            assert int(headers["retry-after"]) > 0
        raise AssertionError(f"{location} does not end")


class Served:
    """The program on free ports."""

    def __init__(self, program, folder, *arguments, token=None):
        self.process = program.start(
            "serve", "--state", folder / "state", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--json",
            *arguments, cwd=folder,
        )
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        self.urls = json.loads(line)
        self.api = Api(self.urls["http"], token)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=HANG)
        assert self.process.returncode == 0, err
        return out + err


@pytest.fixture
def serve(program, tmp_path):
    started = []

    def start(*arguments, **options):
        started.append(Served(program, tmp_path, *arguments, **options))
        return started[-1]

    yield start
    for served in started:
        if served.process.poll() is None:
            served.process.kill()
            served.process.communicate()


def test_orchestrations_of_an_sdk_are_started_watched_and_done_again_by_http(serve):
    served = serve()
    api = served.api
    with TaskHubGrpcWorker(host_address=served.urls["grpc"].removeprefix("http://")) as worker:
        orders.register(worker)
        worker.start()
        status, headers, started = api.call("POST", f"{DURABLE}/orchestrators/chain/one", 1)
        assert status == 202 and started["id"] == "one" and headers["location"] == started["statusQueryGetUri"]
        status, ended = api.ended(started["statusQueryGetUri"])
        assert (status, ended["runtimeStatus"], ended["output"], ended["input"]) == (200, "Completed", 8, 1)

        api.call("POST", f"{DURABLE}/orchestrators/approval/two", 3600)
        assert api.call("POST", f"{DURABLE}/instances/two/raiseEvent/approval", "yes")[0] == 202
        assert api.ended(f"{DURABLE}/instances/two")[1]["output"] == "yes"
        assert api.call("POST", f"{DURABLE}/instances/two/raiseEvent/approval", "again")[0] == 410

        status, _, restarted = api.call("POST", f"{DURABLE}/instances/one/restart?restartWithNewInstanceId=true")
        assert status == 202 and restarted["id"] != "one"
        assert api.ended(restarted["statusQueryGetUri"])[1]["output"] == 8

        api.call("POST", f"{DURABLE}/orchestrators/asks_an_activity_that_fails/three", "once")
        failed = api.ended(f"{DURABLE}/instances/three")[1]
        assert failed["runtimeStatus"] == "Failed"
        assert api.call("POST", f"{DURABLE}/instances/three/rewind?reason=again")[0] == 202
        again = api.ended(f"{DURABLE}/instances/three")[1]
        assert again["runtimeStatus"] == "Failed" and again["lastUpdatedTime"] >= failed["lastUpdatedTime"]

        assert api.call("POST", f"{DURABLE}/entities/Account/mine?op=add", 5)[0] == 202
        deadline = time.monotonic() + HANG
        while api.call("GET", f"{DURABLE}/entities/Account/mine")[0] == 404 and time.monotonic() < deadline:
            pass
        assert api.call("GET", f"{DURABLE}/entities/Account/mine")[2] == [5, 1]
    metrics = api.call("GET", "/metrics")[2]
    assert 'seriatim_hub_instances{hub="default",status="Completed"} 3' in metrics, metrics
    served.stop()


def test_a_hub_that_nobody_made_is_not_made_by_a_url(serve, tmp_path):
    served = serve()
    status, headers, problem = served.api.call("GET", f"{DURABLE}/instances/any?taskHub=mistyped")
    assert status == 404 and headers["content-type"] == "application/problem+json", problem
    assert "mistyped" in problem["detail"]
    assert not (tmp_path / "state" / "hubs").exists()
    served.stop()


def test_pipelines_run_when_they_are_asked_for(program, serve, tmp_path):
    folder = tmp_path / "pipelines"
    folder.mkdir()
    program.call("demo", "--data-only", "--rows", 2000, "--folder", folder, cwd=tmp_path)
    served = serve("--pipelines", folder, "--workers", 2)
    name = next(folder.glob("*.yaml")).stem
    for round_number, expected in enumerate([2000, 2000], start=1):
        status, headers, started = served.api.call("POST", "/runs", {"pipeline": name})
        assert status == 202 and headers["location"] == started["statusQueryGetUri"], started
        status, ended = served.api.ended(headers["location"])
        assert (status, ended["runtimeStatus"]) == (200, "Completed"), ended
        files = [str(path) for path in folder.rglob("order_lines/*.parquet")]
        count, ids, last = duckdb.sql(
            f"SELECT count(*), count(DISTINCT line_id), max(line_id) FROM read_parquet({files})"
        ).fetchall()[0]
        # The second run finds nothing new.
        assert (count, ids, last) == (expected, expected, expected), round_number
    assert served.api.call("POST", "/runs", {"pipeline": "../outside"})[0] == 404
    served.stop()
    assert program.json("verify", folder / f"{name}.yaml", cwd=folder)["ok"]


def test_the_token_opens_both_doors_and_is_never_shown(program, serve, monkeypatch):
    monkeypatch.setenv("SERIATIM_TOKEN", TOKEN)
    served = serve("--log", "trace")
    assert served.api.call("GET", f"{DURABLE}/instances")[0] == 401
    for token, status in (("wrong-wrong-wrong-wrong", 401), (TOKEN, 200)):
        assert Api(served.urls["http"], token).call("GET", f"{DURABLE}/instances")[0] == status
    assert Api(served.urls["http"]).call("GET", f"{DURABLE}/instances?code={TOKEN}")[0] == 401
    assert served.api.call("GET", "/healthz")[0] == 200
    assert TOKEN not in served.stop()


def test_the_azure_functions_host_gets_http_on_its_port_and_nothing_else(program, tmp_path, monkeypatch):
    monkeypatch.setenv("FUNCTIONS_CUSTOMHANDLER_PORT", "0")
    process = program.start("serve", "--state", tmp_path / "state", "--json", cwd=tmp_path)
    urls = json.loads(process.stdout.readline())
    assert list(urls) == ["http"]
    assert Api(urls["http"]).call("GET", "/durabletask/instances")[0] == 200
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=HANG)
    assert process.returncode == 0


def test_what_is_wrong_is_said_before_anything_listens(program, tmp_path):
    def said(*arguments):
        called = program.call("serve", "--state", tmp_path / "s", "--grpc", "127.0.0.1:0", *arguments, cwd=tmp_path, code=2)
        assert not called.stdout
        return called.stderr

    assert "no token is set" in said("--http", "0.0.0.0:0")
    assert "--http" in said("--pipelines", tmp_path)
    assert "cannot be the public URL" in said("--http", "127.0.0.1:0", "--public-url", "https://a.example/?x=1")
