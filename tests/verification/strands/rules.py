"""The rules of the merged strands, each of which can be switched off, and the scenarios that try them."""

from __future__ import annotations

from dataclasses import dataclass

CHANGED = "+"


@dataclass(frozen=True)
class Rules:
    """All True is the design. `mutations` says which promise breaks without a rule."""

    # the projector and Redis
    every_shard_gets_each_batch: bool = True  # False: a shard without keys of a batch gets no APPLY
    apply_compares_lineages: bool = True  # False: by seq
    # merging
    batches_wait_for_all: bool = True
    waiting_compares_batches: bool = True  # False: by seq
    joining_compares_batches: bool = True  # False: by seq
    ahead_waits: bool = True
    behind_comes_alone: bool = True
    replies_wait_behind_batches: bool = True
    absent_get_no_replies: bool = True
    absent_entries_leave: bool = True
    late_are_put_out: bool = True
    other_histories_wait: bool = True  # False: who is at the tide's seq in another history is not waited for
    unfed_are_not_waited_for: bool = True  # a strand away whose shard the projector does not reach
    tide_begins_anew: bool = True
    lost_strand_is_emptied: bool = True
    as_of_is_of_the_tide: bool = True  # False: the greatest that any strand has told
    # what is known
    absence_hides_names: bool = True
    watchers_see_no_tide_with_absent: bool = True
    watches_are_due_once_whole: bool = True
    token_waits_for_the_tide: bool = True  # False: for the fastest strand
    # a fill
    epoch_is_of_the_shard: bool = True
    lease_has_the_tides_moment: bool = True  # False: that of the strand that is furthest
    fill_of_absent_is_dropped: bool = True
    # a composition
    part_is_of_the_moment: bool = True
    session_sets_a_floor: bool = True


DESIGN = Rules()


@dataclass(frozen=True)
class Scenario:
    """Bounds. `keys`: for each shard, the effects of each transaction on its key. Faults are limits.

    The shard of a fault is the first one, but for `hangs` and `silences`.
    """

    name: str
    keys: tuple[str, ...]
    batches: int = 2
    # the projector and MongoDB
    takeovers: int = 0  # an empty batch; the former leader goes on talking
    restores: int = 0  # of MongoDB, to an earlier batch
    rebuilds: int = 0
    ticks: bool = False
    hangs: int = 0  # a shard that the projector does not reach
    # Redis and connections
    failovers: int = 0  # to a replica that may lack a suffix; the connection breaks
    flushes: int = 0
    moves: int = 0  # the connection stays, and gets MOVED
    breaks: int = 0  # of a connection
    losses: int = 0  # of a message
    silences: int = 0  # nothing comes of a shard for a while
    lates: int = 0  # a strand that is put out although its messages would come
    too_old: int = 0  # a moment that MongoDB has no longer
    # the reader
    connected: bool = True  # from the start
    asks: bool = True  # for entries that the replica lacks
    leases: int = 0
    answers: int = 0
    token: int = 0  # the transaction that the answers must contain
    watched: bool = False

    @property
    def shards(self) -> range:
        return range(len(self.keys))

    @property
    def transactions(self) -> int:
        return len(self.keys[0])
