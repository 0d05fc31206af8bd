"""Does one job with one other tool, in a process of its own: `peer.py TOOL JOB`.

A tool is a module of `peers` and a form of it, such as `duckdb:semi-join`. Only that module is imported, so that no
tool pays for another.
"""

import importlib
import sys
from pathlib import Path

from job import load

if __name__ == "__main__":
    tool, _, form = sys.argv[1].partition(":")
    importlib.import_module(f"peers.with_{tool}").run(load(Path(sys.argv[2])), form)
