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

from allocsync.model.cloud import Cloud, Json, field_value
from allocsync.model.intent_record import hash_unmanaged_fields
from allocsync.reconcile.allocation.field_records import FieldRecords
from allocsync.reconcile.parameters import Parameters

NOTHING: Mapping[str, Json] = {}


@dataclass(slots=True, kw_only=True)
class LateWrite:
    """One such update. Times are on the caller's clock.

    `since` is when its outcome became unknown, or when it was accepted; `unseen_at` is when the last look
    began that did not show it; `rest` is the last that was seen of the undeclared part.
    """

    sequence: int
    since: float
    until: float
    fields: dict[str, str]
    changes: frozenset[str]  # those of them that it changed
    unmanaged_hash: str
    accepted: bool
    unseen_at: float = -inf
    rest: str = ""
    told: bool = False  # as landed, though it may have been another one with the same values


@dataclass(frozen=True, slots=True)
class LateApplication:
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
class Detection:
    """What one look shows of ghosts: `overwritten` are those whose undeclared part came back."""

    applications: tuple[LateApplication, ...] = ()
    overwritten: tuple[LateWrite, ...] = ()

    @property
    def fields(self) -> frozenset[str]:
        """The leaves that landings explain."""
        return frozenset[str]().union(*(application.fields for application in self.applications))


@dataclass(slots=True)
class LateWrites:
    """The ghosts of one allocation, oldest first; `known` is what each leaf was last seen or told.

    `before` is what a leaf was before it was told to be something that no look has shown yet.
    """

    late_writes: list[LateWrite] = field(default_factory=list)
    known: dict[str, Json] = field(default_factory=dict)
    before: dict[str, Json] = field(default_factory=dict)

    def add(
        self,
        late_write: LateWrite,
        cloud: Cloud | None,
        *,
        begun: float,
        before: Mapping[str, Json] = NOTHING,
    ) -> None:
        """One more; `cloud` is what a look that began at `begun` shows beside it, None without a look.

        `before` is what its leaves were when it was sent.
        """
        self.late_writes.append(late_write)
        late_write.rest = late_write.unmanaged_hash
        for name, value in late_write.fields.items():
            if cloud is not None:
                self.known[name] = field_value(cloud, name)
            elif late_write.accepted:
                self.known[name] = value
                if name in before:
                    self.before[name] = before[name]
            else:
                self.known.setdefault(name, before.get(name))
        if cloud is not None:
            late_write.unseen_at = begun
            late_write.rest = hash_unmanaged_fields(cloud, late_write.fields)

    def observe(
        self,
        cloud: Cloud,
        field_records: FieldRecords,
        opened: Mapping[str, str],
        *,
        begun: float,
        now: float,
        rules: Parameters,
    ) -> Detection:
        """What a look that began at `begun` shows of them; `opened` are the leaves of the open update."""
        self.late_writes = [late_write for late_write in self.late_writes if late_write.until > now]
        if not self.late_writes:
            self.known, self.before = {}, {}
            return Detection()
        live = {
            name: field_value(cloud, name) for late_write in self.late_writes for name in late_write.fields
        }
        fresh, unclear, unjudged = set[str](), set[str](), set[str]()
        for name, value in live.items():
            accepted = field_records.accepted(name)
            if (
                accepted is not None
                and value == accepted.live
                and begun < accepted.at + rules.propagation_window_seconds
            ):
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
        applications = tuple(self._applications(live, fresh, unclear, opened, begun=begun, rules=rules))
        overwritten = tuple(self._overwritten(cloud, live))
        gone = {application.sequence for application in applications if application.alone}
        gone |= {late_write.sequence for late_write in overwritten if _is_all_there(late_write, live)}
        self.late_writes = [
            late_write
            for late_write in self.late_writes
            if late_write.sequence not in gone
            and (unjudged & late_write.fields.keys() or not _shown(late_write, live))
        ]
        for late_write in self.late_writes:
            late_write.unseen_at = begun
        return Detection(applications, overwritten)

    def suspect(self, cloud: Cloud) -> bool:
        """Whether something moved since the last look that may be a landing: only a look can judge it."""
        return any(field_value(cloud, name) != value for name, value in self.known.items()) or any(
            late_write.rest != rest for late_write, rest in self._rests(cloud)
        )

    def _applications(
        self,
        live: Mapping[str, Json],
        fresh: set[str],
        unclear: set[str],
        opened: Mapping[str, str],
        *,
        begun: float,
        rules: Parameters,
    ) -> Iterator[LateApplication]:
        for late_write in self.late_writes:
            fields = frozenset(
                name
                for name in fresh
                if late_write.fields.get(name) == live[name] and not (late_write.told and name in unclear)
            )
            if fields:
                fresh -= fields
                late_write.told = True
                near = begun - late_write.unseen_at <= rules.lag_seen_seconds
                others = [opened, *(other.fields for other in self.late_writes if other is not late_write)]
                alone = not fields & unclear and not any(
                    all(carried.get(name) == live[name] for name in fields) for carried in others
                )
                yield LateApplication(
                    late_write.sequence, fields, begun - late_write.since, lag_is_known=near, alone=alone
                )

    def _overwritten(self, cloud: Cloud, live: Mapping[str, Json]) -> Iterator[LateWrite]:
        # One landing cannot be told from another with the same rest: the oldest stands for it, of those whose
        # own leaves show if there are any, since a landing brings them too.
        back: dict[str, list[LateWrite]] = {}
        for late_write, rest in self._rests(cloud):
            before, late_write.rest = late_write.rest, rest
            if rest == late_write.unmanaged_hash != before:
                back.setdefault(rest, []).append(late_write)
        for late_writes in back.values():
            yield next(
                (late_write for late_write in late_writes if _is_all_there(late_write, live)), late_writes[0]
            )

    def _rests(self, cloud: Cloud) -> Iterator[tuple[LateWrite, str]]:
        """Each ghost with the hash of what it does not declare."""
        hashes: dict[tuple[str, ...], str] = {}
        for late_write in self.late_writes:
            names = tuple(late_write.fields)
            if names not in hashes:
                hashes[names] = hash_unmanaged_fields(cloud, names)
            yield late_write, hashes[names]


def _is_all_there(late_write: LateWrite, live: Mapping[str, Json]) -> bool:
    return all(live[name] == value for name, value in late_write.fields.items())


def _shown(late_write: LateWrite, live: Mapping[str, Json]) -> bool:
    """An accepted update that is there in full has landed."""
    return late_write.accepted and _is_all_there(late_write, live)
