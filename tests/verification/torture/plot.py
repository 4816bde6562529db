"""Memory and open files of each role over time, as one SVG that reads on a light and on a dark page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median

from perf.compare.charts import Point, Scale, between, number_text, text, ticks
from tests.verification.torture.processes import ROLES, Sample

COLOURS = ("#0072B2", "#D55E00", "#009E73")  # Okabe and Ito's, of the systems in turn
WIDTH, HEIGHT, HEAD = 760, 96, 30
PANEL, LEFT, RIGHT, TOP, BOTTOM = 380, 58, 12, 22, 18
POINT_SECONDS = 30
STYLE = (
    "<style>svg{color:#222;font-family:sans-serif}@media(prefers-color-scheme:dark){svg{color:#ddd}}</style>"
)
Curves = Mapping[str, Sequence[Point]]


def plotted(samples: Mapping[str, Sequence[Sample]]) -> str:
    """`samples` by system. Each point is a median over half a minute of the largest process."""
    last = max((one.seconds for each in samples.values() for one in each), default=1.0)
    roles = [role for role in ROLES if any(one.role == role for each in samples.values() for one in each)]
    x = between(0, last / 60, LEFT, PANEL - RIGHT)
    parts = [STYLE, *_legend([*samples])]
    for row, role in enumerate(roles):
        memory, files = {}, {}
        for system, each in samples.items():
            own = [one for one in each if one.role == role]
            memory[system] = _points([(one.seconds, one.mib) for one in own])
            files[system] = _points([(one.seconds, one.files) for one in own])
        for column, (curves, unit) in enumerate(((memory, "MiB"), (files, "files"))):
            place = f'x="{column * PANEL}" y="{HEAD + row * HEIGHT}" width="{PANEL}" height="{HEIGHT}"'
            parts.append(f"<svg {place}>{_panel(f'{role}, {unit}', curves, x, last / 60)}</svg>")
    size = f'viewBox="0 0 {WIDTH} {HEAD + len(roles) * HEIGHT}" role="img"'
    return f'<svg {size} xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>\n'


def _points(values: Sequence[Point]) -> list[Point]:
    """Over minutes."""
    found = defaultdict(list)
    for seconds, value in values:
        found[int(seconds // POINT_SECONDS)].append((seconds / 60, value))
    stretches = (zip(*found[at], strict=True) for at in sorted(found))
    return [(median(minutes), median(most)) for minutes, most in stretches]


def _panel(title: str, curves: Curves, x: Scale, minutes: float) -> str:
    top = max([*(value for curve in curves.values() for _, value in curve), 1.0])
    y = between(0, top, HEIGHT - BOTTOM, TOP)
    parts = [text(LEFT, 14, title)]
    for value in ticks(top)[::2]:
        line = f'x1="{LEFT}" x2="{PANEL - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"'
        parts.append(f'<line {line} stroke="currentColor" opacity="0.2"/>')
        parts.append(text(LEFT - 6, y(value) + 4, number_text(value), "end"))
    parts += [text(x(value), HEIGHT - 4, f"{value:g} min", "middle") for value in ticks(minutes)[1:]]
    for colour, curve in zip(COLOURS, curves.values(), strict=False):
        places = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in curve)
        parts.append(f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
    return "".join(parts)


def _legend(systems: Sequence[str]) -> list[str]:
    parts = []
    for at, (system, colour) in enumerate(zip(systems, COLOURS, strict=False)):
        left = LEFT + at * 160
        parts.append(f'<rect x="{left}" y="8" width="14" height="14" fill="{colour}"/>')
        parts.append(text(left + 20, 20, system))
    return parts
