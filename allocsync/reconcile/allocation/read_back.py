"""What was sent for one allocation and what became of it: the open intent, its verdict, ghosts, leaves. Pure.

The rules: an update's outcome is learned from a read and never guessed. The verdict compares with what was
sent, not with what is wanted now. Late landings are told apart from fights: first ghosts are looked for, then
the open intent is judged, and what is left of changes is somebody else's.

Left out: what is sent next (`lane`), and what a leaf's memory does (`leaves`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from allocsync.model.change import Change
from allocsync.model.cloud import Cloud, Json, leaf
from allocsync.model.intent_record import undeclared_hash
from allocsync.reconcile.allocation.field_records import Leaves
from allocsync.reconcile.allocation.late_writes import Ghost, Ghosts, Sighting
from allocsync.reconcile.allocation.settle_time import Settle
from allocsync.reconcile.allocation.updates import Finding, Intent
from allocsync.reconcile.parameters import Rules


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a read says of an intent; `unshown` are the leaves of a partly applied one that do not show it."""

    outcome: str
    unshown: tuple[Change, ...] = ()


def judge(
    intent: Intent, cloud: Cloud, *, begun: float, landed: frozenset[str] = frozenset()
) -> Verdict | None:
    """Live, in a read that began at `begun`, against what was sent; None while that says nothing.

    Evidence is not symmetric: what was sent being there proves it from any read; its absence proves nothing
    until the settle time is over, because the update may still land. Leaves that late landings of older
    updates explain (`landed`) do not show that this one ran in part.
    """
    unshown = tuple(change for change in intent.changes if leaf(cloud, change.field) != change.desired)
    if not unshown:
        return Verdict("applied")
    if intent.unknown_since is None or begun < intent.settles_at:
        return None
    if not all(leaf(cloud, change.field) == change.live for change in unshown):
        return Verdict("superseded")
    shown = {change.field for change in intent.changes} - {change.field for change in unshown}
    if not shown <= landed:
        return Verdict("applied_partial", unshown)
    return Verdict("not_applied")


@dataclass(slots=True, kw_only=True)
class Past:
    """See the module. `settle` is shared by all allocations of one API."""

    rules: Rules
    settle: Settle
    intent: Intent | None = None
    leaves: Leaves = field(default_factory=Leaves)
    ghosts: Ghosts = field(default_factory=Ghosts)
    landed: frozenset[str] = frozenset()  # the leaves that late landings explain in the latest look
    # What they set leaves to, since the intent is open.
    meanwhile: dict[str, Json] = field(default_factory=dict)
    moved: bool = False  # since then somebody else changed what is not declared

    def unknown(self, intent: Intent, now: float) -> None:
        """Nobody knows how the update ended: it is judged by reading, S from now at the earliest."""
        intent.unknown(now, self.settle.seconds(now))
        self.intent = intent
        self.leaves.supersede(intent.changes)

    def accepted(self, intent: Intent, now: float) -> None:
        """The API took the update: it gets grace to show, and may land late."""
        self.leaves.accept(intent.changes, at=now)
        before = {change.field: change.live for change in intent.changes}
        self.ghosts.add(self._ghost(intent, now, now, accepted=True), None, begun=now, before=before)

    def gone(self, now: float) -> tuple[Finding, ...]:
        """The allocation is missing: what was open will not be known."""
        intent = self._close()
        if intent is None:
            return ()
        before = dict(intent.leaves) | {change.field: change.live for change in intent.changes}
        ghost = self._ghost(intent, _since(intent, now), now, accepted=False)
        self.ghosts.add(ghost, None, begun=now, before=before)
        return (self._finding(intent, "void", "410: the allocation is gone", now),)

    def _close(self) -> Intent | None:
        intent, self.intent = self.intent, None
        self.meanwhile, self.moved = {}, False
        return intent

    def judge(self, cloud: Cloud, *, begun: float, now: float) -> tuple[Finding, ...]:
        """What a look that began at `begun` says of what was sent; it closes the open intent if it can."""
        opened = dict(self.intent.leaves) if self.intent is not None else {}
        again = any(ghost.leaves == opened for ghost in self.ghosts.ghosts)
        sighting = self.ghosts.observe(cloud, self.leaves, opened, begun=begun, now=now, rules=self.rules)
        self.landed = sighting.fields
        self.leaves.landed(self.landed)
        findings = list(self._sighted(sighting, begun))
        if self.intent is not None:
            told = frozenset(ghost.undeclared for ghost in sighting.overwritten)
            verdict = tuple(self._verdict(self.intent, cloud, begun, now, told))
            if verdict:
                self.settle.tried(again=again, applied=verdict[0].outcome in {"applied", "applied_partial"})
            findings.extend(verdict)
        return tuple(findings)

    def observe(
        self, changes: tuple[Change, ...], were_equal: frozenset[str], *, begun: float, now: float
    ) -> tuple[Finding, ...]:
        """The same look shows these differences to what is wanted; `were_equal` are those that were right."""
        refused = self.leaves.observe(
            changes, flipped=were_equal - self.landed, begun=begun, now=now, rules=self.rules
        )
        return tuple(self._refusals(refused, now)) if refused else ()

    def _sighted(self, sighting: Sighting, begun: float) -> Iterator[Finding]:
        for landing in sighting.landings:
            if landing.lag_is_known:
                self.settle.lagged(landing.waited_seconds, certain=landing.alone)
            yield Finding(
                sequence=landing.sequence,
                outcome="late_applied",
                reason=f"it landed {landing.waited_seconds:.0f} s after its outcome was given up, or before",
                waited_seconds=landing.waited_seconds,
                fields=tuple(sorted(landing.fields)),
            )
        for ghost in sighting.overwritten:
            yield _overwrite(ghost.sequence, begun - ghost.since)

    def _verdict(
        self, intent: Intent, cloud: Cloud, begun: float, now: float, told: frozenset[str]
    ) -> Iterator[Finding]:
        since = _since(intent, now)
        intent.unknown(since, self.settle.seconds(now))
        rest = undeclared_hash(cloud, [name for name, _ in intent.leaves])
        moved = self.moved = self.moved or rest != intent.undeclared
        self.meanwhile.update({name: leaf(cloud, name) for name in self.landed})
        landed = frozenset(
            change.field
            for change in intent.changes
            if self.meanwhile.get(change.field) == change.desired or self._is_accepted(change)
        )
        verdict = judge(intent, cloud, begun=begun, landed=landed)
        if verdict is None:
            return
        self._close()
        yield self._finding(intent, verdict.outcome, _REASONS[verdict.outcome], now)
        came_back = moved and rest == intent.undeclared
        if came_back and rest not in told:
            yield _overwrite(intent.sequence, begun - since)
        if verdict.outcome not in {"applied", "applied_partial"}:
            self.ghosts.add(self._ghost(intent, since, now, accepted=False), cloud, begun=begun)
            return
        # Leaves of it that do not show get grace, as after a 2xx: it ran, nothing is sent again.
        self.leaves.accept(verdict.unshown, at=since)
        if self.landed and not came_back:
            # An older one landed: whether this one ran as well, nobody knows.
            self.ghosts.add(self._ghost(intent, since, now, accepted=False), cloud, begun=begun)

    def _is_accepted(self, change: Change) -> bool:
        """Whether an older update of the same value was accepted, and may be the one that shows."""
        accepted = self.leaves.accepted(change.field)
        return accepted is not None and accepted.value == change.desired

    def _refusals(self, refused: frozenset[str], now: float) -> Iterator[Finding]:
        """What an accepted update did not do, where that update is still remembered."""
        for ghost in self.ghosts.ghosts:
            fields = refused & ghost.changes if ghost.accepted else frozenset[str]()
            if fields:
                yield Finding(
                    sequence=ghost.sequence,
                    outcome="applied_partial" if fields < ghost.changes else "not_applied",
                    reason=f"accepted, and not honoured: {', '.join(sorted(fields))}",
                    waited_seconds=now - ghost.since,
                    fields=tuple(sorted(fields)),
                )

    def _ghost(self, intent: Intent, since: float, now: float, *, accepted: bool) -> Ghost:
        return Ghost(
            sequence=intent.sequence,
            since=since,
            until=now + self.rules.ghost_seconds,
            leaves=dict(intent.leaves),
            changes=frozenset(change.field for change in intent.changes),
            undeclared=intent.undeclared,
            accepted=accepted,
        )

    def _finding(self, intent: Intent, outcome: str, reason: str, now: float) -> Finding:
        return Finding(
            sequence=intent.sequence,
            outcome=outcome,
            reason=reason,
            waited_seconds=now - _since(intent, now),
            fields=tuple(change.field for change in intent.changes),
        )


_REASONS: Mapping[str, str] = {
    "applied": "read back: its values are there",
    "applied_partial": "read back: some of its values are there, the others are as before",
    "not_applied": "read back after the settle time: all is as before",
    "superseded": "read back after the settle time: neither as before nor as sent",
}


def _since(intent: Intent, now: float) -> float:
    return now if intent.unknown_since is None else intent.unknown_since


def _overwrite(sequence: int, waited_seconds: float) -> Finding:
    return Finding(
        sequence=sequence,
        outcome="stale_overwrite",
        reason="its landing put back what somebody else had changed in fields that are not declared",
        waited_seconds=waited_seconds,
    )
