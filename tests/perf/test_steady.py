"""What a steady load costs and how late it is shown comes with the figures to compare it with."""

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


@pytest.mark.server
@pytest.mark.parametrize(("through", "busy"), [("writer", {"projector", "writer"}), ("mysql", {"projector"})])
def test_each_process_has_its_share_of_a_transaction(
    through: str, busy: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = run(capsys, "cpu", "--seconds", "2", "--rate", "150", "--through", through)
    assert 30 < found["transactions_per_s"] < 180
    spent = found["cpu_ms_per_transaction"]
    assert spent.keys() == SERVERS | SERVICES
    assert all(spent[name] > 0 for name in busy | {"mysql", "mongodb"}), spent
    assert spent["reader"] < spent["projector"]
