"""What has to be there before anything is measured: Python packages, the program, the floor, the sets of records.

Each is made once and found again. This module must never import more than the standard library: what it prepares runs
in processes of its own.
"""

import os
import platform
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
DATA = HERE / "data"


def python() -> Path:
    """The Python that has the packages of `requirements.txt`, in an environment of its own."""
    folder = Path(os.environ.get("SERIATIM_BENCH_VENV") or HERE / ".venv").absolute()
    interpreter = folder / "bin" / "python"
    requirements = HERE / "requirements.txt"
    wanted = f"{requirements.read_text()}{sys.version}\n"
    stamp = folder / "installed"
    if not stamp.is_file() or stamp.read_text() != wanted:
        print(f"installing Python packages in {folder} ...", file=sys.stderr)
        if not interpreter.exists():
            venv.create(folder, with_pip=True)
        pip = [interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", requirements], check=True)
        stamp.write_text(wanted)
    return interpreter


def program() -> Path:
    """`seriatim`: built here, unless SERIATIM_BIN names one."""
    given = os.environ.get("SERIATIM_BIN")
    return Path(given).resolve() if given else built(HERE.parent, "seriatim", HERE.parent / "target")


def floor() -> Path:
    return built(HERE / "floor", "floor", HERE / "floor" / "target")


def built(package: Path, binary: str, target: Path) -> Path:
    subprocess.run(["cargo", "build", "--release", "--locked", "--bin", binary], cwd=package, check=True)
    # A target folder that is given is relative to where cargo ran.
    return (package / os.environ.get("CARGO_TARGET_DIR", target) / "release" / binary).resolve()


def make_sets(names: list[str], interpreter: Path, seriatim: Path, quick: bool) -> dict[str, list[Path]]:
    """Makes the sets of records that are not there yet; the files of each, in order."""
    DATA.mkdir(exist_ok=True)
    found = {}
    for name in dict.fromkeys(names):
        if name == "demo":
            rows = 20_000 if quick else 2_000_000
            folder = DATA / f"demo-{rows}"
            folder.mkdir(exist_ok=True)
            command = [seriatim, "demo", "--data-only", "--rows", rows, "--folder", folder]
            folder = folder / "data"
        else:
            recipe = f"quick-{name}" if quick else name
            folder = DATA / recipe
            command = [interpreter, HERE / "recipes.py", DATA, recipe]
        subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
        found[name] = sorted(folder.glob("*.parquet"))
    return found


def facts(interpreter: Path, seriatim: Path) -> dict:
    """What a reader of the figures has to know: the machine and the versions."""
    versions = "from importlib.metadata import version as v; print(f'duckdb {v(\"duckdb\")}\\npolars {v(\"polars\")}')"
    peers = subprocess.run([interpreter, "-c", versions], check=True, capture_output=True, text=True).stdout
    ours = subprocess.run([seriatim, "--version"], check=True, capture_output=True, text=True).stdout
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": [*ours.splitlines(), *peers.splitlines()],
    }


def processor() -> str:
    """The name of the processor, where the system tells."""
    described = Path("/proc/cpuinfo")
    if described.is_file():
        for line in described.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
