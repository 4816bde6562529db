"""Scenarios, and protocols without one rule each. The checker must catch every one, or it proves nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.verification.protocol.answers import NO_FALSE_REFUSAL, ONE_BODY, OWN_WRITE, TRUE_BOUND
from tests.verification.protocol.promises import (
    ALL_EQUAL,
    BOUND,
    COVERS,
    NEVER_BACK,
    NEVER_UNDONE,
    ONE_CONTENT,
    WITHIN_CHECKPOINT,
)
from tests.verification.protocol.rules import (
    CRASH,
    DEPOSED,
    EVICTION,
    FAILOVER,
    FULL_MEMORY,
    JOURNAL_GAP,
    LOST_WATERMARK,
    PROTOCOL,
    REBUILD,
    REDIS_ERROR,
    RESTORE,
    ROLLBACK,
    TAKEOVER,
    Rules,
    Scenario,
)

PROJECTOR_FAULTS = {CRASH, ROLLBACK, REDIS_ERROR}
ONE_KEY = Scenario(
    "one key", ("+.",), frozenset({*PROJECTOR_FAULTS, EVICTION, DEPOSED, FAILOVER, FULL_MEMORY})
)
DELETED = replace(ONE_KEY, name="a key deleted", keys=("+-",))
TWO_READERS = Scenario("two readers", ("++",), frozenset({*PROJECTOR_FAULTS, EVICTION, DEPOSED}), readers=2)
LOSSES = Scenario("losses", ("+",), frozenset({EVICTION, FAILOVER, JOURNAL_GAP, LOST_WATERMARK, REDIS_ERROR}))
OLD_LEADER = Scenario("an old leader", ("+",), frozenset({EVICTION, TAKEOVER, LOST_WATERMARK}), projectors=2)
NEW_BUILD = Scenario("a new build", ("+",), frozenset({LOST_WATERMARK, REBUILD}), projectors=2)
NEW_BUILD_AND_CRASH = replace(NEW_BUILD, name="a new build and a crash", faults=frozenset({CRASH, REBUILD}))
BACKUP = Scenario("a backup", ("++",), frozenset({CRASH, EVICTION, RESTORE}))
LIST_AND_ENTITY = Scenario(
    "a list and an entity", ("+.+", "++."), frozenset({CRASH, EVICTION}), lists=frozenset({1})
)
TWO_ENTITIES = Scenario("two entities", ("+.-", ".++"), frozenset({CRASH, EVICTION}))
TAGS = Scenario("a tag kept", ("++",), frozenset({CRASH, EVICTION, RESTORE}), watches_tags=True)
SCENARIOS = (
    ONE_KEY,
    DELETED,
    TWO_READERS,
    LOSSES,
    OLD_LEADER,
    NEW_BUILD,
    NEW_BUILD_AND_CRASH,
    BACKUP,
    LIST_AND_ENTITY,
    TWO_ENTITIES,
    TAGS,
)

ALL_FAULTS = ONE_KEY.faults | LOSSES.faults
BACKUP_AND_FAILOVER = replace(BACKUP, name="a backup and a failover", faults=BACKUP.faults | {FAILOVER})
BACKUP_AND_LOSS = replace(
    BACKUP, name="a backup and a lost watermark", keys=("+++",), faults=BACKUP.faults | {LOST_WATERMARK}
)
ROLLED_BACK = Scenario(
    "an old leader and a rollback", ("+++",), frozenset({TAKEOVER, ROLLBACK}), projectors=2
)
LONG_SCENARIOS = (
    BACKUP_AND_FAILOVER,
    BACKUP_AND_LOSS,
    ROLLED_BACK,
    Scenario("every fault of the stores", ("+.-",), ALL_FAULTS),
    replace(TWO_READERS, name="two readers and a failover", faults=TWO_READERS.faults | {FAILOVER}),
    replace(LOSSES, name="losses, two transactions", keys=("++",)),
    replace(
        OLD_LEADER,
        name="an old leader and every fault of it",
        keys=("++",),
        faults=OLD_LEADER.faults | PROJECTOR_FAULTS,
    ),
    replace(OLD_LEADER, name="an old leader and a failover", faults=OLD_LEADER.faults | {FAILOVER}),
    replace(
        NEW_BUILD,
        name="a new build, two transactions",
        keys=("++",),
        faults=NEW_BUILD.faults | {CRASH},
    ),
    replace(NEW_BUILD, name="a new build and every fault", faults=NEW_BUILD.faults | {CRASH, FAILOVER}),
    replace(BACKUP, name="a backup and four transactions", keys=("+.-+",)),
    replace(
        LIST_AND_ENTITY, name="a list, an entity and a failover", faults=LIST_AND_ENTITY.faults | {FAILOVER}
    ),
    replace(LIST_AND_ENTITY, name="a list and an entity, two readers", readers=2),
)


@dataclass(frozen=True)
class Mutation:
    """The protocol without some rules, the scenario to try it in, and the promise that breaks.

    `faults`: those of the scenario that suffice; without the others, fewer states come first.
    """

    name: str
    without: tuple[str, ...]
    within: Scenario
    broken: str
    faults: tuple[str, ...] = ()

    @property
    def rules(self) -> Rules:
        return replace(PROTOCOL, **dict.fromkeys(self.without, False))

    @property
    def scenario(self) -> Scenario:
        return replace(self.within, faults=frozenset(self.faults) or self.within.faults)


KEEPING = ("keep_nothing", "replace_same_version")  # in force, they hide the absence of other rules

MUTATIONS = (
    # a reader's fill
    Mutation("a fill without a lease", ("fill_under_lease",), ONE_KEY, COVERS),
    Mutation("a fill by version only", ("fill_under_lease", "fill_over_anything"), ONE_KEY, COVERS),
    Mutation("the watermark before the lease", ("lease_before_watermark",), ONE_KEY, COVERS),
    Mutation("a token used twice", ("token_per_attempt",), TWO_READERS, COVERS),
    Mutation("a fill from what a majority may not keep", ("majority_reads",), ONE_KEY, BOUND),
    Mutation("a fill from behind the watermark", ("fill_from_floor",), ONE_KEY, COVERS),
    Mutation("a floor by seq only", ("floor_of_same_history",), BACKUP, COVERS, (RESTORE,)),
    Mutation(
        "a fill across epochs", ("fill_of_same_epoch",), BACKUP_AND_FAILOVER, COVERS, (FAILOVER, RESTORE)
    ),
    Mutation("the checkpoint after the document", ("checkpoint_before_document",), ONE_KEY, BOUND),
    Mutation(
        "an absence with a later version",
        ("absence_at_checkpoint", "keep_nothing"),
        ONE_KEY,
        COVERS,
        (REDIS_ERROR,),
    ),
    # the projector's batches
    Mutation("a commit that only the primary has", ("commit_by_majority",), ONE_KEY, WITHIN_CHECKPOINT),
    Mutation(
        "filtered transactions in the cache only", ("filtered_through_mongodb",), ONE_KEY, WITHIN_CHECKPOINT
    ),
    Mutation(
        "a switch past the old leader",
        ("rebuild_claims_former_build", "switch_claims_former_build"),
        NEW_BUILD,
        NEVER_UNDONE,
    ),
    Mutation(
        "a switch to what lacks something", ("new_build_contains_former",), NEW_BUILD, NEVER_BACK, (REBUILD,)
    ),
    Mutation("a switch by who has lost the lease", ("switch_claims_former_build",), NEW_BUILD, NEVER_UNDONE),
    # APPLY
    Mutation("bytes that a majority may not keep", ("read_back_by_majority", *KEEPING), ROLLED_BACK, COVERS),
    Mutation("entries, then the watermark", ("atomic_apply",), ONE_KEY, COVERS),
    Mutation("the watermark, then entries", ("atomic_apply", "entries_before_watermark"), ONE_KEY, COVERS),
    Mutation("APPLY after any watermark", ("apply_compares_previous",), ONE_KEY, COVERS, (DEPOSED, FAILOVER)),
    Mutation("leases left alone", ("apply_ends_leases",), ONE_KEY, COVERS),
    Mutation("what was not probed left alone", ("delete_what_was_not_probed",), ONE_KEY, COVERS),
    Mutation("lists left alone", ("delete_lists",), LIST_AND_ENTITY, COVERS),
    Mutation("an entry kept when memory is full", ("delete_on_memory_error",), ONE_KEY, COVERS),
    Mutation("an entry kept that looks newer", ("keep_nothing",), BACKUP_AND_LOSS, COVERS, (CRASH, RESTORE)),
    Mutation("an entry kept that looks as new", KEEPING, BACKUP, COVERS, (RESTORE,)),
    # where the cache stage goes on
    Mutation(
        "the position outside Redis", ("position_in_redis", "apply_compares_previous"), ONE_KEY, ALL_EQUAL
    ),
    Mutation("skip what MongoDB already has", ("replay_from_watermark",), ONE_KEY, COVERS),
    Mutation("an error in a replay forgotten", ("error_forgets_watermark",), ONE_KEY, ALL_EQUAL),
    Mutation("a history by seq only", ("same_history",), BACKUP, ALL_EQUAL, (RESTORE,)),
    Mutation(
        "a lost watermark put back", ("lost_watermark_starts_empty",), LOSSES, COVERS, (LOST_WATERMARK,)
    ),
    Mutation("a gap in the journal jumped over", ("journal_gap_starts_empty",), LOSSES, COVERS),
    Mutation(
        "an epoch used again", ("epochs_are_new",), BACKUP_AND_LOSS, NEVER_BACK, (LOST_WATERMARK, RESTORE)
    ),
    Mutation(
        "a watermark set over another one",
        ("watermark_by_compare_and_set",),
        OLD_LEADER,
        NEVER_BACK,
        (LOST_WATERMARK, TAKEOVER),
    ),
    # the operator, and clients
    Mutation("a restore under a running projector", ("restore_stops_projectors",), BACKUP, WITHIN_CHECKPOINT),
    Mutation("an ETag of epoch and version", ("tag_names_content",), TAGS, ONE_CONTENT, (RESTORE,)),
)

ANSWER_MUTATIONS = {
    "as_of_from_mysql": TRUE_BOUND,
    "bound_of_oldest_part": TRUE_BOUND,
    "token_against_every_part": OWN_WRITE,
    "token_against_gtids": OWN_WRITE,
    "joiner_checks_token": OWN_WRITE,
    "unknown_token_waits": NO_FALSE_REFUSAL,
    "gtid_with_last_part": OWN_WRITE,
    "tag_of_every_part": ONE_BODY,
}
