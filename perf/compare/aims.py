"""The aims of the comparison, each with the figure that decides. Missed aims are reported like the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Aim:
    """One expectation, the figure that decides, and whether it is met."""

    text: str
    shown: str
    met: bool


def aims(found: Mapping[str, Any]) -> list[Aim]:
    """In the order in which people ask."""
    lanes, ratios = found["lanes"], found["ratios"]
    ours, cached = lanes["tidemark"], lanes["cache_aside"]["under_writes"]
    hot, written = ratios["sql"]["throughput"], ratios["cache_aside"]["throughput_under_writes"]
    stale = ours["under_writes"]["stale"] + ours["under_writes"]["left_stale"]
    saved = 100 * (1 - ratios["sql"]["selects_per_read"])
    return [
        Aim("throughput of hot reads at least 8 times sql's", f"{hot:.1f}", hot >= 8),
        Aim("throughput under writes at least 1.5 times cache_aside's", f"{written:.2f}", written >= 1.5),
        Aim(
            "no stale read under writes",
            f"{stale}; cache_aside: {cached['stale']} of {cached['checks']} reads,"
            f" {cached['left_stale']} of {cached['left']} posts left stale",
            stale == 0,
        ),
        Aim("p99 of paced reads at most 20 ms", f"{ours['p99_ms']:g} ms", ours["p99_ms"] <= 20),
        Aim("hit ratio at least 0.99", f"{found['hit_ratio']:.4f}", found["hit_ratio"] >= 0.99),
        Aim("SELECTs per read reduced by at least 99 %", f"{saved:.2f} %", saved >= 99),
    ]
