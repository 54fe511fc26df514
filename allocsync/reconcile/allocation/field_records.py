"""What is recorded of single fields of one allocation that were sent and do not stay as declared. Pure.

A field that the API accepted has the propagation window to show its value. If it does not, it is sent once
more. If it does not show after that either, it is ignored: it is sent again after 5 minutes, then after
twice as long each time, up to 6 hours, for ever. A field that is changed back three times in a short time is
in conflict: it is sent again on the same schedule, until it has kept its value for an hour. The other fields
of the allocation are not affected.

The rules: only a GET judges a field, never the list or the body in an update's response. Inside the window
the value from before the update is lag, even after a GET has shown the new one. A record is about one
declared value; an edit of that value ends it. Nothing here blames the API alone: another writer may have
changed the field before the first GET.

Left out: which fields a late write explains (`late_writes`), how long the window is (`propagation_window`),
and what is sent (`managed_allocation`).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from allocsync.model.change import Change
from allocsync.model.cloud import Json
from allocsync.model.times import LONG_AGO, NEVER, Monotonic
from allocsync.reconcile.parameters import Parameters

LEAST_WINDOW_SECONDS = 60.0  # of a record that an earlier allocsync stored
TRIES = 2  # accepted updates in a row that must not show until the field is ignored
MOST_DOUBLINGS = 16  # more than any schedule has


@dataclass(slots=True)
class FieldRecord:
    """The record of one field. Times are monotonic; `LONG_AGO` for what never happened."""

    desired: str | None = None  # the declared value that it is about; None: stored by an earlier allocsync
    accepted: str | None = None  # the value that the API accepted and whose window has not been judged yet
    accepted_at: Monotonic = LONG_AGO
    accepted_live: Json = None  # the live value in the snapshot of that update
    window_seconds: float = LEAST_WINDOW_SECONDS  # the propagation window of that update
    confirm_seconds: float = 1.0  # after the acceptance, until the first GET; each later wait is doubled
    is_shown: bool = False  # a GET has shown the accepted value
    is_awaited: bool = False  # a GET since the acceptance did not show it
    first_accepted_at: Monotonic = LONG_AGO  # of the first of the updates in a row that do not show
    first_live: Json = None  # the live value before that one
    missed: int = 0  # accepted updates in a row that did not show in their window
    third: tuple[Json, ...] = ()  # the value after the latest of them, if neither declared nor `first_live`
    ignored: str | None = None  # the value that the API accepted and reads do not show
    ignored_at: Monotonic = LONG_AGO
    ignored_live: Json = None  # the live value instead
    retry_at: Monotonic = NEVER  # when the ignored value may be sent again
    retries: int = 0  # how often it was sent since it is ignored
    moves: int = 0  # how often the live value changed while the field is ignored
    flips: tuple[Monotonic, ...] = ()  # when a GET found the field changed back, over the last day
    slowed_until: Monotonic = LONG_AGO  # in conflict: no repair is sent before
    slowdowns: int = 0  # how often the conflict has delayed repairs; 0: the field is not in conflict
    equal_since: Monotonic = NEVER  # since when GETs show the desired value; infinity while the field differs
    cleared_at: Monotonic = LONG_AGO  # when the latest conflict ended; earlier flips make no new one

    @property
    def shows_by(self) -> Monotonic:
        """The end of the window of the accepted update."""
        return self.accepted_at + self.window_seconds

    @property
    def next_attempt_at(self) -> Monotonic:
        """When the value of an ignored field, or of one in conflict, is sent again by itself.

        In the past if it may be sent now; `LONG_AGO` if the field is neither.
        """
        at = max(
            self.slowed_until if self.slowdowns else LONG_AGO,
            self.retry_at if self.ignored is not None else LONG_AGO,
        )
        return max(at, self.shows_by) if self.accepted is not None else at

    def may_lag(self, live: Json, begun: Monotonic) -> bool:
        """Whether a GET from `begun` on shows this value only because the update does not show yet."""
        return self.accepted is not None and begun < self.shows_by and live == self.accepted_live

    def next_confirmation_at(self, now: Monotonic) -> Monotonic:
        """When the next GET looks for the accepted value; in the past if its window is over."""
        delay = self.confirm_seconds
        while delay < self.window_seconds and self.accepted_at + delay <= now:
            delay *= 2
        return min(self.accepted_at + delay, self.shows_by)

    def accept(
        self,
        change: Change,
        *,
        at: Monotonic,
        window_seconds: float,
        confirm_seconds: float,
        rules: Parameters,
    ) -> None:
        """The API accepted the change at `at`."""
        if self.accepted is None or self.is_shown:
            self.accepted_live = change.live
            if not self.missed or self.slowdowns:
                self.first_accepted_at, self.first_live = at, change.live
        self.desired = self.accepted = change.desired
        self.accepted_at, self.window_seconds, self.confirm_seconds = at, window_seconds, confirm_seconds
        self.is_shown = self.is_awaited = False
        if self.ignored is not None:
            self.retries += 1
            self.retry_at = at + _delay(self.retries, rules)
        if self.slowdowns:
            self.slowed_until = at + _delay(self.slowdowns, rules)
            self.slowdowns += 1

    def stop_waiting(self) -> None:
        """The accepted value need not show any more."""
        self.accepted, self.is_shown, self.is_awaited = None, False, False

    def show(self, begun: Monotonic, now: Monotonic, rules: Parameters) -> float:
        """A GET shows the declared value. Returns how long it took to show; 0 if that teaches nothing."""
        took = 0.0
        if self.accepted is not None:
            # A value that shows in the first GET after it was sent again shows because it was sent again.
            is_late = self.is_awaited and not self.is_shown
            if is_late and self.ignored is None and not self.slowdowns:
                took = begun - self.first_accepted_at
            self.is_shown, self.is_awaited = True, False
            if begun >= self.shows_by:
                self.stop_waiting()
        self.missed, self.third = 0, ()
        self.ignored, self.retry_at, self.retries, self.moves = None, NEVER, 0, 0
        self.equal_since = min(self.equal_since, now)
        if self.slowdowns and now - self.equal_since >= rules.conflict_clear_seconds:
            self.slowdowns, self.slowed_until, self.cleared_at = 0, LONG_AGO, now
        return took

    def flip(self, now: Monotonic, within_seconds: float, rules: Parameters) -> bool:
        """A GET shows that the field was changed back. Returns whether that is a reason to tell a person."""
        self.stop_waiting()
        self.equal_since = NEVER
        self.flips = (*(at for at in self.flips if at > now - rules.flips_kept_seconds), now)
        recent = [at for at in self.flips if at > max(now - within_seconds, self.cleared_at)]
        if not self.slowdowns and len(recent) >= rules.conflict_flips:
            self.enter_conflict(now, rules)
            return True
        return len(self.flips) == rules.conflict_flips

    def enter_conflict(self, now: Monotonic, rules: Parameters) -> None:
        """From now on the value is sent on the schedule only."""
        self.slowed_until, self.slowdowns = now + _delay(0, rules), 1
        self.missed, self.third = 0, ()

    def differ(self, live: Json, now: Monotonic, rules: Parameters) -> None:
        """A GET shows another value, and no update of the field waits to show."""
        self.equal_since = NEVER
        if self.ignored is not None and live != self.ignored_live:
            self.ignored_live = live
            self.moves += 1
        if self.missed >= TRIES and self.ignored is None and not self.slowdowns:
            self.ignored, self.ignored_at, self.ignored_live = self.desired, now, live
            self.retry_at = now + _delay(0, rules)

    def miss(self, live: Json, now: Monotonic, rules: Parameters) -> bool:
        """The window is over, and no GET has shown the accepted value.

        Returns whether the third values of two updates in a row differ, so that a person must be told.
        """
        self.stop_waiting()
        self.missed += 1
        before, self.third = self.third, () if live == self.first_live else (live,)
        differ = bool(before and self.third) and before != self.third
        if differ and self.ignored is None and not self.slowdowns:
            self.equal_since = NEVER
            self.enter_conflict(now, rules)
            return True
        self.differ(live, now, rules)
        return False

    def forget_old(self, now: Monotonic, rules: Parameters) -> None:
        """Forget flips of more than a day ago, and an accepted value that showed and whose window is over."""
        self.flips = tuple(at for at in self.flips if at > now - rules.flips_kept_seconds)
        if self.is_shown and now >= self.shows_by:
            self.stop_waiting()

    def is_empty(self) -> bool:
        """Whether no update waits to show and the field is neither missed, ignored nor changed back."""
        return (
            self.accepted is None
            and self.ignored is None
            and not (self.missed or self.flips or self.slowdowns)
        )

    def read_needed_at(self, rules: Parameters) -> Monotonic:
        """See `FieldRecords.read_needed_at`."""
        is_waiting = self.accepted is not None and not self.is_shown
        if is_waiting or self.missed or self.ignored is not None or self.equal_since == NEVER:
            return LONG_AGO
        return self.equal_since + rules.conflict_clear_seconds if self.slowdowns else NEVER


@dataclass(frozen=True, slots=True)
class Accepted:
    """A value that the API accepted and no GET has shown yet.

    `at` is when (monotonic seconds); `live` is the value before the update.
    """

    value: str
    at: Monotonic
    live: Json


@dataclass(frozen=True, slots=True)
class AnotherWriter:
    """Values flip, so that another writer is suspected.

    `flips` has for each field when GETs found it changed back over the last day (monotonic seconds), oldest
    first. It is empty for a field of which reads show other values after each update.
    """

    flips: tuple[tuple[str, tuple[Monotonic, ...]], ...]


@dataclass(frozen=True, slots=True)
class Observation:
    """What one GET shows of the fields.

    `missed` are the fields of accepted updates that did not show in their window. `shown_after_seconds` is
    the longest time that a value took to show, 0 if that teaches nothing. `another_writer` is None unless a
    person must be told now.
    """

    missed: frozenset[str] = frozenset()
    shown_after_seconds: float = 0.0
    another_writer: AnotherWriter | None = None


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

    def forget_old(self, now: Monotonic, rules: Parameters) -> bool:
        """Forget what is over at `now` (monotonic), without a GET. Returns whether a record has ended."""
        before = len(self.records)
        for record in self.records.values():
            record.forget_old(now, rules)
        self._remove_empty()
        return len(self.records) < before

    def accept(
        self,
        changes: Iterable[Change],
        *,
        at: Monotonic,
        window_seconds: float,
        confirm_seconds: float,
        rules: Parameters,
    ) -> None:
        """The API accepted these changes at `at` (monotonic): the propagation window begins.

        The first GET that looks for them is due `confirm_seconds` later.
        """
        for change in changes:
            self.records.setdefault(change.field, FieldRecord()).accept(
                change, at=at, window_seconds=window_seconds, confirm_seconds=confirm_seconds, rules=rules
            )

    def accepted(self, field: str) -> Accepted | None:
        """The value of this field that the API accepted and no GET has shown yet; None if there is none."""
        record = self.records.get(field)
        if record is None or record.accepted is None or record.is_shown:
            return None
        return Accepted(record.accepted, record.accepted_at, record.accepted_live)

    def may_lag(self, field: str, live: Json, begun: Monotonic) -> bool:
        """Whether a GET from `begun` on shows this value of the field only because it lags."""
        record = self.records.get(field)
        return record is not None and record.may_lag(live, begun)

    def all_accepted(self, changes: Iterable[Change]) -> bool:
        """Whether the API accepted all these values already, so that no update is needed for now."""
        found = ((self.records.get(change.field), change.desired) for change in changes)
        return all(record is not None and record.accepted == desired for record, desired in found)

    def edit(self, before: Mapping[str, str], after: Mapping[str, str]) -> None:
        """The declared values changed: the records of the fields whose value differs are forgotten."""
        for field in [field for field in self.records if before.get(field) != after.get(field)]:
            del self.records[field]

    def clear(self) -> None:
        """Forget all records: a person asks for another try."""
        self.records = {}

    def observe(
        self,
        desired: Mapping[str, str],
        changes: tuple[Change, ...],
        *,
        changed_back: frozenset[str],
        begun: Monotonic,
        now: Monotonic,
        window_seconds: float,
        rules: Parameters,
    ) -> Observation:
        """Record the differences to the desired values that a GET from `begun` to `now` (monotonic) shows.

        `changed_back` are the fields that had the desired value in the GET before and that no late write
        explains. `window_seconds` is the current propagation window.
        """
        self._match(desired)
        differing = {change.field: change.live for change in changes}
        for field in changed_back:
            self.records.setdefault(field, FieldRecord(desired=desired[field]))
        missed, told, took = set[str](), set[str](), 0.0
        within_seconds = max(rules.conflict_within_seconds, rules.conflict_windows * window_seconds)
        for field, record in self.records.items():
            if field not in differing:
                took = max(took, record.show(begun, now, rules))
                continue
            live = differing[field]
            if record.may_lag(live, begun):
                record.is_awaited = True
            elif field in changed_back or record.is_shown:
                told |= {field} if record.flip(now, within_seconds, rules) else set()
            elif record.accepted is None:
                record.differ(live, now, rules)
            elif begun >= record.shows_by:
                missed.add(field)
                told |= {field} if record.miss(live, now, rules) else set()
            else:
                record.is_awaited = True
        suspected = tuple((field, self.records[field].flips) for field in sorted(told))
        for record in self.records.values():
            record.forget_old(begun, rules)
        self._remove_empty()
        return Observation(frozenset(missed), took, AnotherWriter(suspected) if suspected else None)

    def explain_by_late_write(self, fields: Iterable[str]) -> None:
        """A late write explains the live values of these fields: they need not show an accepted value.

        A field that is ignored already stays so.
        """
        for field in fields:
            if field in self.records:
                self.records[field].stop_waiting()
        self._remove_empty()

    def blocked_until(self, change: Change, now: Monotonic) -> Monotonic | None:
        """When to read this difference again (monotonic seconds), or None if it calls for an update now.

        For an accepted value this time may be over already: then it is still a read that is needed, because
        only a GET that begins after the window can judge it, however late that GET comes.
        """
        record = self.records.get(change.field)
        if record is None:
            return None
        if record.accepted is not None:
            return record.next_confirmation_at(now)
        until = record.next_attempt_at
        return until if until > now else None

    def ignored(self, changes: Iterable[Change]) -> tuple[tuple[Change, FieldRecord], ...]:
        """Those of these differences whose desired value the API accepted and reads do not show."""
        return tuple(
            (change, record)
            for change in changes
            if (record := self.records.get(change.field)) and record.ignored == change.desired
        )

    def conflicts(self) -> tuple[tuple[str, FieldRecord], ...]:
        """The fields in conflict, whether or not they differ now."""
        return tuple((field, record) for field, record in self.records.items() if record.slowdowns)

    def flips(self, now: Monotonic, rules: Parameters) -> Iterator[tuple[str, tuple[Monotonic, ...]]]:
        """The fields that were changed back often enough to be named, and when (monotonic), oldest first."""
        for field, record in self.records.items():
            flips = tuple(at for at in record.flips if at > now - rules.flips_kept_seconds)
            if len(flips) >= rules.conflict_flips:
                yield field, flips

    def _match(self, desired: Mapping[str, str]) -> None:
        """Forget records of other values: the files may have been edited while no process ran."""
        for field, record in list(self.records.items()):
            wanted = desired.get(field)
            if wanted is None or record.desired not in {None, wanted}:
                del self.records[field]
            else:
                record.desired = wanted

    def _remove_empty(self) -> None:
        for field in [field for field, record in self.records.items() if record.is_empty()]:
            del self.records[field]


def _delay(doublings: int, rules: Parameters) -> float:
    """The wait before the next attempt of a field that is ignored or in conflict."""
    seconds = rules.field_retry_first_seconds * 2.0 ** min(doublings, MOST_DOUBLINGS)
    return min(seconds, rules.field_retry_max_seconds)
