"""The release that runs, as a metric."""

from __future__ import annotations

import platform
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Gauge


def build_info(registry: CollectorRegistry) -> Gauge:
    """A gauge that is always 1: its labels are the news."""
    info = Gauge("tidemark_build_info", "The release, as labels", ["version", "python"], registry=registry)
    info.labels(version("tidemark"), platform.python_version()).set(1)
    return info
