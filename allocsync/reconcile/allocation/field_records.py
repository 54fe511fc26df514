"""What is remembered of single leaves of one allocation: accepted, refused, contested. Pure.

A leaf that the API accepted gets time to show (grace). One that has not shown by then is Refused: it alone
causes no update for hours. One that something else keeps changing back is Contested: slowed down more and
more. The lane goes on for all other leaves.

The rule: a refusal is evidence of a GET, never of the echo in an answer; a fight is counted only between
two GETs, the first of which saw the value that is wanted.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from allocsync.model.change import Change
from allocsync.model.cloud import Json
from allocsync.reconcile.parameters import Parameters


@dataclass(slots=True)
class FieldRecord:
    """The memory of one leaf; times are on the caller's clock, infinity and -infinity mean never."""

    accepted: str | None = None  # the value that the API accepted and no GET has shown yet
    accepted_at: float = -inf
    accepted_live: Json = None  # what the snapshot of that update showed
    ignored: str | None = None  # the value that it accepted and does not honour
    ignored_at: float = -inf
    ignored_live: Json = None  # what it says instead
    again_at: float = inf  # when the refused value may be sent again
    moves: int = 0  # how often the live value of the refused leaf moved
    flips: tuple[float, ...] = ()  # when it was found changed back
    slowed_until: float = -inf
    slowdowns: int = 0
    equal_since: float = inf

    def idle(self) -> bool:
        """Nothing is worth remembering."""
        return self.accepted is None and self.ignored is None and not self.flips and not self.slowdowns

    def read_needed_at(self, rules: Parameters) -> float:
        """See `Leaves.looks_at`."""
        if self.accepted is not None or self.ignored is not None or self.equal_since == inf:
            return -inf
        return self.equal_since + rules.conflict_clear_seconds


@dataclass(frozen=True, slots=True)
class Accepted:
    """A value that the API accepted and no GET has shown yet; `live` is what there was before."""

    value: str
    at: float
    live: Json


class FieldRecords:
    """The memories of one allocation's leaves; empty for nearly all allocations."""

    __slots__ = ("records",)

    def __init__(self, records: dict[str, FieldRecord] | None = None) -> None:
        """`records` are by field, as a checkpoint has them."""
        self.records = records or {}

    def __bool__(self) -> bool:
        """Whether anything is remembered."""
        return bool(self.records)

    def read_needed_at(self, rules: Parameters) -> float:
        """When a GET is needed although a bulk answer calls everything equal: -infinity is now.

        What was accepted, refused or last seen different only a GET can judge; that a fight is over is seen
        by one GET at the end of its time.
        """
        return min((record.read_needed_at(rules) for record in self.records.values()), default=inf)

    def accept(self, changes: Iterable[Change], *, at: float) -> None:
        """The API took these changes at this time: they get grace."""
        for change in changes:
            record = self.records.setdefault(change.field, FieldRecord())
            record.accepted, record.accepted_at, record.accepted_live = change.desired, at, change.live
            record.ignored, record.again_at = None, inf

    def supersede(self, changes: Iterable[Change]) -> None:
        """An update of these has left and may have been applied: earlier values are not awaited any more."""
        for change in changes:
            record = self.records.get(change.field)
            if record is not None and record.accepted != change.desired:
                record.accepted = None

    def accepted(self, field: str) -> Accepted | None:
        """What the API has accepted for this leaf and no GET has shown yet."""
        record = self.records.get(field)
        if record is None or record.accepted is None:
            return None
        return Accepted(record.accepted, record.accepted_at, record.accepted_live)

    def awaited(self, changes: Iterable[Change]) -> bool:
        """Whether all these differences were accepted and may still go away: none of them is sent."""
        found = ((self.records.get(change.field), change.desired) for change in changes)
        return all(record is not None and record.accepted == desired for record, desired in found)

    def edit(self) -> None:
        """The file changed: refusals are forgotten, fights and grace are not."""
        for record in self.records.values():
            record.ignored, record.again_at, record.moves = None, inf, 0
        self._prune()

    def observe(
        self,
        changes: tuple[Change, ...],
        *,
        flipped: frozenset[str],
        begun: float,
        now: float,
        rules: Parameters,
    ) -> frozenset[str]:
        """A GET that began at `begun` shows these differences; `flipped` were equal in the GET before.

        Returns the leaves that turn out to be refused.
        """
        before = {field for field, record in self.records.items() if record.ignored is not None}
        differing = {change.field: change for change in changes}
        for field in flipped:
            self._flip(self.records.setdefault(field, FieldRecord()), now, rules)
        for field, record in self.records.items():
            change = differing.get(field)
            if change is None:
                _seen_equal(record, now, rules)
            else:
                record.equal_since = inf
                _seen_different(record, change, begun, now, rules)
        self._prune()
        return frozenset(
            field
            for field, record in self.records.items()
            if record.ignored is not None and field not in before
        )

    def late_fields(self, fields: Iterable[str]) -> None:
        """A late landing explains what these show: it is no refusal of what was accepted since."""
        for field in fields:
            if field in self.records:
                self.records[field].accepted = None
        self._prune()

    def hold(self, change: Change, now: float, rules: Parameters) -> float | None:
        """None when this difference is a reason for an update now, else when to look at it again."""
        record = self.records.get(change.field)
        if record is None:
            return None
        if record.accepted == change.desired:
            # Held until a GET that begins after grace has judged it, however late that GET comes.
            return max(record.accepted_at + rules.propagation_window_seconds, record.slowed_until)
        until = record.slowed_until
        if record.ignored == change.desired:
            until = max(until, record.again_at)
        return until if until > now else None

    def ignored(self, changes: Iterable[Change]) -> tuple[Change, ...]:
        """Those of the differences that the API accepted and does not honour."""
        return tuple(
            change
            for change in changes
            if (record := self.records.get(change.field)) and record.ignored == change.desired
        )

    def conflicts(self, changes: Iterable[Change], now: float) -> tuple[tuple[Change, int], ...]:
        """Those of the differences that are slowed down, with how often they flipped lately."""
        return tuple(
            (change, len(record.flips))
            for change in changes
            if (record := self.records.get(change.field)) and record.slowed_until > now
        )

    def _flip(self, record: FieldRecord, now: float, rules: Parameters) -> None:
        record.flips = (*(at for at in record.flips if at > now - rules.conflict_within_seconds), now)
        if len(record.flips) >= rules.conflict_flips:
            delay = rules.conflict_first_seconds * 2**record.slowdowns
            record.slowed_until = now + min(delay, rules.conflict_most_seconds)
            record.slowdowns += 1

    def _prune(self) -> None:
        for field in [field for field, record in self.records.items() if record.idle()]:
            del self.records[field]


def _seen_equal(record: FieldRecord, now: float, rules: Parameters) -> None:
    record.accepted = record.ignored = None
    record.moves, record.again_at = 0, inf
    record.equal_since = min(record.equal_since, now)
    if now - record.equal_since >= rules.conflict_clear_seconds:
        record.flips, record.slowdowns, record.slowed_until = (), 0, -inf


def _seen_different(record: FieldRecord, change: Change, begun: float, now: float, rules: Parameters) -> None:
    if record.accepted == change.live:
        record.accepted = None  # it shows; that something else is wanted by now is no refusal of it
    if record.accepted == change.desired and begun >= record.accepted_at + rules.propagation_window_seconds:
        record.accepted = None
        record.ignored, record.ignored_at, record.ignored_live = change.desired, now, change.live
        record.again_at = now + rules.ignored_seconds
    elif record.ignored == change.desired and change.live != record.ignored_live:
        record.ignored_live = change.live
        follow = min(rules.followed_first_seconds * 2**record.moves, rules.ignored_seconds)
        record.again_at = min(record.again_at, now + follow)
        record.moves += 1
