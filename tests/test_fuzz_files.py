"""Files that the program has written and reads again, changed by somebody: the manifest, the facts beside the output, the
key maps, the memory of files and the copies of sequences in the state folder. Whatever is in them, a command ends with
exit code 0 and what is right, or with 1 and words about it; it never breaks, and touches nothing outside of its folders.

A failure names the change; SERIATIM_TEST_SEED replays it. Each test takes a minute, times SERIATIM_TEST_SCALE.
"""

import copy
import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import cases, tree
from test_fuzz_served import changed

#: Changes of one kind, at least.
CASES = 40

PIPELINE = """\
version: 1
name: things
source: {files: data/*.parquet}
tables:
  customers: {key: email, id: customer_id, columns: [city], on_conflict: error, on_null_key: quarantine}
  orders: {key: [order_no, email], id: {column: order_id, start: 100, step: 10}, references: [customers]}
  lines: {id: line_id, references: [orders]}
output: {path: out}
"""

#: What stands in the place of a value.
VALUES = [
    None, True, 0, 1, -1, 2, 7, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63), 2**64, 1.5, 1e300, "", "a", "0", "customers", "..",
    "../../outside/kept", "/etc/passwd", "../data/a.parquet", "customers/../../data/a.parquet", "\0", "x" * 5000, "é", [], {},
    [[]], [None], {"a": 1}, ["customers", "orders"], "customers/part-000001-00000.parquet", "part-9.parquet", "C:\\x", "%2e%2e",
]


def write(path, start, count, null=False):
    emails = [f"p{n % 60}@x.example" for n in range(start, start + count)]
    if null:
        emails[3] = None
    # A person lives in one place, whichever file says so.
    cities = ["Ulm" if email is None else f"city {int(email[1:email.index('@')]) % 5}" for email in emails]
    pq.write_table(pa.table({"email": emails, "city": cities, "order_no": [n // 3 for n in range(start, start + count)]}), path)


@pytest.fixture(scope="module")
def published(program, tmp_path_factory):
    """A place after two runs, with a file to come, and what the third run makes of it."""
    folder = tmp_path_factory.mktemp("published") / "place"
    (folder / "data").mkdir(parents=True)
    (folder / "pipeline.yaml").write_text(PIPELINE)
    for name, start, null in (("a", 0, True), ("b", 40, False)):
        write(folder / "data" / f"{name}.parquet", start, 100, null)
        program.call("run", "pipeline.yaml", cwd=folder)
    write(folder / "data" / "c.parquet", 90, 100)
    done = folder.parent / "done"
    shutil.copytree(folder, done)
    program.call("run", "pipeline.yaml", cwd=done)
    program.call("verify", "pipeline.yaml", cwd=done)
    return folder, tree(done / "out")


class Case:
    """A copy of the place in which one file is changed."""

    def __init__(self, program, published, folder):
        self.program, (self.origin, self.right) = program, published
        self.folder, self.outside = folder / "case" / "place", folder / "outside"
        self.outside.mkdir()
        (self.outside / "kept").write_text("somebody else's")

    def fresh(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.origin, self.folder)

    def call(self, *arguments, what):
        """The exit code of a command that ends as commands do, and what it said."""
        process = self.program.start(*arguments, cwd=self.folder)
        out, err = process.communicate(timeout=120)
        # 2: what is changed is the layout, and the pipeline seems to be of another one.
        assert process.returncode in (0, 1, 2), (what, arguments, process.returncode, out, err)
        assert "panicked" not in err and "please report" not in err, (what, arguments, err)
        if process.returncode:
            assert err.strip() or arguments[0] == "verify", (what, arguments, out)
        assert (self.outside / "kept").read_text() == "somebody else's", (what, arguments)
        return process.returncode, err

    def data(self):
        return {name: digest for name, digest in tree(self.folder / "out").items() if not name.startswith("_seriatim/")}


@pytest.fixture
def case(program, published, tmp_path):
    return Case(program, published, tmp_path)


def nodes(value, path=()):
    """The way to every node of a JSON value."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from nodes(child, (*path, key))


def changed_json(rng, text: str) -> tuple[str, str]:
    """One node of a JSON text changed, and what was done."""
    value = json.loads(text)
    path = rng.choice([path for path in nodes(value) if path])
    changed_value = copy.deepcopy(value)
    parent = changed_value
    for key in path[:-1]:
        parent = parent[key]
    kind, key = rng.randrange(6), path[-1]
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, list):
        parent.insert(rng.randrange(len(parent) + 1), copy.deepcopy(parent[key]))
    elif kind == 1:
        parent[key + "x"] = parent.pop(key)
    elif kind == 2 and isinstance(parent[key], (int, float)) and not isinstance(parent[key], bool):
        parent[key] += rng.choice([-1, 1, 10, 2**32])
    elif kind == 3 and len(others := [at for at in nodes(value) if at]) > 1:
        found = value
        for step in rng.choice(others):
            found = found[step]
        parent[key] = found
    else:
        parent[key] = rng.choice(VALUES)
    return json.dumps(changed_value), f"{path}: {parent.get(key) if isinstance(parent, dict) else parent}"


def change(rng, path) -> str:
    """Changes a file, in its own form or byte by byte; says how."""
    before = path.read_bytes()
    if before[:1] in (b"{", b"[") and rng.random() < 0.8:
        lines = before.decode().splitlines() if ".jsonl" in path.name else [before.decode()]
        at = rng.randrange(len(lines))
        lines[at], how = changed_json(rng, lines[at])
        path.write_text("\n".join(lines) + "\n")
        return f"{path}: {how}"
    after = changed(rng, before)
    path.write_bytes(after)
    at = next((at for at, (a, b) in enumerate(zip(before, after)) if a != b), min(len(before), len(after)))
    return f"{path}: bytes from {at}: {before[at:at + 16]!r} to {after[at:at + 16]!r}"


def test_a_changed_manifest_is_told_and_nothing_of_it_is_believed_blindly(case, rng):
    for _ in cases(CASES):
        case.fresh()
        before = case.data()
        what = change(rng, case.folder / "out/_seriatim/manifest.json")
        case.call("plan", "pipeline.yaml", what=what)
        audit, _ = case.call("verify", "pipeline.yaml", what=what)
        code, _ = case.call("run", "pipeline.yaml", what=what)
        published = {name: digest for name, digest in case.right.items() if not name.startswith("_seriatim/")}
        assert case.data() == (before if code else published), (what, code, audit)
        case.call("verify", "pipeline.yaml", what=what)


def test_changed_files_of_the_state_folder_are_told_or_make_no_difference(case, rng):
    noticed = 0
    for number in cases(CASES):
        case.fresh()
        before = case.data()
        files = sorted(path for path in (case.folder / ".seriatim").rglob("*") if path.is_file() and "hub." not in path.name)
        keys = [path for path in files if "keys" in path.parts]
        assert len(keys) >= 3, files
        what = change(rng, rng.choice(keys if number % 2 else [path for path in files if path not in keys]))
        case.call("plan", "pipeline.yaml", what=what)
        code, said = case.call("run", "pipeline.yaml", what=what)
        noticed += code != 0
        # Right, or not at all: a known key that is not known any more would get a second ID.
        published = {name: digest for name, digest in case.right.items() if not name.startswith("_seriatim/")}
        assert case.data() == (before if code else published), (what, code, said)
        case.call("runs", "--json", what=what)
        case.call("show", "things-1", "--json", what=what)
    assert noticed > number / 8, f"only {noticed} of {number + 1} were noticed"


def test_changed_facts_beside_the_output_are_told_when_the_state_is_recovered(case, rng):
    for _ in cases(CASES):
        case.fresh()
        before = case.data()
        facts = sorted(path for path in (case.folder / "out/_seriatim/state").rglob("*") if path.is_file())
        assert len(facts) >= 6, facts
        what = change(rng, rng.choice([*facts, *[path for path in facts if path.suffix == ".json"] * 3]))
        shutil.rmtree(case.folder / ".seriatim")
        code, said = case.call("recover", "pipeline.yaml", what=what)
        if code == 0:
            code, said = case.call("run", "pipeline.yaml", what=what)
        published = {name: digest for name, digest in case.right.items() if not name.startswith("_seriatim/")}
        assert case.data() == (before if code else published), (what, code, said)


@pytest.mark.parametrize("target", ["../../../../../outside/kept", "{outside}/kept", "keys/../../../../../../outside/kept"])
def test_facts_do_not_lead_out_of_the_state_folder(case, target):
    """Symptom: whoever could write to an output could have `recover` write any file on the machine that recovered it. Cause:
    names of files were taken from the facts beside the output as they stood there. Mend: only the files that a pipeline's
    facts can have, under plain names."""
    case.fresh()
    [index] = (case.folder / "out/_seriatim/state").glob("000002.json")
    facts = json.loads(index.read_text())
    facts["files"][0]["file"] = target.format(outside=case.outside)
    index.write_text(json.dumps(facts))
    shutil.rmtree(case.folder / ".seriatim")
    code, said = case.call("recover", "pipeline.yaml", what=target)
    assert code == 1 and "000002.json is damaged" in said, said
    # The other way: what is kept under a name of somebody else's choice.
    facts["files"][0]["file"] = "files-000002.jsonl"
    facts["files"][0]["name"] = "../../../../../outside/kept"
    index.write_text(json.dumps(facts))
    code, said = case.call("recover", "pipeline.yaml", what=target)
    assert code == 1 and "000002.json is damaged" in said, said


@pytest.mark.parametrize("change_", [{"next": 1}, {"next": -1}, {"others": 1}, {"next": 5, "others": 5}, "segments", "twice"])
def test_facts_that_do_not_count_what_is_published_are_refused(case, change_):
    """Symptom: a sequence went on from a number that was not the last one. Cause: `recover` believed the facts. Mend: they
    are compared with the manifest and with the key maps."""
    case.fresh()
    [index] = (case.folder / "out/_seriatim/state").glob("000002.json")
    facts = json.loads(index.read_text())
    table = facts["committed"]["tables"][1]
    if change_ == "segments":
        table["segments"].pop()
    elif change_ == "twice":
        table["segments"].append(table["segments"][0])
    else:
        for name, by in change_.items():
            table[name] = table.get(name, 0) + by
    index.write_text(json.dumps(facts))
    shutil.rmtree(case.folder / ".seriatim")
    code, said = case.call("recover", "pipeline.yaml", what=change_)
    if change_ == {"next": 5, "others": 5}:
        # As many IDs as rows, and others that nobody has: only a shared counter has such.
        assert code == 1, said
    if change_ == "segments":
        # There is a file among them then that no table names.
        assert code == 1 and "000002.json is damaged: it names what no facts have" in said, said
        return
    assert code == 1 and "orders" in said and "facts" in said, said
