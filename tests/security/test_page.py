"""SECURITY.md: every threat has an answer and a test, and every named test exists."""

from __future__ import annotations

import re

from tests.support.harness import ROOT

PAGE = (ROOT / "SECURITY.md").read_text()
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def test_every_threat_has_an_answer_and_a_test_that_exists() -> None:
    threats = PAGE.partition("## Threats")[2].replace("\n  ", " ")
    items = re.findall(r"^- (.*)$", threats, re.MULTILINE)
    assert items
    for item in items:
        answer, _, tests = item.partition(" `tests/")
        assert re.fullmatch(r"\*\*.+?\*\*: .+\.", answer), item
        assert NAMED.search(f"`tests/{tests}"), item
        assert NAMED.sub("", f"`tests/{tests}").strip(" ,") == "", item


def test_every_test_that_is_named_exists() -> None:
    for path, name in NAMED.findall(PAGE):
        assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE), (
            f"{path}::{name}"
        )
