"""Whatever a client sends to a served hub, the answer is one of those that the protocol has for it, and the hub goes on:
requests that are made from the server's own document and messages that are made from the protocol's own descriptors, with
values at and over every edge, with real ids and real completion tokens among them, and the same with bytes changed.

A failure names the request; SERIATIM_TEST_SEED replays it. Each test takes a minute, times SERIATIM_TEST_SCALE.
"""

import errno
import json
import signal
import socket
import threading
import time
from urllib.parse import quote

import grpc
import pytest
from durabletask.internal import orchestrator_service_pb2 as protocol
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor as Field

from conftest import HANG, cases
from test_refusals import Door, calls
from test_serve_http import DURABLE, Served

#: Requests over HTTP, and messages over gRPC, at least.
REQUESTS, MESSAGES = 1_500, 3_000

#: Names, ids, payloads, times and whatever else is a text.
TEXTS = [
    "", "a", "a", "b", "one", "@counter@k", "@counter@k", "@c@", "@", "@@", "@@@", "@a", "@A@B@C", "\0", "\u202e", "é" * 90,
    "x" * 5_000, "../..", "a/b", "a:b", "null", '"text"', "{}", "[", "[1e999]", '{"a": [1, {"b": "' + "\\u0000" + '"}]}',
    "-1", "18446744073709551616", "NaN", "True", "2026-03-01T12:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.9999999Z",
    "+10000-01-01T00:00:00Z", "-9999-01-01T00:00:00Z", "2026-03-01T12:00:00+99:99", "1e308", "0", "1000", "0.0000001",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "{\"$type\": \"x\"}", "\U0001f600", "Running,Failed", "delete",
    "9" * 400, "'; DROP TABLE instances; --", "%00", "%", "%s%n", "${HOME}", "\r\nx: y", "\ufeff[1]", "1 2",
]

#: Numbers at the edges of every width.
NUMBERS = [0, 1, 2, 3, 10, 100, 1000] + [sign * (2**bits + by) for bits in (7, 15, 31, 32, 53, 63) for by in (-1, 0, 1) for sign in (1, -1)]

#: Seconds of a point in time or a duration: now, and what no calendar has.
SECONDS = [0, 1, -1, 1_780_000_000, 253402300799, 253402300800, -62135596800, -62135596801, 2**63 - 1, -(2**63)]


class Heard:
    """A server that is listened to, and that must be well in the end, also after it was killed."""

    def __init__(self, program, folder):
        self.program, self.folder, self.lines = program, folder, []
        self.start()

    def start(self):
        self.served = Served(self.program, self.folder, "--pipelines", self.folder / "pipelines")
        threading.Thread(target=lambda: self.lines.extend(self.served.process.stderr), daemon=True).start()
        self.door = Door(self.served.urls["http"])
        self.address = self.served.urls["grpc"].removeprefix("http://")

    def is_well(self, what):
        """It answers, it can work, and nothing in it has broken."""
        assert self.served.process.poll() is None, (what, self.lines[-30:])
        for path in ("/healthz", "/readyz"):
            assert self.door.ask("GET", path)[0] == 200, (what, self.lines[-30:])
        broken = [line for line in self.lines if "panicked" in line or " ERROR " in line]
        assert not broken, (what, broken)

    def survives(self, what):
        """What clients have said is on the disk, and can be taken up again."""
        self.is_well(what)
        self.served.process.kill()
        self.served.process.wait(timeout=HANG)
        self.start()
        self.is_well(f"{what}, after kill -9")
        self.served.process.send_signal(signal.SIGTERM)
        assert self.served.process.wait(timeout=HANG) == 0, self.lines[-30:]


@pytest.fixture
def heard(program, tmp_path):
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "broken.yaml").write_text("version: 1\nname: broken\n")
    server = Heard(program, tmp_path)
    yield server
    if server.served.process.poll() is None:
        server.served.process.kill()
        server.served.process.wait(timeout=HANG)


# --- HTTP ------------------------------------------------------------------------------------------------------------


def json_text(rng, depth=0) -> str:
    """A JSON value, or nearly one."""
    kind = rng.randrange(8 if depth < 6 else 5)
    if kind == 5:
        return "[" + ",".join(json_text(rng, depth + 1) for _ in range(rng.randrange(4))) + "]"
    if kind >= 6:
        names = [*TEXTS[:12], "pipeline", "name", "input"]
        pairs = (f"{json.dumps(rng.choice(names))}: {json_text(rng, depth + 1)}" for _ in range(rng.randrange(4)))
        return "{" + ", ".join(pairs) + "}"
    if kind == 4:
        return rng.choice(["null", "true", "1e400", "-0", "0.1", "1" * 300, "[]", "{}", '"\\ud800"', '"\\u0000"'])
    return json.dumps(rng.choice(TEXTS)) if kind else str(rng.choice(NUMBERS))


def changed(rng, data: bytes) -> bytes:
    """Some bytes flipped, cut out, doubled or put in."""
    data = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(4)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at:at + rng.randrange(1, 9)]
        elif kind == 2:
            data[at:at] = data[at:at + rng.randrange(1, 33)]
        else:
            data[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 5)))
    return bytes(data)


def parameter(rng, schema: dict) -> str:
    """A value for a parameter of this schema; not always one."""
    if rng.random() < 0.3:
        return rng.choice(TEXTS)
    fitting = {"boolean": ["true", "false", "TRUE"], "integer": ["1", "2", "1000"], "number": ["0", "0.01", "1"]}
    if schema.get("format") == "date-time":
        return rng.choice([text for text in TEXTS if "T" in text])
    return rng.choice(fitting.get(schema["type"], TEXTS))


def request(rng, operations):
    """Method, path with query, body and headers."""
    method, path, operation = rng.choice(operations)
    query = []
    for declared in operation["parameters"]:
        if declared["in"] == "path":
            text = rng.choice(TEXTS)
            path = path.replace(f"{{{declared['name']}}}", quote(text, safe="@:" if rng.random() < 0.5 else ""), 1)
        elif rng.random() < 0.5 and declared["name"] not in ("timeout", "taskHub"):
            value = parameter(rng, declared["schema"])
            query.append(f"{declared['name']}={quote(value, safe='')}")
    # A wait would only be waited for, and more hubs are another test's.
    query += rng.sample(["timeout=0", "timeout=0.01", "timeout=-1", "taskHub=", "taskHub=nobody", "x=1", "=", "&&", "%zz"], rng.randrange(3))
    body, kind = b"", rng.choice(["application/json", "application/json", "application/json; charset=utf-8", "text/plain", ""])
    if method == "POST" and rng.random() < 0.8:
        body = json_text(rng).encode("utf-8", "surrogatepass")
        if rng.random() < 0.3:
            body = changed(rng, body)
    headers = {"content-type": kind} if kind else {}
    if rng.random() < 0.1:
        headers["traceparent"] = quote(rng.choice(TEXTS))[:3000]
    if rng.random() < 0.1:
        headers["x-ms-continuation-token"] = quote(rng.choice(TEXTS))[:3000]
    return method, "?".join([path or "/", "&".join(query)]) if query else path or "/", body, headers


def test_no_request_breaks_the_hub(heard, rng):
    _, _, text = heard.door.ask("GET", "/openapi.json")
    document = json.loads(text)
    operations = [
        (method.upper(), path, operation) for path, item in document["paths"].items() for method, operation in item.items()
    ]
    seen = {}
    for _ in cases(REQUESTS):
        method, path, body, headers = asked = request(rng, operations)
        status, got, text = heard.door.ask(method, path, body, headers)
        assert status in (200, 202, 400, 404, 408, 409, 410, 413, 414, 431, 501), (asked, status, text)
        seen[status] = seen.get(status, 0) + 1
        if status in (414, 431):
            continue  # it was refused before anything was read
        kind = got["content-type"] or ""
        if status >= 400:
            problem = json.loads(text)
            assert kind == "application/problem+json" and problem["status"] == status, (asked, text)
            assert problem["code"] != "no_such_route" or status == 404, (asked, text)
        elif "json" in kind:
            json.loads(text)
    assert {200, 202, 400, 404} <= seen.keys(), f"the requests reach little: {seen}"
    heard.survives("requests")


# --- gRPC ------------------------------------------------------------------------------------------------------------

INTS = {
    Field.CPPTYPE_INT32: 31, Field.CPPTYPE_UINT32: 32, Field.CPPTYPE_INT64: 63, Field.CPPTYPE_UINT64: 64,
}


class Maker:
    """Messages from their descriptors."""

    def __init__(self, rng):
        self.rng = rng
        #: What the hub gave out: completion tokens and ids of work items.
        self.given = ["a"]

    def text(self, name: str) -> str:
        if "token" in name.lower() or "instance" in name.lower() or self.rng.random() < 0.1:
            return self.rng.choice(self.given[-200:])
        return self.rng.choice(TEXTS)

    def scalar(self, field):
        rng, kind = self.rng, field.cpp_type
        if bits := INTS.get(kind):
            fitting = [n for n in NUMBERS if n.bit_length() <= bits and (n >= 0 or bits in (31, 63))]
            return rng.choice(fitting)
        if kind == Field.CPPTYPE_BOOL:
            return rng.random() < 0.5
        if kind == Field.CPPTYPE_ENUM:
            known = [value.number for value in field.enum_type.values]
            return rng.choice(known) if rng.random() < 0.9 else rng.choice([99, -1, 2**31 - 1])
        if kind in (Field.CPPTYPE_DOUBLE, Field.CPPTYPE_FLOAT):
            return rng.choice([0.0, -0.0, 1.5, -1e30, float("inf"), float("-inf"), float("nan")])
        if field.type == Field.TYPE_BYTES:
            return rng.choice(TEXTS).encode()
        return self.text(field.name)

    def message(self, descriptor, depth=0):
        rng = self.rng
        made = message_factory.GetMessageClass(descriptor)()
        if descriptor.full_name in ("google.protobuf.Timestamp", "google.protobuf.Duration"):
            made.seconds = rng.choice(SECONDS)
            made.nanos = rng.choice([0, 1, 999_999_999, -1, 10**9, 2**31 - 1, -(2**31)])
            return made
        for field in descriptor.fields:
            if rng.random() < (0.35 if depth else 0.2):
                continue
            if depth > 3 and field.message_type:
                continue
            at = getattr(made, field.name)
            if field.message_type and field.message_type.GetOptions().map_entry:
                value = field.message_type.fields_by_name["value"]
                for _ in range(rng.randrange(3)):
                    if value.message_type:
                        at[rng.choice(TEXTS)].CopyFrom(self.message(value.message_type, depth + 1))
                    else:
                        at[rng.choice(TEXTS)] = self.scalar(value)
            elif field.is_repeated:
                for _ in range(rng.choice([0, 1, 1, 2, 3])):
                    at.append(self.message(field.message_type, depth + 1) if field.message_type else self.scalar(field))
            elif field.message_type:
                at.CopyFrom(self.message(field.message_type, depth + 1))
            else:
                setattr(made, field.name, self.scalar(field))
        return made


def listen(channel, maker, stop):
    """A worker that takes everything, keeps the tokens and does nothing: the messages answer for it, or nobody does."""
    ask = protocol.GetWorkItemsRequest()
    while not stop.is_set():
        stream = channel.unary_stream("/TaskHubSidecarService/GetWorkItems", response_deserializer=protocol.WorkItem.FromString)
        try:
            for item in stream(ask.SerializeToString(), timeout=2):
                request_ = getattr(item, item.WhichOneof("request") or "healthPing")
                maker.given += [item.completionToken, *[v for f, v in request_.ListFields() if f.name == "instanceId"]]
        except grpc.RpcError:
            time.sleep(0.01)  # the hub was removed, or the two seconds are over
        except ValueError:
            return  # the channel was closed: the test has ended


def test_no_message_breaks_the_hub(heard, rng):
    service = protocol.DESCRIPTOR.services_by_name["TaskHubSidecarService"]
    methods = [method for method in service.methods if method.name in calls()]
    assert len(methods) >= 25, [method.name for method in methods]
    # What makes something for others to work on comes more often; removing all of it comes rarely.
    often = {"StartInstance": 8, "SignalEntity": 5, "CompleteOrchestratorTask": 8, "CompleteEntityTask": 5, "RaiseEvent": 3}
    weights = [0.03 if "TaskHub" in method.name else often.get(method.name, 2) for method in methods]
    maker, stop, seen = Maker(rng), threading.Event(), {}
    with grpc.insecure_channel(heard.address) as channel, grpc.insecure_channel(heard.address) as worker:
        listener = threading.Thread(target=listen, args=(worker, maker, stop), daemon=True)
        listener.start()
        for at in cases(MESSAGES):
            [method] = rng.choices(methods, weights)
            message = maker.message(method.input_type)
            data, whole = message.SerializeToString(), True
            if rng.random() < 0.15:
                data, whole = changed(rng, data), False
            waits = method.name.startswith("WaitFor") or method.server_streaming
            try:
                for _ in channel.unary_stream(f"/TaskHubSidecarService/{method.name}")(data, timeout=0.02 if waits else 30):
                    break
                code, said = grpc.StatusCode.OK, ""
            except grpc.RpcError as refused:
                code, said = refused.code(), refused.details()
            seen[code] = seen.get(code, 0) + 1
            allowed = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION", "UNIMPLEMENTED", "OUT_OF_RANGE"}
            # The first of the two that notices the deadline says so.
            allowed |= {"DEADLINE_EXCEEDED", "CANCELLED"} if waits else set()
            # A message that cannot be read is told like this by the gRPC library.
            unreadable = not whole and code == grpc.StatusCode.INTERNAL and "decode" in said
            assert code.name in allowed or unreadable, (at, method.name, data.hex(), str(message), code, said)
        stop.set()
        listener.join(timeout=HANG)
    assert len(maker.given) > 20, "the worker was given something"
    assert {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"} <= {code.name for code in seen}, seen
    heard.survives("messages")


def test_bytes_that_are_no_http_lead_nowhere(heard, rng):
    """Whole connections with bytes changed, at both doors."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
    hello = preface + b"\0\0\x2c\1\4\0\0\0\1\x83\x86\x44\x1c/TaskHubSidecarService/Hello\x41\1h\x5f\x06grpc\0\0\5\0\1\0\0\0\1\0\0\0\0\0"
    body = b'{"a": [1, 2, 3]}'
    post = b"POST " + DURABLE.encode() + b"/orchestrators/x HTTP/1.1\r\nhost: localhost\r\ncontent-length: 16\r\n\r\n" + body
    chunked = post.replace(b"content-length: 16", b"transfer-encoding: chunked").replace(body, b"10\r\n" + body + b"\r\n0\r\n\r\n")
    samples = [(heard.door.address, post), (heard.door.address, chunked), (heard.address.rsplit(":", 1), hello)]
    for _ in range(REQUESTS // 3):
        (host, port), sample = rng.choice(samples)
        with socket.create_connection((host, int(port)), timeout=HANG) as connection:
            connection.settimeout(60)
            try:
                connection.sendall(changed(rng, sample))
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):
                    pass
            except ConnectionError:
                pass  # it was cut off, which is an answer
            except OSError as error:
                assert error.errno == errno.ENOTCONN, error  # the same, before this side had ended
    heard.survives("bytes")
