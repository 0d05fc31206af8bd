"""Credentials are used and never seen again: not in what is said at the most verbose level, nor in errors, state
folders, or what is published. They are canaries here, made to be found; every way to give them is used, and works.
"""

import base64
import time
import urllib.parse

import pytest

from conftest import HANG
from containers import (
    ACCOUNT, KEY, MANIFEST, OUT, SOURCES, STAGING, TABLES, Cloud, Killer, Machine, Machines, Trouble, after_first,
    azurite, cloud, machines, write_pipeline,
)
from proxy import KINDS, NONE, Fault, Request

#: Fixtures.
__all__ = ["after_first", "azurite", "cloud", "machines"]


class Canaries:
    """What must not be seen, and everything that could be."""

    def __init__(self, cloud: Cloud, machines: Machines):
        self.cloud, self.machines = cloud, machines
        self.secrets: set[bytes] = set()
        self.seen: dict[str, bytes] = {}

    def hide(self, *secrets: str):
        """In every form in which it could be written."""
        for secret in secrets:
            for form in (secret, urllib.parse.quote(secret, safe=""), urllib.parse.unquote(secret), secret.rstrip("=")):
                self.secrets.add(form.encode())

    def hide_key(self, key: str):
        self.hide(key)
        self.secrets.add(base64.b64decode(key))

    def hide_sas(self, sas: str) -> str:
        self.hide(sas, urllib.parse.parse_qs(sas)["sig"][0])
        return sas

    def call(self, machine: Machine, variables: dict[str, str], command: str, *arguments, code: int = 0) -> str:
        """A command that logs all that it can; what it says on stderr, the log apart."""
        env = self.cloud.variables() | {"SERIATIM_LOG": "trace", "TMPDIR": str(machine.folder)} | variables
        if not {"AZURE_STORAGE_KEY"} & variables.keys():
            del env["AZURE_STORAGE_KEY"]
        done = machine.call(command, *arguments, code=code, env=env)
        self.seen[f"{len(self.seen)}: {command} said"] = (done.stdout + done.stderr).encode()
        assert "TRACE" in done.stderr, "it logs all that it can"
        return done.stderr

    def look(self, *machines: Machine):
        """Looks for the secrets in what was said, left in folders, and written to containers."""
        for machine in machines:
            files = (path for path in machine.folder.rglob("*") if path.is_file())
            self.seen |= {str(path): path.read_bytes() for path in files}
        for container in (TABLES, "both"):
            blobs = self.cloud.azurite.everything(container)
            self.seen |= {f"{container}/{name}": content for name, content in blobs.items()}
        # Whoever has what a request was signed with can make that request again.
        self.secrets |= {shown.encode() for shown in self.cloud.proxy.credentials}
        for secret in self.secrets:
            assert len(secret) > 20, "a short secret could be found by chance"
            where = [name for name, content in self.seen.items() if secret in content]
            assert not where, f"{secret!r} is seen: {where}"


@pytest.fixture(scope="module")
def both(cloud):
    """A container with sources, and room for an output."""
    cloud.azurite.make_container("both")
    for name, content in cloud.azurite.everything(SOURCES).items():
        cloud.azurite.write("both", f"data/{name}", content)


@pytest.fixture
def canaries(cloud, machines, both):
    cloud.proxy.credentials.clear()
    canaries = Canaries(cloud, machines)
    canaries.hide_key(KEY)
    return canaries


def now_and_then(request: Request) -> Fault:
    """So that there are retries to log."""
    return KINDS[request.number // 5 % len(KINDS)] if request.number % 5 == 2 else NONE


def connection_string(canaries: Canaries, *parts: str) -> dict[str, str]:
    text = ";".join([f"BlobEndpoint={canaries.cloud.proxy.endpoint}", *parts])
    canaries.hide(text)
    return {"AZURE_STORAGE_CONNECTION_STRING": text, "AZURE_STORAGE_ENDPOINT": ""}


def killed(canaries: Canaries, machine: Machine, variables: dict[str, str]):
    """A run that is killed when all but its manifest is in place; what it has in its folders then is kept."""
    killer = Killer(lambda request: request.name == MANIFEST and request.method == "PUT", before=True)
    canaries.cloud.proxy.begin(killer)
    process = machine.start("run", **{"AZURE_STORAGE_KEY": "", "SERIATIM_LOG": "trace"} | variables)
    killer.victim(process)
    canaries.seen[f"{len(canaries.seen)}: what a killed run said"] = "".join(process.communicate(timeout=HANG)).encode()
    assert process.returncode == -9
    canaries.seen |= {f"{path}, killed": path.read_bytes() for path in machine.folder.rglob("*") if path.is_file()}
    canaries.cloud.proxy.begin(Trouble(now_and_then))


def test_r14_keys_work_and_are_never_seen(cloud, machines, canaries):
    ways = [
        {"AZURE_STORAGE_KEY": KEY},
        connection_string(canaries, "DefaultEndpointsProtocol=http", f"AccountName={ACCOUNT}", f"AccountKey={KEY}"),
    ]
    used = []
    for variables in ways:
        machine = machines.begin(0)
        used.append(machine)
        cloud.proxy.begin(Trouble(now_and_then))
        for command in ("check", "plan"):
            canaries.call(machine, variables, command)
        killed(canaries, machine, variables)
        canaries.call(machine, variables, "run")
        machine.lose_state()
        for command in ("recover", "run", "verify"):
            canaries.call(machine, variables, command)
        cloud.proxy.begin()
        machine.assert_published(1)
        cloud.assert_tidy()
    canaries.look(*used)


def test_r14_a_signature_for_the_account_is_enough_to_read(cloud, azurite, machines, canaries):
    """The emulator refuses to remove several blobs at once with such a signature, so nothing is written here."""
    machine = machines.begin(1)
    sas = canaries.hide_sas(azurite.account_sas())
    ways = [
        {"AZURE_STORAGE_SAS_TOKEN": sas},
        {"AZURE_STORAGE_SAS_TOKEN": f"?{sas}"},
        connection_string(canaries, f"SharedAccessSignature={sas}"),
    ]
    for variables in ways:
        cloud.proxy.begin(Trouble(now_and_then))
        for command in ("check", "plan", "verify"):
            canaries.call(machine, variables, command)
    canaries.look(machine)


def test_r14_a_signature_for_one_container_is_enough(cloud, azurite, machines, canaries):
    machine = machines.fresh(0)
    sas = canaries.hide_sas(azurite.container_sas("both"))
    ways = [{"AZURE_STORAGE_SAS_TOKEN": sas}, connection_string(canaries, f"SharedAccessSignature={sas}")]
    for parts, variables in enumerate(ways, 1):
        machine.pipeline = write_pipeline(machine.folder, "az://both/data", f"az://both/{OUT}", parts)
        killed(canaries, machine, variables) if parts == 1 else cloud.proxy.begin(Trouble(now_and_then))
        canaries.call(machine, variables, "run", "--recover")
        cloud.proxy.begin()
        machine.assert_published(parts, "both")
        assert not azurite.names("both", STAGING), "nothing waits"
        machine.lose_state()
        canaries.call(machine, variables, "verify")
    # One that may read and not write names the place and what to do, at once.
    machine.pipeline = write_pipeline(machine.folder, "az://both/data", f"az://both/{OUT}", 3)
    variables = {"AZURE_STORAGE_SAS_TOKEN": canaries.hide_sas(azurite.container_sas("both", "rl"))}
    began = time.monotonic()
    told = canaries.call(machine, variables | {"SERIATIM_STORAGE_TIMEOUT": "60"}, "run", "--recover", code=1)
    assert time.monotonic() - began < 20, "what is refused is not asked for again"
    assert f"az://both/{OUT}" in told and "403" in told and "set AZURE_STORAGE_CONNECTION_STRING" in told, told[-3000:]
    machine.assert_published(2, "both")
    canaries.look(machine)


def test_r14_credentials_that_are_refused_or_malformed_are_never_seen(cloud, azurite, machines, canaries):
    machine = machines.begin(1)
    wrong = base64.b64encode(b"canary of another key, " * 2).decode()
    canaries.hide_key(wrong)
    sas = canaries.hide_sas(azurite.account_sas())
    forged = sas.replace("sig=", "sig=canaryOfAForgedSignature")
    expired = azurite.account_sas(expiry="2020-01-01T00:00:00Z")
    canaries.hide("canaryOfAForgedSignature", canaries.hide_sas(forged), canaries.hide_sas(expired))
    refused = {
        "another key": {"AZURE_STORAGE_KEY": wrong},
        "a forged signature": {"AZURE_STORAGE_SAS_TOKEN": forged},
        "an expired one": {"AZURE_STORAGE_SAS_TOKEN": expired},
    }
    for what, variables in refused.items():
        for command in (["check"], ["plan"], ["run"], ["run", "--recover"], ["recover"], ["verify"]):
            told = canaries.call(machine, variables, *command, code=1)
            assert "az://" in told and "403" in told, f"{what}: {told[-2000:]}"
            assert "set AZURE_STORAGE_CONNECTION_STRING" in told, f"{what}: {told[-2000:]}"
    away = {"AZURE_STORAGE_ENDPOINT": f"http://127.0.0.1:9/{ACCOUNT}", "SERIATIM_STORAGE_TIMEOUT": "0.5"}
    connection = f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint=no address {sas}"
    malformed = {
        "a service that is away": ({"AZURE_STORAGE_SAS_TOKEN": sas} | away, "127.0.0.1"),
        "a connection string that is a key": ({"AZURE_STORAGE_CONNECTION_STRING": KEY.rstrip("=")}, "malformed"),
        "one with an address that is none": ({"AZURE_STORAGE_CONNECTION_STRING": connection}, "no URL"),
        "a key that is no base64": ({"AZURE_STORAGE_KEY": f"{KEY[:-4]}!!"}, "AZURE_"),
        "a SAS that is none": ({"AZURE_STORAGE_SAS_TOKEN": KEY.rstrip("=")}, "AZURE_"),
    }
    canaries.hide(KEY[:-4])
    for what, (variables, place) in malformed.items():
        for command in (["check"], ["run"]):
            env = cloud.variables() | {"AZURE_STORAGE_KEY": "", "SERIATIM_LOG": "trace"} | variables
            process = cloud.program.start(*command, machine.pipeline, cwd=machine.folder, env=env)
            out, err = process.communicate(timeout=HANG)
            assert process.returncode in (1, 2), f"{what}: {process.returncode} {err[-2000:]}"
            assert place in err and "help:" in err, f"{what}: {err[-2000:]}"
            canaries.seen[f"{what}: {command}"] = (out + err).encode()
    address = machine.pipeline.read_text().replace(f"az://{TABLES}/{OUT}", f"az://{TABLES}/{OUT}?{sas}")
    (machine.folder / "written.yaml").write_text(address)
    env = cloud.variables(SERIATIM_LOG="trace")
    process = cloud.program.start("run", "written.yaml", cwd=machine.folder, env=env)
    out, err = process.communicate(timeout=HANG)
    assert process.returncode == 2 and "holds a credential" in err, err
    canaries.seen["an address with a credential in it"] = (out + err).encode()
    (machine.folder / "written.yaml").unlink()
    canaries.look(machine)
