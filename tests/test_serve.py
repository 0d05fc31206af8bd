"""`seriatim serve` as a program: where it listens, what it refuses, how it ends."""

import json
import os
import signal

import grpc
import pytest
from durabletask.client import TaskHubGrpcClient

from conftest import HANG
from serving import own_server  # noqa: F401 (a fixture)

CANARY = "canary-0123456789"


def refusal(program, tmp_path, *arguments, code=2) -> str:
    called = program.call("serve", "--state", tmp_path / "state", *arguments, cwd=tmp_path, code=code)
    assert not called.stdout
    return called.stderr


def test_it_says_where_it_listens_and_ends_when_asked(program, tmp_path):
    for ask in (signal.SIGINT, signal.SIGTERM):
        process = program.start("serve", "--state", tmp_path / "state", "--grpc", "127.0.0.1:0", cwd=tmp_path)
        where = process.stdout.readline().split()
        assert where[0] == "gRPC" and where[1].startswith("http://127.0.0.1:"), where
        its_client = TaskHubGrpcClient(host_address=where[1].removeprefix("http://"))
        assert its_client.get_orchestration_state("any") is None
        process.send_signal(ask)
        process.communicate(timeout=HANG)
        assert process.returncode == 0


def test_it_refuses_to_listen_unprotected(program, tmp_path):
    assert "--tls-cert" in refusal(program, tmp_path, "--grpc", "0.0.0.0:0")
    (tmp_path / "token").write_text("short\n")
    said = refusal(program, tmp_path, "--grpc", "127.0.0.1:0", "--token-file", tmp_path / "token")
    assert "16 characters" in said and "short\n" not in said
    said = refusal(program, tmp_path, "--token-file", tmp_path / "missing", code=1)
    assert "missing" in said


def test_a_state_has_one_server(program, own_server, tmp_path):  # noqa: F811
    said = refusal(program, tmp_path, "--grpc", "127.0.0.1:0", code=1)
    assert f"process {own_server.process.pid}" in said
    assert own_server.stop() == 0


def test_the_token_opens_and_is_never_shown(program, tmp_path, monkeypatch):
    monkeypatch.setenv("SERIATIM_TOKEN", CANARY)
    process = program.start(
        "serve", "--state", tmp_path / "state", "--grpc", "127.0.0.1:0", "--json", "--log", "trace", cwd=tmp_path
    )
    address = json.loads(process.stdout.readline())["grpc"].removeprefix("http://")
    for token, code in ((None, "UNAUTHENTICATED"), ("wrong", "UNAUTHENTICATED"), (CANARY, None)):
        metadata = [("authorization", f"Bearer {token}")] if token else None
        its_client = TaskHubGrpcClient(host_address=address, metadata=metadata)
        if code is None:
            assert its_client.get_orchestration_state("any") is None
            continue
        with pytest.raises(grpc.RpcError) as refused:
            its_client.get_orchestration_state("any")
        assert refused.value.code() == grpc.StatusCode[code]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=HANG)
    assert process.returncode == 0
    assert CANARY not in out + err
    assert os.environ["SERIATIM_TOKEN"] == CANARY
