"""`python -m ops.shore.load likes|compare PEOPLE`: bounded load, reported as lines of JSON."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import uvloop

from ops.shore.compare import compare
from ops.shore.likes import like
from ops.shore.target import NotDone, Target
from ops.stack import StackError

WITHIN_SECONDS = 240.0


def report(**values: Any) -> None:
    """One line for the page: the whole state of the load."""
    print(json.dumps({"report": values}), flush=True)


async def main(name: str, people: str) -> None:
    try:
        async with asyncio.timeout(WITHIN_SECONDS):
            target = Target.from_environ(os.environ)
            await (like(target, int(people), report) if name == "likes" else compare(target, report))
    except* TimeoutError:
        report(failed=f"Not done within {WITHIN_SECONDS:g} s; the load has ended.")
    except* (NotDone, StackError, OSError) as errors:
        report(failed=str(errors.exceptions[0]))


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
