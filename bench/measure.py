"""Measures processes, from their start to their end, as the operating system accounts for them.

A process inherits its parent's peak of resident memory, so this program must stay small: whatever needs more than the
standard library runs in a process of its own.
"""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Sample:
    #: Seconds.
    wall: float
    #: Seconds of user and system, with the processes that it started.
    cpu: float
    #: Bytes: the largest resident size of any one process.
    peak: int


def measure(command: list, folder: Path, environment: dict[str, str]) -> Sample:
    """Runs one process in a folder and waits for it; what it says is shown only if it fails."""
    with open(folder / "stderr", "w+b") as err:
        started = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command], cwd=folder, env=os.environ | environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=err,
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            # This program was told to end: nothing may run on in a folder that goes.
            process.kill()
            raise
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            err.seek(0)
            told = err.read().decode(errors="replace")
            sys.exit(f"{' '.join(map(str, command))} ended with {process.returncode}\n{told}")
    # Linux counts kibibytes, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return Sample(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit)
