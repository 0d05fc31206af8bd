"""A PostgreSQL server for one job: in a folder of its own, on the loopback interface, without any durability.

It runs as a child of this process, so that its time counts as the job's. As root it runs as an unprivileged user, which
PostgreSQL insists on. This module must never touch a server that is there already.
"""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

#: What a server that may lose everything is set to; nothing is ever synced.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "8GB",
    "autovacuum": "off",
    "shared_buffers": "1GB",
    "work_mem": "1GB",
    "jit": "off",
    "timezone": "UTC",
}


def binaries() -> Path | None:
    """The folder of PostgreSQL's programs: that of the path, or the newest where Debian has them."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(versions, key=lambda path: int(path.parts[-3]), default=None)
    return newest.parent if newest else None


class Server:
    """A server that runs while this is entered."""

    def __init__(self, folder: Path, threads: int):
        self.folder = folder
        self.threads = threads
        self.user = unprivileged()

    def __enter__(self):
        self.data = Path(tempfile.mkdtemp(prefix="postgres-", dir=self.folder))
        if self.user:
            shutil.chown(self.data, self.user)
        self.port = free_port()
        self.call("initdb", "--pgdata", self.data, "--auth", "trust", "--username", "bench", "--no-sync")
        settings = SETTINGS | {
            "port": str(self.port),
            "max_parallel_workers_per_gather": str(self.threads - 1),
            "max_parallel_workers": str(self.threads - 1),
            "max_parallel_maintenance_workers": str(self.threads - 1),
        }
        options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
        self.process = self.start("postgres", "-D", self.data, *options)
        while self.start("pg_isready", "-q", "-h", "127.0.0.1", "-p", self.port).wait() != 0:
            if self.process.poll() is not None:
                raise SystemExit(f"the server ended with {self.process.returncode}")
            time.sleep(0.02)
        return self

    def __exit__(self, *_failure):
        # SIGINT: a fast shutdown.
        self.process.send_signal(2)
        self.process.wait()
        shutil.rmtree(self.data)

    def start(self, name: str, *arguments, **more) -> subprocess.Popen:
        command = [str(part) for part in (binaries() / name, *arguments)]
        return subprocess.Popen(command, user=self.user, cwd="/", **more)

    def call(self, name: str, *arguments):
        process = self.start(name, *arguments, stdout=subprocess.DEVNULL)
        if process.wait() != 0:
            raise SystemExit(f"{name} ended with {process.returncode}")

    def psql(self, query: str, **more) -> subprocess.Popen:
        """Runs one statement; its COPY reads standard input and writes standard output."""
        where = ["-h", "127.0.0.1", "-p", self.port, "-U", "bench", "-d", "postgres"]
        return self.start("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", *where, "-c", query, **more)

    def execute(self, query: str):
        process = self.psql(query)
        if process.wait() != 0:
            raise SystemExit(f"psql ended with {process.returncode}: {query}")


def unprivileged() -> str | None:
    """The user that the server runs as, if it cannot be this one."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]
