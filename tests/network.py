"""Machines, as far as a network can tell: namespaces of the kernel's network, at one bridge. The tests' own process moves
into one of them for as long as they are there, so that nothing of the network that this machine really has takes part:
neither its addresses nor its firewall. Namespaces live as long as processes in them do, and are gone with the tests,
however those end. Needs root."""

import ctypes
import os
import shutil
import subprocess
from contextlib import contextmanager

#: All machines' addresses begin like this; nobody outside can see them.
NET = "10.213.77"
#: Where the hub and the storage are.
HUB = f"{NET}.1"

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def cannot(*programs: str) -> str | None:
    """Why there can be no such machines here, or none of the other programs that tests need."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if missing := [name for name in ("ip", "unshare", "nsenter", *programs) if not shutil.which(name)]:
        return f"not installed: {', '.join(missing)}"
    # As much as the tests need of it: some containers allow namespaces and no bridges.
    probe = "ip link add bridge type bridge && ip link add one type veth peer name other"
    made = subprocess.run(["unshare", "--net", "sh", "-c", probe], capture_output=True, text=True)
    return f"network namespaces cannot be made: {made.stderr.strip()}" if made.returncode else None


def _do(*command):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr.strip()}"


def _checked(result: int):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Machine:
    """One that is connected to the hub's network by a cable, and to nothing else."""

    def __init__(self, number: int):
        self.address = f"{NET}.{11 + number}"
        self._cable = f"cable{number}"
        # Keeps the namespace until the tests' process ends.
        self._keeper = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._keeper.stdout.readline()
        #: What a command line begins with that runs on this machine; the program takes the place of `nsenter`.
        self.inside = ["nsenter", "--target", str(self._keeper.pid), "--net"]
        _do("ip", "link", "add", self._cable, "type", "veth", "peer", "name", "eth0", "netns", self._keeper.pid)
        _do("ip", "link", "set", self._cable, "master", "bridge", "up")
        _do(*self.inside, "ip", "addr", "add", f"{self.address}/24", "dev", "eth0")
        _do(*self.inside, "ip", "link", "set", "eth0", "up")
        _do(*self.inside, "ip", "link", "set", "lo", "up")

    def pull_cable(self):
        """What it sends gets lost, and nobody is told."""
        _do("ip", "link", "set", self._cable, "down")

    def plug_in(self):
        _do("ip", "link", "set", self._cable, "up")

    def close(self):
        self._keeper.kill()
        self._keeper.communicate()


@contextmanager
def machines(count: int):
    """That many machines; this thread, and the programs that it starts, are at the address `HUB` meanwhile."""
    with open("/proc/thread-self/ns/net") as outside:
        _checked(_libc.unshare(_CLONE_NEWNET))
        made = []
        try:
            _do("ip", "link", "set", "lo", "up")
            _do("ip", "link", "add", "bridge", "type", "bridge")
            _do("ip", "addr", "add", f"{HUB}/24", "dev", "bridge")
            _do("ip", "link", "set", "bridge", "up")
            made += [Machine(number) for number in range(count)]
            yield made
        finally:
            for machine in made:
                machine.close()
            _checked(_libc.setns(outside.fileno(), _CLONE_NEWNET))
