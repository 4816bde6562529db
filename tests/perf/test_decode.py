"""`python -m perf decode` and `peers`: every lane finds every row of the backlog."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perf.__main__ import main
from perf.projector.peers.usage import used_by


@pytest.mark.server
def test_decode_reads_the_whole_backlog_in_every_lane(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decode", "--json", "--transactions", "900", "--seed", "3"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found.keys() == {
        "ours_rows_per_s",
        "library_rows_per_s",
        "packets_rows_per_s",
        "ours_to_library",
        "ours_to_packets",
        "rows",
    }
    assert found["rows"] == 900 and all(found.values())


def test_a_process_is_measured_whole_and_its_failure_is_told() -> None:
    """The figure of memory is the process's own, not its parent's."""
    ballast = bytearray(b"x" * 300_000_000)
    work = "import time; m = 'x' * 50_000_000\nwhile time.process_time() < 0.3: pass"
    busy = f'{work}\nprint(\'{{"rows": 5, "seconds": 2}}\')'
    usage = used_by(["python3", "-c", busy], {})
    assert (usage.rows_per_s, usage.cpu_s >= 0.3, 50 < usage.peak_rss_mib < 200) == (2, True, True)
    del ballast
    with pytest.raises(RuntimeError, match=r"status 1.*no such thing"):
        used_by(["python3", "-c", "import sys; sys.exit('no such thing')"], {})


@pytest.mark.long
@pytest.mark.server
def test_peers_read_the_same_backlogs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Needs a JDK; the first time it downloads Debezium, 200 MB."""
    page = tmp_path / "performance.md"
    page.write_text("<!-- python -m perf peers -->\n<!-- end -->\n")
    monkeypatch.setattr("perf.projector.peers.run.PAGE", page)
    monkeypatch.setattr("perf.projector.peers.run.ROUNDS", 1)
    assert main(["peers", "--json", "--rows", "2000"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    names = {
        f"{backlog}{who}"
        for backlog in ("", "many_rows_", "updates_")
        for who in ("ours", "debezium", "ratio")
    }
    assert found.keys() == names
    assert all(all(figures.values()) for figures in found.values()), found
