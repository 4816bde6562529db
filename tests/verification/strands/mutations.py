"""The scenarios, and the design without one of its rules: each must be caught."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.verification.strands.model import (
    ALL_COME_BACK,
    AS_OF_IS_TRUE,
    CACHE_AT_WATERMARK,
    CONTAINS_TOKEN,
    LOCAL_AT_TIDE,
    NEVER_BACK,
    ONE_MOMENT,
    TIDE_IS_TRUE,
)
from tests.verification.strands.rules import DESIGN, Rules, Scenario

BOTH = Scenario("both keys in each transaction", ("++", "++"))
IN_TURN = Scenario("a key in each transaction", ("+.", ".+"))
BEGUN = replace(BOTH, name="a reader that begins", connected=False)
THREE = Scenario("three shards, one of which moves", ("+", ".", "+"), batches=1, moves=1)
UNREACHED = replace(IN_TURN, name="a shard that the projector does not reach", hangs=1, breaks=1)
SILENT = replace(IN_TURN, name="a silent shard, and a broken connection", silences=1, breaks=1)
BROKEN = replace(BOTH, name="a broken connection", breaks=1)
EMPTIED = replace(
    BROKEN, name="a lost shard, a fill, and a broken connection", flushes=1, leases=1, batches=1
)
FAILOVER = replace(BOTH, name="a failover", failovers=1)
LOST = replace(IN_TURN, name="a lost message, and a shard that moves", losses=1, moves=1)
REBUILT = replace(IN_TURN, name="a rebuild", rebuilds=1, batches=1)
RESTORED = Scenario("a restore", ("++", "++"), batches=1, restores=1, asks=False)
ASKED = replace(RESTORED, name="a restore, and look-ups", asks=True)
FORMER = Scenario("a former leader of a lost history", (".+.", "..."), restores=1, asks=False)
OTHER = replace(RESTORED, name="a restore, and a shard that is not reached", hangs=1)
TAKEN_OVER = Scenario("a takeover, and ticks", ("+", "+"), takeovers=1, ticks=True, asks=False)
BESIDE = replace(OTHER, name="two histories, and a shard that is not reached", keys=("+", "+"), asks=False)
EPOCHS = replace(BESIDE, name="a restore of one batch, and look-ups", hangs=0, asks=True)
COMPOSED = replace(BOTH, name="a composition, and a late strand", answers=1, lates=1)
SESSIONS = replace(BOTH, name="answers at present", answers=2, too_old=1, batches=1)
TOKEN = replace(BROKEN, name="a token", answers=1, token=1, asks=False)
WATCHED = replace(IN_TURN, name="a watch, and a late strand", watched=True, lates=1, breaks=1, asks=False)
WATCHED_FLUSH = replace(WATCHED, name="a watch, and a lost shard", lates=0, breaks=0, flushes=1)
SCENARIOS = (
    BEGUN,
    THREE,
    UNREACHED,
    SILENT,
    EMPTIED,
    FAILOVER,
    LOST,
    REBUILT,
    RESTORED,
    BESIDE,
    TAKEN_OVER,
    COMPOSED,
    SESSIONS,
    TOKEN,
    WATCHED,
    WATCHED_FLUSH,
)
QUIET = (UNREACHED, SILENT, BESIDE)
LONG_SCENARIOS = (
    ASKED,
    OTHER,
    Scenario("three shards, one of which is not reached", ("+.", ".+", "++"), hangs=1),
    replace(EMPTIED, name="a fill and a composition, through a failover", flushes=0, failovers=1, answers=1),
    replace(WATCHED, name="a watch, a lost shard and a silent one", breaks=0, flushes=1, silences=1),
    replace(REBUILT, name="a rebuild, and a shard that is not reached", batches=2, hangs=1),
)


@dataclass(frozen=True)
class Mutation:
    """The design without a rule, where that is tried, and the promise that it breaks."""

    name: str
    without: str
    scenario: Scenario
    broken: str

    @property
    def rules(self) -> Rules:
        return replace(DESIGN, **{self.without: False})


MUTATIONS = (
    # the projector and Redis
    Mutation("a shard without keys is left out", "every_shard_gets_each_batch", IN_TURN, ALL_COME_BACK),
    Mutation("a former leader's APPLY by seq", "apply_compares_lineages", FORMER, CACHE_AT_WATERMARK),
    # merging
    Mutation("no barrier", "batches_wait_for_all", BOTH, LOCAL_AT_TIDE),
    Mutation("a barrier by seq alone", "waiting_compares_batches", ASKED, LOCAL_AT_TIDE),
    Mutation("present by seq alone", "joining_compares_batches", ASKED, LOCAL_AT_TIDE),
    Mutation("a strand ahead joins at once", "ahead_waits", BROKEN, LOCAL_AT_TIDE),
    Mutation("a strand behind joins at once", "behind_comes_alone", COMPOSED, LOCAL_AT_TIDE),
    Mutation("a reply overtakes a batch", "replies_wait_behind_batches", BOTH, LOCAL_AT_TIDE),
    Mutation("a reply of an absent strand", "absent_get_no_replies", COMPOSED, LOCAL_AT_TIDE),
    Mutation("entries of an absent strand stay", "absent_entries_leave", COMPOSED, LOCAL_AT_TIDE),
    Mutation("a late strand is waited for", "late_are_put_out", UNREACHED, ALL_COME_BACK),
    Mutation("another history is not waited for", "other_histories_wait", OTHER, ALL_COME_BACK),
    Mutation("a tide that nobody can follow", "tide_begins_anew", REBUILT, ALL_COME_BACK),
    Mutation("an inbox outlives its connection", "lost_strand_is_emptied", BROKEN, ALL_COME_BACK),
    Mutation("the greatest as_of", "as_of_is_of_the_tide", BOTH, AS_OF_IS_TRUE),
    # what is known
    Mutation("positions across an absence", "absence_hides_names", COMPOSED, ONE_MOMENT),
    Mutation("a tide without an absent strand", "watchers_see_no_tide_with_absent", WATCHED, TIDE_IS_TRUE),
    Mutation("a watch over an absence", "watches_are_due_once_whole", WATCHED, TIDE_IS_TRUE),
    Mutation("a token of the fastest strand", "token_waits_for_the_tide", TOKEN, CONTAINS_TOKEN),
    # a fill
    Mutation("another shard's epoch", "epoch_is_of_the_shard", EPOCHS, LOCAL_AT_TIDE),
    Mutation("a lease of another's moment", "lease_has_the_tides_moment", EMPTIED, CACHE_AT_WATERMARK),
    Mutation("a fill of an absent strand", "fill_of_absent_is_dropped", EMPTIED, LOCAL_AT_TIDE),
    # a composition
    Mutation("a replica that went on", "part_is_of_the_moment", COMPOSED, ONE_MOMENT),
    Mutation("older after an answer at present", "session_sets_a_floor", SESSIONS, NEVER_BACK),
)
