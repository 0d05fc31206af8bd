"""Secrets stay where they belong: canaries go in through the environment, files, headers and URLs, and must come out
nowhere: not in what a command says at any level of its log, when it works and when it fails, not in `runs` and `show`,
not in the journal, the plan and whatever else is left in a state folder, not in an output, not in an HTTP answer.

PostgreSQL with a right password is tested with the program's own tests (crates/cli/tests/cli/ids.rs); here it is played,
so that it can be wrong. Credentials of object stores are tested with the stores.
"""

import base64
import http.server
import json
import os
import re
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from azurite import Azurite
from conftest import HANG
from serving import Server
from test_refusals import Door
from test_serve_http import DURABLE

PIPELINE = """\
version: 1
name: told
source: {{files: data/*.parquet}}
tables:
  customers: {{key: email, id: customer_id}}
output: {{path: out}}
ids: {{from: {source}, url: "{url}", wait_seconds: 1}}
"""

#: What this process was given by its surroundings must not decide what is found.
CLOUD = re.compile(r"^(AZURE|PG|AWS|GOOGLE|SERIATIM_(HUB|TOKEN|PUBLIC|LOG)|IDENTITY|OTEL)")


def forms(secret: str) -> set[bytes]:
    """A secret as it is, and as URLs, JSON, base64 and hexadecimal digits write it."""
    raw = secret.encode()
    encoded = {base64.b64encode(raw[at:]).rstrip(b"=")[2:-2] for at in range(3)}
    return {raw, quote(secret, safe="").encode(), json.dumps(secret)[1:-1].encode(), raw.hex().encode(), *encoded}


class Watch:
    """Commands in a folder, and all that they say and leave behind."""

    def __init__(self, program, folder: Path):
        self.program, self.folder = program, folder
        self.said: list[tuple[str, str]] = []
        self.secrets: set[str] = set()
        self.given: set[Path] = set()
        self.started: list[subprocess.Popen] = []

    def secret(self, text: str) -> str:
        """A text that must not be found."""
        assert len(text) >= 12, "a short one would be found by chance"
        self.secrets.add(text)
        return text

    def give(self, name: str, text: str) -> Path:
        """A file in which a secret may be."""
        path = self.folder / name
        path.write_text(text)
        self.given.add(path)
        return path

    def start(self, *arguments, env: dict | None = None, level: str | None = "trace") -> subprocess.Popen:
        clean = {name: value for name, value in os.environ.items() if not CLOUD.match(name)}
        log = ["--log", level] if level else []
        # Into a file: a log at the loudest level fills a pipe that nobody reads, and the process would stand still.
        said = tempfile.NamedTemporaryFile(mode="w+", dir=self.folder.parent, suffix=".said", delete=False)
        process = subprocess.Popen(
            [self.program.path, *map(str, arguments), *log], cwd=self.folder, env={**clean, **(env or {})},
            stdin=subprocess.DEVNULL, stdout=said, stderr=said, text=True,
        )
        process.said = Path(said.name)
        self.started.append(process)
        said.close()
        return process

    def hear(self, process: subprocess.Popen) -> tuple[int, str]:
        process.wait(timeout=HANG)
        said = process.said.read_text()
        self.said.append((" ".join(map(str, process.args)), said))
        return process.returncode, said

    def end(self) -> None:
        """Whatever is still running, because a test has failed."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait(timeout=HANG)

    def call(self, *arguments, codes=(0,), **options) -> str:
        code, said = self.hear(self.start(*arguments, **options))
        assert code in codes, (arguments, code, said[-3000:])
        return said

    def every(self, pipeline: Path, env: dict, codes=(0,)) -> None:
        """All commands that read a pipeline, with words and with JSON, silent and at the loudest level."""
        for command in ("check", "plan", "run", "verify", "recover"):
            for more in ([], ["--json"]):
                # Some of them can do nothing about a counter that is wrong, and need it for nothing.
                self.call(command, pipeline, *more, env=env, codes={*codes, 0, 1} if codes != (0,) else {0, 1})
        self.call("run", pipeline, env=env, codes=codes, level=None)
        for more in ([], ["--json"]):
            self.call("runs", *more, env=env)
            self.call("show", "told-1", *more, env=env, codes=(0, 1))
        self.call("cancel", "told-1", env=env, codes=(0, 1))

    def check(self) -> None:
        """Nothing of any secret is anywhere."""
        assert self.secrets
        files = [path for path in self.folder.rglob("*") if path.is_file() and path not in self.given]
        for secret in self.secrets:
            for form in forms(secret):
                for command, said in self.said:
                    at = said.encode().find(form)
                    assert at < 0, f"{command}: {said.encode()[max(0, at - 200):at + 200]}"
                for path in files:
                    assert form not in path.read_bytes(), f"{path} has {form}"


@pytest.fixture
def watch(program, tmp_path):
    folder = tmp_path / "place"
    (folder / "data").mkdir(parents=True)
    pq.write_table(pa.table({"email": ["a@x.example", "b@x.example"]}), folder / "data" / "a.parquet")
    watch = Watch(program, folder)
    yield watch
    watch.end()


def closed_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


# --- Azure Table Storage ---------------------------------------------------------------------------------------------

ACCOUNT = "seriatimtest"
KEY = base64.b64encode(b"canary-key-of-the-account-0123456789-canary").decode()


@pytest.fixture(scope="module")
def storage():
    """An emulator of Azure's storage, with an account of its own."""
    azurite = Azurite(ACCOUNT, KEY)
    yield azurite
    azurite.stop()


@pytest.mark.parametrize("way", ["key", "connection string", "signature", "signature in the address", "the address"])
@pytest.mark.parametrize("right", [True, False], ids=["right", "wrong"])
def test_what_opens_table_storage_is_not_told(watch, storage, way, right):
    tables = storage.table_endpoint
    url, env = f"{tables}/counters{len(way)}", {}
    key = watch.secret(KEY if right else base64.b64encode(b"canary-wrong-key-0123456789").decode())
    sas = storage.account_sas(services="t") if right else "sv=2021-12-02&ss=t&srt=sco&sp=rl&se=2100-01-01&sig=canary-wrong%2Bsignature%3D"
    if way == "key":
        env = {"AZURE_STORAGE_ACCOUNT": ACCOUNT, "AZURE_STORAGE_KEY": key}
    elif way == "connection string":
        env = {"AZURE_STORAGE_CONNECTION_STRING": f"AccountName={ACCOUNT};AccountKey={key};TableEndpoint={tables}"}
    else:
        watch.secret(sas.rpartition("sig=")[2])
        env = {"AZURE_STORAGE_SAS_TOKEN": sas}
    if way == "signature in the address":
        url, env = f"{url}?${{SIGNATURE}}", {"SIGNATURE": sas}
    elif way == "the address":
        url, env = "${COUNTERS}", {"COUNTERS": f"{url}?{sas}"}
    pipeline = watch.folder / "told.yaml"
    pipeline.write_text(PIPELINE.format(source="table", url=url))
    watch.every(pipeline, env, codes=(0,) if right else (1,))
    if not right:
        assert any("403" in said or "refuse" in said for _, said in watch.said), "it was asked, and refused"
    watch.check()


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


class Postgres(threading.Thread):
    """As much of a PostgreSQL server as asks for a password, keeps it, and refuses it; one that repeats it as well, as no
    real one does, would be told by the program as it is."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.passwords = []

    def run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as stream:
                try:
                    self.refuse(stream)
                except OSError:
                    pass  # whoever asked has gone

    def refuse(self, stream):
        def message() -> bytes:
            return stream.read(struct.unpack("!I", stream.read(4))[0] - 4)

        if struct.unpack("!I", (opening := message())[:4])[0] == 80877103:
            stream.write(b"N")  # no TLS
            stream.flush()
            opening = message()
        stream.write(b"R" + struct.pack("!II", 8, 3))  # the password in clear text, please
        stream.flush()
        if stream.read(1) != b"p":
            return
        self.passwords.append(message().rstrip(b"\0").decode())
        fields = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user \"u\"\0\0"
        stream.write(b"E" + struct.pack("!I", len(fields) + 4) + fields)
        stream.flush()


@pytest.mark.parametrize("source", ["postgres", "nextval"])
def test_a_database_password_is_not_told_when_it_is_wrong_or_nobody_answers(watch, source):
    password = watch.secret("canary/p@ss:word+%41-0123")
    in_url = quote(password, safe="")
    server = Postgres()
    server.start()
    pipeline = watch.folder / "told.yaml"
    sequence = "" if source == "postgres" else "{column: customer_id, sequence: app.ids}"
    for port in (server.port, closed_port()):
        base = f"127.0.0.1:{port}/db"
        for url, env in [
            (f"postgresql://u:${{PASSWORD}}@{base}", {"PASSWORD": in_url}),
            ("${DATABASE}", {"DATABASE": f"postgresql://u:{in_url}@{base}?sslmode=prefer"}),
            (f"postgresql://u@{base}?password=${{PASSWORD}}", {"PASSWORD": in_url}),
            (f"postgresql://u@{base}", {"PGPASSWORD": password}),
            (f"postgresql://{base}", {"PGUSER": "u", "PGPASSWORD": password}),
        ]:
            text = PIPELINE.format(source=source, url=url)
            pipeline.write_text(text.replace("id: customer_id", f"id: {sequence}") if sequence else text)
            said = watch.call("run", pipeline, env=env, codes=(1,))
            assert "28P01" in said or "refused" in said or "reached" in said, said[-2000:]
            watch.call("plan", pipeline, "--json", env=env, codes=(0, 1))
            watch.call("verify", pipeline, env=env, codes=(0, 1))
    assert set(server.passwords) == {password}, "it was sent, and nothing else"
    for more in ([], ["--json"]):
        watch.call("runs", *more)
        watch.call("show", "told-1", *more)
    server.listener.close()
    watch.check()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:{}@h/d", "postgresql://u:${{NONE:-{}}}@h/d", "postgresql://u@h/d?sslmode=disable&password={}",
        "postgresql://u@h/d?Password={}", "postgresql://u@h/d?pass%77ord={}", "mysql://u:{}@h/d", "u:{}@h",
        "https://a.table.core.windows.net/t?sv=1&sig={}", "https://a.table.core.windows.net/t?SIG={}&sv=1",
    ],
)
def test_a_secret_that_somebody_wrote_into_the_file_is_refused_and_not_repeated(watch, url):
    """Symptom: the lines of the file that an error shows had the password in them, and so had the log of whoever ran it.
    Cause: they were shown as they are. Mend: what stands where an address has its secrets is shown as stars."""
    address = url.format(watch.secret("canary-in-the-file"))
    source = "table" if "https" in url else "postgres"
    text = PIPELINE.format(source=source, url=address)
    for name, wrong in [("told.yaml", text), ("other.yaml", text.replace("ids:", "idss: 1\nids:").replace("key:", "kee:"))]:
        pipeline = watch.give(name, wrong)
        for command in ("check", "run", "plan"):
            said = watch.call(command, pipeline, codes=(2,))
            assert name in said
        watch.call("check", pipeline, "--json", codes=(2,))
    good = watch.folder / "good.yaml"
    good.write_text("\n".join(PIPELINE.splitlines()[:-1]).format())
    ids = f'ids={{from: {source}, url: "{address}"}}'
    code, said = watch.hear(watch.start("check", good, "--set", ids))
    watch.said[-1] = ("check --set", said)  # the command line itself has it, and is not what is looked at
    assert code == 2
    watch.check()


# --- task hubs elsewhere ---------------------------------------------------------------------------------------------


class Authority(http.server.ThreadingHTTPServer):
    """Who gives tokens of Azure: remembers what it was sent, and answers as it is told."""

    def __init__(self, token: str):
        self.seen, self.status = [], 200
        self.answer = {"access_token": token, "token_type": "Bearer", "expires_in": 3600, "expires_on": "4102444800"}

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                self.server.seen.append(f"{self.path} {self.headers} {body.decode()}")
                text = json.dumps(self.server.answer).encode()
                self.send_response(self.server.status)
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = answer

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def hub(program, tmp_path, watch, monkeypatch):
    """A served hub with a token, and what it said in the end."""
    token = watch.secret("canary-hub-token-0123456789")
    monkeypatch.setenv("SERIATIM_TOKEN", token)
    server = Server(program, watch.folder / "hub", "--log", "trace")
    monkeypatch.delenv("SERIATIM_TOKEN")
    server.token = token
    # It says a lot, and a full pipe would stop it.
    server.said = []
    reader = threading.Thread(target=lambda: server.said.extend(server.process.stderr), daemon=True)
    reader.start()
    yield server
    server.process.send_signal(signal.SIGINT)
    server.process.wait(timeout=HANG)
    reader.join(timeout=HANG)
    watch.said.append(("serve", "".join(server.said)))
    assert len(server.said) > 10, "it was heard"
    watch.check()


def by_environment(watch, authority, hub):
    secret = watch.secret("canary-client-secret+/=0123")
    env = {"AZURE_TENANT_ID": "tenant", "AZURE_CLIENT_ID": "client", "AZURE_CLIENT_SECRET": secret}
    return "Environment", {**env, "AZURE_AUTHORITY_HOST": authority.url}, quote(secret, safe="")


def by_workload_identity(watch, authority, hub):
    secret = watch.secret("canary-kubernetes-token.abc.def")
    env = {"AZURE_TENANT_ID": "tenant", "AZURE_CLIENT_ID": "client"}
    env["AZURE_FEDERATED_TOKEN_FILE"] = str(watch.give("kubernetes", secret))
    return "WorkloadIdentity", {**env, "AZURE_AUTHORITY_HOST": authority.url}, secret


def by_managed_identity(watch, authority, hub):
    secret = watch.secret("canary-identity-header-0123")
    return "ManagedIdentity", {"IDENTITY_ENDPOINT": f"{authority.url}/msi", "IDENTITY_HEADER": secret}, secret


@pytest.mark.parametrize("way", [by_environment, by_workload_identity, by_managed_identity])
def test_what_opens_a_scheduler_of_azure_is_not_told(watch, hub, way):
    authority = Authority(hub.token)
    kind, env, sent = way(watch, authority, hub)
    address = f"Endpoint=http://{hub.address};TaskHub=default;Authentication={kind}"
    pipeline = watch.folder / "told.yaml"
    pipeline.write_text("\n".join(PIPELINE.splitlines()[:-1]).format())
    worker = watch.start("worker", "--hub", address, "--state", "worker", env=env)
    watch.call("run", pipeline, "--hub", address, "--json", env=env)
    assert any(sent in seen for seen in authority.seen), "the authority was shown it"
    worker.send_signal(signal.SIGINT)
    assert watch.hear(worker)[0] == 0
    # An authority that refuses and repeats what it was sent, and one that gives a token which the hub does not take.
    authority.status = 401
    authority.answer = {"error": "invalid_client", "error_description": f"the secret is wrong, see {authority.url}"}
    watch.call("worker", "--hub", address, "--state", "worker", env=env, codes=(1,))
    authority.status, authority.answer = 200, {"access_token": watch.secret("canary-strange-token-0123"), "expires_in": 9}
    watch.call("worker", "--hub", address, "--state", "worker", env=env, codes=(1,))
    for more in ([], ["--json"]):
        watch.call("runs", *more, env=env)
        watch.call("show", "told-1", *more, env=env, codes=(0, 1))
    authority.shutdown()


def test_a_hub_token_is_not_told(watch, hub):
    pipeline = watch.folder / "told.yaml"
    pipeline.write_text("\n".join(PIPELINE.splitlines()[:-1]).format())
    address = f"http://{hub.address}"
    file = watch.give("token", hub.token + "\n")
    worker = watch.start("worker", "--hub", address, "--state", "worker", "--token-file", file)
    watch.call("run", pipeline, env={"SERIATIM_HUB": address, "SERIATIM_HUB_TOKEN": hub.token}, codes=(0,))
    watch.call("run", pipeline, "--hub", address, "--token-file", file)
    wrong = watch.secret("canary-wrong-token-0123456789")
    for env in ({"SERIATIM_HUB_TOKEN": wrong}, {}):
        watch.call("worker", "--hub", address, "--state", "worker-2", env=env, codes=(1,))
        watch.call("run", pipeline, "--hub", address, env=env, codes=(1,))
    # A name is no loopback: the token must not go there in plain text, and must not be told either.
    said = watch.call("worker", "--hub", "http://hub.invalid:1", "--state", "worker-2", env={"SERIATIM_HUB_TOKEN": wrong}, codes=(1,))
    assert "hub.invalid" in said
    worker.send_signal(signal.SIGINT)
    assert watch.hear(worker)[0] == 0


@pytest.mark.parametrize(
    "address",
    [
        "user:{}@hub.example:4001", "{}@hub.example", "http://user:{}@hub.example", "https://hub.example/?code={}",
        "ftp://user:{}@hub.example", "grpc://{}@hub.example", "Endpoint=https://u:{}@h;TaskHub=t;Authentication=None",
        "AccessKey={};TaskHub=t;Authentication=None", "Endpoint=https://h;AccessKey={};Authentication=None",
        "Endpoint=https://h;TaskHub=t;Authentication=AccessKey {}", "Endpoint=https://h;TaskHub='{};Authentication=None",
        "Endpoint=https://h;TaskHub=t;AccessKey={}", "{};Endpoint", "Endpoint=h h;AccessKey={};TaskHub=t;Authentication=None",
    ],
)
def test_an_address_of_a_hub_is_not_repeated_where_it_may_have_a_secret_in_it(watch, address):
    """Symptom: `--hub user:PASSWORD@host` was repeated by its own error. Cause: an address without a scheme was shown, to
    say how to write it; a way to authenticate that is not known was shown, too. Mend: only what has the form of a host and
    a port, or of a word, is shown."""
    text = address.format(watch.secret("canary-0123456789"))
    for env in ({"SERIATIM_HUB": text}, {"SERIATIM_HUB": text, "SERIATIM_LOG": "trace"}):
        watch.call("worker", "--state", "worker", env=env, codes=(2,), level=None)
        watch.call("worker", "--help", env=env, level=None)
    watch.check()


# --- the server ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["https://user:{}@hub.example", "https://hub.example/?code={}", "https://hub.example/#{}", "{}:x", "https://{}@h/ /"]
)
def test_a_public_url_that_is_wrong_is_not_repeated_where_it_may_have_a_secret_in_it(watch, url):
    """Symptom: a password in the public URL was in the error, and whatever SERIATIM_PUBLIC_URL held in `serve --help`.
    Cause: both show a value as it is. Mend: the error shows the URL without user, query and fragment, the help nothing."""
    env = {"SERIATIM_PUBLIC_URL": url.format(watch.secret("canary-0123456789"))}
    said = watch.call("serve", "--state", "s", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", env=env, codes=(2,))
    assert "public URL" in said
    watch.call("serve", "--help", env=env, level=None)
    watch.check()


def test_what_a_request_carries_is_not_in_the_log(watch):
    """Headers, cookies, queries and bodies, of requests that are done and of requests that are refused."""
    env = {
        "SERIATIM_TOKEN": watch.secret("canary-token-0123456789"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{closed_port()}",
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer {watch.secret('canary-collector-0123')}",
    }
    process = watch.start("serve", "--state", "hub", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", env=env)
    deadline = time.monotonic() + HANG
    while not (found := re.search(r"^HTTP (http://\S+)$", process.said.read_text(), re.MULTILINE)):
        assert process.poll() is None and time.monotonic() < deadline, process.said.read_text()
        time.sleep(0.02)
    url = found[1]
    secrets = [watch.secret(f"canary-{what}-0123456789") for what in ("header", "cookie", "query", "body", "name", "path")]
    header, cookie, query, body, name, path = secrets
    headers = {"x-api-key": header, "cookie": f"session={cookie}", "x-functions-key": header, "traceparent": header}
    for token in (env["SERIATIM_TOKEN"], watch.secret("canary-wrong-token-0123")):
        door = Door(url, token)
        for method, at in [
            ("GET", f"{DURABLE}/instances?code={query}&unknown={query}"), ("GET", f"{DURABLE}/instances?top={query}"),
            ("POST", f"{DURABLE}/orchestrators/any?timeout={query}"), ("POST", f"/runs?pipeline={query}"),
            ("GET", f"{DURABLE}/instances/{path}"), ("GET", f"/{path}"), ("POST", "/runs"), ("PUT", f"/{name}"),
            ("POST", f"{DURABLE}/instances/{path}/raiseEvent/{path}"), ("GET", f"/healthz?{query}"),
        ]:
            text = json.dumps({"password": body}).encode() if method == "POST" else b""
            door.ask(method, at, text, headers)
            door.ask(method, at, text[:-2], headers)
    process.send_signal(signal.SIGINT)
    code, said = watch.hear(process)
    assert code == 0 and "answered" in said and "getInstance" in said, "the log is there"
    watch.check()
