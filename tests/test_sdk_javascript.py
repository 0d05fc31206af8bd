"""The served hub with the official JavaScript SDK (`@microsoft/durabletask-js`): every pattern, as its users write it."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from conftest import HANG
from serving import server  # noqa: F401 (a fixture)

PATTERNS = Path(__file__).parent / "js" / "patterns.js"


def test_every_pattern(server):  # noqa: F811
    assert shutil.which("node") and os.environ.get("NODE_PATH"), "`scripts/test system` installs what this needs"
    command = ["node", str(PATTERNS), server.address]
    process = subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=False)
    assert process.returncode == 0, process.stderr
    seen = json.loads(process.stdout)
    assert (seen["chain"], seen["fanOut"], seen["children"]) == (40, 9900, [8, 16, 24])
    assert seen["monitor"] >= 3
    assert seen["monitorStatus"] == f"looked {seen['monitor']} times"
    assert (seen["approved"], seen["tooLate"]) == ("yes", "too late")
    assert seen["aggregator"] == {"balance": sum(range(200)), "operations": 200}
    assert seen["accounts"] == [50 + seen["moved"], 50 - seen["moved"]]
    assert seen["failure"][0] == "FAILED"
    assert "the reason" in seen["failure"][1]
    assert seen["history"][0] == "OrchestratorStarted"
    assert seen["history"][-1] == "ExecutionCompleted"
