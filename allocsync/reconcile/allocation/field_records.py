"""What is recorded of single fields of one allocation: accepted, ignored or in conflict. Pure.

A field that the API accepted has the propagation window to show its value. A field that does not show it by
then is ignored: it causes no update for hours. A field that another writer keeps changing back is in
conflict: each further repair waits longer. The other fields of the allocation are not affected.

The rules: only a GET shows that a field is ignored, never the body in an update's response. A conflict is
counted only between two GETs, of which the first showed the desired value.

Left out: which fields a late write explains (`late_writes`), and what is sent (`managed_allocation`).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from allocsync.model.change import Change
from allocsync.model.cloud import Json
from allocsync.model.times import LONG_AGO, NEVER, Monotonic
from allocsync.reconcile.parameters import Parameters


@dataclass(slots=True)
class FieldRecord:
    """The record of one field. Times are monotonic; `LONG_AGO` for what never happened."""

    accepted: str | None = None  # the value that the API accepted and no GET has shown yet
    accepted_at: Monotonic = LONG_AGO
    accepted_live: Json = None  # the live value in the snapshot of that update
    ignored: str | None = None  # the value that the API accepted and ignores
    ignored_at: Monotonic = LONG_AGO
    ignored_live: Json = None  # the live value instead
    retry_at: Monotonic = NEVER  # when the ignored value may be sent again
    moves: int = 0  # how often the live value changed while the field is ignored
    flips: tuple[Monotonic, ...] = ()  # when a GET found the field changed back
    slowed_until: Monotonic = LONG_AGO  # in conflict until then: no repair is sent
    slowdowns: int = 0  # how often the conflict has delayed repairs; each delay is twice the one before
    equal_since: Monotonic = NEVER  # since when GETs show the desired value; `NEVER` while the field differs

    def is_empty(self) -> bool:
        """Whether the record says nothing and can be removed."""
        return self.accepted is None and self.ignored is None and not self.flips and not self.slowdowns

    def read_needed_at(self, rules: Parameters) -> Monotonic:
        """See `FieldRecords.read_needed_at`."""
        if self.accepted is not None or self.ignored is not None or self.equal_since == NEVER:
            return LONG_AGO
        return self.equal_since + rules.conflict_clear_seconds


@dataclass(frozen=True, slots=True)
class Accepted:
    """A value that the API accepted and no GET has shown yet.

    `at` is when (monotonic seconds); `live` is the value before the update.
    """

    value: str
    at: Monotonic
    live: Json


class FieldRecords:
    """The records of one allocation by field. Nearly all allocations have none."""

    __slots__ = ("records",)

    def __init__(self, records: dict[str, FieldRecord] | None = None) -> None:
        """`records` come from a checkpoint, by field."""
        self.records = records or {}

    def __bool__(self) -> bool:
        """Whether there is any record."""
        return bool(self.records)

    def read_needed_at(self, rules: Parameters) -> Monotonic:
        """When a GET is needed (monotonic seconds) although the list shows no difference; `LONG_AGO` is now.

        Only a GET can judge a field that was accepted, is ignored or differed in the latest GET. One more
        GET, after the field kept its value for long enough, ends a conflict. Infinity if none is needed.
        """
        return min((record.read_needed_at(rules) for record in self.records.values()), default=NEVER)

    def accept(self, changes: Iterable[Change], *, at: Monotonic) -> None:
        """The API accepted these changes at `at` (monotonic): the propagation window begins."""
        for change in changes:
            record = self.records.setdefault(change.field, FieldRecord())
            record.accepted, record.accepted_at, record.accepted_live = change.desired, at, change.live
            record.ignored, record.retry_at = None, NEVER

    def supersede(self, changes: Iterable[Change]) -> None:
        """An update with these changes may be applied: a GET need not show other accepted values."""
        for change in changes:
            record = self.records.get(change.field)
            if record is not None and record.accepted != change.desired:
                record.accepted = None

    def accepted(self, field: str) -> Accepted | None:
        """The value of this field that the API accepted and no GET has shown yet; None if there is none."""
        record = self.records.get(field)
        if record is None or record.accepted is None:
            return None
        return Accepted(record.accepted, record.accepted_at, record.accepted_live)

    def all_accepted(self, changes: Iterable[Change]) -> bool:
        """Whether the API accepted all these values already, so that no update is needed for now."""
        found = ((self.records.get(change.field), change.desired) for change in changes)
        return all(record is not None and record.accepted == desired for record, desired in found)

    def edit(self) -> None:
        """The desired state changed: ignored fields are forgotten, conflicts and accepted values are not."""
        for record in self.records.values():
            record.ignored, record.retry_at, record.moves = None, NEVER, 0
        self._remove_empty()

    def observe(
        self,
        changes: tuple[Change, ...],
        *,
        changed_back: frozenset[str],
        begun: Monotonic,
        now: Monotonic,
        rules: Parameters,
    ) -> frozenset[str]:
        """Record the differences that a GET shows. Returns the fields that it is the first to show ignored.

        The GET began at `begun` and ended at `now` (monotonic). `changed_back` are the fields that had the
        desired value in the GET before and that another writer changed.
        """
        before = {field for field, record in self.records.items() if record.ignored is not None}
        differing = {change.field: change for change in changes}
        for field in changed_back:
            self._count_flip(self.records.setdefault(field, FieldRecord()), now, rules)
        for field, record in self.records.items():
            change = differing.get(field)
            if change is None:
                _observe_equal(record, now, rules)
            else:
                record.equal_since = NEVER
                _observe_different(record, change, begun, now, rules)
        self._remove_empty()
        return frozenset(
            field
            for field, record in self.records.items()
            if record.ignored is not None and field not in before
        )

    def explain_by_late_write(self, fields: Iterable[str]) -> None:
        """A late write explains the live values of these fields: they do not become ignored.

        A field that is ignored already stays so.
        """
        for field in fields:
            if field in self.records:
                self.records[field].accepted = None
        self._remove_empty()

    def blocked_until(self, change: Change, now: Monotonic, rules: Parameters) -> Monotonic | None:
        """When to read this difference again (monotonic seconds), or None if it calls for an update now.

        For an accepted value this time may be over already: then it is still a read that is needed.
        """
        record = self.records.get(change.field)
        if record is None:
            return None
        if record.accepted == change.desired:
            # Only a GET that begins after the propagation window can judge it, however late that GET comes.
            return max(record.accepted_at + rules.propagation_window_seconds, record.slowed_until)
        until = record.slowed_until
        if record.ignored == change.desired:
            until = max(until, record.retry_at)
        return until if until > now else None

    def ignored(self, changes: Iterable[Change]) -> tuple[Change, ...]:
        """Those of these differences whose desired value the API accepted and ignores."""
        return tuple(
            change
            for change in changes
            if (record := self.records.get(change.field)) and record.ignored == change.desired
        )

    def conflicts(self, changes: Iterable[Change], now: Monotonic) -> tuple[tuple[Change, int], ...]:
        """Those of these differences that are in conflict, each with how often it was changed back lately."""
        return tuple(
            (change, len(record.flips))
            for change in changes
            if (record := self.records.get(change.field)) and record.slowed_until > now
        )

    def _count_flip(self, record: FieldRecord, now: Monotonic, rules: Parameters) -> None:
        record.flips = (*(at for at in record.flips if at > now - rules.conflict_within_seconds), now)
        if len(record.flips) >= rules.conflict_flips:
            delay = rules.conflict_first_seconds * 2**record.slowdowns
            record.slowed_until = now + min(delay, rules.conflict_max_seconds)
            record.slowdowns += 1

    def _remove_empty(self) -> None:
        for field in [field for field, record in self.records.items() if record.is_empty()]:
            del self.records[field]


def _observe_equal(record: FieldRecord, now: Monotonic, rules: Parameters) -> None:
    record.accepted = record.ignored = None
    record.moves, record.retry_at = 0, NEVER
    record.equal_since = min(record.equal_since, now)
    if now - record.equal_since >= rules.conflict_clear_seconds:
        record.flips, record.slowdowns, record.slowed_until = (), 0, LONG_AGO


def _observe_different(
    record: FieldRecord, change: Change, begun: Monotonic, now: Monotonic, rules: Parameters
) -> None:
    if record.accepted == change.live:
        record.accepted = None  # the accepted value shows; the desired value has changed since
    if record.accepted == change.desired and begun >= record.accepted_at + rules.propagation_window_seconds:
        record.accepted = None
        record.ignored, record.ignored_at, record.ignored_live = change.desired, now, change.live
        record.retry_at = now + rules.ignored_seconds
    elif record.ignored == change.desired and change.live != record.ignored_live:
        record.ignored_live = change.live
        delay = min(rules.ignored_first_seconds * 2**record.moves, rules.ignored_seconds)
        record.retry_at = min(record.retry_at, now + delay)
        record.moves += 1
