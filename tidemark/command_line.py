"""The same shape for every `python -m PACKAGE COMMAND`: help, version, faults, and a quiet end of a pipe."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

EPILOG = (
    "Settings are TIDEMARK_* variables: see docs/configuration.md. Exit status 2: wrong usage or settings."
)
CLOSED_PIPE = 141  # as a shell shows a program that SIGPIPE has ended


def parser(package: str, description: str) -> argparse.ArgumentParser:
    called = Path(sys.argv[0]).name  # an installed command, or a package's __main__.py
    prog = called if called.startswith("tidemark-") else f"python -m {package}"
    made = argparse.ArgumentParser(prog=prog, description=description, epilog=EPILOG)
    text = f"Tidemark {version('tidemark')}, Python {platform.python_version()}"
    made.add_argument("--version", action="version", version=text)
    return made


def fail(package: str, status: int, error: object) -> int:
    """Say each line of an error; return the exit status."""
    for line in str(error).splitlines():
        print(f"{package}: {line}", file=sys.stderr)
    return status


def end_with(main: Callable[[], int]) -> NoReturn:
    """Run `main` and end the process with its status. A reader that has enough (`| head -1`) is no error."""
    try:
        try:
            status = main()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more at its end: https://docs.python.org/3/library/signal.html#note-on-sigpipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = CLOSED_PIPE
    sys.exit(status)
