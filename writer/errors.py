"""The errors between a command and MySQL, each named by what to do."""

from __future__ import annotations

from tidemark.problem import Problem

RETRY_AFTER = {"Retry-After": "1"}


class Interrupted(Problem):
    """A transaction did not complete; `reason` is the metric label that counts its repetition."""

    def __init__(self, name: str, detail: str, reason: str, retry: bool = True) -> None:
        super().__init__(503, name, detail, headers=RETRY_AFTER if retry else {})
        self.reason = reason


class Contended(Interrupted):
    """Another transaction held a lock, and ours was rolled back: repeat it."""

    def __init__(self, reason: str) -> None:
        super().__init__("contended", "Others are changing the same things; repeat the request.", reason)


class DatabaseUnavailable(Interrupted):
    """The connection was lost before COMMIT, or could not be opened: repeat on another connection."""

    def __init__(self) -> None:
        super().__init__(
            "database-unavailable", "The database does not answer; repeat the request.", "connection_lost"
        )


class OutcomeUnknown(Interrupted):
    """The connection was lost during COMMIT: repeat only if twice is the same as once."""

    def __init__(self) -> None:
        detail = (
            "The command may or may not have been carried out: look before you repeat it. "
            "With an Idempotency-Key it could have been repeated safely."
        )
        super().__init__("outcome-unknown", detail, "commit_unknown", retry=False)


class PoolExhausted(Problem):
    """No connection became free in time: the caller may repeat. If this happens often, enlarge the pool."""

    def __init__(self) -> None:
        super().__init__(503, "overloaded", "The service is busy; repeat the request.", headers=RETRY_AFTER)


class IdsExhausted(Problem):
    """MySQL has no id left that read models can hold: an operator must look at AUTO_INCREMENT."""

    def __init__(self) -> None:
        super().__init__(
            503, "ids-exhausted", "There is no id left for what you want to make; the operator must act."
        )


class MissingRow(Problem):
    """The command names a row of `table` that does not exist."""

    def __init__(self, table: str) -> None:
        super().__init__(404, "not-found", f"There is no such {table.removesuffix('s')}.")


class Duplicate(Exception):
    """A row with the same values of the unique key `key` exists."""

    def __init__(self, key: str) -> None:
        super().__init__(f"duplicate for key {key}")
        self.key = key


class StatementRefused(Exception):
    """MySQL refuses a correct statement: check the schema's version and the account's rights."""


class MigrationFailed(Exception):
    """The schema could not be brought up to date; the message names the file and what to do."""
