"""The likes of many people for one post, while others read it; in the end the counter is compared."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ops.shore.connection import Answered, Connection
from ops.shore.target import NotDone, Report, Target

JOIN_TOGETHER = 1_000
LIKE_TOGETHER = 32
READERS = 4
READ_EVERY_SECONDS = 0.005
REPORT_SECONDS = 0.25
RETRY_SECONDS = 0.2
COMPARED_TIMES = 25
JOIN = "INSERT IGNORE INTO users (subject, handle, display_name) VALUES (%s, %s, %s)"


@dataclass
class Progress:
    """The values of the reports."""

    post: str
    started: float = field(default_factory=time.monotonic)
    likes: int = 0
    reads: int = 0
    shown: int = 0
    consistency: str = ""

    def values(self) -> dict[str, object]:
        return {
            "post": self.post,
            "likes": self.likes,
            "reads": self.reads,
            "shown": self.shown,
            "seconds": round(time.monotonic() - self.started, 2),
        }


async def like(target: Target, people: int, report: Report) -> None:
    """Raises NotDone, OSError, or an ExceptionGroup of them."""
    report()
    await asyncio.to_thread(_join, target, people)
    body = json.dumps({"body": f"{people:,} people like this post #crowd"}).encode()
    async with Connection(target.writer) as writer:
        made = await writer.ask("POST", "/post", target.token(subject(0)), body=body)
    progress = Progress(json.loads(_expect(made, 201).body)["id"])
    likers = iter(range(people))
    async with asyncio.TaskGroup() as tasks:
        beside = [tasks.create_task(_read(target, progress)) for _ in range(READERS)]
        beside.append(tasks.create_task(_report(progress, report)))
        liking = [tasks.create_task(_like(target, progress, likers)) for _ in range(LIKE_TOGETHER)]
        await asyncio.wait(liking)
        for task in beside:
            task.cancel()
    in_mysql = await _compare(target, progress)
    report(**progress.values(), in_mysql=in_mysql, done=True)


def subject(number: int) -> str:
    return f"crowd-{number}"


def _join(target: Target, count: int) -> None:
    """By SQL: the projector follows whoever writes to MySQL."""
    people = [(subject(number), f"crowd_{number:05}", f"Crowd {number:,}") for number in range(count)]
    for first in range(0, count, JOIN_TOGETHER):
        target.sql(JOIN, people[first : first + JOIN_TOGETHER])


async def _like(target: Target, progress: Progress, people: Iterator[int]) -> None:
    async with Connection(target.writer) as writer:
        for number in people:
            path, token = f"/post/{progress.post}/like", target.token(subject(number))
            answer = _expect(await _insist(writer, "PUT", path, token), 204)
            progress.likes += 1
            progress.consistency = answer.headers["consistency-token"]


async def _read(target: Target, progress: Progress) -> None:
    async with Connection(target.reader) as reader:
        token = target.token(subject(0))
        while True:
            answer = await reader.ask("GET", f"/post/{progress.post}", token)
            progress.reads += 1
            if answer.status == 200:
                progress.shown = json.loads(answer.body)["like_count"]
            await asyncio.sleep(READ_EVERY_SECONDS)


async def _report(progress: Progress, report: Report) -> None:
    while True:
        report(**progress.values())
        await asyncio.sleep(REPORT_SECONDS)


async def _compare(target: Target, progress: Progress) -> int:
    """Read with the last like's token until MySQL has the same count: somebody may like meanwhile."""
    count = f"SELECT COUNT(*) FROM likes WHERE post_id = {int(progress.post)}"  # noqa: S608 - a number
    in_mysql = 0
    async with Connection(target.reader) as reader:
        token, given = target.token(subject(0)), {"consistency-token": progress.consistency}
        for _ in range(COMPARED_TIMES):
            [(in_mysql,)] = await asyncio.to_thread(target.sql, count)
            answer = _expect(await _insist(reader, "GET", f"/post/{progress.post}", token, given), 200)
            progress.shown = json.loads(answer.body)["like_count"]
            if progress.shown == in_mysql:
                break
            await asyncio.sleep(RETRY_SECONDS)
    return in_mysql


async def _insist(
    connection: Connection, method: str, path: str, token: str, headers: Mapping[str, str] | None = None
) -> Answered:
    """Ask again while the service is busy, or the read model lacks what the headers demand."""
    while True:
        answer = await connection.ask(method, path, token, headers)
        if answer.status != 503:
            return answer
        await asyncio.sleep(RETRY_SECONDS)


def _expect(answer: Answered, status: int) -> Answered:
    if answer.status != status:
        raise NotDone(f"A service answered {answer.status}: {answer.body[:200].decode(errors='replace')}")
    return answer
