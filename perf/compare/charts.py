"""Three kinds of chart as inline SVG: bars, lines and timelines. Nothing is loaded from anywhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

COLOURS = {  # Okabe and Ito's: told apart by everybody
    "sql": "#D55E00",
    "sql_counters": "#E69F00",
    "cache_aside": "#0072B2",
    "tidemark": "#009E73",
    "tidemark_redis": "#CC79A7",
}
GREY, INK = "#777", "currentColor"
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 760, 76, 24, 18, 44
BAR, GAP = 22, 8
GAP_SECONDS = 3.0
Point = tuple[float, float]
Scale = Callable[[float], float]


@dataclass(frozen=True)
class Span:
    """A stretch of time in which one lane was measured."""

    begin: float
    end: float
    lane: str
    phase: str


def bars(values: Mapping[str, float], unit: str) -> str:
    """One bar per lane, longest value 100 %, with its number."""
    most = max([*values.values(), 1e-9])
    height, room = len(values) * (BAR + GAP) + GAP, WIDTH - 120 - 130
    parts = []
    for number, (lane, value) in enumerate(values.items()):
        top, length = GAP + number * (BAR + GAP), max(1.0, value / most * room)
        parts += [
            text(112, top + 16, lane, "end"),
            f'<rect x="120" y="{top}" width="{length:.1f}" height="{BAR}" fill="{COLOURS.get(lane, GREY)}"/>',
            text(126 + length, top + 16, f"{number_text(value)} {unit}"),
        ]
    return _svg(height, parts)


def percentile_lines(curves: Mapping[str, Sequence[Point]], unit: str) -> str:
    """Latency by percentile, both scales logarithmic. The right half is the slowest hundredth."""
    highest = max(y for curve in curves.values() for _, y in curve)
    y, height = _log_scale(0.5, highest, 300), 300
    x = between(0.0, 3.0, LEFT, WIDTH - RIGHT)
    marks = [(50, "50 %"), (90, "90 %"), (99, "99 %"), (99.9, "99.9 %")]
    parts = [_vertical(x(_nines(percent)), height, label) for percent, label in marks]
    parts += [_horizontal(y(value), f"{number_text(value)} {unit}") for value in _decades(0.5, highest)]
    for lane, curve in curves.items():
        parts.append(_path([(x(_nines(percent)), y(max(0.5, value))) for percent, value in curve], lane))
    return _legend(curves) + _svg(height, parts)


def lines(curves: Mapping[str, Sequence[Point]], x_label: str, unit: str, *, height: int = 260) -> str:
    """Curves over a plain scale from 0."""
    xs = [x for curve in curves.values() for x, _ in curve]
    top = max([*(y for curve in curves.values() for _, y in curve), 1e-9])
    x, y = between(min(xs), max(xs), LEFT, WIDTH - RIGHT), between(0, top, height - BOTTOM, TOP)
    parts = [_horizontal(y(value), f"{number_text(value)} {unit}") for value in ticks(top)]
    parts += [_vertical(x(value), height, number_text(value)) for value in sorted(set(xs))]
    parts += [_path([(x(a), y(b)) for a, b in curve], lane, dots=True) for lane, curve in curves.items()]
    parts.append(text(WIDTH - RIGHT, height - 4, x_label, "end"))
    return _legend(curves) + _svg(height, parts)


def over_time(points: Sequence[Point], spans: Sequence[Span], unit: str, *, most: float | None = None) -> str:
    """One quantity second by second. The background shows which lane had its turn."""
    height, last = 170, max([*(x for x, _ in points), 1.0])
    top = most or max([*(y for _, y in points), 1e-9])
    x, y = between(0, last, LEFT, WIDTH - RIGHT), between(0, top, height - BOTTOM, TOP)
    parts = [_span(span, x, height) for span in spans]
    parts += [_horizontal(y(value), f"{number_text(value)} {unit}") for value in ticks(top)]
    parts += [_path([(x(a), y(min(b, top))) for a, b in stretch], "") for stretch in _stretches(points)]
    parts += [_vertical(x(value), height, f"{value:g} s") for value in ticks(last)]
    return _svg(height, parts)


def _stretches(points: Sequence[Point]) -> list[list[Point]]:
    """Points that follow each other. A gap in the readings is a gap in the line."""
    found: list[list[Point]] = []
    for point in points:
        if found and point[0] - found[-1][-1][0] < GAP_SECONDS:
            found[-1].append(point)
        else:
            found.append([point])
    return found


def number_text(value: float) -> str:
    """Three significant digits, with separators of thousands; no powers of ten."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) < 0.0001:
        return "under 0.0001"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.4f}"


def _span(span: Span, x: Scale, height: int) -> str:
    begin, end = x(span.begin), x(span.end)
    shade = f'x="{begin:.1f}" y="{TOP}" width="{max(1.0, end - begin):.1f}" height="{height - TOP - BOTTOM}"'
    opacity = 0.32 if "writes" in span.phase else 0.18
    title = f"<title>{escape(span.lane)}: {escape(span.phase)}</title>"
    return f'<rect {shade} fill="{COLOURS.get(span.lane, GREY)}" opacity="{opacity}">{title}</rect>'


def _nines(percent: float) -> float:
    """50 % -> 0.3, 90 % -> 1, 99 % -> 2, 99.9 % -> 3."""
    return -math.log10(max(0.001, 1 - percent / 100))


def between(low: float, high: float, begin: float, end: float) -> Scale:
    """From `low` to `high`, evenly from `begin` to `end`."""
    size = (high - low) or 1.0
    return lambda value: begin + (value - low) / size * (end - begin)


def _log_scale(low: float, high: float, height: int) -> Scale:
    place = between(math.log10(low), math.log10(max(high, low * 10)), height - BOTTOM, TOP)
    return lambda value: place(math.log10(value))


def _decades(low: float, high: float) -> list[float]:
    found = [factor * 10.0**power for power in range(-1, 6) for factor in (1, 2, 5)]
    return [value for value in found if low <= value <= high]


def ticks(top: float) -> list[float]:
    """Round values from 0 to `top`, about four steps."""
    rough = top / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [step * number for number in range(int(top / step) + 1)]


def _path(points: Iterable[Point], lane: str, *, dots: bool = False) -> str:
    places = [f"{x:.1f},{y:.1f}" for x, y in points]
    colour = COLOURS.get(lane, INK)
    width = 2.2 if lane else 1.2
    drawn = f'<polyline points="{" ".join(places)}" fill="none" stroke="{colour}" stroke-width="{width}"/>'
    if not dots:
        return drawn
    pairs = (place.split(",") for place in places)
    return drawn + "".join(f'<circle cx="{x}" cy="{y}" r="3.5" fill="{colour}"/>' for x, y in pairs)


def _horizontal(y: float, label: str) -> str:
    line = f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{INK}" opacity="0.2"/>'
    return line + text(LEFT - 6, y + 4, label, "end")


def _vertical(x: float, height: int, label: str) -> str:
    line = (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - BOTTOM}" stroke="{INK}" opacity="0.12"/>'
    )
    return line + text(x, height - BOTTOM + 16, label, "middle")


def text(x: float, y: float, words: str, anchor: str = "start") -> str:
    """`anchor`: start, middle or end of the words is at `x`."""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} font-size="12" fill="{INK}">{escape(words)}</text>'


def _legend(lanes: Iterable[str]) -> str:
    keys = (
        f'<span class="key" style="--colour:{COLOURS.get(lane, GREY)}">{escape(lane)}</span>'
        for lane in lanes
    )
    return f'<p class="legend">{" ".join(keys)}</p>'


def _svg(height: int, parts: Iterable[str]) -> str:
    size = f'viewBox="0 0 {WIDTH} {height}" role="img" xmlns="http://www.w3.org/2000/svg"'
    return f"<svg {size}>{''.join(parts)}</svg>"


def legend() -> str:
    """The colour of each lane."""
    return _legend(COLOURS)
