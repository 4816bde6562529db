"""The replica's rules, each of which can be switched off, and the scenarios in which they are tried."""

from __future__ import annotations

from dataclasses import dataclass

CHANGED, NAMED, UNTOUCHED = "+", "=", "."  # `=`: the batch names the key, and its content stays


@dataclass(frozen=True)
class Rules:
    """All True is the design. `mutations` says which promise breaks without a rule."""

    # the tide
    subscribe_before_watermark: bool = True
    messages_continue: bool = True
    replies_have_the_lineage: bool = True
    lineage_names_the_batch: bool = True  # False: lineages are compared by epoch and seq
    sunsubscribe_resets: bool = True
    idle_connection_asks: bool = True
    watermark_says_open: bool = True
    messages_drop_entries: bool = True
    # a fill
    lease_on_the_connection: bool = True
    fill_at_its_lease: bool = True
    fill_compares_checkpoint: bool = True
    fill_in_one_snapshot: bool = True
    fill_guarded_by_messages: bool = True
    fills_die_at_a_reset: bool = True
    # APPLY
    read_back_at_its_batch: bool = True
    read_back_verifies_its_batch: bool = True
    replay_asks_the_journal: bool = True
    # a composition
    composition_holds_its_moment: bool = True
    moment_moves_on_unnamed: bool = True  # to the tide, if no message since has named a part
    replica_is_at_the_moment: bool = True
    session_sets_a_floor: bool = True


DESIGN = Rules()


@dataclass(frozen=True)
class Scenario:
    """Bounds. `entity` and `list`: effects of each transaction on the two keys. Numbers of faults are limits.

    `gone`: transactions after which the entity does not exist. `open`: transactions that are the first
    part of a larger one.
    """

    name: str
    entity: str
    list: str
    gone: frozenset[int] = frozenset()
    open: frozenset[int] = frozenset()
    restores: int = 0  # of MongoDB, to an earlier batch
    failovers: int = 0  # of Redis; connections break
    demotions: int = (
        0  # connections stay with the old node, which talks on and later loads the new one's data
    )
    unsubscribes: int = 0  # a failover in a cluster: the connection stays, at a node that answers MOVED
    evictions: int = 0
    takeovers: int = 0  # an empty batch
    rebuilds: int = 0
    too_old: int = 0  # reads at a cluster time that MongoDB has no longer
    others: int = 0  # fills of another process
    leases: int = 1
    fills: int = 1  # at once
    replays: bool = False  # a batch whose cluster time the cache stage does not know
    answers: int = 0  # compositions
    batches: int = 3

    @property
    def transactions(self) -> int:
        return len(self.entity)
