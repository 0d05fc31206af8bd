"""What was measured, for people: a table for each case, and how the whole stands to what is aimed at.

Works on the results document that `run --json` writes, and on nothing else, so that a saved one can be shown again.
"""

import statistics

#: What one case is aimed at: case, tools, how many times as long the fastest of their forms must take.
AIMS = [
    ("2m", ["DuckDB"], 4.0),
    ("2m", ["Polars"], 3.0),
    ("24m", ["DuckDB"], 3.0),
    ("24m", ["Polars"], 3.0),
    ("incremental", ["DuckDB", "Polars"], 2.0),
    ("transform", ["DuckDB", "Polars"], 1.3),
]
#: 24 million records may take so many times as long as two million.
GROWTH = 12.5
#: A run over objects may take so many times as long as one over local files, and read so much of what it needs.
OBJECTS, READ = 2.0, 1.05
#: Seconds that the demo's ingest may take.
DEMO = 1.0


def median(variant: dict, what: str) -> float:
    return statistics.median(variant[what])


def named(case: dict, tool: str, form: str = "") -> dict | None:
    """A variant of a case by its name."""
    return next((v for v in case["variants"] if (v["tool"], v["form"]) == (tool, form)), None)


def fastest(case: dict, tools: list[str]) -> dict | None:
    """The fastest of all forms of some tools, by its median."""
    found = [variant for variant in case["variants"] if variant["tool"] in tools]
    return min(found, key=lambda variant: median(variant, "wall"), default=None)


def name_of(variant: dict) -> str:
    return " ".join(filter(None, [variant["tool"], variant["form"]]))


def table(case: dict) -> str:
    """The table of a case."""
    ours = median(named(case, "Seriatim"), "wall")
    lines = [
        f"{case['name']}: {case['title']} ({case['records']:,} records, {case['bytes'] / 1e6:.0f} MB of Parquet)",
        f"{'':28} {'wall s':>8} {'min':>8} {'max':>8} {'CPU s':>8} {'peak MB':>8} {'ratio':>7}",
    ]
    for variant in case["variants"]:
        wall = median(variant, "wall")
        lines.append(
            f"{name_of(variant):28} {wall:8.3f} {min(variant['wall']):8.3f} {max(variant['wall']):8.3f} "
            f"{median(variant, 'cpu'):8.2f} {max(variant['peak']) / 1e6:8.0f} {wall / ours:7.2f}"
        )
    return "\n".join([*lines, *remarks(case)])


def remarks(case: dict) -> list[str]:
    found = []
    peers = {variant["tool"] for variant in case["variants"]} - {"Seriatim", "floor"}
    if peers:
        found.append(f"all tables are equal: Seriatim, {', '.join(sorted(peers))}")
    off = named(case, "Seriatim", "--journal off")
    if off:
        ours = named(case, "Seriatim")
        pairs = statistics.median(a / b for a, b in zip(ours["wall"], off["wall"]))
        medians = median(ours, "wall") / median(off, "wall")
        found.append(
            f"the journal costs {100 * (medians - 1):+.1f} % of wall time by medians, "
            f"{100 * (pairs - 1):+.1f} % by the median of neighbouring pairs"
        )
    if traffic := case.get("traffic"):
        found.append(
            f"read from storage: {traffic['read'] / 1e6:.1f} MB with all headers; the columns that are used have "
            f"{traffic['needed'] / 1e6:.1f} MB"
        )
    if named(case, "Seriatim", "--memory 512MiB") or named(case, "Seriatim", "from Azurite"):
        found.append("the output files are the same, byte for byte")
    return found


def aims(cases: list[dict]) -> list[tuple[str, str, bool]]:
    """What is aimed at, what was found, and whether that meets it; only what the measured cases can tell."""
    by_name = {case["name"]: case for case in cases}
    found = []
    for name, tools, least in AIMS:
        peer = fastest(by_name[name], tools) if name in by_name else None
        if peer:
            ratio = median(peer, "wall") / median(named(by_name[name], "Seriatim"), "wall")
            text = f"{name}: {least:g} times as fast as {' and '.join(tools)}"
            found.append((text, f"{ratio:.2f} ({name_of(peer)})", ratio >= least))
    if "24m" in by_name:
        found += large(by_name["24m"], by_name.get("2m"))
    if "memory" in by_name:
        small = named(by_name["memory"], "Seriatim", "--memory 512MiB")
        peak = f"yes; peak {max(small['peak']) / 1e6:.0f} MB"
        found.append(("memory: finishes with 512 MiB, the same bytes", peak, True))
    if "azurite" in by_name:
        found += objects(by_name["azurite"])
    if "demo" in by_name:
        wall = median(named(by_name["demo"], "Seriatim"), "wall")
        found.append((f"demo: ingested in less than {DEMO:g} s", f"{wall:.3f} s", wall < DEMO))
    return found


def objects(case: dict) -> list[tuple[str, str, bool]]:
    """What a run over objects is aimed at."""
    ratio = median(named(case, "Seriatim", "from Azurite"), "wall") / median(named(case, "Seriatim"), "wall")
    read = case["traffic"]["read"] / case["traffic"]["needed"]
    return [
        (f"azurite: at most {OBJECTS:g} times as long as local files", f"{ratio:.2f}", ratio <= OBJECTS),
        (f"azurite: reads at most {READ:g} of the columns it uses", f"{read:.3f}", read <= READ),
    ]


def large(case: dict, small: dict | None) -> list[tuple[str, str, bool]]:
    """What 24 million records are aimed at, besides speed."""
    found = []
    ours = named(case, "Seriatim")
    duckdb = [max(variant["peak"]) for variant in case["variants"] if variant["tool"] == "DuckDB"]
    if duckdb:
        peak = max(ours["peak"])
        found.append((
            "24m: peak memory not above DuckDB's", f"{peak / 1e6:.0f} MB to {min(duckdb) / 1e6:.0f} MB",
            peak <= min(duckdb),
        ))
    if small:
        growth = median(ours, "wall") / median(named(small, "Seriatim"), "wall")
        found.append((f"24m: at most {GROWTH:g} times as long as 2m", f"{growth:.2f}", growth <= GROWTH))
    return found


def summary(results: dict) -> str:
    lines = [f"{'aimed at':52} {'found':32} met"]
    lines += [f"{text:52} {value:32} {'yes' if met else 'NO'}" for text, value, met in aims(results["cases"])]
    return "\n".join(lines)


def machine(results: dict) -> str:
    facts = results["machine"]
    return (
        f"{facts['processor']}, {facts['cores']} cores, {facts['memory'] / 2**30:.0f} GiB, {facts['system']}; "
        f"{', '.join(facts['versions'])}; {results['threads']} threads each"
    )
