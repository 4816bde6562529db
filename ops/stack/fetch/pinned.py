"""Python packages pinned by hash: pip unpacks them into a folder of the cache, and installs nothing."""

import hashlib
import subprocess
import sys
from pathlib import Path

from ops.stack.errors import DownloadFailed
from ops.stack.fetch.cache import cache_folder, completed

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def unpacked(requirements: Path, machine: str) -> Path:
    """The folder with the packages of a requirements file, for this Python on `machine` (x86_64, aarch64).

    Every package must have one of the file's hashes. Raises DownloadFailed.
    """
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    folder = cache_folder() / f"packages-{digest}-{machine}-python{PYTHON}"
    return completed(folder, lambda partial: _unpack(requirements, machine, partial))


def _unpack(requirements: Path, machine: str, folder: Path) -> None:
    what = ["--require-hashes", "--no-deps", "--only-binary=:all:", "--requirement", str(requirements)]
    where = ["--platform", f"manylinux2014_{machine}", "--implementation", "cp", "--python-version", PYTHON]
    quiet = ["--no-compile", "--quiet", "--disable-pip-version-check", "--target", str(folder)]
    command = [sys.executable, "-m", "pip", "install", *what, *where, *quiet]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DownloadFailed(f"pip could not get what {requirements} names: {done.stderr.strip()[-500:]}")
