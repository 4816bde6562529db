"""The scenarios, and the design without one of its rules: each must be caught."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.verification.replica.model import (
    CACHE_AT_WATERMARK,
    ENDS,
    FLAGGED,
    FOLLOWS,
    LOCAL_AT_TIDE,
    LOSES_NOTHING,
    NEVER_BACK,
    ONE_MOMENT,
)
from tests.verification.replica.rules import DESIGN, Rules, Scenario

BOTH = Scenario("both keys in each transaction", "++", "++", batches=2)
IN_TURN = Scenario("a key in each transaction", "+.", ".+", batches=2)
IN_PARTS = replace(BOTH, name="a transaction in parts, and a failover", open=frozenset({1}), failovers=1)
DEMOTED = replace(BOTH, name="a demoted node that talks on", demotions=1)
MOVED = replace(BOTH, name="slots that move", unsubscribes=1)
RESTORED = replace(IN_TURN, name="a restore", restores=1, batches=1)
REPLAYED = replace(BOTH, name="a restore and a replay", restores=1, batches=1, replays=True)
TOO_OLD = replace(IN_TURN, name="a cluster time that is too old", too_old=1)
COMPOSED = replace(BOTH, name="a composition", answers=1)
HELD = replace(IN_TURN, name="a composition of keys in turn", answers=1)
SESSIONS = replace(BOTH, name="a session at present", answers=2, too_old=1, leases=0)
SCENARIOS = (
    BOTH,
    IN_PARTS,
    DEMOTED,
    MOVED,
    RESTORED,
    REPLAYED,
    TOO_OLD,
    COMPOSED,
    HELD,
    SESSIONS,
    Scenario("the entity is deleted, and a failover", "++", ".+", gone=frozenset({2}), failovers=1),
    Scenario("a name without a change, and a failover", "+=", "+.", failovers=1),
    Scenario("two fills at once", "+", "+", fills=2, leases=2),
    replace(IN_TURN, name="a new build and a takeover", rebuilds=1, takeovers=1),
)

LINEAGE = Scenario(
    "a restore and a demoted node", ".+", "..", restores=1, demotions=1, others=1, leases=0, batches=2
)
LONG_SCENARIOS = (
    LINEAGE,
    replace(IN_TURN, name="a restore and three batches", restores=1, batches=3),
    replace(IN_TURN, name="a restore, three batches and replays", restores=1, batches=3, replays=True),
    replace(IN_TURN, name="a restore and a failover", restores=1, failovers=1),
    replace(BOTH, name="two fills and a failover", fills=2, leases=2, failovers=1),
    replace(IN_TURN, name="another process and a demoted node", others=1, demotions=1),
    replace(IN_TURN, name="an eviction and a demoted node", evictions=1, demotions=1),
    replace(BOTH, name="two compositions and a failover", answers=2, failovers=1, batches=3),
    replace(BOTH, name="a composition and a restore", answers=1, restores=1, leases=0),
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
    # the tide
    Mutation("subscribed after the watermark", "subscribe_before_watermark", BOTH, LOSES_NOTHING),
    Mutation("a message that does not continue", "messages_continue", DEMOTED, LOCAL_AT_TIDE),
    Mutation("a reply of another lineage", "replies_have_the_lineage", DEMOTED, LOCAL_AT_TIDE),
    Mutation("sunsubscribe ignored", "sunsubscribe_resets", MOVED, FOLLOWS),
    Mutation("the idle ask forgotten", "idle_connection_asks", RESTORED, FOLLOWS),
    Mutation("an open transaction forgotten", "watermark_says_open", IN_PARTS, FLAGGED),
    Mutation("an entry kept that a message names", "messages_drop_entries", BOTH, LOCAL_AT_TIDE),
    # a fill
    Mutation("a lease on another connection", "lease_on_the_connection", BOTH, LOCAL_AT_TIDE),
    Mutation("a fill at present", "fill_at_its_lease", BOTH, CACHE_AT_WATERMARK),
    Mutation("the checkpoint not compared", "fill_compares_checkpoint", TOO_OLD, CACHE_AT_WATERMARK),
    Mutation("the checkpoint before the document", "fill_in_one_snapshot", TOO_OLD, CACHE_AT_WATERMARK),
    Mutation("a fill after a message names its key", "fill_guarded_by_messages", BOTH, LOCAL_AT_TIDE),
    Mutation("a fill that outlives a reset", "fills_die_at_a_reset", IN_PARTS, LOCAL_AT_TIDE),
    # APPLY
    Mutation("read back from ahead", "read_back_at_its_batch", BOTH, CACHE_AT_WATERMARK),
    Mutation("read-back not verified", "read_back_verifies_its_batch", REPLAYED, CACHE_AT_WATERMARK),
    Mutation("a replay without the journal's word", "replay_asks_the_journal", REPLAYED, CACHE_AT_WATERMARK),
    # a composition
    Mutation("a moment that is not held", "composition_holds_its_moment", COMPOSED, ENDS),
    Mutation("a moment that moves on past a name", "moment_moves_on_unnamed", HELD, ONE_MOMENT),
    Mutation("a replica that went on", "replica_is_at_the_moment", COMPOSED, ONE_MOMENT),
    Mutation("older after a session at present", "session_sets_a_floor", SESSIONS, NEVER_BACK),
)

LINEAGE_BY_SEQ = (
    "MongoDB commits up to 1",
    "the stage takes 1",
    "MongoDB is restored to 0",
    "MongoDB commits up to 2",
    "the stage reads back at 1",
    "APPLY 1",
    "the replica takes over, connections stay",
    "the stage takes 1",
    "the stage reads back at 1",
    "the reader subscribes",
    "the reader asks for the watermark",
    "the watermark arrives",
    "another process leases key 0",
    "APPLY 1",
    "the demoted node loads the primary's data",
    "an MGET",
    "an MGET's reply arrives",
)
"""The search finds this trace after 618,481 states, too many for every run."""
