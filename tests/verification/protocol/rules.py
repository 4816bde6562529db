"""The protocol's rules, each of which can be switched off, and the scenarios in which they are tried."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rules:
    """All True is the protocol. `mutations` shows which promise breaks without each rule."""

    # a reader's fill
    fill_under_lease: bool = True
    fill_over_anything: bool = True  # matters only without a lease; False: fill what is absent or older
    lease_before_watermark: bool = True
    token_per_attempt: bool = True
    majority_reads: bool = True
    fill_from_floor: bool = True
    floor_of_same_history: bool = True
    fill_of_same_epoch: bool = True
    checkpoint_before_document: bool = True
    absence_at_checkpoint: bool = True
    # the projector's batches
    commit_by_majority: bool = True
    filtered_through_mongodb: bool = True
    rebuild_claims_former_build: bool = True
    new_build_contains_former: bool = True
    switch_claims_former_build: bool = True
    # APPLY
    read_back_by_majority: bool = True
    atomic_apply: bool = True
    entries_before_watermark: bool = True  # matters only if not atomic
    apply_compares_previous: bool = True
    apply_ends_leases: bool = True
    delete_what_was_not_probed: bool = True
    delete_lists: bool = True
    delete_on_memory_error: bool = True
    keep_nothing: bool = True  # False: an entry that looks newer than the batch is left alone
    replace_same_version: bool = True  # matters only without `keep_nothing`
    # where the cache stage goes on
    position_in_redis: bool = True
    replay_from_watermark: bool = True
    error_forgets_watermark: bool = True
    same_history: bool = True
    lost_watermark_starts_empty: bool = True
    journal_gap_starts_empty: bool = True
    epochs_are_new: bool = True
    watermark_by_compare_and_set: bool = True
    # the operator
    restore_stops_projectors: bool = True
    # a version's name in an ETag
    tag_names_content: bool = True


PROTOCOL = Rules()

EVICTION = "eviction"  # of any entry; also its TTL
FAILOVER = "failover"  # of Redis, to a replica that lacks the last commands; also an old dump
LOST_WATERMARK = "lost watermark"  # also FLUSHALL
FULL_MEMORY = "full memory"  # no entry can be set
REDIS_ERROR = "redis error"  # before a command or after it
ROLLBACK = "rollback"  # of a batch that only MongoDB's primary had
DEPOSED = "deposed primary"  # still answers reads, from an older part of the majority's history
JOURNAL_GAP = "journal gap"
RESTORE = "restore"  # of MongoDB from a backup, once
CRASH = "crash"  # of a projector
TAKEOVER = "takeover"  # by a second projector, while the first is only paused, once
REBUILD = "rebuild"  # by a second projector, while the first goes on or is paused, once


@dataclass(frozen=True)
class Scenario:
    """Bounds. `keys`: what each transaction does to a key: `+` puts it, `-` deletes it, `.` leaves it alone.

    Faults strike at any moment and, where nothing else is said, any number of times.
    """

    name: str
    keys: tuple[str, ...]
    faults: frozenset[str]
    lists: frozenset[int] = frozenset()
    projectors: int = 1
    readers: int = 1
    watches_tags: bool = False

    @property
    def transactions(self) -> int:
        return len(self.keys[0])
