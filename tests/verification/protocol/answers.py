"""Freshness and tokens, checked as a second system: answers of two parts and their claims.

The other system (`model`) checks that the cache is where its watermark says. Here a part is exactly as new as
its proof.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from tests.verification.protocol.checker import Outcome, Step, System, explore

TRUE_BOUND = "as-of is no later than what every part contains"
OWN_WRITE = "an answer to a token contains the token's write"
NO_FALSE_REFUSAL = "a true token is never called invalid"
ONE_BODY = "an ETag names one body"
PARTS = 2
SEQ_AHEAD = 1  # batches are counted apart from transactions


class Bounds(NamedTuple):
    """The number of writes, and of rows in each. The rows of one write may reach MongoDB in parts."""

    writes: int
    rows: int


WHOLE, IN_PARTS = Bounds(2, 1), Bounds(1, 2)


@dataclass(frozen=True)
class AnswerRules:
    """All True is the protocol."""

    as_of_from_mysql: bool = True  # False: the projector's own clock ticks
    bound_of_oldest_part: bool = True
    token_against_every_part: bool = True
    token_against_gtids: bool = True  # False: against the version, a seq
    joiner_checks_token: bool = True
    unknown_token_waits: bool = True
    gtid_with_last_part: bool = True
    tag_of_every_part: bool = True


class Proof(NamedTuple):
    """A part contains all transactions up to `upto`, and MySQL had no more at `as_of`. `rows` is exact."""

    upto: int
    as_of: int
    rows: int


class Part(NamedTuple):
    """One part of an answer. `unchecked`: from a joined read, without the rule `joiner_checks_token`."""

    proof: Proof
    unchecked: bool = False


class Client(NamedTuple):
    """A request under way. `need`: the write of its token (0: no token). `parts`: read so far."""

    need: int
    parts: tuple[Part, ...] = ()


class Told(NamedTuple):
    """An answer to a client. `body`: the rows of each part. `REFUSED` calls the token invalid."""

    need: int
    as_of: int
    body: tuple[int, ...]
    tag: tuple[int, ...]


REFUSED = Told(0, 0, (), ())


class World(NamedTuple):
    """MySQL's head, the clock as last read, both stages, a read under way, a request, and a kept answer."""

    head: int = 0
    clock: int = 0
    latest: int = 0
    checkpoint: Proof = Proof(0, 0, 0)
    watermark: Proof = Proof(0, 0, 0)
    flight: Proof | None = None
    client: Client | None = None
    kept: Told | None = None


Steps = Iterator[Step[World, Told]]


def verify_answers(rules: AnswerRules, bounds: Bounds = WHOLE) -> Outcome:
    return explore(answers(rules, bounds))


def answers(rules: AnswerRules, bounds: Bounds = WHOLE) -> System[World, Told]:
    broken = partial(broken_by, bounds.rows)
    return System(World(), partial(steps, rules, bounds), lambda world: world, broken, lambda world: None)


def steps(rules: AnswerRules, bounds: Bounds, world: World) -> Steps:
    yield from projecting(rules, bounds, world)
    yield from requesting(rules, world)


def projecting(rules: AnswerRules, bounds: Bounds, world: World) -> Steps:
    """Writes, reads of MySQL's clock, batches in MongoDB and then in the cache, ticks of both."""
    if world.head < bounds.writes:
        yield Step("a write", world._replace(head=world.head + 1))
    yield Step("MySQL's clock is read", world._replace(clock=world.head))
    for rows in range(world.checkpoint.rows + 1, bounds.rows * world.head + 1):
        upto = (rows if rules.gtid_with_last_part else rows + bounds.rows - 1) // bounds.rows
        latest = fresh(rules, world, upto)
        yield Step(f"MongoDB has {rows}", world._replace(checkpoint=Proof(upto, latest, rows), latest=latest))
    yield Step("the cache has it", world._replace(watermark=world.checkpoint))
    ticked = world.checkpoint._replace(as_of=fresh(rules, world, world.checkpoint.upto))
    yield Step("the checkpoint ticks", world._replace(checkpoint=ticked, latest=ticked.as_of))
    if world.watermark.rows == world.checkpoint.rows:
        yield Step("the watermark ticks", world._replace(watermark=ticked, latest=ticked.as_of))


def fresh(rules: AnswerRules, world: World, upto: int) -> int:
    """The latest moment at which MySQL had no transaction beyond `upto`."""
    if not rules.as_of_from_mysql:
        return world.head
    return world.clock if upto >= world.clock else world.latest


def requesting(rules: AnswerRules, world: World) -> Steps:
    """One client at a time. A read of MongoDB for another client may be under way."""
    if world.flight is None:
        yield Step("somebody reads MongoDB", world._replace(flight=world.checkpoint))
    else:
        yield Step("that read is over", world._replace(flight=None))
    if world.client is None:
        for need in {0, world.head}:
            yield asked(rules, world, need)
    elif len(world.client.parts) < PARTS:
        yield part(world, "the cache", Part(world.watermark))
        yield part(world, "MongoDB", Part(world.checkpoint))
        if world.flight is not None:
            yield part(
                world, "the read under way", Part(world.flight, unchecked=not rules.joiner_checks_token)
            )
    else:
        yield from answered(rules, world, world.client)


def asked(rules: AnswerRules, world: World, need: int) -> Step[World, Told]:
    if need > world.checkpoint.upto and not rules.unknown_token_waits:
        return Step("a request with a token is refused", world, answer=REFUSED)
    return Step(f"a request that needs {need}", world._replace(client=Client(need)))


def part(world: World, where: str, found: Part) -> Step[World, Told]:
    client = world.client or Client(0)
    return Step(f"a part from {where}", world._replace(client=client._replace(parts=(*client.parts, found))))


def answered(rules: AnswerRules, world: World, client: Client) -> Steps:
    """Answers if the parts contain the token's write. Else the client begins again."""
    over = world._replace(client=None)
    if not is_met(rules, client):
        yield Step("not yet consistent", over)
        return
    body = tuple(part.proof.rows for part in client.parts)
    as_ofs = [part.proof.as_of for part in client.parts]
    as_of = min(as_ofs) if rules.bound_of_oldest_part else max(as_ofs)
    told = Told(client.need, as_of, body, body if rules.tag_of_every_part else body[:1])
    yield Step("an answer", over, answer=told)
    if world.kept is None:
        yield Step(
            "an answer, and it is kept", over._replace(kept=told._replace(need=0, as_of=0)), answer=told
        )


def is_met(rules: AnswerRules, client: Client) -> bool:
    proofs = [part.proof for part in client.parts if not part.unchecked]
    if not rules.token_against_every_part:
        proofs = [min((part.proof for part in client.parts), key=lambda proof: proof.as_of)]
    ahead = 0 if rules.token_against_gtids else SEQ_AHEAD
    return all(proof.upto + ahead >= client.need for proof in proofs)


def broken_by(rows: int, world: World, step: Step[World, Told]) -> str | None:
    """The promise that a step breaks. `rows`: in each write."""
    told = step.answer
    if told is None:
        return None
    if told is REFUSED:
        return NO_FALSE_REFUSAL
    if min(told.body) < rows * told.as_of:
        return TRUE_BOUND
    if min(told.body) < rows * told.need:
        return OWN_WRITE
    same_tag = world.kept is not None and world.kept.tag == told.tag
    return ONE_BODY if same_tag and world.kept is not None and world.kept.body != told.body else None
