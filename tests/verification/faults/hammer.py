"""Reads every page of a few posts and users over and over; records contents, order and `as-of`."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from tests.reader.conftest import RunningReader
from tests.support.harness import wait_until
from tests.verification.faults.system import PATHS
from tests.verification.faults.witness import AS_OF

PAUSE_SECONDS = 0.05  # between rounds


@dataclass(frozen=True)
class Answer:
    """The content, its `as-of`, and the time of arrival (UTC, our clock)."""

    text: str
    as_of: datetime
    at: datetime


class Hammer:
    """Reads in a thread until the end of its block. Any answer but a 200 with a bound fails."""

    def __init__(self, reader: RunningReader) -> None:
        self.reader = reader
        self.answers: dict[str, list[Answer]] = defaultdict(list)
        self.rounds = 0
        self.stopping = threading.Event()
        self.threads = ThreadPoolExecutor(1, "hammer")

    def __enter__(self) -> Hammer:
        self.running: Future[None] = self.threads.submit(self._read)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stopping.set()
        self.threads.shutdown()

    def stop(self) -> None:
        self.stopping.set()
        self.running.result()

    def wait_for_a_round(self) -> dict[str, str]:
        """Every page's content, read after this call."""
        begun = self.rounds
        wait_until(lambda: self.rounds >= begun + 2 or self.running.done(), "every page to be read")
        return {path: answers[-1].text for path, answers in self.answers.items()}

    def differs(self, before: Mapping[str, str]) -> bool:
        """No page is as it was. Readers learn of a new cache epoch within 0.2 s."""
        return all(self.answers[path][-1].text != text for path, text in before.items())

    def answers_between(self, begun: str, ended: str) -> int:
        """The number of answers between two moments (RFC 3339)."""
        first, last = map(datetime.fromisoformat, (begun, ended))
        return sum(first < answer.at < last for answers in self.answers.values() for answer in answers)

    def assert_old_then_new(self, old: Mapping[str, str], new: Mapping[str, str], written: datetime) -> None:
        """Every answer was an old page or, from some moment on, a new one; none was older than its bound.

        `written`: by then, on MySQL's clock, the new pages were true.
        """
        for path, answers in self.answers.items():
            texts = [answer.text for answer in answers]
            switched = texts.index(new[path])
            assert set(texts[:switched]) == {old[path]} and set(texts[switched:]) == {new[path]}, path
            assert all(answer.as_of < written for answer in answers[:switched]), path

    def _read(self) -> None:
        with self.reader.client() as client:
            while not self.stopping.wait(PAUSE_SECONDS):
                for path in PATHS:
                    answer = client.get(path)
                    bound = AS_OF.match(answer.headers.get("freshness", ""))
                    assert answer.status_code == 200 and bound is not None, f"{path}: {answer.status_code}"
                    as_of = datetime.fromisoformat(bound[1]).replace(tzinfo=None)
                    self.answers[path].append(Answer(answer.text, as_of, datetime.now(UTC)))
                self.rounds += 1
