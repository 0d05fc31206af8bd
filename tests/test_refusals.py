"""What `seriatim serve` refuses, asked of the real program with its real limits: every route that its own document lists
and every call of the protocol without a token, with a wrong one and with one that has been replaced; bodies that are too
large or too deep; paths that climb; clients that hold a connection and say nothing. What is refused must have no effect.

The routes come from /openapi.json and the calls from the protocol's file, so that a new one is asked at once.
"""

import http.client
import json
import re
import selectors
import signal
import socket
import threading
import time
from pathlib import Path
from urllib.parse import quote, urlsplit

import grpc
import pytest

from conftest import HANG
from test_serve_http import DURABLE, Served

PROTOCOL = Path(__file__).parent.parent / "crates/durable/proto/durable_task.proto"
OLD, NEW, WRONG = "canary-old-0123456789", "canary-new-0123456789", "canary-wrong-012345678"


class Door:
    """Requests exactly as they are written: no library tidies the path or the headers."""

    def __init__(self, url: str, token: str | None = None):
        self.address = (urlsplit(url).hostname, urlsplit(url).port)
        self.token = token

    def ask(self, method: str, path: str, body: bytes = b"", headers: dict | None = None, token: str | None = None):
        """Status, headers and text."""
        connection = http.client.HTTPConnection(*self.address, timeout=HANG)
        connection.putrequest(method, path)
        token = token or self.token
        sent = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
        if token:
            sent["authorization"] = f"Bearer {token}"
        for name, value in sent.items():
            connection.putheader(name, value)
        try:
            connection.endheaders()
            connection.send(body)
        except OSError:
            pass  # a server that refuses a body need not read it
        with connection.getresponse() as answer:
            text = answer.read().decode()
            connection.close()
            return answer.status, answer.headers, text

    def operations(self, filled="nothing-of-this-name"):
        """Method, path and description of every operation of the document."""
        status, _, text = self.ask("GET", "/openapi.json")
        assert status == 200, text
        found = [
            (method.upper(), re.sub(r"\{\w+\}", filled, path), operation)
            for path, item in json.loads(text)["paths"].items()
            for method, operation in item.items()
        ]
        assert len(found) >= 24, found
        return found


class Heard(Served):
    """A server whose log is read while it runs: it would stand still if nobody took what it says."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.lines = []
        self.reader = threading.Thread(target=lambda: self.lines.extend(self.process.stderr), daemon=True)
        self.reader.start()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=HANG) == 0, self.lines[-30:]
        self.reader.join(timeout=HANG)
        return "".join(self.lines)


def calls() -> list[str]:
    """The names of the protocol's calls."""
    found = re.findall(r"^\s*rpc (\w+)\(", PROTOCOL.read_text(), re.MULTILINE)
    assert len(found) >= 29, found
    return found


def code_of(channel, name: str, message: bytes = b"", metadata=()) -> tuple[grpc.StatusCode, str]:
    """What a call that is sent as raw bytes ends with. Every call is asked as a stream, which one answer is, too."""
    try:
        for _ in channel.unary_stream(f"/TaskHubSidecarService/{name}")(message, metadata=metadata, timeout=5):
            break
    except grpc.RpcError as refused:
        return refused.code(), refused.details()
    return grpc.StatusCode.OK, ""


@pytest.fixture
def serve(program, tmp_path, monkeypatch):
    started = []

    def start(*arguments, token=None):
        if token:
            monkeypatch.setenv("SERIATIM_TOKEN", token)
        started.append(Heard(program, tmp_path, *arguments, token=token))
        return started[-1]

    yield start
    for served in started:
        if served.process.poll() is None:
            served.process.kill()
            served.process.wait(timeout=HANG)


@pytest.fixture
def rotated(serve, tmp_path):
    """A server whose token was replaced: with the old one something was started, so that there is something to find."""
    (tmp_path / "pipelines").mkdir()
    before = serve("--pipelines", tmp_path / "pipelines", token=OLD)
    assert before.api.call("POST", f"{DURABLE}/orchestrators/kept/kept")[0] == 202
    before.stop()
    return serve("--pipelines", tmp_path / "pipelines", "--log", "trace", token=NEW)


def test_every_route_refuses_who_has_no_token_a_wrong_one_or_an_old_one(rotated):
    door = Door(rotated.urls["http"], NEW)
    secured = [(m, p) for m, p, operation in door.operations("kept") if "security" in operation]
    assert len(secured) >= 22, secured
    nobody = Door(rotated.urls["http"])
    for method, path in secured:
        for token in (None, WRONG, OLD):
            # Also with what the route would take, so that nothing else is found wrong first.
            for query, body in (("", b"1"), ("?op=set&confirm=true&pipeline=kept", b""), (f"?code={NEW}", b"")):
                status, headers, text = nobody.ask(method, path + query, body, token=token)
                assert (status, json.loads(text)["code"]) == (401, "unauthorized"), (method, path, token, text)
                assert headers["www-authenticate"] == "Bearer" and "kept" not in text and "canary" not in text
    # Nothing of it had an effect: what was there is there, and nothing else.
    _, _, text = door.ask("GET", f"{DURABLE}/instances")
    assert [(it["instanceId"], it["runtimeStatus"]) for it in json.loads(text)] == [("kept", "Pending")]
    assert json.loads(door.ask("GET", f"{DURABLE}/entities")[2]) == []
    assert json.loads(door.ask("GET", "/runs")[2]) == {"runs": []}
    assert "canary" not in rotated.stop()


def test_every_call_refuses_who_has_no_token_a_wrong_one_or_an_old_one(rotated):
    address = rotated.urls["grpc"].removeprefix("http://")
    metadata = {
        "none": (),
        "wrong": (("authorization", f"Bearer {WRONG}"),),
        "old": (("authorization", f"Bearer {OLD}"),),
        "no scheme": (("authorization", NEW),),
        "basic": (("authorization", f"Basic {NEW}"),),
    }
    with grpc.insecure_channel(address) as channel:
        for name in calls():
            for what, sent in metadata.items():
                code, said = code_of(channel, name, metadata=sent)
                assert code == grpc.StatusCode.UNAUTHENTICATED, (name, what, code, said)
                assert "canary" not in said
            # One that the server refuses is refused before its message is read: this is none.
            code, _ = code_of(channel, name, b"\xff\xff\xff", metadata["old"])
            assert code == grpc.StatusCode.UNAUTHENTICATED, name
        right = (("authorization", f"Bearer {NEW}"),)
        assert code_of(channel, "Hello", metadata=right)[0] == grpc.StatusCode.OK
    instances = json.loads(Door(rotated.urls["http"], NEW).ask("GET", f"{DURABLE}/instances")[2])
    assert [it["instanceId"] for it in instances] == ["kept"]
    assert "canary" not in rotated.stop()


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
@pytest.mark.parametrize("door", ["--grpc", "--http"])
def test_nothing_listens_where_others_come_in_without_a_token(program, tmp_path, door, address):
    other = [] if door == "--grpc" else ["--grpc", "127.0.0.1:0"]
    for more in ([], ["--behind-proxy"], ["--accept-code"], ["--public-url", "https://hub.example"]):
        if more and door == "--grpc":
            continue
        refused = program.call(
            "serve", "--state", tmp_path / "state", *other, door, address, *more, cwd=tmp_path, code=2
        )
        assert not refused.stdout and "can be reached from other machines" in refused.stderr, refused.stderr


def test_every_route_refuses_what_is_too_large_or_too_deep(serve):
    served = serve()
    door = Door(served.urls["http"])
    takes_json = 0
    for method, path, operation in door.operations():
        status, _, text = door.ask(method, path, headers={"content-length": str(5 << 20)})
        assert (status, json.loads(text)["code"]) == (413, "body_too_large"), (method, path)
        if "application/json" in operation.get("requestBody", {}).get("content", {}):
            takes_json += 1
            for deep in (b"[" * 100 + b"]" * 100, b'{"a":' * 200_000, b"[" * 1_000_000):
                status, _, text = door.ask(method, path, deep)
                assert (status, json.loads(text)["code"]) == (400, "json_too_deep"), (method, path, text)
    assert takes_json >= 5
    assert json.loads(door.ask("GET", f"{DURABLE}/instances")[2]) == []
    served.stop()


CLIMBS = [
    "..", "%2e%2e", ".%2e", "..%2f..%2fetc%2fpasswd", "%2e%2e%2f%2e%2e%2f", "..%5c..%5cetc", "%2fetc%2fpasswd", "....%2f%2f",
    "%00", "%252e%252e%252f", "..%c0%af", "%ff", "..;", "file:%2f%2f%2fetc%2fpasswd", "%0d%0ax-injected:%201", "~", "a%2f..%2fb",
]


def test_no_path_leads_out_of_the_folders(program, serve, tmp_path):
    """A pipeline lies beside the folder of those that are offered: nobody gets to it, whatever they write."""
    (tmp_path / "pipelines").mkdir()
    outside = "version: 1\nname: outside\nsource: {files: x}\ntables: {t: {id: i}}\noutput: {path: out}\n"
    (tmp_path / "outside.yaml").write_text(outside)
    (tmp_path / "pipelines" / "link").symlink_to(tmp_path)
    served = serve("--pipelines", tmp_path / "pipelines")
    before = {path for path in tmp_path.rglob("*") if tmp_path / "state" not in path.parents}
    door = Door(served.urls["http"])
    reads = {path for method, path, _ in door.operations("{}") if method == "GET" and "{}" in path}
    assert len(reads) >= 4, reads
    for climb in CLIMBS:
        for path in reads:
            status, headers, text = door.ask("GET", path.replace("{}", climb))
            # An entity's name may be anything: a list of those that have it is an empty one.
            assert status == 404 or (status, text) == (200, "[]"), (path, climb, text)
            assert "root:" not in text and "x-injected" not in headers
        assert door.ask("GET", f"{DURABLE}/instances?taskHub={climb}/x")[0] in (400, 404), climb
    names = ["../outside", "../outside.yaml", "outside", "link/outside", "/etc/passwd", str(tmp_path / "outside.yaml"), "..", ""]
    for name in [*names, "pipelines/../../outside", "a\0b", "\\..\\outside", "./../outside", "%2e%2e/outside"]:
        for path, body in (("/runs", json.dumps({"pipeline": name})), (f"/runs?pipeline={quote(name, safe='')}", "")):
            status, _, text = door.ask("POST", path, body.encode())
            assert status in (400, 404), (name, text)
            assert status == 404 or name == "", (name, text)
    with grpc.insecure_channel(served.urls["grpc"].removeprefix("http://")) as channel:
        for name in ("../x", "..", "/etc", "a/b", "a\\b", ".", "x" * 300):
            for call in ("Hello", "CreateTaskHub", "DeleteTaskHub", "StartInstance"):
                code, _ = code_of(channel, call, metadata=(("taskhub", name),))
                assert code == grpc.StatusCode.INVALID_ARGUMENT, (call, name, code)
    assert {path for path in tmp_path.rglob("*") if tmp_path / "state" not in path.parents} == before
    assert not (tmp_path / "state" / "hubs").exists(), "nobody made a hub by its name alone"
    served.stop()


def test_whatever_a_client_writes_comes_back_as_text_that_no_browser_runs(serve):
    """There is no page. Should a browser be sent to an answer, it is told that it is data, and may run nothing."""
    served = serve()
    door = Door(served.urls["http"])
    script = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    name = quote(script, safe="")
    assert door.ask("POST", f"{DURABLE}/orchestrators/{name}/{name}", json.dumps(script).encode())[0] == 202
    door.ask("POST", f"{DURABLE}/instances/{name}/terminate?reason={name}")
    door.ask("POST", f"{DURABLE}/entities/{name}/{name}?op={name}", json.dumps(script).encode())
    shown = 0
    for method, path, _ in door.operations(name):
        for query in ("", f"?showHistory=true&taskHub=&top={name}", "?showHistory=true&showHistoryOutput=true"):
            status, headers, text = door.ask(method, path + query, b"", {"accept": "text/html"})
            kind = headers["content-type"] or ""
            assert kind.split(";")[0] in ("application/json", "application/problem+json", "text/plain", ""), (path, kind)
            assert kind or not text, (path, status, text)
            assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
            assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
            shown += script in text
            assert "<script" not in str(headers).lower(), headers
    assert shown > 3, "the answers had it in them"
    served.stop()


def closes(sockets: dict[str, socket.socket], drip: dict[str, bytes], limit: float) -> dict[str, bytes]:
    """What each connection got until the server closed it. Those in `drip` send a byte of it now and then."""
    got = {name: b"" for name in sockets}
    deadline = time.monotonic() + limit
    with selectors.DefaultSelector() as selector:
        for name, connection in sockets.items():
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ, name)
        while selector.get_map():
            assert time.monotonic() < deadline, f"still open: {[key.data for key in selector.get_map().values()]}"
            for key, _ in selector.select(timeout=1):
                try:
                    some = key.fileobj.recv(1 << 16)
                except OSError:
                    some = b""
                got[key.data] += some
                if not some:
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
            for key in list(selector.get_map().values()):
                if key.data in drip:
                    try:
                        key.fileobj.send(drip[key.data])
                    except OSError:
                        pass  # it is closed, and the next look finds that out
    return got


def test_clients_that_are_slow_lose_their_connection(serve):
    """With the limits as they are by default: 15 s for a head, 30 s for a body; gRPC 10 s to begin, 40 s to answer a ping."""
    served = serve()
    to_http = Door(served.urls["http"]).address
    to_grpc = Door(served.urls["grpc"]).address
    head = b"POST " + DURABLE.encode() + b"/orchestrators/slow HTTP/1.1\r\nhost: localhost\r\n"
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    settings = b"\0\0\0\4\0\0\0\0\0"
    begun = {
        "says nothing": (to_http, b""),
        "half a line": (to_http, b"GET /heal"),
        "a head that does not end": (to_http, head),
        "a header, byte by byte": (to_http, head + b"x-slow: "),
        "a body that does not end": (to_http, head + b"content-length: 100\r\n\r\n[1,"),
        "a body, byte by byte": (to_http, head + b"content-length: 100000\r\n\r\n["),
        "a body in chunks that do not end": (to_http, head + b"transfer-encoding: chunked\r\n\r\n3\r\n[1,\r\n"),
        "idle after an answer": (to_http, b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        "gRPC: says nothing": (to_grpc, b""),
        "gRPC: half a preface": (to_grpc, preface[:10]),
        "gRPC: answers no ping": (to_grpc, preface + settings),
        "gRPC: a head that does not end": (to_grpc, preface + settings + b"\0\0\x04\1\0\0\0\0\1\x82\x86\x84\x41"),
    }
    sockets = {}
    for name, (address, bytes_) in begun.items():
        sockets[name] = socket.create_connection(address)
        sockets[name].sendall(bytes_)
    got = closes(sockets, {"a header, byte by byte": b"x", "a body, byte by byte": b"1"}, limit=120)
    for name in ("a body that does not end", "a body, byte by byte", "a body in chunks that do not end"):
        assert got[name].startswith(b"HTTP/1.1 408 "), (name, got[name])
    assert got["idle after an answer"].startswith(b"HTTP/1.1 200 ")
    assert json.loads(Door(served.urls["http"]).ask("GET", f"{DURABLE}/instances")[2]) == []
    served.stop()
