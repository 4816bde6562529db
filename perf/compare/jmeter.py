"""One run of a JMeter plan, and its samples. JMeter's exit status says nothing, so samples are counted."""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ops.stack.fetch.jmeter import jmeter
from ops.stack.servers.process import launch_tethered

PLANS = Path(__file__).parents[1] / "plans"
# The defaults rewrite each label's percentiles from its last 20,000 samples only.
WHOLE_RUN = "-Jjmeter.reportgenerator.statistic_window=-1"


class LoadFailed(RuntimeError):
    """A load generator did not make the load that was asked for; the message says what it did."""


@dataclass(frozen=True)
class Plan:
    """A plan of `perf/plans` and its parameters. `rate`: requests per second; 0: as many as possible.

    `ids`: a file of posts; `tokens`: a file of callers' bearer tokens.
    """

    name: str
    url: str
    threads: int
    iterations: int
    rate: float = 0.0
    ids: Path | None = None
    write_url: str = ""
    tokens: Path | None = None

    @property
    def samples(self) -> int:
        return self.threads * self.iterations

    def properties(self) -> dict[str, str]:
        """The parameters given by `-J`: all but the token."""
        where, writes = urlsplit(self.url), urlsplit(self.write_url)
        found: dict[str, object] = {
            **{"host": where.hostname, "port": where.port, "whost": writes.hostname, "wport": writes.port},
            **{"threads": self.threads, "iterations": self.iterations, "rate": self.rate, "ids": self.ids},
            "tokens": self.tokens,
        }
        return {name: str(value) for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class Sample:
    """One request: its begin (seconds since 1970), its time, and whether the answer was right."""

    began: float
    elapsed_ms: int
    label: str
    ok: bool


@dataclass(frozen=True)
class Samples:
    """All requests of a run, in the order of their ends."""

    all: Sequence[Sample]

    @property
    def failed(self) -> int:
        return sum(not sample.ok for sample in self.all)

    @property
    def per_second(self) -> float:
        began = min(sample.began for sample in self.all)
        ended = max(sample.began + sample.elapsed_ms / 1000 for sample in self.all)
        return len(self.all) / max(0.001, ended - began)

    def after(self, seconds: float) -> Samples:
        """Without the requests of the first seconds, in which both sides warm up."""
        began = min(sample.began for sample in self.all)
        return Samples([sample for sample in self.all if sample.began >= began + seconds])

    def percentile_ms(self, percent: float) -> float:
        """Nearest rank."""
        ordered = sorted(sample.elapsed_ms for sample in self.all)
        return float(ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))])


def run(plan: Plan, token: str, folder: Path) -> Samples:
    """Run a plan with its files in an empty `folder`. Raises LoadFailed unless all requests succeed."""
    results, secret = folder / "samples.jtl", folder / "token.properties"
    secret.touch(mode=0o600)
    secret.write_text(f"token={token}\n")  # a file, because arguments are in everybody's list of processes
    given = [f"-J{name}={value}" for name, value in plan.properties().items()]
    options = ["-n", "-t", str(PLANS / f"{plan.name}.jmx"), "-l", str(results), "-q", str(secret)]
    _run([*options, *given, "-j", str(folder / "jmeter.log")], folder)
    samples = read(results)
    if len(samples.all) != plan.samples or samples.failed:
        raise LoadFailed(
            f"{plan.name}: {len(samples.all)} of {plan.samples} requests were made, "
            f"{samples.failed} of them failed; "
            f"JMeter says:\n{_tail(folder)}"
        )
    return samples


def read(results: Path) -> Samples:
    """The samples of a JTL file in JMeter's default columns."""
    if not results.exists():
        return Samples([])
    with results.open(newline="") as lines:
        return Samples(
            [
                Sample(
                    int(row["timeStamp"]) / 1000, int(row["elapsed"]), row["label"], row["success"] == "true"
                )
                for row in csv.DictReader(lines)
            ]
        )


def dashboard(results: Mapping[str, Path], folder: Path) -> None:
    """JMeter's own report of several runs, by name of the lane; replaces the content of `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="tidemark-jmeter-") as work:
        samples = Path(work) / "samples.jtl"
        with samples.open("w", newline="") as sink:
            merged = csv.writer(sink)
            for number, (lane, path) in enumerate(results.items()):
                merged.writerows(_labelled(path, lane, with_head=number == 0))
        _run(
            ["-g", str(samples), "-o", str(folder.absolute()), "-j", f"{work}/jmeter.log", WHOLE_RUN],
            Path(work),
        )


def _labelled(results: Path, lane: str, *, with_head: bool) -> Iterator[list[str]]:
    with results.open(newline="") as lines:
        rows = csv.reader(lines)
        head = next(rows)
        label = head.index("label")
        if with_head:
            yield head
        for row in rows:
            yield [*row[:label], f"{lane}: {row[label]}", *row[label + 1 :]]


def _run(arguments: Sequence[str], folder: Path) -> None:
    """The kernel ends JMeter when our process ends. On an exception we end JMeter."""
    log = folder / "output.log"
    process = launch_tethered([*jmeter().command, *arguments], folder, log)
    try:
        status = process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
    if status:
        raise LoadFailed(f"JMeter ended with status {status}:\n{_tail(folder)}")


def _tail(folder: Path) -> str:
    logs = [path for path in (folder / "output.log", folder / "jmeter.log") if path.exists()]
    return "\n".join(line for path in logs for line in path.read_text(errors="replace").splitlines()[-12:])
