"""Late writes: updates that were given up, or accepted, and may still be applied. Pure.

An update that a read judged not applied can be applied later. So can one that was accepted and does not show
yet. Each is kept for 15 minutes, with the fields of its body and a hash of the unmanaged fields. A field that
takes the value of a late write, after a read or a response showed another value, is a late application: it
is neither a conflict nor drift. Unmanaged fields that return to the values of a late write are a stale
overwrite: it is reported, and not repaired, because allocsync does not write unmanaged fields.

The rules: a late application is attributed to the oldest matching write. That write is forgotten only if no
other write carries the same values; otherwise any of them may still be applied. A value that an accepted
update explains is no late application. If a field has the value that it had before an accepted update, it is
not judged before the propagation window is over: until then, it may be that the update does not show yet.

Left out: what follows from a late application (`read_back`), and what its lag teaches (`settle_time`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from allocsync.model.cloud import Cloud, Json, field_value
from allocsync.model.intent_record import hash_unmanaged_fields
from allocsync.model.times import LONG_AGO, Monotonic
from allocsync.reconcile.allocation.field_records import FieldRecords
from allocsync.reconcile.parameters import Parameters

NO_VALUES: Mapping[str, Json] = {}


@dataclass(slots=True, kw_only=True)
class LateWrite:
    """An update that may still be applied. Times are monotonic, in seconds.

    `since` is when its outcome became unknown, or when it was accepted. It may be applied until `until`.
    """

    sequence: int  # its row in the journal
    since: Monotonic
    until: Monotonic
    fields: dict[str, str]  # all declared fields in its body
    changes: frozenset[str]  # the names of those that it changes
    unmanaged_hash: str
    accepted: bool
    absent_at: Monotonic = LONG_AGO  # when the latest read began after which it was still expected
    latest_unmanaged_hash: str = ""  # of the latest read
    reported: bool = False  # as applied, but another write with the same values may be the one

    def shows_in(self, live: Mapping[str, Json]) -> bool:
        """Whether every field has the value of this write."""
        return all(live[name] == value for name, value in self.fields.items())


@dataclass(frozen=True, slots=True)
class LateApplication:
    """A late write that was applied, the fields that show it, and how long after the end of its request.

    It was applied at most `waited_seconds` after that end. `lag_is_known`: a read at most
    `lag_seen_seconds` before did not show it, so that time is close to the lag. `is_certain`: no other late
    write and no open update carries the same values, and no accepted update that is ignored explains them.
    """

    sequence: int
    fields: frozenset[str]
    waited_seconds: float
    lag_is_known: bool
    is_certain: bool


@dataclass(frozen=True, slots=True)
class Detection:
    """What one read shows of late writes; those in `overwritten` are stale overwrites."""

    applications: tuple[LateApplication, ...] = ()
    overwritten: tuple[LateWrite, ...] = ()

    @property
    def fields(self) -> frozenset[str]:
        """The fields whose live values late applications explain."""
        return frozenset[str]().union(*(application.fields for application in self.applications))


@dataclass(slots=True)
class LateWrites:
    """The late writes of one allocation, the oldest first.

    `latest` has, by field, the value in the latest read or in a later accepted update. `before_accepted` has
    the value that a field had before an accepted update which no read has shown yet.
    """

    late_writes: list[LateWrite] = field(default_factory=list)
    latest: dict[str, Json] = field(default_factory=dict)
    before_accepted: dict[str, Json] = field(default_factory=dict)

    def add(
        self,
        late_write: LateWrite,
        cloud: Cloud | None,
        *,
        begun: Monotonic,
        before: Mapping[str, Json] = NO_VALUES,
    ) -> None:
        """Add a late write.

        `cloud` is what a read that began at `begun` (monotonic) shows, None without a read. `before` are the
        values of its fields when it was sent.
        """
        self.late_writes.append(late_write)
        late_write.latest_unmanaged_hash = late_write.unmanaged_hash
        for name, value in late_write.fields.items():
            if cloud is not None:
                self.latest[name] = field_value(cloud, name)
            elif late_write.accepted:
                self.latest[name] = value
                if name in before:
                    self.before_accepted[name] = before[name]
            else:
                self.latest.setdefault(name, before.get(name))
        if cloud is not None:
            late_write.absent_at = begun
            late_write.latest_unmanaged_hash = hash_unmanaged_fields(cloud, late_write.fields)

    def observe(
        self,
        cloud: Cloud,
        field_records: FieldRecords,
        open_fields: Mapping[str, str],
        *,
        begun: Monotonic,
        now: Monotonic,
        rules: Parameters,
    ) -> Detection:
        """Detect late applications and stale overwrites in a read from `begun` to `now` (monotonic).

        Late writes that are over, or can have no further effect, are forgotten.

        `open_fields` are the fields of the update whose outcome is open, empty without one.
        """
        self.late_writes = [late_write for late_write in self.late_writes if late_write.until > now]
        if not self.late_writes:
            self.latest, self.before_accepted = {}, {}
            return Detection()
        live = {
            name: field_value(cloud, name) for late_write in self.late_writes for name in late_write.fields
        }
        appeared, ambiguous, undecided = set[str](), set[str](), set[str]()
        for name, value in live.items():
            accepted = field_records.accepted(name)
            if field_records.may_lag(name, value, begun):
                undecided.add(name)  # a late application, or an accepted update that does not show yet
                continue
            if value != self.latest.get(name) and (accepted is None or value != accepted.value):
                appeared.add(name)
                is_as_before = name in self.before_accepted and value == self.before_accepted[name]
                if is_as_before or (accepted is not None and value == accepted.live):
                    ambiguous.add(name)  # a late application, or an accepted update that is ignored
            elif value == self.latest.get(name):
                self.before_accepted.pop(name, None)
            self.latest[name] = value
        applications = tuple(
            self._applications(live, appeared, ambiguous, open_fields, begun=begun, rules=rules)
        )
        overwritten = tuple(self._overwritten(cloud, live))
        applied = {application.sequence for application in applications if application.is_certain}
        applied |= {late_write.sequence for late_write in overwritten if late_write.shows_in(live)}
        self.late_writes = [
            late_write
            for late_write in self.late_writes
            if late_write.sequence not in applied
            and (undecided & late_write.fields.keys() or not _accepted_and_shows(late_write, live))
        ]
        for late_write in self.late_writes:
            late_write.absent_at = begun
        return Detection(applications, overwritten)

    def may_show_in(self, cloud: Cloud) -> bool:
        """Whether a value in this list entry changed since the latest read, so that a GET must judge it."""
        return any(field_value(cloud, name) != value for name, value in self.latest.items()) or any(
            late_write.latest_unmanaged_hash != live_hash
            for late_write, live_hash in self._unmanaged_hashes(cloud)
        )

    def _applications(
        self,
        live: Mapping[str, Json],
        appeared: set[str],
        ambiguous: set[str],
        open_fields: Mapping[str, str],
        *,
        begun: Monotonic,
        rules: Parameters,
    ) -> Iterator[LateApplication]:
        for late_write in self.late_writes:
            fields = frozenset(
                name
                for name in appeared
                if late_write.fields.get(name) == live[name]
                and not (late_write.reported and name in ambiguous)
            )
            if fields:
                appeared -= fields
                late_write.reported = True
                lag_is_known = begun - late_write.absent_at <= rules.lag_seen_seconds
                others = [
                    open_fields,
                    *(other.fields for other in self.late_writes if other is not late_write),
                ]
                is_certain = not fields & ambiguous and not any(
                    all(carried.get(name) == live[name] for name in fields) for carried in others
                )
                yield LateApplication(
                    late_write.sequence,
                    fields,
                    begun - late_write.since,
                    lag_is_known=lag_is_known,
                    is_certain=is_certain,
                )

    def _overwritten(self, cloud: Cloud, live: Mapping[str, Json]) -> Iterator[LateWrite]:
        # Writes with the same unmanaged fields cannot be distinguished. The oldest of those whose own fields
        # show is reported, because a write brings its fields too; the oldest of all if none shows.
        restored: dict[str, list[LateWrite]] = {}
        for late_write, live_hash in self._unmanaged_hashes(cloud):
            before, late_write.latest_unmanaged_hash = late_write.latest_unmanaged_hash, live_hash
            if live_hash == late_write.unmanaged_hash != before:
                restored.setdefault(live_hash, []).append(late_write)
        for late_writes in restored.values():
            yield next(
                (late_write for late_write in late_writes if late_write.shows_in(live)), late_writes[0]
            )

    def _unmanaged_hashes(self, cloud: Cloud) -> Iterator[tuple[LateWrite, str]]:
        """Each late write with the hash of the live fields that it does not manage."""
        hashes: dict[tuple[str, ...], str] = {}
        for late_write in self.late_writes:
            names = tuple(late_write.fields)
            if names not in hashes:
                hashes[names] = hash_unmanaged_fields(cloud, names)
            yield late_write, hashes[names]


def _accepted_and_shows(late_write: LateWrite, live: Mapping[str, Json]) -> bool:
    """Whether this is an accepted update that shows in full: it can have no further effect."""
    return late_write.accepted and late_write.shows_in(live)
