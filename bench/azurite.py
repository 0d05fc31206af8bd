"""Azurite, Azure's storage emulator, with the records of a case in it, and a relay that counts what is read of it.

It runs beside what is measured, on the same cores: its CPU time is no part of a figure, but the wall time is shared.
"""

import base64
import hashlib
import hmac
import http.client
import os
import shutil
import socket
import subprocess
import sys
import threading
from email.utils import formatdate
from pathlib import Path

HERE = Path(__file__).resolve().parent
#: The account that every emulator has; its key is public.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
CONTAINER = "bench"
#: The emulator's own program, ended with this one: it watches its standard input.
START = "process.stdin.on('end', () => process.exit(0)).resume(); require(process.env.AZURITE_MAIN)"


def modules() -> Path:
    """npm's packages: those that `scripts/test` has installed, or SERIATIM_NODE has."""
    folder = Path(os.environ.get("SERIATIM_NODE") or HERE.parent / ".node").absolute()
    return folder / "node_modules"


def missing() -> str | None:
    """Why it cannot run; None if it can."""
    if not shutil.which("node"):
        return "there is no node"
    if not (modules() / "azurite").is_dir():
        return f"say: npm install --prefix {modules().parent} azurite"
    return None


class Azurite:
    def __init__(self):
        options = "--inMemoryPersistence --silent --skipApiVersionCheck --disableTelemetry".split()
        ports = "--blobPort 0 --queuePort 0 --tablePort 0".split()
        self.process = subprocess.Popen(
            ["node", "-e", START, "azurite", *options, *ports], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"AZURITE_MAIN": str(modules() / "azurite" / "dist" / "src" / "azurite")},
        )
        self.port = 0
        for line in self.process.stdout:
            if "Blob service is successfully listening" in line:
                self.port = int(line.strip().rsplit(":", 1)[1])
            if "Table service is successfully listening" in line:
                break
        else:
            sys.exit("Azurite did not start")

    def stop(self):
        self.process.kill()
        self.process.wait()

    def fill(self, files: list[Path]):
        """Puts files into the container."""
        self.call("PUT", f"/{CONTAINER}", {"restype": "container"}, b"", {})
        for path in files:
            self.call("PUT", f"/{CONTAINER}/data/{path.name}", {}, path.read_bytes(), {"x-ms-blob-type": "BlockBlob"})

    def call(self, method: str, path: str, query: dict[str, str], body: bytes, headers: dict[str, str]):
        path = f"/{ACCOUNT}{path}"
        headers = headers | {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-12-02"}
        length = str(len(body)) if body else ""
        ours = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
        asked = "".join(f"\n{name}:{value}" for name, value in sorted(query.items()))
        text = f"{method}\n\n\n{length}\n\n\n\n\n\n\n\n\n{ours}/{ACCOUNT}{path}{asked}"
        digest = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
        headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        target = path + ("?" + "&".join(f"{name}={value}" for name, value in query.items()) if query else "")
        connection.request(method, target, body, headers)
        answer = connection.getresponse()
        told = answer.read()
        if answer.status != 201:
            sys.exit(f"Azurite answered {answer.status}: {told.decode(errors='replace')}")
        connection.close()

    def environment(self, port: int | None = None) -> dict[str, str]:
        """The variables by which a program finds it, there or behind a relay."""
        return {"AZURE_STORAGE_ENDPOINT": f"http://127.0.0.1:{port or self.port}/{ACCOUNT}", "AZURE_STORAGE_KEY": KEY}


class Relay:
    """Passes connections on, and counts the bytes that come back, headers and all."""

    def __init__(self, port: int):
        self.target = port
        self.bytes = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            client, _ = self.listener.accept()
            service = socket.create_connection(("127.0.0.1", self.target))
            threading.Thread(target=self.copy, args=(client, service, False), daemon=True).start()
            threading.Thread(target=self.copy, args=(service, client, True), daemon=True).start()

    def copy(self, source: socket.socket, target: socket.socket, counted: bool):
        try:
            while data := source.recv(1 << 18):
                if counted:
                    self.bytes += len(data)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            # One of the two has given up; so does the other.
            source.close()
            target.close()
