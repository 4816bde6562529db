"""Progress lines for the person waiting, on standard error so that standard output stays machine-readable."""

import sys


def say(line: str) -> None:
    """Print one line at once."""
    print(line, file=sys.stderr, flush=True)
