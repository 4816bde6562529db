"""Traces that broke designs like this one (docs/consistency.md, "Traces").

Without its rule, each trace breaks a promise at its last step. Under the protocol, a trace either comes to a
step that is not possible, or ends with every promise kept.
"""

from __future__ import annotations

from dataclasses import replace

from tests.verification.protocol.answers import (
    IN_PARTS,
    NO_FALSE_REFUSAL,
    ONE_BODY,
    OWN_WRITE,
    TRUE_BOUND,
    WHOLE,
    AnswerRules,
    Bounds,
    answers,
)
from tests.verification.protocol.checker import follow
from tests.verification.protocol.model import system
from tests.verification.protocol.promises import (
    ALL_EQUAL,
    COVERS,
    NEVER_BACK,
    NEVER_UNDONE,
    ONE_CONTENT,
    WITHIN_CHECKPOINT,
)
from tests.verification.protocol.rules import (
    CRASH,
    EVICTION,
    FAILOVER,
    FULL_MEMORY,
    LOST_WATERMARK,
    PROTOCOL,
    REBUILD,
    REDIS_ERROR,
    RESTORE,
    ROLLBACK,
    TAKEOVER,
    Scenario,
)

COMMITS = ["a majority has it", "A has committed"]
APPLIES = ["A probes", "A reads back 1", "A applies"]
LOOKS = ["A looks", "A goes on from the watermark"]
KNOWS_NOTHING = [
    "reader 0 leases key 0",
    "reader 0 reads the watermark",
    "reader 0 views 0",
    "reader 0 reads",
]
EVERYTHING = frozenset({CRASH, EVICTION, FAILOVER, FULL_MEMORY, REDIS_ERROR, RESTORE, ROLLBACK})


def one_key(effects: str = "+++") -> Scenario:
    return Scenario("a trace", (effects,), EVERYTHING)


def two_projectors(*faults: str) -> Scenario:
    return Scenario("a trace", ("+++",), frozenset(faults), projectors=2)


def assert_broken_without(rules: list[str], scenario: Scenario, broken: str, *script: str) -> None:
    mutated = replace(PROTOCOL, **dict.fromkeys(rules, False))
    finding = follow(system(mutated, scenario), script)
    assert finding is not None, "nothing broke"
    assert (finding.invariant, len(finding.trace)) == (broken, len(script))
    assert follow(system(PROTOCOL, scenario), script) is None


def assert_answer_broken_without(rule: str, broken: str, *script: str, bounds: Bounds = WHOLE) -> None:
    finding = follow(answers(replace(AnswerRules(), **{rule: False}), bounds), script)
    assert finding is not None, "nothing broke"
    assert (finding.invariant, len(finding.trace)) == (broken, len(script))
    assert follow(answers(AnswerRules(), bounds), script) is None


def test_a_fill_from_a_rolled_back_batch_is_replaced() -> None:
    assert_broken_without(
        ["majority_reads", "keep_nothing", "replace_same_version"],
        one_key(),
        COVERS,
        "A commits to 1",
        "reader 0 leases key 0",
        "reader 0 reads the watermark",
        "reader 0 views 1",
        "reader 0 reads",
        "reader 0 fills",
        "the primary dies with it",
        "A has lost its batch",
        "A claims",
        "A commits to 2",
        *COMMITS,
        *LOOKS,
        *APPLIES,
    )


def test_only_a_checkpoint_that_a_majority_has_is_applied() -> None:
    assert_broken_without(
        ["commit_by_majority"],
        one_key(),
        WITHIN_CHECKPOINT,
        "A commits to 1",
        "A has committed",
        "A probes",
        "A reads back 0",
        "A applies",
    )


def test_a_paused_leader_cannot_bring_the_old_build_back() -> None:
    assert_broken_without(
        ["rebuild_claims_former_build", "switch_claims_former_build"],
        two_projectors(LOST_WATERMARK, REBUILD),
        NEVER_UNDONE,
        "the watermark is lost",
        "A ticks and is refused",
        "A looks",
        "A cannot go on from the watermark",
        "B takes a snapshot of 3",
        "B catches up to 3",
        "B lets the new build serve",
        "A allocates an epoch",
    )


def test_a_rebuild_that_lost_its_lease_cannot_switch() -> None:
    assert_broken_without(
        ["switch_claims_former_build"],
        two_projectors(CRASH, REBUILD),
        ALL_EQUAL,
        "B takes a snapshot of 2",
        "B catches up to 2",
        "A is fenced",
        "A claims",  # B was paused for longer than a lease lives
        *LOOKS,
        "A commits to 3",
        *COMMITS,
        *APPLIES,
        "B lets the new build serve",
        "B crashes",  # it has done its work
    )


def test_a_tag_names_one_content_although_seqs_are_used_again() -> None:
    assert_broken_without(
        ["tag_names_content"],
        replace(one_key(), watches_tags=True),
        ONE_CONTENT,
        "A commits to 1",
        *COMMITS,
        "reader 0 leases key 0",
        *APPLIES,
        "reader 0 reads the watermark",
        "the backup is restored",
        "A claims",
        "A commits to 2",
        "a majority has it",
        "reader 0 views 1, and a client keeps the tag",
        "reader 0 hits key 0",
    )


def test_no_batch_is_skipped_when_a_restore_reuses_seqs() -> None:
    assert_broken_without(
        ["same_history"],
        one_key(),
        ALL_EQUAL,
        "A commits to 1",
        *COMMITS,
        *APPLIES,
        "the backup is restored",
        "A claims",
        "A commits to 3",
        *COMMITS,
        *LOOKS,
    )


def test_an_entry_of_a_lost_history_is_replaced() -> None:
    assert_broken_without(
        ["keep_nothing"],
        one_key(),
        COVERS,
        "A commits to 1",
        *COMMITS,
        "A probes",
        "A gets no answer from Redis",
        "A commits to 2",
        *COMMITS,
        "reader 0 leases key 0",
        "reader 0 reads the watermark",
        "reader 0 views 2",
        "reader 0 reads",
        "reader 0 fills",
        "the backup is restored",
        "A claims",
        "A commits to 3",
        *COMMITS,
        *LOOKS,
        *APPLIES,
    )


def test_a_checkpoint_of_another_history_permits_no_fill() -> None:
    assert_broken_without(
        ["floor_of_same_history"],
        one_key(),
        COVERS,
        "A commits to 2",
        *COMMITS,
        *APPLIES,
        "reader 0 leases key 0",
        "reader 0 reads the watermark",
        "the backup is restored",
        "A claims",
        "A commits to 1",
        "a majority has it",
        "reader 0 views 1",
        "reader 0 reads",
        "reader 0 fills",
    )


def test_a_token_ahead_of_the_checkpoint_is_not_called_invalid() -> None:
    assert_answer_broken_without(
        "unknown_token_waits", NO_FALSE_REFUSAL, "a write", "a request with a token is refused"
    )


def test_a_token_is_compared_with_gtids_and_never_with_a_version() -> None:
    assert_answer_broken_without(
        "token_against_gtids",
        OWN_WRITE,
        "a write",
        "a request that needs 1",
        "a part from the cache",
        "a part from the cache",
        "an answer",
    )


def test_a_joined_read_that_began_before_the_write_is_refused() -> None:
    assert_answer_broken_without(
        "joiner_checks_token",
        OWN_WRITE,
        "somebody reads MongoDB",
        "a write",
        "a request that needs 1",
        "a part from the read under way",
        "a part from the read under way",
        "an answer",
    )


def test_a_failover_during_apply_keeps_entries_and_watermark_together() -> None:
    before = [*KNOWS_NOTHING, "reader 0 fills", "the replica catches up", "A commits to 1", *COMMITS]
    read = ["A probes", "A reads back 1"]
    halves = ["A applies one half", "the replica takes over", "A applies the other half"]
    assert_broken_without(["atomic_apply"], one_key(), COVERS, *before, *read, *halves)
    assert (
        follow(system(PROTOCOL, one_key()), [*before, *read, "the replica takes over", "A applies"]) is None
    )


def test_a_key_that_was_absent_when_probed_is_deleted() -> None:
    assert_broken_without(
        ["delete_what_was_not_probed"],
        one_key(),
        COVERS,
        *KNOWS_NOTHING,
        "reader 0 fills",
        "the replica catches up",
        "key 0 is evicted",
        "A commits to 1",
        *COMMITS,
        "A probes",
        "A reads back 1",
        "the replica takes over",
        "A applies",
    )


def test_a_batch_that_changes_a_list_deletes_its_cached_page() -> None:
    assert_broken_without(
        ["delete_lists"],
        replace(one_key(), lists=frozenset({0})),
        COVERS,
        *KNOWS_NOTHING,
        "reader 0 fills",
        "A commits to 1",
        *COMMITS,
        *APPLIES,
    )


def test_an_absence_carries_the_checkpoint_read_before_it() -> None:
    assert_broken_without(
        ["absence_at_checkpoint", "keep_nothing"],
        one_key("+.+"),
        COVERS,
        *KNOWS_NOTHING,
        "A commits to 1",
        *COMMITS,
        "A probes",
        "A gets no answer from Redis",
        "A commits to 2",
        *COMMITS,
        "reader 0 fills",
        *LOOKS,
        "A probes",
        "A reads back 2",
        "A applies",
    )


def test_a_part_of_a_transaction_does_not_satisfy_its_token() -> None:
    assert_answer_broken_without(
        "gtid_with_last_part",
        OWN_WRITE,
        "a write",
        "MongoDB has 1",
        "a request that needs 1",
        "a part from MongoDB",
        "a part from MongoDB",
        "an answer",
        bounds=IN_PARTS,
    )


def test_an_answer_claims_the_freshness_of_its_oldest_part() -> None:
    assert_answer_broken_without(
        "bound_of_oldest_part",
        TRUE_BOUND,
        "a write",
        "MySQL's clock is read",
        "MongoDB has 1",
        "a request that needs 0",
        "a part from the cache",
        "a part from MongoDB",
        "an answer",
    )


def test_every_part_of_an_answer_is_checked_against_the_token() -> None:
    assert_answer_broken_without(
        "token_against_every_part",
        OWN_WRITE,
        "a write",
        "MongoDB has 1",
        "a request that needs 1",
        "a part from MongoDB",
        "a part from the cache",
        "an answer",
    )


def test_a_rename_of_the_author_changes_the_tag() -> None:
    assert_answer_broken_without(
        "tag_of_every_part",
        ONE_BODY,
        "a write",
        "a request that needs 0",
        "a part from the cache",
        "a part from the cache",
        "an answer, and it is kept",
        "MongoDB has 1",
        "a request that needs 0",
        "a part from the cache",
        "a part from MongoDB",
        "an answer",
    )


def test_freshness_stands_still_while_mysql_is_not_heard() -> None:
    assert_answer_broken_without(
        "as_of_from_mysql",
        TRUE_BOUND,
        "a write",
        "the watermark ticks",
        "a request that needs 0",
        "a part from the cache",
        "a part from the cache",
        "an answer",
    )


def test_an_entry_is_deleted_when_memory_is_full() -> None:
    assert_broken_without(
        ["delete_on_memory_error"],
        one_key(),
        COVERS,
        *KNOWS_NOTHING,
        "reader 0 fills",
        "A commits to 1",
        *COMMITS,
        "A probes",
        "A reads back 1",
        "A applies, memory is full",
    )


def test_a_filtered_transaction_does_not_move_the_watermark_past_mongodb() -> None:
    assert_broken_without(
        ["filtered_through_mongodb"], one_key(".++"), WITHIN_CHECKPOINT, "A moves the watermark alone"
    )


def test_an_expired_lease_of_a_slow_reader_fills_nothing() -> None:
    assert_broken_without(
        ["token_per_attempt"],
        replace(one_key(), readers=2),
        COVERS,
        *KNOWS_NOTHING,
        "key 0 is evicted",
        "A commits to 1",
        *COMMITS,
        *APPLIES,
        "reader 1 leases key 0",
        "reader 0 fills",
    )


def test_an_old_leader_that_wakes_cannot_apply() -> None:
    assert_broken_without(
        ["apply_compares_previous"],
        two_projectors(TAKEOVER),
        NEVER_BACK,
        "A commits to 1",
        *COMMITS,
        "A probes",
        "A reads back 1",
        "B claims",
        "B looks",
        "B goes on from the watermark",
        "B probes",
        "B reads back 1",
        "B applies",
        "B commits to 2",
        "a majority has it",
        "B has committed",
        "B probes",
        "B reads back 2",
        "B applies",
        "A applies",
    )


def test_an_old_leader_that_wakes_cannot_set_the_watermark() -> None:
    assert_broken_without(
        ["watermark_by_compare_and_set"],
        two_projectors(TAKEOVER, LOST_WATERMARK),
        NEVER_BACK,
        "the watermark is lost",
        "A ticks and is refused",
        "A looks",
        "A cannot go on from the watermark",
        "A allocates an epoch",
        "B claims",
        "B commits to 1",
        "a majority has it",
        "B has committed",
        "B looks",
        "B cannot go on from the watermark",
        "B allocates an epoch",
        "B sets the watermark",
        "A sets the watermark",
    )


def test_an_error_during_a_replay_does_not_end_it_for_ever() -> None:
    assert_broken_without(
        ["error_forgets_watermark"],
        one_key(),
        ALL_EQUAL,
        "A commits to 1",
        *COMMITS,
        "A probes",
        "A gets no answer from Redis",
        "A commits to 3",
        *COMMITS,
    )
