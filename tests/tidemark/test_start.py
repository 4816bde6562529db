"""A service imports little before it serves."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("service", ["writer", "binlog_projector", "reader"])
def test_a_service_starts_without_rich(service: str) -> None:
    code = f"import sys, {service}.__main__; sys.exit(bool({{'rich', 'pygments'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
