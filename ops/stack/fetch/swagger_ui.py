"""Swagger UI, the viewer of /docs: its files from a Python package that carries each release of it."""

from pathlib import Path

from ops.stack.fetch.cache import cache_folder, completed
from ops.stack.fetch.wheel import Wheel, unpack_member

WHEEL = Wheel(
    requirement="drf-spectacular-sidecar==2026.10.1",
    file_name="drf_spectacular_sidecar-2026.10.1-py3-none-any.whl",
    sha256="fe1d005d8ac9b5d0472f2fe5deeb2e7d6dcffaa24118044f22578b4b8c4b31f2",
    size=3,
)
FILES = ("swagger-ui-bundle.js", "swagger-ui.css", "LICENSE")


def swagger_ui() -> Path:
    """The folder with the files, downloaded if needed. Raises DownloadFailed."""
    return completed(cache_folder() / "swagger-ui-2026.10.1", _fill)


def _fill(folder: Path) -> None:
    wheel = WHEEL.download(cache_folder() / "wheels")
    for name in FILES:
        unpack_member(wheel, f"/swagger-ui-dist/{name}", folder)
    wheel.unlink()
