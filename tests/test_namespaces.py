"""Workers in network namespaces of their own: three machines, as far as the network can tell, and a hub that they reach
over TLS with a token. One of them is killed and another is cut off. Needs root and `ip netns`."""

import os
import shutil
import subprocess

import pytest

from conftest import HANG, assert_verifies, with_own_output
from serving import Server
from test_workers import ends_well, published, wait_for

NET = "10.213.77"


def ip(*arguments):
    return subprocess.run(["ip", *map(str, arguments)], capture_output=True, text=True)


def cannot() -> str | None:
    """Why namespaces cannot be made here."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not shutil.which("ip") or not shutil.which("openssl"):
        return "`ip` (iproute2) and `openssl` are needed"
    made = ip("netns", "add", "seriatim-probe")
    ip("netns", "del", "seriatim-probe")
    return f"network namespaces cannot be made: {made.stderr.strip()}" if made.returncode else None


@pytest.fixture
def network():
    """A bridge with three namespaces at it; the machine itself is at .1, they are at .11 to .13."""
    if reason := cannot():
        pytest.skip(reason)
    names = [f"seriatim-{n}" for n in range(3)]

    def down():
        for name in names:
            ip("netns", "del", name)
        ip("link", "del", "seriatim-br")

    down()
    commands = [
        ("link", "add", "seriatim-br", "type", "bridge"),
        ("addr", "add", f"{NET}.1/24", "dev", "seriatim-br"),
        ("link", "set", "seriatim-br", "up"),
    ]
    for n, name in enumerate(names):
        commands += [
            ("netns", "add", name),
            ("link", "add", f"seriatim-v{n}", "type", "veth", "peer", "name", "eth0", "netns", name),
            ("link", "set", f"seriatim-v{n}", "master", "seriatim-br", "up"),
            ("-n", name, "addr", "add", f"{NET}.{11 + n}/24", "dev", "eth0"),
            ("-n", name, "link", "set", "eth0", "up"),
            ("-n", name, "link", "set", "lo", "up"),
        ]
    for command in commands:
        done = ip(*command)
        if done.returncode:
            down()
            pytest.skip(f"ip {' '.join(command)}: {done.stderr.strip()}")
    yield names
    down()


def certificate(folder):
    """For the address of the bridge."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-keyout", key, "-out", cert, "-subj", "/CN=hub", "-addext", f"subjectAltName=IP:{NET}.1"],
        check=True, capture_output=True,
    )
    return cert, key


def test_g5_machines_that_share_only_a_network_and_places(program, demo, network, tmp_path):
    alone = with_own_output(demo, tmp_path / "alone")
    program.call("run", alone, "--chunk-rows", "2000", cwd=alone.parent)
    pipeline = with_own_output(demo, tmp_path / "shared")
    cert, key = certificate(tmp_path)
    token = tmp_path / "token"
    token.write_text("a token for this test")
    server = Server(
        program, tmp_path / "hub", "--tls-cert", cert, "--tls-key", key, "--token-file", token, host=f"{NET}.1"
    )
    reach = ["--hub", f"https://{server.address}", "--ca", cert, "--token-file", token]
    workers = [
        subprocess.Popen(
            ["ip", "netns", "exec", name, program.path, "worker", *map(str, reach), "--workers", "1",
             "--state", tmp_path / name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for name in network
    ]
    try:
        process = program.start("run", pipeline, *reach, "--chunk-rows", "2000", "--json", cwd=tmp_path)
        work = pipeline.parent / "out/_seriatim/work"
        assert wait_for(process, work, "*/part-*")
        workers[0].kill()
        assert wait_for(process, work, "*/table-*")
        # The cable is pulled; its machine works on, and nobody hears of it until the cable is back.
        assert ip("link", "set", "seriatim-v1", "down").returncode == 0
        ends_well(process)
        assert ip("link", "set", "seriatim-v1", "up").returncode == 0
        assert published(pipeline.parent / "out") == published(alone.parent / "out")
        assert_verifies(program, pipeline)
        # What the lost machine had begun must not come back.
        ends_well(program.start("run", pipeline, *reach, "--chunk-rows", "2000", "--json", cwd=tmp_path))
        assert published(pipeline.parent / "out") == published(alone.parent / "out")
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate(timeout=HANG)
        server.kill()
