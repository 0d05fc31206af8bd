"""The documentation is true: links lead somewhere, the reference is that of the program, every pipeline in it is one, and
the pages that lead through something are followed, block by block, in a folder of their own.

How a page is followed (tutorial.md, how-to/, coming-from/):

    ```yaml title=shop.yaml     a file is written; the text before the block names it
    ```sh                       commands are run; the folder that they end in is that of the next block
    ```sh exit=1                they end with this exit code
    ```sh not-run               they need Azure, or wait in the foreground: not run
    ```text                     what the commands before it print: stdout, and stderr if they fail. A line `...` stands
                                for any lines; times, sizes in bytes, and the machine may differ

SERIATIM_UPDATE=1 writes outputs that differ anew, except those that are cut.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from conftest import HANG

ROOT = Path(__file__).resolve().parent.parent
WRITTEN = [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
PAGES = sorted(str(page.relative_to(ROOT)) for page in WRITTEN)
FOLLOWED = [page for page in PAGES if re.match(r"docs/(tutorial\.md|how-to/|coming-from/)", page)]
#: Where the reader of the docs works.
HOME = "/home/ada"


@dataclass
class Block:
    """A fenced block: its language, the words after it, its lines, where it begins, the text since the last block."""

    language: str
    words: list[str]
    lines: list[str]
    number: int
    before: str

    @property
    def text(self) -> str:
        return "".join(f"{line}\n" for line in self.lines)

    def word(self, name: str) -> str | None:
        return next((word.removeprefix(f"{name}=") for word in self.words if word.startswith(f"{name}=")), None)


@cache
def parts(page: str) -> tuple[list[Block], str]:
    """The fenced blocks of a page, and its text without them."""
    blocks, prose, before, inside = [], [], [], None
    for number, line in enumerate((ROOT / page).read_text().splitlines(), 1):
        fence = re.match(r" *```(.*)$", line)
        if fence and inside is None:
            language, *words = fence[1].split() or [""]
            inside = Block(language, words, [], number, "\n".join(before))
        elif fence:
            blocks.append(inside)
            inside, before = None, []
        elif inside is not None:
            inside.lines.append(line)
        else:
            prose.append(line)
            before.append(line)
    assert inside is None, f"{page}:{inside.number}: the block has no end"
    return blocks, "\n".join(prose)


def anchors(page: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    found: list[str] = []
    for heading in re.findall(r"^#+ +(.*)$", parts(page)[1], re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()).replace(" ", "-")
        same = len([other for other in found if re.fullmatch(rf"{re.escape(slug)}(-\d+)?", other)])
        found.append(f"{slug}-{same}" if same else slug)
    return set(found)


def test_the_reference_is_what_the_program_knows(program):
    env = {**os.environ, "SERIATIM_BIN": str(program.path)}
    script = [sys.executable, str(ROOT / "scripts" / "reference")]
    printed = subprocess.run(script, env=env, check=True, capture_output=True, text=True).stdout
    if os.environ.get("SERIATIM_UPDATE"):
        (ROOT / "docs" / "pipeline.md").write_text(printed)
    assert (ROOT / "docs" / "pipeline.md").read_text() == printed, "write it anew: scripts/reference >docs/pipeline.md"


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", parts(page)[1])):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        if not target.exists() or not target.is_relative_to(ROOT):
            broken.append(f"{link}: there is no such file")
        elif anchor and anchor not in anchors(str(target.relative_to(ROOT))):
            broken.append(f"{link}: there is no such heading")
    assert not broken, f"{page}:\n" + "\n".join(broken)


def test_every_page_is_in_the_table_of_contents():
    links = set(re.findall(r"\]\(([^)#\s]+)\)", parts("docs/README.md")[1]))
    linked = {str((ROOT / "docs" / link).resolve().relative_to(ROOT)) for link in links if "://" not in link}
    examples = {page for page in PAGES if re.match(r"examples/.*/", page)}
    assert set(PAGES) - {"docs/README.md"} - examples <= linked


def sections(text: str) -> set[str]:
    return set(re.findall(r"^(\w+):", text, re.MULTILINE))


#: What completes a part of a pipeline file that a page shows.
REST = {
    "version": "version: 1\n",
    "name": "name: rest\n",
    "source": "source: {files: nowhere/*.parquet}\n",
    "tables": "tables: {things: {key: thing, id: thing_id}}\n",
    "output": "output: {path: out}\n",
}


@pytest.mark.parametrize("page", PAGES)
def test_every_pipeline_is_one(program, page, tmp_path):
    """Whole files, and parts of one that are completed: no mistake is found in the file itself. There is no data here,
    so a good file ends with exit code 1, and one with a mistake with 2. Addresses become paths: no storage is asked."""
    env = {**environment(program, tmp_path), "PASSWORD": "x"}
    for block in parts(page)[0]:
        of = sections(block.text)
        if block.language != "yaml" or not of & {"source", "tables", "output", "ids"}:
            continue
        text = block.text + "".join(text for key, text in REST.items() if key not in of)
        (tmp_path / "part.yaml").write_text(re.sub(r"\b(az|abfss|s3|gs)://", "nowhere/", text))
        found = program.start("check", "part.yaml", cwd=tmp_path, env=env)
        _, err = found.communicate(timeout=HANG)
        assert found.returncode == 1, f"{page}:{block.number}: {err}"


@cache
def options(program_path: Path, *command: str) -> str:
    return subprocess.run([program_path, *command, "--help"], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_option_exists(program, page):
    """In blocks and in code within the text: `seriatim COMMAND --option`."""
    commands = set(re.findall(r"^  (\w+) ", options(program.path), re.MULTILINE))
    blocks, prose = parts(page)
    indented = re.findall(r"^    (.*)$", prose, re.MULTILINE)
    spans = re.findall(r"`([^`]+)`", prose.replace("\n", " "))
    lines = [line.split("#")[0] for block in blocks for line in block.lines if block.language in ("sh", "console")]
    for text in [*indented, *spans, *lines]:
        for command, rest in re.findall(r"(?:^|[\s&$])seriatim ([a-z]+)\b([^|&;]*)", text):
            assert command in commands, f"{page}: there is no `seriatim {command}`"
            for option in re.findall(r"(?<=\s)--[a-z-]+", rest):
                assert re.search(rf"{option}\b", options(program.path, command)), f"{page}: `{command}` has no {option}"


def environment(program, folder: Path) -> dict[str, str]:
    """What a reader has: `seriatim` and `python` on PATH, and no settings."""
    tools = folder / ".tools"
    tools.mkdir(exist_ok=True)
    for name, path in [("seriatim", program.path.resolve()), ("python", sys.executable)]:
        (tools / name).write_text(f'#!/bin/sh\nexec "{path}" "$@"\n')
        (tools / name).chmod(0o755)
    settings = re.compile(r"SERIATIM_|AZURE_|AWS_|GOOGLE_|PG")
    kept = {name: value for name, value in os.environ.items() if not settings.match(name)}
    return {**kept, "PATH": f"{tools}{os.pathsep}{kept.get('PATH', os.defpath)}", "COLUMNS": "120"}


class Reader:
    """Somebody who does what a page says."""

    def __init__(self, page: str, program, folder: Path):
        self.page, self.top, self.here = page, folder, folder
        self.env = environment(program, folder)

    def write(self, block: Block) -> None:
        name = block.word("title")
        assert f"`{name}`" in block.before, f"{self.page}:{block.number}: the text before it does not name `{name}`"
        (self.here / name).parent.mkdir(parents=True, exist_ok=True)
        (self.here / name).write_text(block.text)

    def run(self, block: Block) -> str:
        """Runs the commands; returns what they print."""
        ended, code = self.top / ".tools" / "pwd", int(block.word("exit") or 0)
        script = f"set -euo pipefail\ntrap 'pwd >{ended}' EXIT\n{block.text}"
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        done = subprocess.run(["bash", "-c", script], cwd=self.here, env=self.env, timeout=HANG, **pipes)
        said = f"{done.stdout}\n{done.stderr}"
        assert done.returncode == code, f"{self.page}:{block.number}: exit code {done.returncode}\n{said}"
        self.here = Path(ended.read_text().strip())
        said = done.stdout + (without_progress(done.stderr) if code else "")
        return said.replace(str(self.top), HOME)


def without_progress(err: str) -> str:
    progress = re.compile(r"(plan|scan|lock|resolve|reserve|write|publish)( \d+/\d+)?(,.*)?$")
    return "".join(line for line in err.splitlines(keepends=True) if not progress.match(line))


def plain(text: str) -> list[str]:
    """The lines of an output without what is different each time."""
    for pattern, word in [
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", "WHEN"),
        (r"[\d,]+ records/s", "SPEED"),
        (r"\b\d+(\.\d+)? m?s\b", "TIME"),
        (r"\b[\d,]+(\.\d+)? ([KMGT]iB|B|bytes)(?!\w)", "SIZE"),
        (r"process \d+ on \S+", "OWNER"),
        (r" +", " "),
    ]:
        text = re.sub(pattern, word, text)
    return [line.strip() for line in text.strip().splitlines()]


def alike(shown: str, printed: str) -> bool:
    pattern = "".join(r"(?:.*\n)*?" if line == "..." else re.escape(line) + r"\n" for line in plain(shown))
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in plain(printed))) is not None


def updated(page: str, block: Block, printed: str) -> None:
    """Writes what was printed into the page, unless the block is cut by hand."""
    lines = (ROOT / page).read_text().splitlines()
    lines[block.number : block.number + len(block.lines)] = printed.strip("\n").splitlines()
    (ROOT / page).write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("page", FOLLOWED)
def test_a_page_can_be_followed(program, page, tmp_path):
    reader, printed, wrong = Reader(page, program, tmp_path), None, []
    for block in parts(page)[0]:
        if block.language == "text":
            assert printed is not None, f"{page}:{block.number}: no command has printed this"
            if not alike(block.text, printed):
                wrong.append((block, printed))
        printed = None
        if block.word("title"):
            reader.write(block)
        elif block.language == "sh" and "not-run" not in block.words:
            printed = reader.run(block)
    if os.environ.get("SERIATIM_UPDATE"):
        for block, said in reversed(wrong):
            if "..." not in block.lines:
                updated(page, block, said)
    told = [f"{page}:{block.number} shows\n{block.text}\nand it is\n{said}" for block, said in wrong]
    assert not wrong, "\n\n".join(told)
