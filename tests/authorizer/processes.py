"""Fresh Python processes with exactly the environment given, as Lambda and a shell start them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_python(
    *arguments: str, environment: Mapping[str, str], stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run from the top folder with warnings as errors, for at most 30 s."""
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
