"""A served hub and workers on machines of their own, of which each has a state folder that no other one sees."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from conftest import HANG
from serving import Server


class Cluster:
    """A hub, three workers, and whoever submits runs to them."""

    def __init__(
        self,
        program,
        folder: Path,
        machines: Sequence[Sequence[str]] = ((), (), ()),
        host: str = "127.0.0.1",
        protection: Sequence = (),
        reach: Sequence = (),
        chunk_rows: int = 2000,
    ):
        """`machines`: for each worker what its command line begins with. `protection` is how the hub is protected at
        the address `host`, `reach` what others need to be let in."""
        folder.mkdir(parents=True, exist_ok=True)
        self.program, self.folder, self.chunk_rows = program, folder, chunk_rows
        self.machines = machines
        self.server = Server(program, folder / "hub", *protection, host=host)
        scheme = "https" if protection else "http"
        self.reach = ["--hub", f"{scheme}://{self.server.address}", *reach]
        self.workers: dict[int, subprocess.Popen] = {}
        for index in range(len(machines)):
            self.start(index)

    def _state(self, index: int) -> Path:
        return self.folder / f"worker-{index}"

    def start(self, index: int):
        """Starts a machine's worker; one whose machine was lost knows nothing."""
        state = self._state(index)
        command = [*self.machines[index], self.program.path, "worker", *self.reach, "--workers", "1", "--state", state]
        with open(state.with_suffix(".log"), "a") as log:
            self.workers[index] = subprocess.Popen(
                [*map(str, command)], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def run(self, pipeline: Path, *arguments) -> subprocess.Popen:
        """Submits a run from a folder of its own."""
        return self.program.start(
            "run", pipeline, *self.reach, "--chunk-rows", self.chunk_rows, "--json", *arguments, cwd=self.folder
        )

    def lose(self, index: int):
        """`kill -9`, and all that the machine has is gone."""
        self.workers[index].kill()
        self.workers[index].wait(timeout=HANG)
        shutil.rmtree(self._state(index), ignore_errors=True)

    def close(self):
        for worker in self.workers.values():
            worker.kill()
            worker.wait(timeout=HANG)
        if self.server.process.poll() is None:
            self.server.kill()


def ends_well(process: subprocess.Popen):
    out, err = process.communicate(timeout=HANG)
    assert process.returncode == 0, f"{out}\n{err}"
