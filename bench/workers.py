"""Three worker processes and a served hub against one process, on the same records: CPU of all processes together, and
the bytes that went through the work location against the records' distinct keys.

    python3 bench/workers.py --program target/release/seriatim --rows 2000000 --repeat 5

On a machine of two cores this shows what the coordination costs, not what it gains.
"""

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path


class Process:
    """A child whose CPU is counted when it ends."""

    def __init__(self, *command, **options):
        self.child = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, text=True, **options)
        self.usage = None

    def wait(self) -> float:
        """Waits for its end; the seconds of CPU that it took."""
        _, status, self.usage = os.wait4(self.child.pid, 0)
        self.child.returncode = os.waitstatus_to_exitcode(status)
        return self.usage.ru_utime + self.usage.ru_stime


def one_process(program: Path, pipeline: Path, workers: int) -> tuple[float, float]:
    started = time.monotonic()
    run = Process(program, "run", pipeline, "--quiet", "--workers", workers, stdout=subprocess.DEVNULL)
    cpu = run.wait()
    assert run.child.returncode == 0
    return cpu, time.monotonic() - started


class Watch(threading.Thread):
    """Sees what is put into a work location before it is cleared."""

    def __init__(self, work: Path):
        super().__init__(daemon=True)
        self.work, self.sizes, self.over = work, {}, threading.Event()

    def run(self):
        while not self.over.wait(0.005):
            for path in self.work.glob("*/*/*"):
                try:
                    self.sizes[path.name] = path.stat().st_size
                except FileNotFoundError:
                    pass

    def bytes_of(self, beginning: str) -> int:
        return sum(size for name, size in self.sizes.items() if name.startswith(beginning))


def by_workers(program: Path, pipeline: Path, folder: Path, workers: int, watch: bool):
    server = Process(
        program, "serve", "--state", folder / "hub", "--grpc", "127.0.0.1:0", "--json",
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )
    hub = json.loads(server.child.stdout.readline())["grpc"]
    all_workers = [
        Process(
            program, "worker", "--hub", hub, "--workers", "1", "--state", folder / f"worker-{n}",
            stderr=subprocess.PIPE,
        )
        for n in range(workers)
    ]
    for worker in all_workers:
        worker.child.stderr.readline()
    seen = Watch(pipeline.parent / "out/_seriatim/work")
    if watch:
        seen.start()
    started = time.monotonic()
    run = Process(program, "run", pipeline, "--hub", hub, "--json", "--quiet", stdout=subprocess.PIPE)
    report = json.loads(run.child.stdout.read())["runs"][-1]
    cpu = run.wait()
    wall = time.monotonic() - started
    seen.over.set()
    assert run.child.returncode == 0
    for worker in [*all_workers, server]:
        worker.child.send_signal(signal.SIGINT)
        cpu += worker.wait()
    return cpu, wall, report, seen


def fresh(data: Path, folder: Path) -> Path:
    """A pipeline that shares the data and nothing else."""
    folder.mkdir(parents=True)
    (folder / "data").symlink_to(data / "data")
    source = next(data.glob("*.yaml"))
    shutil.copy(source, folder / source.name)
    return folder / source.name


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--program", type=Path, default=Path("target/release/seriatim"))
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the data are kept from one call to the next")
    options = parser.parse_args()
    program = options.program.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        data = options.folder or Path(scratch) / "data"
        if not data.exists():
            files = max(1, options.rows // 250_000)
            subprocess.run(
                [program, "demo", "--data-only", "--quiet", "--rows", str(options.rows), "--files", str(files),
                 "--folder", data], check=True, stdout=subprocess.DEVNULL,
            )
        data = data.resolve()
        single, several = [], []
        for n in range(options.repeat):
            place = Path(scratch) / f"single-{n}"
            single.append(one_process(program, fresh(data, place), 2))
            shutil.rmtree(place)
            place = Path(scratch) / f"several-{n}"
            # The first is for the bytes: whoever looks at a folder takes time, too.
            result = by_workers(program, fresh(data, place / "run"), place, options.workers, watch=n == 0)
            if n == 0:
                report, seen = result[2], result[3]
            if n > 0 or options.repeat == 1:
                several.append(result[:2])
            shutil.rmtree(place)
    best = min(single)[0], min(several)[0]
    print(f"one process      {best[0]:7.2f} s of CPU, {min(w for _, w in single):6.2f} s")
    print(f"{options.workers} workers and hub {best[1]:7.2f} s of CPU, {min(w for _, w in several):6.2f} s")
    print(f"more CPU         {100 * (best[1] / best[0] - 1):7.1f} %")
    keys = sum(t["rows"] + t["known_keys"] for t in report["tables"] if t["known_keys"] or t["rows"] < report["records"])
    kinds = {"keys of parts": "part-", "what became of them": "table-", "pieces": "piece-"}
    for what, beginning in kinds.items():
        size = seen.bytes_of(beginning)
        print(f"{what:<20} {size:>12,} bytes, {size / max(1, keys):6.1f} for each of {keys:,} distinct keys")
    print(f"peak memory of a child {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10} MiB")


if __name__ == "__main__":
    main()
