"""The authorizer's deployment package: code, pinned dependencies and bytecode; the same bytes each time."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import authorizer_lambda
from ops.stack.fetch.pinned import unpacked

SOURCE = Path(authorizer_lambda.__file__).parent
NOT_FOR_LAMBDA = {"__main__.py", "forward_auth.py", "middleware.py"}
SHARED = ("tidemark/__init__.py", "tidemark/settings.py")
MACHINES = {"x86_64": "x86_64", "arm64": "aarch64"}  # Lambda's name: pip's name
UNUSED = ("cffi", "bin", "**/*.pyi", "**/RECORD")  # cffi needs only the compiled _cffi_backend at run time
TASK_ROOT = "/var/task"  # Lambda's folder for the zip: it is in the paths of tracebacks
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the earliest time in a zip


def build(architecture: str, path: Path) -> None:
    """Write the zip for `x86_64` or `arm64` and this Python's minor version. Raises DownloadFailed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "task"
        shutil.copytree(unpacked(SOURCE / "requirements.txt", MACHINES[architecture]), folder)
        _remove_unused(folder)
        copy_source(folder)
        _compile(folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(folder, path)


def _remove_unused(folder: Path) -> None:
    for unused in [found for pattern in UNUSED for found in folder.glob(pattern)]:
        if unused.is_dir():
            shutil.rmtree(unused)
        else:
            unused.unlink()


def copy_source(folder: Path) -> None:
    """Copy our own code: only the modules that the handler needs."""
    own = [
        f"{SOURCE.name}/{module.name}" for module in SOURCE.glob("*.py") if module.name not in NOT_FOR_LAMBDA
    ]
    for name in (*own, *SHARED):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(SOURCE.parent / name, folder / name)


def _compile(folder: Path) -> None:
    """Add bytecode: Lambda's folder is read-only, so every cold start would compile all modules.

    The process has a fixed seed, as bytecode holds sets in the order of their hashes.
    """
    options = [
        "-q",
        "-f",
        "--invalidation-mode",
        "unchecked-hash",
        "-s",
        str(folder),
        "-p",
        TASK_ROOT,
        str(folder),
    ]
    command = [sys.executable, "-s", "-S", "-m", "compileall", *options]
    subprocess.run(command, check=True, env={"PYTHONHASHSEED": "0"})


def _write(folder: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for file in _files(folder):
            entry = zipfile.ZipInfo(str(file.relative_to(folder)), LONG_AGO)
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, file.read_bytes(), compresslevel=6)


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.rglob("*") if path.is_file())
