"""HTML of a report: the whole document, tables and figures. Nothing is loaded from anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from perf.compare.charts import number_text

STYLE = """
:root { color-scheme: light dark }
:root { --page: #fff; --text: #222; --soft: #555; --line: #ccc; --row: #f6f6f6 }
@media (prefers-color-scheme: dark) {
  :root { --page: #10171c; --text: #e4ebf0; --soft: #9fb0bd; --line: #35444f; --row: #18222a }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page) }
body { max-width: 1000px; margin: 2em auto; padding: 0 1em }
h1 { margin-bottom: 0 } h3 { margin: 1.4em 0 0.2em }
h2 { margin-top: 2em; border-bottom: 1px solid var(--line) }
svg { width: 100%; height: auto } figure { margin: 1em 0 }
figcaption, .note { color: var(--soft); font-size: 13px }
table { border-collapse: collapse; font-size: 13px; margin: 0.5em 0 }
table { display: block; overflow-x: auto } td, th { padding: 3px 9px; text-align: right }
th { border-bottom: 1px solid var(--line) } td:first-child, th:first-child { text-align: left }
tr:nth-child(even) td { background: var(--row) } .text td, .text th { text-align: left }
.legend { margin: 0; font-size: 13px } .key { margin-right: 1.2em }
.key::before { content: "\\25A0"; font-size: 18px; margin-right: 4px; color: var(--colour) }
.no { color: #d33; font-weight: 600 }
"""


def document(title: str, parts: Iterable[str]) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f"<h1>{title}</h1>{''.join(parts)}</body></html>\n"
    )


def cell(value: Any) -> str:
    if value is None:
        return "-"
    return number_text(value) if isinstance(value, float) else f"{value:,}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "numbers") -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{cell}</{tag}>' for cell in cells)}</tr>"

    return f"<table class={kind}>{row(head, 'th')}{''.join(row(cells, 'td') for cells in rows)}</table>"


def figure(chart: str, caption: str) -> str:
    return f"<figure><figcaption>{caption}</figcaption>{chart}</figure>"
