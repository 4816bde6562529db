"""The hub's rules, each of which can be switched off, and the scenarios in which they are tried."""

from __future__ import annotations

from dataclasses import dataclass

CHANGED, GONE, NAMED, COUNTED, UNTOUCHED = "+-=#."
"""Effects of a batch on a key. GONE: absent again. NAMED: as it was. COUNTED: its counter moves."""
FOLLOWEES, HEAD, OTHER = KEYS = (0, 1, 2)
FEED, POST = READS = (0, 1)
"""FEED reads FOLLOWEES, then HEAD, and OTHER too while it is followed. POST reads OTHER and its counter."""


@dataclass(frozen=True)
class Rules:
    """All True is the design. docs/consistency.md has the rules; `mutations` says what breaks without one."""

    # making a state
    dependencies_are_replaced: bool = True  # M1
    absences_are_dependencies: bool = True  # M2
    heads_are_dependencies_at_present: bool = True
    position_is_the_moments: bool = True  # M3; False: the position at which the composition ends
    present_counts_from_its_start: bool = True
    present_has_its_own_moment: bool = True
    no_tide_no_position: bool = True  # M4
    due_compares_positions: bool = True  # M5; False: a flag, cleared when a state is made
    counters_are_names: bool = True
    batch_counts_at_its_last_message: bool = True  # M6
    reset_ends_positions: bool = True  # M7
    silence_makes_nothing_due: bool = True
    silence_forgets_nothing_due: bool = True
    due_waits_for_a_tide: bool = True  # M8
    # sending
    quiet_state_has_the_tides_moment: bool = True  # S1
    order_by_gtids: bool = True  # S2
    order_by_as_of: bool = True
    tides_are_in_order: bool = True
    tides_count_as_sent: bool = True
    one_order_for_a_connection: bool = True  # S3
    refused_state_waits: bool = True  # S4
    refused_too_long_ends: bool = True
    equal_body_becomes_sent: bool = True  # S5
    equal_body_is_not_sent: bool = True
    equal_body_takes_the_waiting_away: bool = True
    latest_replaces_the_waiting: bool = True
    taken_is_sent: bool = True  # S6
    known_body_is_spared: bool = True  # S7
    # the tide
    tide_stops_before_what_is_due: bool = True  # T1
    reset_leaves_what_was_sent: bool = True
    first_state_before_a_tide: bool = True
    tide_asks_every_watch: bool = True  # T2; False: only the last watch
    tide_flows_while_something_is_due: bool = True
    states_hold_no_tide_back: bool = True  # a tide has to follow tides alone


DESIGN = Rules()


@dataclass(frozen=True, eq=False)
class Scenario:
    """Bounds. `effects`: one string a key, one letter a batch. Numbers of faults are limits.

    `connections`: the reads that each of them watches. `late`: watches that begin at any time, by connection
    and place. `as_of`: the clock at each moment. `ticks`: batches without a transaction. `halves`: batches
    that come in two messages, of which the first names FOLLOWEES and HEAD.
    """

    name: str
    effects: tuple[str, str, str]
    connections: tuple[tuple[int, ...], ...]
    late: frozenset[tuple[int, int]] = frozenset()
    as_of: tuple[int, ...] = (0, 1, 2, 3, 4)
    ticks: frozenset[int] = frozenset()
    halves: frozenset[int] = frozenset()
    failovers: int = 0  # of Redis, to a replica that may lack the last batch
    losses: int = 0  # of MySQL's last batch
    silences: int = 0  # the process is blind for a time
    presents: int = 0  # MongoDB does not have a moment any more
    unwatches: int = 0

    @property
    def batches(self) -> int:
        return len(self.effects[0])
