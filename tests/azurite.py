"""Azurite, as the account that a test's programs use: started with a port of its own, filled and read by signed requests,
and watched by its access log, which says who asked for what. It keeps all in memory and ends with the tests' process,
however that ends, because it watches its standard input."""

import base64
import hashlib
import hmac
import http.client
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote
from xml.etree import ElementTree

#: The account that every emulator has, and its key; both are public.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
#: The service's version that requests are signed for.
VERSION = "2021-12-02"
#: Loads the emulator, and ends it when standard input does.
START = "process.stdin.on('end', () => process.exit(0)).resume(); require(process.env.AZURITE_MAIN)"

LISTENS = re.compile(r"Azurite Blob service successfully listens on \S+:(\d+)")
ASKED = re.compile(r'(\S+) - - \[[^]]*\] "(\S+) /' + ACCOUNT + r'/([^/? ]+)/?([^? ]*)\S* HTTP/1\.1" (\d+)')


@dataclass(frozen=True)
class Request:
    """One that was answered."""

    client: str
    method: str
    container: str
    blob: str
    status: int


def main() -> Path:
    """What Node.js has to load."""
    node = Path(__file__).parent.parent / os.environ.get("SERIATIM_NODE", ".node")
    path = node / "node_modules/azurite/dist/src/blob/main.js"
    assert shutil.which("node") and path.is_file(), f"`scripts/test system` installs Azurite; there is no {path}"
    return path


class Azurite:
    """A running emulator. It listens where this thread's network has the address `host`."""

    def __init__(self, folder: Path, host: str = "127.0.0.1"):
        self.host = host
        self.process = subprocess.Popen(
            ["node", "-e", START, "azurite", "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry",
             "--disableProductStyleUrl", "--blobHost", host, "--blobPort", "0"],
            cwd=folder, env={**os.environ, "AZURITE_MAIN": str(main())}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        said = []
        for line in self.process.stdout:
            said.append(line)
            if listens := LISTENS.search(line):
                self.port = int(listens[1])
                break
        else:
            raise AssertionError(f"Azurite does not start\n{''.join(said)}")
        self._requests: list[Request] = []
        self._news = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def close(self):
        self.process.kill()
        self.process.wait()

    @property
    def variables(self) -> dict[str, str]:
        """What a program needs in its environment to find it."""
        endpoint = f"http://{self.host}:{self.port}/{ACCOUNT}"
        return {
            "AZURE_STORAGE_CONNECTION_STRING":
                f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={endpoint}"
        }

    def _read(self):
        """Goes on until the emulator ends; a full pipe would stop it."""
        for line in self.process.stdout:
            if asked := ASKED.match(line):
                client, method, container, blob, status = asked.groups()
                with self._news:
                    self._requests.append(Request(client, method, container, unquote(blob), int(status)))
                    self._news.notify_all()

    def wait_for(self, wanted: Callable[[Request], bool], after: int, goes_on: Callable[[], bool]) -> int | None:
        """The number of the first request after that one that is wanted, which has been answered; None if there is none
        while something goes on."""
        with self._news:
            while True:
                # Asked before the requests are looked at: what came before the end is seen.
                ends = not goes_on()
                for number in range(after + 1, len(self._requests)):
                    if wanted(self._requests[number]):
                        return number
                after = len(self._requests) - 1
                if ends:
                    return None
                self._news.wait(0.05)

    def asked(self, number: int) -> Request:
        return self._requests[number]

    def request(self, method: str, path: str, query: str = "", body: bytes = b"", **headers: str) -> bytes:
        """A signed request; the path within the account."""
        path = f"/{ACCOUNT}/{quote(path)}"
        headers = {f"x-ms-{name.replace('_', '-')}": value for name, value in headers.items()}
        headers |= {"x-ms-date": formatdate(usegmt=True), "x-ms-version": VERSION}
        # https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key
        lines = [method, "", "", str(len(body) or ""), *[""] * 8]
        lines += [f"{name}:{headers[name]}" for name in sorted(headers)]
        lines += [f"/{ACCOUNT}{path}"]
        lines += [f"{name}:{value}" for name, value in sorted(parse_qsl(query, keep_blank_values=True))]
        signed = hmac.digest(base64.b64decode(KEY), "\n".join(lines).encode(), hashlib.sha256)
        headers["authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(signed).decode()}"
        headers["content-length"] = str(len(body))
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            connection.request(method, f"{path}?{query}" if query else path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        assert answer.status < 300, f"{method} {path}?{query}: {answer.status} {content.decode(errors='replace')}"
        return content

    def make_container(self, name: str):
        self.request("PUT", name, "restype=container")

    def put(self, container: str, blob: str, content: bytes):
        self.request("PUT", f"{container}/{blob}", body=content, blob_type="BlockBlob")

    def get(self, container: str, blob: str) -> bytes:
        return self.request("GET", f"{container}/{blob}")

    def blobs(self, container: str, prefix: str = "") -> list[str]:
        """The names of all blobs that begin like this, in order."""
        names, marker = [], ""
        while True:
            query = f"restype=container&comp=list&prefix={quote(prefix, safe='')}"
            page = ElementTree.fromstring(self.request("GET", container, f"{query}&marker={quote(marker, safe='')}"))
            names += [name.text for name in page.iterfind("./Blobs/Blob/Name")]
            marker = page.findtext("NextMarker") or ""
            if not marker:
                return sorted(names)

    def tree(self, container: str, prefix: str) -> dict[str, str]:
        """The hash of every blob whose name begins like this, by the rest of its name."""
        names = self.blobs(container, prefix)
        return {name.removeprefix(prefix): hashlib.sha256(self.get(container, name)).hexdigest() for name in names}
