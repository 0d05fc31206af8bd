"""The official SDK's in-memory backend on a port of its own, which is the one line that this says. It ends with its
input."""

import socket
import sys

from durabletask.testing import create_test_backend

# Held until the end, so that no other backend, whose server would share the port, is given the same one.
probe = socket.socket()
probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
probe.bind(("127.0.0.1", 0))
port = probe.getsockname()[1]
backend = create_test_backend(port=port)
backend.start()
print(port, flush=True)
sys.stdin.read()
backend.stop()
