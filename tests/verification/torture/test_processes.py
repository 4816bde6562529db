"""A long torture sees each process that grows, names it, and says first of all what was wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event, Lock
from xml.etree import ElementTree

import pytest
import redis

from tests.support.acts import ACTS, WITHOUT_CHECKS
from tests.verification.torture import running
from tests.verification.torture.__main__ import clusters_of
from tests.verification.torture.growth import growths
from tests.verification.torture.outcome import LONG_SECONDS, Outcome, together
from tests.verification.torture.plot import plotted
from tests.verification.torture.processes import Sample, role_of, sampled
from tests.verification.torture.running import note_faults
from tests.verification.torture.workload import turn

HOUR = 3600.0
COMMANDS = {
    "/x/python -m writer": "writer",
    "/x/python -m writer migrate": None,
    "/x/python -m reader serve --workers 2": "reader",
    "/x/python -m reader serve --workers 2 --worker 3 /tmp/1.sock": "reader's worker",
    "/x/python -m reader serve": "lasting reader",
    "/x/python -m binlog_projector run": "projector",
    "/x/python -m binlog_projector rebuild": None,
    "/x/python -m binlog_projector audit --continuous --after 1,5": "audit",
    "/x/ld-linux-x86-64.so.2 --library-path /x /x/usr/sbin/mysqld --no-defaults": "MySQL",
    "/x/mongod --dbpath=/x/redis-server": "MongoDB",
    "/x/python -I -S tether.py 1": None,
}


def hour(
    mib: Sequence[float], files: Sequence[int] = (20,) * 6, role: str = "writer", seconds: float = HOUR
) -> list[Sample]:
    """A sample each minute; `mib` and `files` of each sixth."""
    moments = [seconds * (minute + 0.5) / 60 for minute in range(60)]
    return [
        Sample(moment, role, 1, mib[minute // 10], files[minute // 10], moment)
        for minute, moment in enumerate(moments)
    ]


def flat(samples: Sequence[Sample]) -> bool:
    return all(growth.flat for growth in growths(samples, HOUR).values())


@pytest.mark.parametrize("command", COMMANDS)
def test_a_process_is_known_by_its_command(command: str) -> None:
    assert role_of(command.split()) == COMMANDS[command]
    title = "/x/redis-server 127.0.0.1:7 [cluster]"  # as the server writes it: one argument
    assert role_of([title, ""]) == "Redis"


def test_memory_and_files_of_descendants_are_sampled() -> None:
    holding = "held = [open('/dev/null') for _ in range(40)]; print(flush=True); input()"
    command = [sys.executable, "-c", holding, "-m", "writer"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        started.stdout.readline()
        (sample,) = [one for one in sampled(os.getpid(), 7) if one.role == "writer"]
        assert sampled(started.pid, 7) == []
        started.communicate(b"\n")
    assert (sample.seconds, sample.processes) == (7, 1)
    assert 40 < sample.files < 60 and 4 < sample.mib < 100 and 0 <= sample.age_seconds < 100, sample


@pytest.mark.parametrize(
    ("samples", "is_flat"),
    [
        (hour([10, 100, 100, 100, 100, 100]), True),
        (hour([10, 100, 500, 500, 500, 130]), True),
        (hour([10, 100, 110, 115, 125, 132]), False),
        (hour([132, 100, 100, 100, 100, 132]), False),
        (hour([100] * 6, [5, 20, 20, 20, 20, 31]), True),
        (hour([100] * 6, [5, 20, 20, 20, 20, 32]), False),
        (hour([100] * 6) + hour([9, 9, 9, 9, 9, 99], role="reader"), False),
        (hour([100, 100, 100, 100, 100, 240], [9, 300, 9, 9, 9, 900], role="MongoDB"), True),
        (hour([100, 100, 100, 100, 100, 250], role="MongoDB"), False),
        (hour([100] * 6, [9, 300, 9, 9, 9, 950], role="MongoDB"), False),
    ],
)
def test_growth_from_the_second_sixth_to_the_last_is_seen(samples: list[Sample], is_flat: bool) -> None:
    assert flat(samples) == is_flat


def test_a_moment_of_more_memory_is_no_growth() -> None:
    samples = [*hour([100] * 6), Sample(HOUR - 1, "writer", 2, 900, 900, 5)]
    assert flat(samples) and growths(samples, HOUR)["writer"].oldest_seconds == pytest.approx(3570)


def test_a_long_run_that_grows_is_not_as_expected() -> None:
    grown = hour([10, 100, 100, 100, 100, 200])
    long = Outcome(7, samples=grown, tortured_seconds=HOUR)
    assert not long.as_expected and long.as_json()["flat"] is False
    assert long.as_json()["processes"]["writer"] == {
        **{"mib": [100, 200], "files": [20, 20], "oldest_seconds": 3570},
        "flat": False,
    }
    short = Outcome(7, samples=grown, tortured_seconds=LONG_SECONDS - 1)
    assert short.as_expected and "flat" not in short.as_json()


def test_a_long_run_without_a_cluster_is_of_two_systems() -> None:
    assert clusters_of(HOUR, "valkey", None) == [None, ("valkey", 3)]
    assert clusters_of(HOUR, "redis", 4) == [("redis", 4)]
    assert clusters_of(LONG_SECONDS - 1, "redis", None) == [None]


def test_two_systems_make_one_line() -> None:
    one = Outcome(7, "one", answers=3, samples=hour([100] * 6), tortured_seconds=HOUR, seconds=3700)
    other = Outcome(8, "other", answers=4, samples=hour([50] * 6), tortured_seconds=HOUR, seconds=3650)
    one.faults.update(kill=2, drop=1)
    other.faults.update(kill=3)
    other.wrong["missed"], other.stale_reads, other.error = 1, 2, "AssertionError: x"
    line = together([one, other])
    assert (line["faults"], line["faults_in_all"], line["kinds"]) == ({"kill": 5, "drop": 1}, 6, 2)
    assert (line["answers"], line["missed"], line["stale_reads"], line["seconds"]) == (7, 1, 2, 3700)
    assert line["flat"] is True and line["error"] == "AssertionError: x" and "processes" not in line
    assert line["systems"]["other"]["processes"]["writer"]["mib"] == [50, 50]
    assert line["systems"]["other"]["seed"] == 8


def test_the_first_wrong_is_told_with_the_seed(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = Outcome(25)
    outcome.say("differs: posts 1")
    outcome.say("differs: posts 2")
    assert outcome.as_json()["first"] == "differs: posts 1"
    assert capsys.readouterr().err.splitlines()[0] == "one Redis, seed 25: differs: posts 1"


def test_a_hindered_fault_is_passed_over_and_one_without_end_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Regression: a fault without end passed for a hindered one, because its TimeoutError is an OSError."""
    monkeypatch.setattr(running, "FAULT_SECONDS", 0.1)
    hindered: Future[str] = Future()
    hindered.set_exception(redis.ConnectionError("cut"))
    done: Future[str] = Future()
    done.set_result("redis")
    outcome, healed = Outcome(7), Event()
    note_faults({"kill": done, "drop": hindered}, outcome)
    assert (outcome.faults, outcome.passed_over) == ({"kill": 1}, {"drop": 1})
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(lambda: str(healed.wait(30)))
        with pytest.raises(AssertionError, match="does not heal: pause"):
            note_faults({"pause": waiting}, outcome)
        healed.set()
    assert outcome.faults.total() == 1


def test_statements_without_foreign_keys_write_alone() -> None:
    """Regression, seeds 25 and 26: no replica could follow any more."""
    unchecked, checked = next(iter(WITHOUT_CHECKS)), next(act for act in ACTS if act not in WITHOUT_CHECKS)
    writing = [Lock(), Lock()]
    with turn(checked, 1, writing):
        assert [lock.locked() for lock in writing] == [False, True]
    with turn(unchecked, 1, writing):
        assert all(lock.locked() for lock in writing)
    assert not any(lock.locked() for lock in writing) and {*ACTS} > WITHOUT_CHECKS


def test_the_plot_has_two_panels_a_role_and_a_curve_a_system() -> None:
    roles = ("MySQL", "reader")
    samples = [one for role in roles for one in hour([10, 20, 30, 40, 50, 60], role=role)]
    drawn = plotted({"one Redis": samples, "cluster": samples})
    found = ElementTree.fromstring(drawn)
    namespace = "{http://www.w3.org/2000/svg}"
    titles = [one.text for one in found.iter(f"{namespace}text")]
    assert {"reader, MiB", "reader, files", "MySQL, MiB", "MySQL, files", "cluster"} <= {*titles}
    curves = [*found.iter(f"{namespace}polyline")]
    assert len(curves) == 8 and all(len(one.get("points", "").split()) == 60 for one in curves)
    first, *_, last = curves[0].get("points", "").split()
    (x, y), (right, high) = ([*map(float, each.split(","))] for each in (first, last))
    assert x < right and high < y, "memory grows to the right and upwards"
