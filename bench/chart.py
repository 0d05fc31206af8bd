"""Draws results as an SVG bar chart: `chart.py RESULTS.json CHART.svg`, or `run --chart`.

One group of bars for each case, Seriatim and the fastest form of each peer, each group to its own scale. Colours are
those that can be read on white and on black alike, because a page's theme is not known to a picture in it.
"""

import json
import sys
from html import escape
from pathlib import Path

from report import fastest, median, named

WIDTH = 760
BAR = 18
STEP = 24
TITLE = 26
GAP = 18
#: Where bars begin, and how long the longest may be.
LEFT = 110
LENGTH = 500
#: A grey with the same contrast to white and to GitHub's black, 4.3 to 1.
TEXT = "#777f88"
OURS = "#2f81f7"
PEER = "#9aa4af"


def bars(case: dict) -> list[tuple[str, float]]:
    """Name and seconds of each bar of a case, ours first."""
    tools = dict.fromkeys(v["tool"] for v in case["variants"] if v["tool"] not in ("Seriatim", "floor"))
    found = [("Seriatim", median(named(case, "Seriatim"), "wall"))]
    return found + [(tool, median(fastest(case, [tool]), "wall")) for tool in tools]


def group(case: dict, top: int) -> list[str]:
    """The drawing of one case, from `top` on."""
    lines = [f'<text x="0" y="{top + 15}" font-weight="600">{escape(case["title"])}</text>']
    found = bars(case)
    longest = max(seconds for _, seconds in found)
    ours = found[0][1]
    for place, (name, seconds) in enumerate(found):
        y = top + TITLE + place * STEP
        length = max(2, round(LENGTH * seconds / longest))
        told = f"{seconds:.2f} s" + (f", {seconds / ours:.1f} times" if place else "")
        lines += [
            f'<text x="{LEFT - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{LEFT}" y="{y}" width="{length}" height="{BAR}" rx="2" fill="{PEER if place else OURS}"/>',
            f'<text x="{LEFT + length + 8}" y="{y + 14}">{told}</text>',
        ]
    return lines


def draw(results: dict) -> str:
    """The whole chart; cases without peers have nothing to show."""
    lines = []
    top = 0
    for case in results["cases"]:
        if len(bars(case)) > 1:
            lines += group(case, top)
            top += TITLE + len(bars(case)) * STEP + GAP
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}"',
        '     role="img" aria-label="Wall time of each tool, shorter is better"',
        f'     font-family="system-ui, sans-serif" font-size="14" fill="{TEXT}">',
        *lines,
        "</svg>",
        "",
    ])


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(draw(json.loads(Path(sys.argv[1]).read_text())))
