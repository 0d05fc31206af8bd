"""A pytest plugin that puts the served hub in the place of the Python SDK's in-memory backend.

The SDK's tests call `durabletask.testing.create_test_backend(port=...)`, and later `stop` and `reset` of what they get.
Here that starts `seriatim serve` on the port, with a state of its own, and ends it.
"""

import json
import os
import shutil
import subprocess
import tempfile

import durabletask.testing
from durabletask.testing import in_memory_backend


class ServedBackend:
    def __init__(self, port: int):
        self._state = tempfile.mkdtemp(prefix="seriatim-sdk-")
        command = [os.environ["SERIATIM_BIN"], "serve", "--state", self._state, "--grpc", f"127.0.0.1:{port}", "--json"]
        command += os.environ.get("SERIATIM_SERVE_ARGS", "").split()
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        # It answers from the moment on that it says where.
        json.loads(self._process.stdout.readline())

    def stop(self, grace=None):
        self._process.terminate()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def reset(self):
        shutil.rmtree(self._state, ignore_errors=True)


def create_test_backend(port: int = 50051, max_history_size: int = 10000) -> ServedBackend:
    return ServedBackend(port)


durabletask.testing.create_test_backend = create_test_backend
in_memory_backend.create_test_backend = create_test_backend
