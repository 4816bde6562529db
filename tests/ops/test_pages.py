"""The documentation's site and the comparison's report, in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Page

from tests.ops.test_console import headless_chromium
from tests.support.harness import ROOT

pytestmark = pytest.mark.server  # the browser is a download

REPOSITORY = "https://git.example.org/tidemark"


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with headless_chromium() as browser:
        yield browser.new_page()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation, built with the settings of the repository switched on."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs", folder / "docs")
    settings = (ROOT / "zensical.toml").read_text()
    (folder / "zensical.toml").write_text(
        re.sub(r"^# (repo_url|edit_uri)", r"\1", settings, flags=re.MULTILINE)
    )
    command = [str(Path(sys.executable).with_name("zensical")), "build", "--strict"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "build/site"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The comparison's report of the result that the repository keeps."""
    folder = tmp_path_factory.mktemp("report")
    kept = shutil.copy(ROOT / "perf/results/two-cores/result.json", folder)
    command = [sys.executable, "-m", "perf", "report", str(kept)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder / "report.html"


def luminances(page: Page, scheme: Literal["light", "dark"]) -> tuple[float, float]:
    """How light background and text are, from 0 to 255."""
    page.emulate_media(color_scheme=scheme)
    page.reload()
    style = page.evaluate(
        "(({backgroundColor, color}) => [backgroundColor, color])(getComputedStyle(document.body))"
    )
    background, text = (sum(float(part) for part in re.findall(r"[\d.]+", each)[:3]) / 3 for each in style)
    return background, text


@pytest.mark.parametrize("which", ["site", "report"])
def test_the_pages_are_dark_where_the_system_is(
    page: Page, which: str, request: pytest.FixtureRequest
) -> None:
    made: Path = request.getfixturevalue(which)
    page.goto((made / "index.html" if which == "site" else made).as_uri())
    background, text = luminances(page, "light")
    assert background > text + 100
    background, text = luminances(page, "dark")
    assert text > background + 100


def test_a_report_has_captions_over_plots_and_no_powers_of_ten(page: Page, report: Path) -> None:
    page.goto(report.as_uri())
    figures = page.locator("figure")
    assert figures.count() == page.locator("figure > figcaption:first-child + *").count() > 5
    assert not re.search(r"\d(\.\d+)?e[-+]\d", page.locator("body").inner_text())


def test_the_site_breaks_no_name_and_links_to_the_repository_in_its_settings(page: Page, site: Path) -> None:
    page.set_viewport_size({"width": 1280, "height": 800})
    for name in ("performance", "consistency", "metrics"):
        page.goto((site / name / "index.html").as_uri())
        broken = page.locator("table code").evaluate_all(
            "all => all.filter(one => /^\\w+$/.test(one.textContent) && one.getClientRects().length > 1)"
            ".map(one => one.textContent)"
        )
        assert broken == []
        edit = page.locator("a[rel=edit]").first.get_attribute("href")
        assert edit == f"{REPOSITORY}/edit/main/docs/{name}.md"
        assert page.locator(f'a[href^="{REPOSITORY}"]').count() > 1
