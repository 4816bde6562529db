"""What can go wrong between a command and MySQL, each named by what to do about it."""

from __future__ import annotations

from tidemark.problem import Problem

RETRY_AFTER = {"Retry-After": "1"}


class Interrupted(Problem):
    """A transaction that was not carried through; `reason` is the label under which its repetition is counted."""

    def __init__(self, name: str, detail: str, reason: str, retry: bool = True) -> None:
        super().__init__(503, name, detail, headers=RETRY_AFTER if retry else {})
        self.reason = reason


class Contended(Interrupted):
    """Another transaction was in the way and ours was rolled back: run it again."""

    def __init__(self, reason: str) -> None:
        super().__init__("contended", "Others are changing the same things; repeat the request.", reason)


class DatabaseUnavailable(Interrupted):
    """The connection was lost before COMMIT, or there was none: run it again on another."""

    def __init__(self) -> None:
        super().__init__(
            "database-unavailable", "The database does not answer; repeat the request.", "connection_lost"
        )


class OutcomeUnknown(Interrupted):
    """The connection was lost during COMMIT: run it again only if twice is the same as once."""

    def __init__(self) -> None:
        detail = (
            "The command may or may not have been carried out: look before you repeat it. "
            "With an Idempotency-Key it could have been repeated safely."
        )
        super().__init__("outcome-unknown", detail, "commit_unknown", retry=False)


class PoolExhausted(Problem):
    """No connection became free in time: the caller may come back, and more of these ask for a larger pool."""

    def __init__(self) -> None:
        super().__init__(503, "overloaded", "The service is busy; repeat the request.", headers=RETRY_AFTER)


class IdsExhausted(Problem):
    """MySQL has no id left that read models can hold; an operator has to look at AUTO_INCREMENT."""

    def __init__(self) -> None:
        super().__init__(
            503, "ids-exhausted", "There is no id left for what you want to make; the operator must act."
        )


class MissingRow(Problem):
    """The row of `table` that was named does not exist."""

    def __init__(self, table: str) -> None:
        super().__init__(404, "not-found", f"There is no such {table.removesuffix('s')}.")


class Duplicate(Exception):
    """A row with the same values of the unique key `key` exists."""

    def __init__(self, key: str) -> None:
        super().__init__(f"duplicate for key {key}")
        self.key = key


class StatementRefused(Exception):
    """MySQL refuses a statement that should be right: look at the schema's version and the account's rights."""


class MigrationFailed(Exception):
    """The schema could not be brought up to date; the message names the file and what to do."""
