"""Names the packages of missing system tools in one line; runs on any Python from 3.6 on, without a venv.

`python3 ops/stack/fetch/prerequisites.py make git venv java` prints that line and ends with status 1.
"""

import importlib.util
import shutil
import sys

OLDEST_PYTHON = (3, 11)
PACKAGES = {
    "git": "git",
    "make": "make",
    "java": "default-jre-headless",
    "venv": "python3-venv",
    "apt-get": "apt",
    "dpkg": "dpkg",
}


class PrerequisiteMissing(Exception):
    """System tools are missing; the message has the command that installs them."""


def is_present(tool: str) -> bool:
    """Whether a program is on PATH; for `venv`, whether this Python can make one with pip."""
    if tool == "venv":
        return (
            importlib.util.find_spec("venv") is not None and importlib.util.find_spec("ensurepip") is not None
        )
    return shutil.which(tool) is not None


def require(*tools: str) -> None:
    """Raises PrerequisiteMissing that names all missing tools in one line."""
    if sys.version_info < OLDEST_PYTHON:
        found = ".".join(str(part) for part in sys.version_info[:3])
        raise PrerequisiteMissing(f"Python 3.11 or newer is needed, this is {found} ({sys.executable})")
    missing = [tool for tool in tools if not is_present(tool)]
    if missing:
        packages = " ".join(PACKAGES.get(tool, tool) for tool in missing)
        raise PrerequisiteMissing(f"missing: {', '.join(missing)}; run: sudo apt-get install -y {packages}")


if __name__ == "__main__":
    try:
        require(*sys.argv[1:])
    except PrerequisiteMissing as error:
        sys.exit(str(error))
