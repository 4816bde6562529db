"""A per-user cache of folders: each is made once, by one run, and appears only when it is complete."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ops.stack.errors import StackError

SPACE_BYTES = 400_000_000  # a new stack takes 300 MB, and the largest program 350 MB


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
    once, one fills and the other waits. Raises StackError for a folder that cannot be filled.
    """
    if folder.exists():
        return folder
    try:
        with locked(folder.with_name(f"{folder.name}.lock")):
            if not folder.exists():
                require_space(folder)
                partial = folder.with_name(f"{folder.name}.partial")
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)
                fill(partial)
                partial.rename(folder)
    except OSError as error:
        hint = "; TIDEMARK_CACHE_DIR can name another" if folder.is_relative_to(cache_folder()) else ""
        raise StackError(f"the folder {folder} cannot be filled: {error}{hint}") from error
    return folder


def require_space(folder: Path) -> None:
    """Raises StackError if the disk is almost full: programs say that in many ways, and some stand still."""
    parent = next(parent for parent in folder.absolute().parents if parent.exists())
    if (free := shutil.disk_usage(parent).free) < SPACE_BYTES:
        raise StackError(f"{free / 1e6:.0f} MB are free for {folder}, and {SPACE_BYTES / 1e6:.0f} are needed")
