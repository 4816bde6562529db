"""A per-user cache of folders: each is made once, by one run, and appears only when it is complete."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """The user's cache, outside the checkout: `TIDEMARK_CACHE_DIR`, else `$XDG_CACHE_HOME/tidemark`."""
    if own := environment.get("TIDEMARK_CACHE_DIR"):
        return Path(own).absolute()
    base = environment.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tidemark"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes; the kernel releases it when the holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def completed(folder: Path, fill: Callable[[Path], None]) -> Path:
    """Return `folder`, filled by `fill(partial folder)` if it does not exist yet.

    `fill` always gets an empty folder: the next run removes the one of an interrupted run. Of two runs at
    once, one fills and the other waits.
    """
    if folder.exists():
        return folder
    with locked(folder.with_name(f"{folder.name}.lock")):
        if not folder.exists():
            partial = folder.with_name(f"{folder.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            fill(partial)
            partial.rename(folder)
    return folder
