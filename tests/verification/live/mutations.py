"""The scenarios, and the design without one of its rules: each must be caught."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.verification.live.model import (
    BOUNDED,
    EVERY_CHANGE,
    ITS_MOMENT,
    NEVER_BACK,
    NO_NEEDLESS_END,
    NOT_IN_VAIN,
    TIDE_COMES,
    TIDE_FLOWS,
    TIDE_IS_TRUE,
)
from tests.verification.live.rules import DESIGN, FEED, POST, Rules, Scenario

ONE = Scenario("a feed", ("+..", ".+.", "..+"), ((FEED,),))
TWO = Scenario("a feed and a post", ("+..", ".+.", "..+"), ((FEED, POST),))
COUNTERS = Scenario("counters", ("+.", "..", "#+"), ((FEED, POST),))
BACK_AGAIN = Scenario("a post that goes and comes back", ("...", "...", "+-+"), ((POST,), (POST,)))
HALVES = Scenario("a batch of two messages", ("..", "++", "++"), ((FEED, POST),), halves=frozenset({2}))
SILENT = replace(ONE, name="silence, and a moment that is gone", silences=1, presents=1)
FAILOVER = Scenario(
    "a failover, and a clock that stands", ("...", "...", "++#"), ((POST,),), as_of=(0, 0, 1, 2), failovers=1
)
FOLLOWED = replace(FAILOVER, name="a feed and a failover", effects=("+.", "..", ".+"), connections=((FEED,),))
BOTH = replace(TWO, name="two reads and a failover", effects=("+.", ".+", "#+"), as_of=(0, 0, 1), failovers=1)
LATE = Scenario(
    "a late watch and a failover", (".", "+", "."), ((POST, FEED),), late=frozenset({(0, 1)}), failovers=1
)
TICKS = replace(LATE, name="ticks and a failover", effects=(".", ".", "."), ticks=frozenset({1}))
LOST = Scenario("a batch that MySQL loses", ("..", "..", "++"), ((POST,),), losses=1)
WATCHED_AGAIN = Scenario(
    "a read that is watched again",
    ("..", "..", "+#"),
    ((POST,), (POST,)),
    late=frozenset({(1, 0)}),
    unwatches=1,
)
SCENARIOS = (
    ONE,
    TWO,
    COUNTERS,
    BACK_AGAIN,
    HALVES,
    SILENT,
    FAILOVER,
    FOLLOWED,
    BOTH,
    LATE,
    TICKS,
    LOST,
    WATCHED_AGAIN,
)
LONG_SCENARIOS = (
    replace(TWO, name="two reads, a failover and silence", failovers=1, silences=1),
    replace(TWO, name="two reads, and moments that are gone", effects=("+.=", "#+.", ".+-"), presents=2),
    replace(BOTH, name="two failovers", failovers=2),
    replace(HALVES, name="a batch of two messages and a failover", failovers=1),
    replace(TWO, name="a batch lost behind a failover", effects=("+.", ".+", "++"), failovers=1, losses=1),
    replace(WATCHED_AGAIN, name="watched again after a failover", failovers=1, unwatches=2),
    replace(TICKS, name="ticks, and two reads", effects=("+..", ".+.", "..+"), late=frozenset()),
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
    # making a state
    Mutation("dependencies of another composition", "dependencies_are_replaced", ONE, ITS_MOMENT),
    Mutation("an absence that nobody watches", "absences_are_dependencies", BACK_AGAIN, ITS_MOMENT),
    Mutation("heads not read at present", "heads_are_dependencies_at_present", SILENT, ITS_MOMENT),
    Mutation("a touch before its key is registered", "position_is_the_moments", ONE, ITS_MOMENT),
    Mutation("a touch during a read at present", "present_counts_from_its_start", SILENT, ITS_MOMENT),
    Mutation("a state sent before its batch", "present_has_its_own_moment", SILENT, ITS_MOMENT),
    Mutation("made before the tide began", "no_tide_no_position", FAILOVER, ITS_MOMENT),
    Mutation("due as a flag that is cleared", "due_compares_positions", BACK_AGAIN, ITS_MOMENT),
    Mutation("counters that name nothing", "counters_are_names", COUNTERS, ITS_MOMENT),
    Mutation("half a batch counts", "batch_counts_at_its_last_message", HALVES, ITS_MOMENT),
    Mutation("a reset that forgets a watch", "reset_ends_positions", FAILOVER, ITS_MOMENT),
    Mutation("silence makes all due", "silence_makes_nothing_due", SILENT, NOT_IN_VAIN),
    Mutation("silence makes nothing due any more", "silence_forgets_nothing_due", SILENT, ITS_MOMENT),
    Mutation("made again and again without a tide", "due_waits_for_a_tide", FAILOVER, NOT_IN_VAIN),
    # sending
    Mutation("a quiet state with an old moment", "quiet_state_has_the_tides_moment", TWO, NO_NEEDLESS_END),
    Mutation("an order by as_of alone", "order_by_gtids", FAILOVER, NEVER_BACK),
    Mutation("as_of back after a failover", "order_by_as_of", TICKS, NEVER_BACK),
    Mutation("a tide back after a failover", "tides_are_in_order", LATE, NEVER_BACK),
    Mutation("a state older than a tide", "tides_count_as_sent", LATE, NEVER_BACK),
    Mutation("an order for each watch", "one_order_for_a_connection", TWO, NEVER_BACK),
    Mutation("a refused state is dropped", "refused_state_waits", TWO, EVERY_CHANGE),
    Mutation("a refused state waits for ever", "refused_too_long_ends", LOST, EVERY_CHANGE),
    Mutation("an equal body holds the tide", "equal_body_becomes_sent", ONE, TIDE_COMES),
    Mutation("an equal body is sent", "equal_body_is_not_sent", ONE, NOT_IN_VAIN),
    Mutation("a body waits that is past", "equal_body_takes_the_waiting_away", BACK_AGAIN, ITS_MOMENT),
    Mutation("states queue for a slow client", "latest_replaces_the_waiting", BACK_AGAIN, BOUNDED),
    Mutation("a waiting state counts as sent", "taken_is_sent", ONE, TIDE_IS_TRUE),
    Mutation("an ETag that is not looked at", "known_body_is_spared", WATCHED_AGAIN, NOT_IN_VAIN),
    # the tide
    Mutation("a tide ahead of a due state", "tide_stops_before_what_is_due", ONE, TIDE_IS_TRUE),
    Mutation("a tide over a reset", "reset_leaves_what_was_sent", FAILOVER, TIDE_IS_TRUE),
    Mutation("a tide before the first state", "first_state_before_a_tide", ONE, TIDE_IS_TRUE),
    Mutation("a tide of one watch alone", "tide_asks_every_watch", TWO, TIDE_IS_TRUE),
    Mutation("a tide that waits for quiet", "tide_flows_while_something_is_due", ONE, TIDE_FLOWS),
    Mutation("a tide that follows states", "states_hold_no_tide_back", TWO, TIDE_FLOWS),
)
