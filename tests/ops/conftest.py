"""One running system for the console, the dashboards and the logs, which only watch it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from ops.system import System


@pytest.fixture(scope="package")
def system() -> Iterator[System]:
    with System(os.environ) as system:
        yield system
