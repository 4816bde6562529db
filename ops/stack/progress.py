"""Progress lines for people, on standard error: standard output stays machine-readable."""

import sys


def say(line: str) -> None:
    """Print one line at once."""
    print(line, file=sys.stderr, flush=True)
