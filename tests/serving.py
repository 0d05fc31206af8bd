"""A served hub for the tests that drive it with other people's SDKs."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

from conftest import HANG, Program


class Server:
    """`seriatim serve` on a state folder; keeps its port when it is started again."""

    def __init__(self, program: Program, state: Path, *arguments, host: str = "127.0.0.1"):
        self._program = program
        self._state = state
        self._arguments = arguments
        self._host = host
        self._port = 0
        self.process = None
        self.start()

    def start(self):
        self.process = self._program.start(
            "serve", "--state", self._state, "--grpc", f"{self._host}:{self._port}", "--json", *self._arguments,
            cwd=self._state.parent,
        )
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        self.url = json.loads(line)["grpc"]
        self._port = int(self.url.rsplit(":", 1)[1])

    @property
    def address(self) -> str:
        return f"{self._host}:{self._port}"

    def kill(self):
        """As a crash does: nothing is tidied up."""
        self.process.kill()
        self._wait()

    def stop(self) -> int:
        """As Ctrl-C does; returns the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self._wait()

    def _wait(self) -> int:
        try:
            self.process.communicate(timeout=HANG)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise AssertionError("the server hangs") from None
        return self.process.returncode


@pytest.fixture(scope="module")
def server(program, tmp_path_factory):
    server = Server(program, tmp_path_factory.mktemp("served") / "state")
    yield server
    assert server.stop() == 0


@pytest.fixture
def own_server(program, tmp_path):
    """A server for one test, which may kill it and start it again."""
    server = Server(program, tmp_path / "state")
    yield server
    if server.process.poll() is None:
        server.kill()
