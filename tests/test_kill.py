"""G5: the real program, killed anywhere and run again, publishes the bytes of a run that nobody disturbed."""

import shutil
import signal
import subprocess
import time

import pytest

from conftest import HANG, assert_verifies, scale, tree, with_own_output
from faulty import AT_ONCE, assert_nothing_half_written, assert_runs_make_sense, each

KILLS = max(1, round(50 * scale()))
#: Runs that are killed once and lose their state folder then.
LOST = max(1, round(10 * scale()))


@pytest.fixture(scope="module")
def undisturbed(program, demo, tmp_path_factory):
    """What a run publishes that nobody disturbs, and how long it takes in seconds (the slowest of three)."""
    trees, seconds = [], []
    for attempt in range(3):
        folder = tmp_path_factory.mktemp("undisturbed")
        pipeline = with_own_output(demo, folder)
        started = time.monotonic()
        program.call("run", pipeline, "--workers", attempt + 1, cwd=folder)
        seconds.append(time.monotonic() - started)
        trees.append(tree(folder / "out"))
    assert trees[0] == trees[1] == trees[2], "the number of workers changes nothing"
    assert_verifies(program, pipeline)
    return trees[0], max(seconds)


def run_and_kill(program, pipeline, moment) -> bool:
    """Starts a run and kills it after `moment` seconds. True if it was done before."""
    process = program.start("run", pipeline, cwd=pipeline.parent)
    try:
        process.communicate(timeout=moment)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=HANG)
    assert process.returncode in (0, -signal.SIGKILL), f"exit code {process.returncode}"
    return process.returncode == 0


def test_g5_killed_at_random_moments_and_resumed_it_publishes_the_same_bytes(
    program, demo, undisturbed, tmp_path, rng
):
    expected, seconds = undisturbed

    def attempt(numbered) -> int:
        number, moments = numbered
        folder = tmp_path / f"attempt-{number}"
        pipeline = with_own_output(demo, folder)
        killed = 0
        # Each resumed run may be killed again, so that some are killed while they take up a run that was taken up.
        for moment in moments:
            done = run_and_kill(program, pipeline, moment)
            assert_nothing_half_written(folder, expected)
            if (folder / ".seriatim").is_dir():
                assert_runs_make_sense(program, pipeline, ended=False, published=1)
            if done:
                break
            killed += 1
        program.call("run", pipeline, cwd=folder)
        assert_runs_make_sense(program, pipeline, ended=True, published=1)
        assert tree(folder / "out") == expected, f"killed after {moments} s of {seconds} s"
        shutil.rmtree(folder)
        return killed

    killed, attempts = 0, 0
    while killed < KILLS:
        lives = [[rng.uniform(0, seconds) for _ in range(4)] for _ in range(AT_ONCE)]
        killed += sum(each(enumerate(lives, start=attempts), attempt))
        attempts += AT_ONCE
    print(f"{killed} kills of {attempts} runs")


def test_g5_killed_at_random_moments_and_its_state_folder_lost_it_publishes_the_same_bytes(
    program, demo, undisturbed, tmp_path, rng
):
    expected, seconds = undisturbed
    for attempt in range(LOST):
        folder = tmp_path / f"lost-{attempt}"
        pipeline = with_own_output(demo, folder)
        moment = rng.uniform(0, seconds)
        run_and_kill(program, pipeline, moment)
        for state in folder.glob(".seriatim"):
            shutil.rmtree(state)
        program.call("run", "--recover", pipeline, cwd=folder)
        assert_verifies(program, pipeline)
        assert tree(folder / "out") == expected, f"killed after {moment} s of {seconds} s"
        shutil.rmtree(folder)


def test_g6_two_runs_at_once_on_one_state_are_both_right(program, demo, undisturbed, tmp_path):
    expected, _ = undisturbed
    pipeline = with_own_output(demo, tmp_path / "both")
    processes = [program.start("run", pipeline, "--json", cwd=pipeline.parent) for _ in range(2)]
    for process in processes:
        out, err = process.communicate(timeout=HANG)
        assert process.returncode == 0, f"{out}\n{err}"
    assert tree(pipeline.parent / "out") == expected
    assert_verifies(program, pipeline)


def test_ctrl_c_stops_cleanly_and_the_next_run_resumes(program, demo, undisturbed, tmp_path, rng):
    expected, seconds = undisturbed
    for attempt in range(5):
        pipeline = with_own_output(demo, tmp_path / f"interrupted-{attempt}")
        process = program.start("run", pipeline, cwd=pipeline.parent)
        try:
            process.communicate(timeout=rng.uniform(0.2, 0.9) * seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=HANG)
            # Before the program listens, the signal ends it as it ends any program.
            assert process.returncode in (0, 130, -signal.SIGINT), f"{process.returncode}\n{err}"
        program.call("run", pipeline, cwd=pipeline.parent)
        assert tree(pipeline.parent / "out") == expected
        assert_verifies(program, pipeline)
