"""/docs: no page without its files, and one that takes scripts from nowhere else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tidemark.api_pages import SCRIPT, STYLE, folder, paths, routes


def test_without_the_setting_there_is_no_page() -> None:
    assert folder("none") is None
    assert routes(None) == []


def test_a_folder_without_the_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=SCRIPT):
        folder(str(tmp_path))


def test_the_page_loads_its_own_files_and_all_of_them_are_public(tmp_path: Path) -> None:
    for name in (SCRIPT, STYLE):
        (tmp_path / name).write_text(f"/* {name} */")
    served = routes(folder(str(tmp_path)))
    with TestClient(Starlette(routes=served)) as client:
        page = client.get("/docs")
        assert "script-src 'self';" in page.headers["content-security-policy"]
        loaded = set(re.findall(r'(?:src|href)="(/[^"]+)"', page.text))
        assert loaded | {"/docs"} == paths(served)
        assert all(client.get(path).is_success for path in loaded)
