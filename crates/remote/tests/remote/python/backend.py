"""The official SDK's in-memory backend on a free port, which is the one line that this says. It ends with its input."""

import socket
import sys

from durabletask.testing import create_test_backend

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
backend = create_test_backend(port=port)
backend.start()
print(port, flush=True)
sys.stdin.read()
backend.stop()
