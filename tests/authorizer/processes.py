"""Fresh Python processes: what Lambda and a shell start, with exactly the environment given."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_python(
    *arguments: str, environment: Mapping[str, str], stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run from the top folder with warnings as errors; wait half a minute at most."""
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        input=stdin,
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
