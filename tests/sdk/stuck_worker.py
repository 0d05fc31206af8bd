"""A worker that takes one piece of work, says so, and never comes back from it. For being killed.

    stuck_worker.py ADDRESS activity|turn|batch
"""

import sys
import threading

from durabletask.worker import TaskHubGrpcWorker
from stuck_worker_parts import register

address, where = sys.argv[1:]


def stick(here: str):
    if here == where:
        print(here, flush=True)
        threading.Event().wait()


with TaskHubGrpcWorker(host_address=address) as worker:
    register(worker, stick)
    worker.start()
    threading.Event().wait()
