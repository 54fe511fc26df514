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
from allocsync.reconcile.parameters import Rules


@dataclass(slots=True)
class Leaf:
    """The memory of one leaf; times are on the caller's clock, infinity and -infinity mean never."""

    accepted: str | None = None  # the value that the API accepted and no GET has shown yet
    accepted_at: float = -inf
    accepted_live: Json = None  # what the snapshot of that update showed
    refused: str | None = None  # the value that it accepted and does not honour
    refused_at: float = -inf
    refused_live: Json = None  # what it says instead
    again_at: float = inf  # when the refused value may be sent again
    moves: int = 0  # how often the live value of the refused leaf moved
    flips: tuple[float, ...] = ()  # when it was found changed back
    slowed_until: float = -inf
    slowdowns: int = 0
    equal_since: float = inf

    def idle(self) -> bool:
        """Nothing is worth remembering."""
        return self.accepted is None and self.refused is None and not self.flips and not self.slowdowns

    def looks_at(self, rules: Rules) -> float:
        """See `Leaves.looks_at`."""
        if self.accepted is not None or self.refused is not None or self.equal_since == inf:
            return -inf
        return self.equal_since + rules.contested_clear_seconds


@dataclass(frozen=True, slots=True)
class Accepted:
    """A value that the API accepted and no GET has shown yet; `live` is what there was before."""

    value: str
    at: float
    live: Json


class Leaves:
    """The memories of one allocation's leaves; empty for nearly all allocations."""

    __slots__ = ("records",)

    def __init__(self, records: dict[str, Leaf] | None = None) -> None:
        """`records` are by field, as a checkpoint has them."""
        self.records = records or {}

    def __bool__(self) -> bool:
        """Whether anything is remembered."""
        return bool(self.records)

    def looks_at(self, rules: Rules) -> float:
        """When a GET is needed although a bulk answer calls everything equal: -infinity is now.

        What was accepted, refused or last seen different only a GET can judge; that a fight is over is seen
        by one GET at the end of its time.
        """
        return min((leaf.looks_at(rules) for leaf in self.records.values()), default=inf)

    def accept(self, changes: Iterable[Change], *, at: float) -> None:
        """The API took these changes at this time: they get grace."""
        for change in changes:
            leaf = self.records.setdefault(change.field, Leaf())
            leaf.accepted, leaf.accepted_at, leaf.accepted_live = change.desired, at, change.live
            leaf.refused, leaf.again_at = None, inf

    def supersede(self, changes: Iterable[Change]) -> None:
        """An update of these has left and may have been applied: earlier values are not awaited any more."""
        for change in changes:
            leaf = self.records.get(change.field)
            if leaf is not None and leaf.accepted != change.desired:
                leaf.accepted = None

    def accepted(self, field: str) -> Accepted | None:
        """What the API has accepted for this leaf and no GET has shown yet."""
        leaf = self.records.get(field)
        if leaf is None or leaf.accepted is None:
            return None
        return Accepted(leaf.accepted, leaf.accepted_at, leaf.accepted_live)

    def awaited(self, changes: Iterable[Change]) -> bool:
        """Whether all these differences were accepted and may still go away: none of them is sent."""
        leaves = ((self.records.get(change.field), change.desired) for change in changes)
        return all(leaf is not None and leaf.accepted == desired for leaf, desired in leaves)

    def edit(self) -> None:
        """The file changed: refusals are forgotten, fights and grace are not."""
        for leaf in self.records.values():
            leaf.refused, leaf.again_at, leaf.moves = None, inf, 0
        self._prune()

    def observe(
        self, changes: tuple[Change, ...], *, flipped: frozenset[str], begun: float, now: float, rules: Rules
    ) -> frozenset[str]:
        """A GET that began at `begun` shows these differences; `flipped` were equal in the GET before.

        Returns the leaves that turn out to be refused.
        """
        before = {field for field, leaf in self.records.items() if leaf.refused is not None}
        differing = {change.field: change for change in changes}
        for field in flipped:
            self._flip(self.records.setdefault(field, Leaf()), now, rules)
        for field, leaf in self.records.items():
            change = differing.get(field)
            if change is None:
                _seen_equal(leaf, now, rules)
            else:
                leaf.equal_since = inf
                _seen_different(leaf, change, begun, now, rules)
        self._prune()
        return frozenset(
            field for field, leaf in self.records.items() if leaf.refused is not None and field not in before
        )

    def landed(self, fields: Iterable[str]) -> None:
        """A late landing explains what these show: it is no refusal of what was accepted since."""
        for field in fields:
            if field in self.records:
                self.records[field].accepted = None
        self._prune()

    def hold(self, change: Change, now: float, rules: Rules) -> float | None:
        """None when this difference is a reason for an update now, else when to look at it again."""
        leaf = self.records.get(change.field)
        if leaf is None:
            return None
        if leaf.accepted == change.desired:
            # Held until a GET that begins after grace has judged it, however late that GET comes.
            return max(leaf.accepted_at + rules.grace_seconds, leaf.slowed_until)
        until = leaf.slowed_until
        if leaf.refused == change.desired:
            until = max(until, leaf.again_at)
        return until if until > now else None

    def refused(self, changes: Iterable[Change]) -> tuple[Change, ...]:
        """Those of the differences that the API accepted and does not honour."""
        return tuple(
            change
            for change in changes
            if (leaf := self.records.get(change.field)) and leaf.refused == change.desired
        )

    def contested(self, changes: Iterable[Change], now: float) -> tuple[tuple[Change, int], ...]:
        """Those of the differences that are slowed down, with how often they flipped lately."""
        return tuple(
            (change, len(leaf.flips))
            for change in changes
            if (leaf := self.records.get(change.field)) and leaf.slowed_until > now
        )

    def _flip(self, leaf: Leaf, now: float, rules: Rules) -> None:
        leaf.flips = (*(at for at in leaf.flips if at > now - rules.contested_within_seconds), now)
        if len(leaf.flips) >= rules.contested_flips:
            delay = rules.contested_first_seconds * 2**leaf.slowdowns
            leaf.slowed_until = now + min(delay, rules.contested_most_seconds)
            leaf.slowdowns += 1

    def _prune(self) -> None:
        for field in [field for field, leaf in self.records.items() if leaf.idle()]:
            del self.records[field]


def _seen_equal(leaf: Leaf, now: float, rules: Rules) -> None:
    leaf.accepted = leaf.refused = None
    leaf.moves, leaf.again_at = 0, inf
    leaf.equal_since = min(leaf.equal_since, now)
    if now - leaf.equal_since >= rules.contested_clear_seconds:
        leaf.flips, leaf.slowdowns, leaf.slowed_until = (), 0, -inf


def _seen_different(leaf: Leaf, change: Change, begun: float, now: float, rules: Rules) -> None:
    if leaf.accepted == change.live:
        leaf.accepted = None  # it shows; that something else is wanted by now is no refusal of it
    if leaf.accepted == change.desired and begun >= leaf.accepted_at + rules.grace_seconds:
        leaf.accepted = None
        leaf.refused, leaf.refused_at, leaf.refused_live = change.desired, now, change.live
        leaf.again_at = now + rules.refused_seconds
    elif leaf.refused == change.desired and change.live != leaf.refused_live:
        leaf.refused_live = change.live
        follow = min(rules.followed_first_seconds * 2**leaf.moves, rules.refused_seconds)
        leaf.again_at = min(leaf.again_at, now + follow)
        leaf.moves += 1
