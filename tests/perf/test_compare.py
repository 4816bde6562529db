"""The comparison's figures are right and complete, and it leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ops.stack.servers.process import ProcessIdentity
from ops.system import System
from perf.catching_up import wait_until_caught_up
from perf.compare import jmeter, report
from perf.compare.bench import bench, likes_by_post
from perf.compare.charts import number_text
from perf.compare.contenders import Contender, contenders
from perf.compare.crowd import Crowd
from perf.compare.jmeter import LoadFailed, Plan
from perf.compare.meters import percentile_ms, timeline
from perf.compare.options import Options
from perf.compare.readme import PARTS, README, fill
from perf.compare.result import figures
from perf.compare.run import measure, results_folder
from perf.compare.steps import Steps
from perf.compare.writing import Book, writes
from tests.support.harness import ROOT, wait_until

CROWD = Crowd(posts=40, seed=5)
# 3 threads, 7 iterations, 1 s
TINY = Options(3, 7, 1.0, CROWD.posts, 1, CROWD.seed, writes=60, rate=60, warm_up=0.5)
KEYS = {"rps", "p50_ms", "p99_ms", "p999_ms", "cpu_us", "selects_per_read", "errors"}


@pytest.fixture(scope="module", autouse=True)
def hasty_jvm() -> Iterator[None]:
    """JMeter without the JVM's second compiler, which takes half of a short run and helps only long ones."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
        yield


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with System(os.environ) as started:
        CROWD.load(started.stack.environment()["TIDEMARK_WRITER_MYSQL_URL"])
        wait_until_caught_up(started)
        yield started


@pytest.fixture(scope="module")
def lanes(system: System) -> Iterator[dict[str, Contender]]:
    with contenders(system) as found:
        yield found


@pytest.mark.server
def test_a_tiny_comparison_has_every_figure_and_every_sample(
    system: System, lanes: dict[str, Contender], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perf.compare.bench.WARM_UP_PASSES", 1)
    two = {name: lanes[name] for name in ("sql", "tidemark")}
    with timeline(system) as times, bench(system, CROWD, TINY, tmp_path, times) as measuring:
        found = figures(measure(two, measuring, TINY, Steps(0, None)))
    for lane in found["lanes"].values():
        assert lane.keys() >= KEYS
        assert lane["errors"] == 0
        assert lane["posts"]["samples"] == 3 * 7
        assert lane["mixed"]["samples"] == 3 * 7 * 4
        assert lane["feeds"]["samples"] == 3 * 7
        assert lane["under_writes"]["writes_per_s"] > 0
        assert lane["under_writes"]["checks"] > 10
        assert lane["under_writes"]["stale"] == lane["under_writes"]["left_stale"] == 0
    assert found["lanes"]["sql"]["selects_per_read"] >= 1
    assert found["lanes"]["sql"]["rows_per_read"] > CROWD.description()["likes_of_the_post_that_is_read"] / 2
    assert found["ratios"]["sql"]["selects_per_read"] < 0.2  # MySQL's clock is read ten times a second
    assert found["hit_ratio"] > 0.9
    assert 0 < found["projector_lag_p99_ms"] < 10_000
    assert [sample.label for sample in jmeter.read(measuring.samples("sql", "mixed")).all].count(
        "POST /post"
    ) == 4
    assert times.rates()


@pytest.mark.server
def test_jmeters_failures_are_seen_though_its_exit_status_is_0(
    system: System, lanes: dict[str, Contender], tmp_path: Path
) -> None:
    (tmp_path / "ids").write_text("1\n999999\n")
    plan = Plan("get_post", lanes["sql"].read_url, threads=1, iterations=4, ids=tmp_path / "ids")
    with pytest.raises(LoadFailed, match="4 of 4 requests were made, 2 of them failed"):
        jmeter.run(plan, system.token("perf-1"), tmp_path)


@pytest.mark.server
def test_a_lane_that_forgets_to_forget_is_caught(system: System, lanes: dict[str, Contender]) -> None:
    """The lane reads from the cache and writes to MySQL, but deletes no cached entry."""
    broken = replace(lanes["cache_aside"], write_url=lanes["sql"].write_url)
    book, began = Book(likes_by_post(f"{system.stack.mysql.admin_url}tidemark")), time.monotonic()
    with writes(broken, CROWD, book, 40, system.token) as written:
        wait_until(lambda: time.monotonic() > began + 1.5, "a second and a half of writes")
    assert written.stale > 0
    assert written.left_stale > 0


@pytest.mark.long
@pytest.mark.server
def test_an_interrupted_comparison_leaves_no_process_and_no_report(tmp_path: Path) -> None:
    options = ["--posts", "20", "--duration", "60", "--out", str(tmp_path / "r")]
    command = [sys.executable, "-m", "perf", "compare", *options]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if line.startswith("round 1"):
                break
        started = wait_until(lambda: wrk_among(below(running.pid)), "wrk to run", 60)
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=40) == 130
    assert len(started) > 10
    assert not [each for each in started if each.is_alive()]
    assert not (tmp_path / "r").exists()


def below(pid: int) -> list[ProcessIdentity]:
    """All descendants of a process."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ProcessLookupError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                child = int(path.parent.name)
                found += [ProcessIdentity.of(child), *below(child)]
    return found


def wrk_among(processes: list[ProcessIdentity]) -> list[ProcessIdentity] | None:
    commands = [Path(f"/proc/{each.pid}/cmdline").read_bytes() for each in processes]
    return processes if any(b"load.lua" in command for command in commands) else None


def test_lag_percentiles_are_read_from_a_histogram() -> None:
    buckets = {"0.01": 0.0, "0.025": 90.0, "0.05": 100.0, "+Inf": 100.0}
    assert percentile_ms(buckets, 45) == pytest.approx(17.5)
    assert percentile_ms(buckets, 95) == pytest.approx(37.5)
    assert percentile_ms({}, 99) == 0


def test_the_dataset_is_the_same_for_the_same_seed_and_uneven() -> None:
    assert CROWD.picks(50, "reads") == Crowd(40, 5).picks(50, "reads") != Crowd(40, 6).picks(50, "reads")
    assert CROWD.likes_of(0) > 5 * CROWD.likes_of(20)


def test_readmes_figures_are_those_that_its_result_makes(tmp_path: Path) -> None:
    emptied = tmp_path / README.name
    emptied.write_text(
        re.sub(r"(<!-- [^>]+\.json -->\n).*?(?=<!-- end)", r"\1", README.read_text(), flags=re.DOTALL)
    )
    assert all(f"<!-- {part}: " in emptied.read_text() for part in PARTS)
    assert "TPS before" not in emptied.read_text()
    assert fill(emptied) == README.read_text()


def test_a_result_with_feeds_has_a_row_more() -> None:
    found = json.loads((ROOT / "perf/results/two-cores/result.json").read_text())
    found["dataset"]["followees_of_each"] = 200
    without = PARTS["load test"](found).splitlines()
    for name in ("sql", "tidemark"):
        found["lanes"][name]["feeds"] = {"samples": 800, "tps": 40.0, "p50_ms": 20.0, "p99_ms": 30.0}
    row = "| `GET /feed` of people who follow 200 others | 8 | 100 | 40 | 40 | 30 ms | 30 ms | - |"
    added = [line for line in PARTS["load test"](found).splitlines() if line not in without]
    assert added == [row]


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The result that the repository keeps, alone in a folder."""
    return Path(shutil.copy(ROOT / "perf/results/two-cores/result.json", tmp_path))


def test_a_report_is_made_from_a_result_alone(kept: Path) -> None:
    command = [sys.executable, "-m", "perf", "report", str(kept), "--json"]
    said = json.loads(subprocess.check_output(command, cwd=ROOT, text=True))
    assert said == {"report": str(kept.with_name("report.html"))}
    page = Path(said["report"]).read_text()
    for lane, found in json.loads(kept.read_text())["lanes"].items():
        assert f"<td>{lane}</td><td>{number_text(found['rps'])}</td>" in page
    assert "jmeter/index.html" not in page


def test_a_report_links_to_jmeters_own_where_there_is_one(kept: Path) -> None:
    dashboard = kept.with_name("jmeter")
    dashboard.mkdir()
    (dashboard / "index.html").touch()
    assert 'href="jmeter/index.html"' in report.write(json.loads(kept.read_text()), kept.parent).read_text()


def test_git_ignores_what_a_comparison_writes_by_default() -> None:
    ignored = ["git", "-c", f"safe.directory={ROOT}", "check-ignore", "--quiet", str(results_folder(TINY))]
    assert subprocess.run(ignored, cwd=ROOT, check=False).returncode == 0
