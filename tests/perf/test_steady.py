"""`perf cpu` and `perf lag` print the figures to compare theirs with."""

from __future__ import annotations

import json
from typing import Any

import pytest

from perf.__main__ import main

SERVERS = {"mysql", "mongodb", "redis"}
SERVICES = {"projector", "writer", "reader"}


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.long
@pytest.mark.server
def test_each_process_has_its_share_of_a_transaction(capsys: pytest.CaptureFixture[str]) -> None:
    found = run(capsys, "cpu", "--seconds", "2", "--rate", "150")
    assert 30 < found["transactions_per_s"] < 180
    spent = found["cpu_ms_per_transaction"]
    assert spent.keys() == SERVERS | SERVICES
    assert all(spent[name] > 0 for name in ("projector", "writer", "mysql", "mongodb")), spent
    assert spent["reader"] < spent["projector"]


def assert_ratios(found: Any, peers: set[str]) -> None:
    named = {f"{peer}p{percent}_ms" for peer in {"", *peers} for percent in (50, 99)}
    assert named <= found.keys() and all(found[name] > 0 for name in named)
    assert found["p50_to_floor_p50"] == round(found["p50_ms"] / found["floor_p50_ms"], 3)
    assert found["p99_to_floor_p50"] == round(found["p99_ms"] / found["floor_p50_ms"], 3)


@pytest.mark.long
@pytest.mark.server
def test_lag_stands_next_to_its_floor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("perf.projector.lag.ROUNDS", 1)
    found = run(capsys, "lag", "--seconds", "2", "--rate", "100", "--without-debezium")
    assert_ratios(found, {"floor_"})
    assert found["cpu_ms_per_transaction"].keys() == SERVERS | SERVICES
    assert found["samples"] > 0 and not [name for name in found if "debezium" in name]


@pytest.mark.long
@pytest.mark.server
def test_lag_stands_next_to_debezium(capsys: pytest.CaptureFixture[str]) -> None:
    """Needs a JDK; the first time it downloads Debezium, 200 MB."""
    found = run(capsys, "lag", "--seconds", "6", "--rate", "100")
    assert_ratios(found, {"floor_", "debezium_"})
    assert found["p50_to_debezium_p50"] == round(found["p50_ms"] / found["debezium_p50_ms"], 3)


@pytest.mark.long
@pytest.mark.server
def test_noise_of_others_stands_next_to_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("perf.projector.noise.ROUNDS", 1)
    found = run(capsys, "noise", "--seconds", "2", "--rate", "100", "--rows", "2000")
    assert found["quiet"]["others_rows_per_s"] == 0 < found["noisy"]["others_rows_per_s"] <= 2_200
    assert found["p50_ms_noisy_to_quiet"] == round(found["noisy"]["p50_ms"] / found["quiet"]["p50_ms"], 3)
