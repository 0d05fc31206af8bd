"""Many workers, one run, with the real program: a served hub, workers with state folders of their own, and nothing
shared but the sources, the output and the work location. What is published is what one process publishes."""

import subprocess
import time
from pathlib import Path

import pytest

from cluster import Cluster, ends_well
from conftest import HANG, assert_verifies, tree, with_own_output

#: What the work location holds when a step of a run is done, or is being done: the moment at which somebody dies.
MOMENTS = ["*/plan", "*/part-*", "*/table-*", "*/claim-*", "*/segment/*/*"]


def published(folder: Path) -> dict[str, str]:
    """What is published; the facts beside it name runs and state folders."""
    return {name: digest for name, digest in tree(folder).items() if not name.startswith("_seriatim/state/")}


@pytest.fixture
def cluster(program, tmp_path):
    clusters = []

    def make(name="cluster"):
        clusters.append(Cluster(program, tmp_path / name))
        return clusters[-1]

    yield make
    for each in clusters:
        each.close()


@pytest.fixture(scope="module")
def alone(program, demo, tmp_path_factory):
    """What one process publishes."""
    pipeline = with_own_output(demo, tmp_path_factory.mktemp("alone"))
    program.call("run", pipeline, "--chunk-rows", "2000", cwd=pipeline.parent)
    return published(pipeline.parent / "out")


def wait_for(process: subprocess.Popen, work: Path, moment: str) -> bool:
    """Waits until the work location has such an object; False if the run ended before anybody saw one."""
    while process.poll() is None:
        if any(work.glob(f"*/{moment}")):
            return True
        # The cores are for those who are waited for.
        time.sleep(0.001)
    return False


def test_g5_three_workers_publish_what_one_process_does_and_later_ones_go_on(program, demo, alone, cluster, tmp_path):
    pipeline = with_own_output(demo, tmp_path / "shared")
    first = cluster("first")
    ends_well(first.run(pipeline))
    assert published(pipeline.parent / "out") == alone
    assert not (pipeline.parent / "out/_seriatim/work").exists(), "nothing is left in the work location"
    assert_verifies(program, pipeline)
    # Other machines, which know nothing, take the place of these; the hub stays.
    for index in range(3):
        first.lose(index)
        first.start(index)
    ends_well(first.run(pipeline))
    assert published(pipeline.parent / "out") == alone, "there was nothing new"


@pytest.mark.parametrize("moment", MOMENTS)
def test_g5_a_machine_that_is_lost_is_done_without(program, demo, alone, cluster, tmp_path, moment):
    pipeline = with_own_output(demo, tmp_path / "shared")
    machines = cluster()
    process = machines.run(pipeline)
    seen = wait_for(process, pipeline.parent / "out/_seriatim/work", moment)
    machines.lose(0)
    ends_well(process)
    assert seen, f"nobody saw {moment}"
    assert published(pipeline.parent / "out") == alone
    assert_verifies(program, pipeline)


@pytest.mark.parametrize("moment", MOMENTS)
def test_g5_the_hub_is_killed_and_comes_back(program, demo, alone, cluster, tmp_path, moment):
    pipeline = with_own_output(demo, tmp_path / "shared")
    machines = cluster()
    process = machines.run(pipeline)
    seen = wait_for(process, pipeline.parent / "out/_seriatim/work", moment)
    machines.server.kill()
    machines.server.start()
    # Whoever waits for a run may be told that its hub was away; the run goes on.
    process.communicate(timeout=HANG)
    ends_well(machines.run(pipeline))
    assert seen, f"nobody saw {moment}"
    assert published(pipeline.parent / "out") == alone
    assert_verifies(program, pipeline)


def test_a_run_that_is_left_alone_goes_on_and_can_be_waited_for(program, demo, alone, cluster, tmp_path):
    pipeline = with_own_output(demo, tmp_path / "shared")
    machines = cluster()
    detached = machines.run(pipeline, "--detach")
    out, err = detached.communicate(timeout=HANG)
    assert detached.returncode == 0, f"{out}\n{err}"
    assert '"running"' in out
    shown = program.json("runs", "--pipeline", pipeline, cwd=pipeline.parent)["runs"]
    assert shown[-1]["status"] in ("running", "done") and shown[-1]["hub"], shown
    ends_well(machines.run(pipeline))
    assert published(pipeline.parent / "out") == alone
