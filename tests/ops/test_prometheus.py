"""Alerts: each fires exactly when it should, has a runbook, and uses metrics that exist."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.stack.fetch.programs import promtool
from tests.support.harness import ROOT
from tests.test_docs import heading_anchor

PROMETHEUS = ROOT / "ops/prometheus"
RUNBOOKS = ROOT / "docs/runbooks"
STORY = re.compile(r"^Story:\s\[[^\]]+\]\(\.\./operations\.md#([\w-]+)\)\.$", re.MULTILINE)
HEADINGS = ["Meaning", "Impact", "First look", "Remedy"]
METRIC = re.compile(r"\btidemark_[a-z_]+")
RECORDED = re.compile(r"\btidemark:[a-z0-9_:]+")
SUFFIX = re.compile(r"_(bucket|count|sum)$")


def rules(name: str) -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load((PROMETHEUS / name).read_text())["groups"]:
        yield from group["rules"]


ALERTS = {rule["alert"]: rule for rule in rules("alerts.yml")}
RECORDINGS = {rule["record"] for rule in rules("recording.yml")}


def run(*arguments: str) -> str:
    done = subprocess.run(
        [*promtool().command, *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.server
def test_the_configuration_is_one_that_prometheus_takes() -> None:
    assert "2 rule files found" in run("check", "config", "--lint-fatal", "prometheus.yml")
    run("check", "rules", "--lint-fatal", "recording.yml", "alerts.yml")


@pytest.mark.server
@pytest.mark.parametrize("path", sorted(PROMETHEUS.glob("tests/*.yaml")), ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_not_otherwise(path: Path) -> None:
    run("test", "rules", str(path))


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_is_seen_to_fire_and_not_to_fire(alert: str) -> None:
    cases = [
        bool(case["exp_alerts"])
        for path in PROMETHEUS.glob("tests/*.yaml")
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test["alert_rule_test"]
        if case["alertname"] == alert
    ]
    assert set(cases) == {True, False}


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_has_a_runbook_that_says_what_to_do(alert: str) -> None:
    url = ALERTS[alert]["annotations"]["runbook_url"]
    assert url == f"{{{{ $externalLabels.docs }}}}/runbooks/{alert}/", "the address on the site"
    text = (RUNBOOKS / f"{alert}.md").read_text()
    assert text.startswith(f"# {alert}\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == HEADINGS
    assert "```sh\n" in text.partition("## First look")[2].partition("## ")[0], "commands to paste"


@pytest.mark.parametrize("alert", ALERTS)
def test_each_runbook_and_its_story_link_each_other(alert: str) -> None:
    (anchor,) = STORY.findall((RUNBOOKS / f"{alert}.md").read_text())
    assert f"(runbooks/{alert}.md)" in stories()[anchor]


def stories() -> dict[str, str]:
    """The name of each heading of the page of operations in links -> its section."""
    sections = (ROOT / "docs/operations.md").read_text().split("\n## ")[1:]
    return {heading_anchor(section.partition("\n")[0]): section for section in sections}


def test_there_is_no_runbook_without_its_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == ALERTS.keys()


def test_rules_ask_for_metrics_that_exist() -> None:
    documented = set(METRIC.findall((ROOT / "docs/metrics.md").read_text()))
    expressions = [rule["expr"] for name in ("recording.yml", "alerts.yml") for rule in rules(name)]
    for expression in expressions:
        assert {SUFFIX.sub("", name) for name in METRIC.findall(expression)} <= documented, expression
        assert set(RECORDED.findall(expression)) <= RECORDINGS, expression
