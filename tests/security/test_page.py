"""SECURITY.md: every threat has an answer and a test, and every named test exists."""

from __future__ import annotations

import re

from tests.support.harness import ROOT

PAGE = (ROOT / "SECURITY.md").read_text()
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def test_every_threat_has_an_answer_and_a_test_that_exists() -> None:
    threats = [row for row in PAGE.partition("## Threats")[2].splitlines() if row.startswith("|")]
    rows = [row for row in threats if not row.startswith(("| threat", "|---"))]
    assert rows
    for row in rows:
        _, threat, answer, tests, _ = row.split("|")
        assert threat.strip()
        assert answer.strip()
        assert NAMED.sub("", tests).strip(" ,") == ""
        assert NAMED.search(tests), row


def test_every_test_that_is_named_exists() -> None:
    for path, name in NAMED.findall(PAGE):
        assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE), (
            f"{path}::{name}"
        )
