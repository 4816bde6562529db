"""Merging: the strands of several shards become one tide, so that all entries are of one moment.

The message of a batch waits at the head of its strand until each present strand has its own for this batch.
Then all are taken in one step. Replies wait behind messages, so that they are valid at the tide, too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from reader.parts import Origin
from reader.read_model.announcements import Announcement
from reader.read_model.cached_values import BatchName, Watermark
from reader.strand import Batch, Request, Strand

LATE = 3  # a strand is put out after so many asks (of 0.1 s) while others wait for its messages


class Tide(Protocol):
    """The one tide that the strands make."""

    tide: Watermark | None

    def begins(self, at: Watermark) -> None: ...

    def ends(self) -> None:
        """No strand is known."""

    def passes(self, messages: Iterable[Announcement], to: Watermark, *, whole: bool) -> None:
        """All that is known of a batch. `whole`: no strand is away."""

    def ticks(self, to: Watermark) -> None: ...

    def loses(self, strands: Collection[Strand]) -> None:
        """These are away from now on."""

    def is_whole(self) -> None:
        """No strand is away any more."""


class Merging:
    """A strand is present while it is at the tide's batch. One that is behind it takes its messages alone.

    One that is ahead waits. The tide never goes back, unless it begins anew.
    """

    def __init__(
        self, strands: Sequence[Strand], tide: Tide, broken: Callable[[Strand, Exception], None]
    ) -> None:
        self._strands = strands
        self._tide = tide
        self._broken = broken
        self._epoch = ""  # that the tide names

    def begin(self, strand: Strand) -> None:
        """Its watermark is known."""
        if self._tide.tide is None:
            self._begin_anew()
        else:
            self._join(strand)
        self._go_on()

    def received(self, strand: Strand, message: Announcement) -> None:
        """A message that continues its strand."""
        strand.is_fed = True
        strand.parts.append(message)
        if message.to is not None:
            parts, strand.parts = strand.parts, []
            strand.lineage = message.to.lineage
            strand.inbox.append(Batch(parts, message.to, is_tick=message.found == strand.lineage))
            self._begin_again(strand)
            self._take(strand)
            if self._pass():
                self._go_on()

    def replied(self, request: Request) -> None:
        """A reply that continues its strand. Raises ValueError if it cannot be read."""
        strand = request.strand
        self._begin_again(strand)
        if strand.inbox:
            strand.inbox.append(request)
        else:
            if not strand.present:
                self.begin(strand)
            self._finish(request)

    def leave(self, strands: Iterable[Strand]) -> None:
        """They are away until they are at the tide again."""
        gone = {strand for strand in strands if strand.present}
        for strand in gone:
            strand.present, strand.is_fed, strand.bypass = False, False, Origin.UNAVAILABLE
        self._go_on_without(gone)

    def lost(self, strands: Iterable[Strand]) -> None:
        """Nothing is known of them any more."""
        gone = {strand for strand in strands if strand.present}
        for strand in strands:
            strand.reset()
        self._go_on_without(gone)

    def look(self, strands: Iterable[Strand]) -> list[Strand]:
        """Of these strands, those for which others have waited too long. Is asked with every ask."""
        awaited = self._awaited()
        late = []
        for strand in strands:
            if awaited is not None and strand.present and strand.waits_for != awaited:
                strand.late += 1
                if strand.late > LATE:
                    late.append(strand)
            elif strand.present:
                strand.late = 0
        return late

    def _awaited(self) -> BatchName | None:
        """The batch that some wait for: of the newest build, the one with the least number."""
        if self._tide.tide is None:
            return None
        waiting = [one.waits_for for one in self._strands if one.present and one.waits_for]
        if not waiting:
            waiting = [one.batch for one in self._strands if one.at and one.is_fed and self._is_ahead(one.at)]
        return min(waiting, key=_newest_build, default=None)

    def _begin_again(self, strand: Strand) -> None:
        """Something comes of a strand that was known while nobody was heard."""
        if self._tide.tide is None and not strand.is_unheard:
            self._begin_anew()
            self._go_on()

    def _go_on_without(self, gone: Collection[Strand]) -> None:
        if not any(strand.present for strand in self._strands):
            self._begin_anew()
        elif gone:
            self._count_present()
            self._tide.loses(gone)
            self._tide.ticks(self._least())
        self._go_on()

    def _go_on(self) -> None:
        """Take what stands at the heads, as far as all that are present have it."""
        while True:
            for strand in self._strands:
                self._take(strand)
            if not self._pass():
                return

    def _take(self, strand: Strand) -> None:
        """Take the heads that wait for no other strand."""
        while strand.inbox:
            head = strand.inbox[0]
            if isinstance(head, Request):
                strand.inbox.popleft()
                try:
                    self._finish(head)
                except ValueError as error:
                    head.fail()
                    self._broken(strand, error)
            elif head.is_tick or (strand.at and self._is_behind(strand.at)):
                strand.inbox.popleft()
                strand.comes_to(head.to)
                if strand.present:
                    self._tide.ticks(self._least())
                else:
                    self._join(strand)
            else:
                return

    def _pass(self) -> bool:
        """The batch at the heads of all that are present. False if it is not at all of them."""
        present = [strand for strand in self._strands if strand.present]
        awaited = present[0].waits_for if present else None
        if awaited is None or any(strand.waits_for != awaited for strand in present):
            return False
        messages: list[Announcement] = []
        for strand in present:
            batch = strand.inbox.popleft()
            assert isinstance(batch, Batch)
            messages += batch.parts
            strand.comes_to(batch.to)
        self._tide.passes(messages, self._least(), whole=len(present) == len(self._strands))
        for strand in self._strands:
            if not strand.present:
                self._join(strand)
        return True

    def _finish(self, request: Request) -> None:
        if request.strand.present:
            request.finish()
        else:
            request.fail()

    def _join(self, strand: Strand) -> None:
        """It is present if it is at the tide."""
        tide = self._tide.tide
        if tide is None or strand.at is None or strand.at.batch != tide.batch:
            return
        strand.present, strand.bypass, strand.late = True, None, 0
        self._count_present()
        if all(one.present for one in self._strands):
            self._tide.is_whole()

    def _begin_anew(self) -> None:
        """With the strands that are known and heard: the newest build, then the least number.

        Late strands are the last choice.
        """
        known = [one for one in self._strands if one.at is not None and not one.is_unheard]
        first = min(known, key=lambda one: (one.late > LATE, _newest_build(one.batch)), default=None)
        if first is None or first.at is None:
            self._tide.ends()
            return
        self._epoch = first.at.epoch
        self._tide.begins(first.at)
        for strand in known:
            self._join(strand)

    def _count_present(self) -> None:
        """All answers of one tide name one epoch."""
        self._epoch = max(one.at.epoch for one in self._strands if one.present and one.at)

    def _least(self) -> Watermark:
        """Of the watermarks of those that are present, the one with the least as-of."""
        at = min((one.at for one in self._strands if one.present and one.at), key=lambda one: one.as_of)
        return at if at.epoch == self._epoch else replace(at, epoch=self._epoch)

    def _is_behind(self, at: Watermark) -> bool:
        tide = self._tide.tide
        return tide is not None and (at.build, at.seq) < (tide.build, tide.seq)

    def _is_ahead(self, at: Watermark) -> bool:
        """Or beside the tide: in another history."""
        tide = self._tide.tide
        return tide is not None and at.batch != tide.batch and not self._is_behind(at)


def _newest_build(batch: BatchName) -> tuple[int, int]:
    return -batch[0], batch[1]
