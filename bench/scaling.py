"""The cost model of docs/scaling.md, and a simulation of the same run that checks it.

    python3 bench/scaling.py                 the tables of the document
    python3 bench/scaling.py --check         the model against the simulation, and against --measured figures

The model counts: work items, requests to the work location, bytes through it, and the time that they take where
workers share the work evenly. The simulation hands out the same items one by one to workers that differ, as a hub does.
"""

import argparse
import heapq
import math
import random
from dataclasses import dataclass

PART, PARTS, STEPS, PARTS_PER_STEP = 1 << 20, 32, 8, 32
SPAN, POSITIONS = 262_144, 2**32 - 2


@dataclass(frozen=True)
class Load:
    """A run: records, and for each keyed table its distinct keys, their bytes, and whether rows refer to it."""

    records: int
    #: (distinct keys, bytes of a key, referred to, distinct keys of a part of a million records)
    tables: tuple

    @staticmethod
    def retail(records: int) -> "Load":
        """The demo's tables, carried on: few products, customers that come back, orders of some lines."""
        customers, products, orders = records // 20, min(5_000, records), records // 3
        part = min(records, PART)
        return Load(records, (
            (customers, 24, True, min(customers, part // 4)),
            (products, 8, True, min(products, part)),
            (orders, 8, True, part // 3),
        ))


@dataclass(frozen=True)
class Machine:
    """What one worker thread does, and what it asks over the network."""

    scan: float = 90e-9  # seconds of CPU for a record
    write: float = 170e-9
    resolve: float = 60e-9  # for a key of a part
    keys: float = 150e-9  # for a new key
    latency: float = 0.015  # of a request
    bandwidth: float = 100e6  # bytes per second and worker
    requests: int = 8  # under way at once
    item: float = 0.004  # to hand out an item and record its result


class Model:
    """Counts and times of a run."""

    def __init__(self, load: Load, workers: int, machine: Machine = Machine()):
        self.load, self.workers, self.machine = load, workers, machine
        rows = max(SPAN, min(PART, load.records // PARTS // SPAN * SPAN or SPAN))
        self.parts = max(1, math.ceil(load.records / rows))
        self.rows = load.records / self.parts
        self.shards = 2 ** math.ceil(math.log2(min(1024, max(16, load.records // 100_000))))
        self.groups = min(self.shards, max(STEPS, self.parts // PARTS_PER_STEP))
        # Distinct keys of one part, and of all parts together.
        self.in_part = [min(part, total, self.rows) for total, _, _, part in load.tables]
        self.shuffled = [in_part * self.parts for in_part in self.in_part]

    def items(self) -> int:
        tables = len(self.load.tables)
        return 1 + self.parts + 1 + tables * self.groups + self.parts + tables + 3

    def written(self) -> int:
        total = self.parts * 8 * self.shards * (len(self.load.tables) + 1)
        for (distinct, size, referred, _), shuffled in zip(self.load.tables, self.shuffled):
            total += shuffled * (size + 4) + distinct * (size + 4 + 1.5 + size + 2)
            total += shuffled * 4 if referred else 0
        return int(total)

    def read(self) -> int:
        heads = self.workers * self.parts * 8 * self.shards * (len(self.load.tables) + 1)
        total = heads
        for (distinct, size, referred, _), shuffled in zip(self.load.tables, self.shuffled):
            total += shuffled * (size + 4) + distinct * (size + 4 + size + 2) + self.workers * distinct * 1.5
            total += shuffled * 4 if referred else 0
        return int(total)

    def requests(self) -> int:
        tables = len(self.load.tables)
        referred = sum(1 for table in self.load.tables if table[2])
        resolve = tables * self.groups * (self.parts + 1)
        write = self.parts * referred * self.groups + self.parts
        heads = self.workers * (self.parts + tables * self.groups * 2)
        return self.parts + resolve + write + heads + tables * self.groups

    def memory(self) -> int:
        """Of one worker: the ranks of all positions, and what a resolve step holds."""
        ranks = self.load.records // 8 * 3 // 2 * len(self.load.tables)
        keys = zip(self.load.tables, self.shuffled)
        group = max(shuffled * (size + 4 + 12) / self.groups for (_, size, _, _), shuffled in keys)
        return int(ranks + group)

    def phases(self) -> list[tuple[str, list[float]]]:
        """The items of each phase, with the seconds that each takes; phases follow each other."""
        m = self.machine
        keyed = list(zip(self.load.tables, self.shuffled, self.in_part))
        put = sum(in_part * (table[1] + 4) for table, _, in_part in keyed)
        scan = self.rows * m.scan + put / m.bandwidth + 2 * m.latency + m.item
        resolve = []
        for (distinct, size, referred, _), shuffled, _ in keyed:
            moved = (shuffled * (size + 8) + distinct * (size + 6)) / self.groups
            waits = math.ceil(self.parts / m.requests) * m.latency
            one = shuffled / self.groups * m.resolve + moved / m.bandwidth + waits + m.item
            resolve += [one] * self.groups
        origins = sum(in_part * 4 for table, _, in_part in keyed if table[2])
        waits = sum(math.ceil(self.groups / m.requests) for table, _, _ in keyed if table[2]) * m.latency
        write = self.rows * m.write + origins / m.bandwidth + waits + 3 * m.latency + m.item
        ranks = sum(table[0] * (1.5 / m.bandwidth + 2e-9) for table, _, _ in keyed)
        keys = [table[0] * (m.keys + table[1] / m.bandwidth) + m.item for table, _, _ in keyed]
        each = [ranks] * self.workers
        return [
            ("plan", [0.2]), ("scan", [scan] * self.parts), ("admit", [0.1]), ("resolve", resolve),
            ("ranks", each), ("write", [write] * self.parts + keys), ("publish", [0.3]),
        ]

    def seconds(self) -> float:
        """Where the work is shared evenly: no phase ends before its longest item, nor before its share of the sum."""
        return sum(max(max(items), sum(items) / min(self.workers, len(items))) for _, items in self.phases())


def simulate(model: Model, seed: int) -> float:
    """The same items, handed out one by one to workers of which some are slower."""
    rng = random.Random(seed)
    pace = [rng.uniform(0.95, 1.1) for _ in range(model.workers)]
    now = 0.0
    for _, items in model.phases():
        free = [(now, worker) for worker in range(model.workers)]
        heapq.heapify(free)
        end = now
        for item in sorted(items, reverse=True):
            at, worker = heapq.heappop(free)
            done = at + item * pace[worker] * rng.uniform(0.9, 1.1)
            end = max(end, done)
            heapq.heappush(free, (done, worker))
        now = end
    return now


def check():
    worst = 0.0
    for records in (24_000_000, 10**9, 4 * 10**9):
        for workers in (1, 3, 10, 100):
            model = Model(Load.retail(records), workers)
            simulated = sum(simulate(model, seed) for seed in range(5)) / 5
            off = simulated / model.seconds() - 1
            worst = max(worst, abs(off))
            print(f"{records:>14,} records {workers:>4} workers: {model.seconds():9.1f} s by the model, "
                  f"{simulated:9.1f} s simulated ({100 * off:+.0f} %)")
    assert worst < 0.2, f"the model is off by {100 * worst:.0f} %"


def table():
    print("| records | runs | parts | work items | written | read | requests | memory | 3 workers | 30 | 300 |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for records in (2_000_000, 24_000_000, 10**9, 4 * 10**9, 10**10, 10**11):
        runs = math.ceil(records / POSITIONS)
        each = Load.retail(records // runs)
        models = [Model(each, workers) for workers in (3, 30, 300)]
        one = models[0]
        times = " | ".join(f"{runs * model.seconds():,.0f} s" for model in models)
        print(f"| {records:,} | {runs} | {one.parts:,} | {one.items():,} | {one.written() / 1e9:,.2f} GB "
              f"| {one.read() / 1e9:,.2f} GB | {one.requests():,} | {one.memory() / 1e9:,.2f} GB | {times} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="compare the model with the simulation")
    options = parser.parse_args()
    check() if options.check else table()
