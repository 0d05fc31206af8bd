"""Azurite, Azure's storage emulator: started with an account and ports of its own, filled and read by signed requests, never
through the program that is tested, and watched by its access log, which says who asked for what. It keeps all in memory and
ends with the tests' process, however that ends, because it watches its standard input."""

import base64
import hashlib
import hmac
import http.client
import os
import re
import shutil
import subprocess
import threading
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from xml.etree import ElementTree

#: Seconds after which something here counts as hanging; nothing takes a tenth of it.
HANG = 60
#: The account that every emulator has, and its key; both are public.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
#: The service's version that requests are signed for.
VERSION = "2021-12-02"
#: Loads the emulator, and ends it when standard input does.
START = "process.stdin.on('end', () => process.exit(0)).resume(); require(process.env.AZURITE_MAIN)"
LISTENS = re.compile(r"Azurite (\w+) service is successfully listening at \S+:(\d+)")


@dataclass(frozen=True)
class Answered:
    """A request that was answered."""

    client: str
    method: str
    container: str
    blob: str
    status: int


def modules() -> Path:
    """npm's packages: those that `scripts/test` has installed."""
    return Path(__file__).resolve().parent.parent / (os.environ.get("SERIATIM_NODE") or ".node") / "node_modules"


def missing() -> str | None:
    """Why the emulator cannot run here; None if it can."""
    if not shutil.which("node"):
        return "there is no node; `scripts/test system` installs it"
    if not (modules() / "azurite").is_dir():
        return f"there is no Azurite in {modules()}; `scripts/test system` installs it"
    return None


class Azurite:
    """A running emulator with one account. It listens where this thread's network has the address `host`."""

    def __init__(self, account: str = ACCOUNT, key: str = KEY, host: str = "127.0.0.1"):
        assert not (reason := missing()), reason
        self.account, self.key, self.host = account, key, host
        options = "--inMemoryPersistence --skipApiVersionCheck --disableTelemetry --disableProductStyleUrl".split()
        for service in ("blob", "queue", "table"):
            options += [f"--{service}Host", host, f"--{service}Port", "0"]
        variables = {"AZURITE_MAIN": str(modules() / "azurite/dist/src/azurite"), "AZURITE_ACCOUNTS": f"{account}:{key}"}
        self._process = subprocess.Popen(
            ["node", "-e", START, "azurite", *options], env={**os.environ, **variables}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        ports, said = {}, []
        while len(ports) < 3:
            line = self._process.stdout.readline()
            said.append(line)
            assert line, f"Azurite does not start\n{''.join(said)}"
            if listens := LISTENS.search(line):
                ports[listens[1]] = int(listens[2])
        self.port, self.table_port = ports["Blob"], ports["Table"]
        self._answered: list[Answered] = []
        self._news = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def stop(self):
        self._process.kill()
        self._process.wait()

    # Addresses.

    def endpoint(self, port: int | None = None) -> str:
        """The address of the account's blobs, there or behind a proxy."""
        return f"http://{self.host}:{port or self.port}/{self.account}"

    @property
    def table_endpoint(self) -> str:
        return self.endpoint(self.table_port)

    @property
    def variables(self) -> dict[str, str]:
        """What a program needs in its environment to find it."""
        account = f"AccountName={self.account};AccountKey={self.key};BlobEndpoint={self.endpoint()}"
        return {"AZURE_STORAGE_CONNECTION_STRING": f"DefaultEndpointsProtocol=http;{account}"}

    # What others have asked.

    def _read(self):
        """Goes on until the emulator ends; a full pipe would stop it."""
        account = re.escape(self.account)
        asked = re.compile(rf'(\S+) - - \[[^]]*\] "(\S+) /{account}/([^/? ]+)/?([^? ]*)\S* HTTP/1\.1" (\d+)')
        for line in self._process.stdout:
            if found := asked.match(line):
                client, method, container, blob, status = found.groups()
                with self._news:
                    self._answered.append(Answered(client, method, container, urllib.parse.unquote(blob), int(status)))
                    self._news.notify_all()

    def wait_for(self, wanted: Callable[[Answered], bool], after: int, goes_on: Callable[[], bool]) -> int | None:
        """The number of the first request after that one that is wanted, which has been answered; None if there is none
        while something goes on."""
        with self._news:
            while True:
                # Asked before the requests are looked at: what came before the end is seen.
                ends = not goes_on()
                for number in range(after + 1, len(self._answered)):
                    if wanted(self._answered[number]):
                        return number
                after = len(self._answered) - 1
                if ends:
                    return None
                self._news.wait(0.05)

    def answered(self, number: int) -> Answered:
        return self._answered[number]

    # Requests of the tests' own.

    def make_container(self, name: str):
        self._expect(201, "PUT", name, {"restype": "container"})

    def names(self, container: str, prefix: str = "") -> list[str]:
        """The names of all blobs that begin like this, in order; those of uploads that were never ended are left out."""
        names, marker = [], ""
        while True:
            query = {"restype": "container", "comp": "list", "prefix": prefix, "marker": marker}
            page = ElementTree.fromstring(self._expect(200, "GET", container, query))
            names += [name.text for name in page.iterfind("Blobs/Blob/Name")]
            marker = page.findtext("NextMarker")
            if not marker:
                return sorted(names)

    def read(self, container: str, name: str) -> bytes:
        return self._expect(200, "GET", f"{container}/{name}")

    def write(self, container: str, name: str, content: bytes):
        self._expect(201, "PUT", f"{container}/{name}", body=content, headers={"x-ms-blob-type": "BlockBlob"})

    def remove(self, container: str, name: str):
        self._expect(202, "DELETE", f"{container}/{name}")

    def everything(self, container: str) -> dict[str, bytes]:
        return {name: self.read(container, name) for name in self.names(container)}

    def tree(self, container: str, prefix: str) -> dict[str, str]:
        """The hash of every blob whose name begins like this, by the rest of its name."""
        names = self.names(container, prefix)
        return {name.removeprefix(prefix): hashlib.sha256(self.read(container, name)).hexdigest() for name in names}

    def restore(self, container: str, blobs: dict[str, bytes]):
        """Makes the container hold these blobs and no others."""
        for name in set(self.names(container)) - set(blobs):
            self.remove(container, name)
        for name, content in blobs.items():
            self.write(container, name, content)

    def _expect(self, status: int, *request, **more) -> bytes:
        told, body = self.request(*request, **more)
        assert told == status, f"{request}: {told}, not {status}: {body[:500]}"
        return body

    def request(self, method: str, path: str, query=None, body: bytes = b"", headers=None) -> tuple[int, bytes]:
        """A request for a path in the account, signed with its key: status and body.

        https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key
        """
        query = {name: value for name, value in (query or {}).items() if value}
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": VERSION} | (headers or {})
        path = f"/{self.account}/{urllib.parse.quote(path)}"
        own = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
        asked = "".join(f"\n{name}:{value}" for name, value in sorted(query.items()))
        text = f"{method}\n\n\n{len(body) or ''}\n\n\n\n\n\n\n\n\n{own}/{self.account}{path}{asked}"
        headers["Authorization"] = f"SharedKey {self.account}:{self.sign(text)}"
        target = f"{path}?{urllib.parse.urlencode(query)}" if query else path
        # A connection for each: Azurite closes those that were idle for some seconds.
        connection = http.client.HTTPConnection(self.host, self.port, timeout=HANG)
        try:
            connection.request(method, target, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    # Credentials.

    def sign(self, text: str) -> str:
        digest = hmac.new(base64.b64decode(self.key), text.encode(), hashlib.sha256).digest()
        return base64.b64encode(digest).decode()

    def account_sas(self, expiry: str = "2100-01-01T00:00:00Z", services: str = "b") -> str:
        """A signature for all of the account (`b`: its blobs, `t`: its tables), as it stands in an address.

        https://learn.microsoft.com/rest/api/storageservices/create-account-sas
        """
        permissions = {"b": "rwdlac", "t": "rwdlacup"}[services]
        fields = {"sp": permissions, "ss": services, "srt": "sco", "se": expiry, "sv": VERSION}
        order = [fields[name] for name in ("sp", "ss", "srt")] + ["", fields["se"], "", "", VERSION, ""]
        return self._sas(fields, "\n".join([self.account, *order]) + "\n")

    def container_sas(self, container: str, permissions: str = "racwdl") -> str:
        """A signature for what is in one container.

        https://learn.microsoft.com/rest/api/storageservices/create-service-sas
        """
        fields = {"sp": permissions, "se": "2100-01-01T00:00:00Z", "sv": VERSION, "sr": "c"}
        resource = f"/blob/{self.account}/{container}"
        order = [permissions, "", fields["se"], resource, "", "", "", VERSION, "c", "", "", "", "", "", "", ""]
        return self._sas(fields, "\n".join(order))

    def _sas(self, fields: dict[str, str], text: str) -> str:
        return urllib.parse.urlencode(fields | {"sig": self.sign(text)})
