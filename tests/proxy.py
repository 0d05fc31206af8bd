"""A proxy before Azure's storage emulator that fails on request: connections that end, answers that are lost, late or cut
off, statuses that a gateway makes up. It listens on loopback alone, on a port of its own, and ends with the tests' process.
"""

import http.client
import http.server
import socket
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass

from azurite import HANG, Azurite


@dataclass(frozen=True)
class Request:
    """A request on its way through the proxy."""

    #: How many came before it.
    number: int
    method: str
    #: The blob's name in its container; empty for the container itself.
    name: str
    container: str
    query: str
    headers: dict[str, str]

    def __str__(self):
        what = " copy" if "x-ms-copy-source" in self.headers else ""
        query = f"?{self.query}" if self.query else ""
        return f"{self.method}{what} {self.container}/{self.name}{query} {self.headers.get('range', '')}".rstrip()


@dataclass(frozen=True)
class Fault:
    """What becomes of a request; the name says what, `KINDS` lists what a client must get over."""

    kind: str
    seconds: float = 0
    #: What the proxy does once the service has done the request, and before anybody is told; of a request that is held,
    #: before the service hears of it.
    then: Callable[[], None] | None = None

    def __str__(self):
        return f"{self.kind} {self.seconds} s" if self.seconds else self.kind


NONE = Fault("none")
#: The connection is closed before the service hears of the request.
LOST = Fault("lost")
#: The service hears the first half of the request, and then nothing more.
TORN = Fault("torn")
#: The service does it, and its answer is lost.
ANSWER_LOST = Fault("answer lost")
#: The service does it, and the answer breaks off: in the middle of its body, or of its head if it has no body.
CUT = Fault("cut")
#: The service does it, and a gateway on the way says 500.
DONE_500 = Fault("done, and 500")
#: The service hears nothing, and the client hears this status.
STATUS_500, STATUS_503, STATUS_429 = Fault("500"), Fault("503"), Fault("429")


def late(seconds: float) -> Fault:
    """The service does it at once, and the answer comes so much later."""
    return Fault("late", seconds)


#: What a client must get over.
KINDS = [LOST, TORN, ANSWER_LOST, CUT, DONE_500, STATUS_500, STATUS_503, STATUS_429, late(0.3)]


class Proxy:
    """Stands before the emulator and asks `decide` what becomes of each request."""

    def __init__(self, azurite: Azurite):
        self.azurite = azurite
        self.decide: Callable[[Request], Fault] = lambda _: NONE
        self.log: list[Request] = []
        #: What became of requests that were not let through: (request, fault).
        self.faults: list[tuple[Request, Fault]] = []
        #: Values by which requests showed who they are; they must be seen nowhere else.
        self.credentials: set[str] = set()
        self._under_way = 0
        self._changed = threading.Condition()
        #: Errors of the proxy itself.
        self._errors: list[BaseException] = []
        proxy = self

        class Handler(_Handler):
            pass

        Handler.proxy = proxy
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.errors = self._errors
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
        assert not self._errors, self._errors

    @property
    def endpoint(self) -> str:
        return self.azurite.endpoint(self.port)

    def begin(self, decide: Callable[[Request], Fault] = lambda _: NONE):
        """Forgets what was, and asks `decide` from now on."""
        self.settle()
        with self._changed:
            self.decide, self.log, self.faults = decide, [], []

    def settle(self):
        """Waits until no request is under way: what a dead client has sent is done, or never will be."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._under_way == 0, HANG), "a request hangs"

    # What the handlers of connections call.

    def _arrived(self, method: str, target: str, headers: dict[str, str]) -> tuple[Request, Fault]:
        path, _, query = target.partition("?")
        _, _, container, *name = urllib.parse.unquote(path).split("/", 3)
        with self._changed:
            request = Request(len(self.log), method, "".join(name), container, query, headers)
            self.log.append(request)
            self._under_way += 1
            if shown := headers.get("authorization"):
                self.credentials.add(shown.rpartition(":")[2])
            fault = self.decide(request)
            if fault is not NONE:
                self.faults.append((request, fault))
        return request, fault

    def _ended(self):
        with self._changed:
            self._under_way -= 1
            self._changed.notify_all()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    errors: list[BaseException]

    def handle_error(self, request, client_address):
        error = sys.exception()
        # A client that was killed leaves its connections behind.
        if not isinstance(error, OSError):
            self.errors.append(error)


class _Handler(http.server.BaseHTTPRequestHandler):
    """One connection of a client; each of its requests has a connection of its own to the service."""

    protocol_version = "HTTP/1.1"
    #: A client that keeps a connection and says nothing is let go.
    timeout = HANG
    proxy: Proxy

    def log_message(self, *_):
        pass

    def _pass_on(self):
        headers = {name.lower(): value for name, value in self.headers.items()}
        assert "transfer-encoding" not in headers, "bodies have a length"
        body = self.rfile.read(int(headers.get("content-length", 0)))
        request, fault = self.proxy._arrived(self.command, self.path, headers)
        try:
            self._serve(fault, body)
        finally:
            self.proxy._ended()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on

    def _serve(self, fault: Fault, body: bytes):
        if fault.kind == "lost":
            return self._hang_up()
        if fault.kind.isdigit():
            return self._answer(int(fault.kind), [], b"")
        if fault.kind == "torn":
            self._send_half(body)
            return self._hang_up()
        if fault.kind == "held":
            fault.then()
        status, headers, answer = self._ask(body)
        if fault.kind != "held" and fault.then:
            fault.then()
        if fault.kind == "answer lost":
            return self._hang_up()
        if fault.kind == "done, and 500":
            return self._answer(500, [], b"")
        time.sleep(fault.seconds)
        self._answer(status, headers, answer, is_cut=fault.kind == "cut")

    def _head(self) -> bytes:
        lines = [self.requestline, *(f"{name}: {value}" for name, value in self.headers.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _send_half(self, body: bytes):
        head = self._head()
        half = head + body[: len(body) // 2] if body else head[: len(head) // 2]
        with socket.create_connection(("127.0.0.1", self.proxy.azurite.port), HANG) as service:
            service.sendall(half)

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        service = http.client.HTTPConnection("127.0.0.1", self.proxy.azurite.port, timeout=HANG)
        try:
            service.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "expect"):
                    service.putheader(name, value)
            service.putheader("Connection", "close")
            service.endheaders(body)
            answer = service.getresponse()
            content = answer.read()
            left = ("connection", "keep-alive", "transfer-encoding", "content-length", "date", "server")
            headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in left]
            # The answer to HEAD has the length of what it does not bring.
            length = answer.getheader("content-length") if self.command == "HEAD" else str(len(content))
            if length is not None and answer.status not in (204, 304):
                headers.append(("Content-Length", length))
            return answer.status, headers, content
        finally:
            service.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, is_cut: bool = False):
        if not headers:
            headers = [("Content-Length", "0")]
        lines = [f"HTTP/1.1 {status} {http.client.responses.get(status, '')}"]
        head = ("\r\n".join(lines + [f"{name}: {value}" for name, value in headers]) + "\r\n\r\n").encode("latin-1")
        if is_cut:
            self.wfile.write(head + body[: len(body) // 2] if body else head[: len(head) // 2])
            return self._hang_up()
        self.wfile.write(head + body)

    def _hang_up(self):
        self.close_connection = True
