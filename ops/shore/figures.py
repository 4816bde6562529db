"""The figures that the page shows, from the metrics of projector and reader."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import httpx2
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from ops.shore.controls import Controls
from ops.system import System

TIMEOUT_SECONDS = 1.0
STAGES = ("mongodb", "redis")
Families = Sequence[Metric]


def figures(system: System, controls: Controls) -> dict[str, Any]:
    """Counters since the start of each service, and gauges; None for a service that does not answer."""
    projector = _families(system.admin_url("projector"))
    reader = _families(system.admin_url("reader"))
    return {
        "at": time.time(),
        "parts": {part: controls.is_running(part) for part in ("redis", "projector")},
        "projector": projector
        and {
            "process": system.children["projector"].identity.pid,
            **_of_projector(projector),
        },
        "reader": reader and _of_reader(reader),
        "load": controls.report(),
    }


def _of_projector(its: Families) -> dict[str, Any]:
    stage = "tidemark_projector_stage_seconds"
    return {
        "lag_seconds": _total(its, "tidemark_projector_lag_seconds"),
        "stages": {
            name: {part: _total(its, f"{stage}_{part}", stage=name) for part in ("sum", "count")}
            for name in STAGES
        },
    }


def _of_reader(its: Families) -> dict[str, float]:
    asked = "tidemark_cache_requests_total"
    found = [("local", "hit"), ("redis", "hit"), ("redis", "absent")]
    hits = sum(_total(its, asked, layer=layer, result=result) for layer, result in found)
    return {
        "reads": _total(its, "tidemark_http_request_duration_seconds_count"),
        "hits": hits,
        "lookups": hits + _total(its, asked, layer="mongo"),
    }


def _families(admin_url: str) -> Families | None:
    try:
        answer = httpx2.get(f"{admin_url}/metrics", timeout=TIMEOUT_SECONDS, trust_env=False)
    except httpx2.TransportError:
        return None
    return list(text_string_to_metric_families(answer.text)) or None


def _total(families: Families, name: str, **labels: str) -> float:
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )
