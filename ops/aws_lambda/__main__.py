"""`python -m ops.aws_lambda zip`: the authorizer's deployment packages for both of Lambda's architectures."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from ops.aws_lambda.package import MACHINES, build
from ops.stack import StackError
from ops.stack.fetch.pinned import PYTHON


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ops.aws_lambda", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    zipping = commands.add_parser("zip", help="write authorizer-ARCHITECTURE.zip and print its sha256")
    zipping.add_argument("--into", type=Path, default=Path("build"), help="the folder (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        for architecture in MACHINES:
            path = options.into / f"authorizer-{architecture}.zip"
            build(architecture, path)
            print(f"{path}  python{PYTHON}  {path.stat().st_size} bytes  sha256 {_sha256(path)}")
    except StackError as error:
        print(f"aws_lambda: {error}", file=sys.stderr)
        return 1
    return 0


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
