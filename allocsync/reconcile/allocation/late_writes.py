"""Updates that were given up, or accepted, and may still land: ghosts. Pure.

An update that a read called not applied can land later; so can one that was accepted and not carried out yet.
For 15 minutes each is remembered with every leaf that its body carried and a hash of the rest of the body.
A leaf that takes a ghost's value, where another one was seen or told since, is a late landing: no fight, and
no drift that somebody else made. The rest of the object going back to a ghost's is a stale overwrite: it is
told and not repaired, because it is not ours to write.

The rules: a landing belongs to the oldest ghost that fits; one that alone can have landed is gone with it,
others may still land. What an accepted update explains is no landing. Where the snapshot of the accepted
update showed the ghost's value already, nobody can tell a late landing from an update that does not show yet,
until the time for that (grace) is over.

Left out: what is done about a landing (`lane`), and how long it took (`settle` learns from it).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf

from allocsync.model.cloud import Cloud, Json, leaf
from allocsync.model.intent_record import undeclared_hash
from allocsync.reconcile.allocation.field_records import Leaves
from allocsync.reconcile.parameters import Rules

NOTHING: Mapping[str, Json] = {}


@dataclass(slots=True, kw_only=True)
class Ghost:
    """One such update. Times are on the caller's clock.

    `since` is when its outcome became unknown, or when it was accepted; `unseen_at` is when the last look
    began that did not show it; `rest` is the last that was seen of the undeclared part.
    """

    sequence: int
    since: float
    until: float
    leaves: dict[str, str]
    changes: frozenset[str]  # those of them that it changed
    undeclared: str
    accepted: bool
    unseen_at: float = -inf
    rest: str = ""
    told: bool = False  # as landed, though it may have been another one with the same values


@dataclass(frozen=True, slots=True)
class Landing:
    """A ghost landed: which one, the leaves that show it, and how long after the end of its request.

    `lag_is_known`: a look shortly before did not show it, so that it did not land long ago. `alone`: nothing
    else that may land carries the same values, and no accepted update that is not honoured looks like it, so
    that it was this one.
    """

    sequence: int
    fields: frozenset[str]
    waited_seconds: float
    lag_is_known: bool
    alone: bool


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one look shows of ghosts: `overwritten` are those whose undeclared part came back."""

    landings: tuple[Landing, ...] = ()
    overwritten: tuple[Ghost, ...] = ()

    @property
    def fields(self) -> frozenset[str]:
        """The leaves that landings explain."""
        return frozenset[str]().union(*(landing.fields for landing in self.landings))


@dataclass(slots=True)
class Ghosts:
    """The ghosts of one allocation, oldest first; `known` is what each leaf was last seen or told.

    `before` is what a leaf was before it was told to be something that no look has shown yet.
    """

    ghosts: list[Ghost] = field(default_factory=list)
    known: dict[str, Json] = field(default_factory=dict)
    before: dict[str, Json] = field(default_factory=dict)

    def add(
        self, ghost: Ghost, cloud: Cloud | None, *, begun: float, before: Mapping[str, Json] = NOTHING
    ) -> None:
        """One more; `cloud` is what a look that began at `begun` shows beside it, None without a look.

        `before` is what its leaves were when it was sent.
        """
        self.ghosts.append(ghost)
        ghost.rest = ghost.undeclared
        for name, value in ghost.leaves.items():
            if cloud is not None:
                self.known[name] = leaf(cloud, name)
            elif ghost.accepted:
                self.known[name] = value
                if name in before:
                    self.before[name] = before[name]
            else:
                self.known.setdefault(name, before.get(name))
        if cloud is not None:
            ghost.unseen_at = begun
            ghost.rest = undeclared_hash(cloud, ghost.leaves)

    def observe(
        self,
        cloud: Cloud,
        leaves: Leaves,
        opened: Mapping[str, str],
        *,
        begun: float,
        now: float,
        rules: Rules,
    ) -> Sighting:
        """What a look that began at `begun` shows of them; `opened` are the leaves of the open update."""
        self.ghosts = [ghost for ghost in self.ghosts if ghost.until > now]
        if not self.ghosts:
            self.known, self.before = {}, {}
            return Sighting()
        live = {name: leaf(cloud, name) for ghost in self.ghosts for name in ghost.leaves}
        fresh, unclear, unjudged = set[str](), set[str](), set[str]()
        for name, value in live.items():
            accepted = leaves.accepted(name)
            if accepted is not None and value == accepted.live and begun < accepted.at + rules.grace_seconds:
                unjudged.add(name)  # a late landing, or an update that does not show yet
                continue
            if value != self.known.get(name) and (accepted is None or value != accepted.value):
                fresh.add(name)
                not_shown = name in self.before and value == self.before[name]
                if not_shown or (accepted is not None and value == accepted.live):
                    unclear.add(name)  # it may as well be that the accepted update does not show
            elif value == self.known.get(name):
                self.before.pop(name, None)
            self.known[name] = value
        landings = tuple(self._landings(live, fresh, unclear, opened, begun=begun, rules=rules))
        overwritten = tuple(self._overwritten(cloud, live))
        gone = {landing.sequence for landing in landings if landing.alone}
        gone |= {ghost.sequence for ghost in overwritten if _is_all_there(ghost, live)}
        self.ghosts = [
            ghost
            for ghost in self.ghosts
            if ghost.sequence not in gone and (unjudged & ghost.leaves.keys() or not _shown(ghost, live))
        ]
        for ghost in self.ghosts:
            ghost.unseen_at = begun
        return Sighting(landings, overwritten)

    def suspect(self, cloud: Cloud) -> bool:
        """Whether something moved since the last look that may be a landing: only a look can judge it."""
        return any(leaf(cloud, name) != value for name, value in self.known.items()) or any(
            ghost.rest != rest for ghost, rest in self._rests(cloud)
        )

    def _landings(
        self,
        live: Mapping[str, Json],
        fresh: set[str],
        unclear: set[str],
        opened: Mapping[str, str],
        *,
        begun: float,
        rules: Rules,
    ) -> Iterator[Landing]:
        for ghost in self.ghosts:
            fields = frozenset(
                name
                for name in fresh
                if ghost.leaves.get(name) == live[name] and not (ghost.told and name in unclear)
            )
            if fields:
                fresh -= fields
                ghost.told = True
                near = begun - ghost.unseen_at <= rules.lag_seen_seconds
                others = [opened, *(other.leaves for other in self.ghosts if other is not ghost)]
                alone = not fields & unclear and not any(
                    all(leaves.get(name) == live[name] for name in fields) for leaves in others
                )
                yield Landing(ghost.sequence, fields, begun - ghost.since, lag_is_known=near, alone=alone)

    def _overwritten(self, cloud: Cloud, live: Mapping[str, Json]) -> Iterator[Ghost]:
        # One landing cannot be told from another with the same rest: the oldest stands for it, of those whose
        # own leaves show if there are any, since a landing brings them too.
        back: dict[str, list[Ghost]] = {}
        for ghost, rest in self._rests(cloud):
            before, ghost.rest = ghost.rest, rest
            if rest == ghost.undeclared != before:
                back.setdefault(rest, []).append(ghost)
        for ghosts in back.values():
            yield next((ghost for ghost in ghosts if _is_all_there(ghost, live)), ghosts[0])

    def _rests(self, cloud: Cloud) -> Iterator[tuple[Ghost, str]]:
        """Each ghost with the hash of what it does not declare."""
        hashes: dict[tuple[str, ...], str] = {}
        for ghost in self.ghosts:
            names = tuple(ghost.leaves)
            if names not in hashes:
                hashes[names] = undeclared_hash(cloud, names)
            yield ghost, hashes[names]


def _is_all_there(ghost: Ghost, live: Mapping[str, Json]) -> bool:
    return all(live[name] == value for name, value in ghost.leaves.items())


def _shown(ghost: Ghost, live: Mapping[str, Json]) -> bool:
    """An accepted update that is there in full has landed."""
    return ghost.accepted and _is_all_there(ghost, live)
