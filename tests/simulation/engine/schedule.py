"""What happens in one simulated run, drawn from a seed: edits, writes by others, crashes and faults.

A schedule is plain data, so it can be shown, made smaller and run again. Responses to single requests are not
in it: they are drawn as each request comes, from the seed, the allocation and the request's number. So
leaving out one event does not change all other responses.

Left out: responses to requests (`request_faults`), and gates, outages, rejections and other writers, which a
part of the schedules has (`drawn_schedule`).
"""

import random
from dataclasses import dataclass, replace
from enum import StrEnum

from allocsync.model.desired_state import Mode

FIELDS = ("region", "version", "urls.vanity.url")
VALUES = ("a", "b", "c")
UNDECLARED = ("project", "note")
DAY_SECONDS = 86_400.0
LEAST_OF_MANY = 10  # a smaller revision is not held by the change limit


class Seam(StrEnum):
    """A point before or after an await where the daemon's process meets the outside."""

    GET = "a read is about to be sent"
    GOT = "a read has been answered"
    POST = "an update is about to be sent"
    POSTED = "an update has been answered"
    COMMIT = "a commit is about to begin"
    COMMITTED = "a commit is done and not reported yet"
    LIST = "a list is about to be sent"
    LISTED = "a list has been answered"


class EndKind(StrEnum):
    """How a process ends."""

    KILL = "kill -9"
    POWER = "power cut"
    POWER_IN_COMMIT = "power cut in the middle of a commit"
    STOP = "SIGTERM"


class DiskFaultKind(StrEnum):
    """How the disk fails."""

    FULL = "full"
    IO_ERROR = "gives errors"
    SYNC_ERROR = "cannot sync"
    READ_ONLY = "read-only"


@dataclass(frozen=True, slots=True)
class Edit:
    """The files declare these fields of an allocation from now on. Without fields, the entry is removed."""

    key: int
    fields: tuple[tuple[str, str], ...]
    mode: Mode = Mode.ENFORCE


@dataclass(frozen=True, slots=True)
class SimultaneousEdits:
    """Several entries change at once, in one revision."""

    edits: tuple[Edit, ...]


@dataclass(frozen=True, slots=True)
class Approve:
    """A person approves the current files, which the change limit holds."""


@dataclass(frozen=True, slots=True)
class ForeignWrite:
    """Another client writes one field."""

    key: int
    field: str
    value: str


@dataclass(frozen=True, slots=True)
class AllocationGone:
    """The API answers 410 for this allocation, for so many seconds."""

    key: int
    seconds: float


@dataclass(frozen=True, slots=True)
class EndProcess:
    """The process ends, the wall clock is moved, and the next process starts after `down_seconds`.

    With `damage` the journal is damaged before the next process starts.
    """

    how: EndKind
    down_seconds: float
    wall_jump_seconds: float = 0.0
    damage: bool = False


@dataclass(frozen=True, slots=True)
class DiskFault:
    """The disk fails in this way for so many seconds."""

    kind: DiskFaultKind
    seconds: float


@dataclass(frozen=True, slots=True)
class SlowDisk:
    """Each commit takes `commit_seconds`, for `seconds`."""

    commit_seconds: float
    seconds: float


@dataclass(frozen=True, slots=True)
class RequestResync:
    """A person asks the daemon to read everything now."""


@dataclass(frozen=True, slots=True)
class BeginPause:
    """A person pauses one allocation, or all if `key` is None, for so many seconds."""

    key: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class LiftPause:
    """A person lifts the pause of one allocation, or that of all if `key` is None, before its end."""

    key: int | None


@dataclass(frozen=True, slots=True)
class Retry:
    """A person asks for another try of one allocation, or of all if `key` is None."""

    key: int | None


@dataclass(frozen=True, slots=True)
class RejectNextUpdate:
    """The server rejects the next update, whichever allocation it is for, with this 4xx."""

    status: int
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class StrikeAfterAcceptance:
    """When the server next accepts an update, another client writes a field of it before a read confirms it.

    It writes `value` after `after_seconds`, or the value from before the update if `value` is empty.
    """

    value: str
    after_seconds: float


Action = (
    Edit
    | SimultaneousEdits
    | Approve
    | ForeignWrite
    | AllocationGone
    | EndProcess
    | DiskFault
    | SlowDisk
    | RequestResync
    | BeginPause
    | LiftPause
    | Retry
    | RejectNextUpdate
    | StrikeAfterAcceptance
)


@dataclass(frozen=True, slots=True)
class Event:
    """An action at a virtual time in seconds, or when a process next reaches the seam after that time."""

    at: float
    action: Action
    seam: Seam | None = None


@dataclass(frozen=True, slots=True)
class FaultPeriod:
    """The shares of requests that fail between two times, and how late a late update is applied at most."""

    begin: float
    end: float
    reads: float
    updates: float
    lists: float
    late_seconds: float


class OutageKind(StrEnum):
    """What happens to a request in an outage."""

    NO_CONNECTION = "gets no connection"
    HANGS = "hangs"
    UNAVAILABLE = "gets a 503"


class Operation(StrEnum):
    """A request of the API."""

    GET = "GET"
    POST = "POST"
    LIST = "list"


WHOLE_API = frozenset(Operation)


@dataclass(frozen=True, slots=True)
class Outage:
    """All requests of these operations that are sent between two times end in this way."""

    begin: float
    end: float
    kind: OutageKind
    operations: frozenset[Operation] = WHOLE_API


@dataclass(frozen=True, slots=True)
class OtherWriter:
    """Another controller: every `every_seconds` it writes its value of a field where the live one differs.

    `wanted` has the allocation, the field and the value, one of each allocation that it manages.
    """

    begin: float
    every_seconds: float
    wanted: tuple[tuple[int, str, str], ...]


class SecondKind(StrEnum):
    """What a second allocsync declares of an allocation."""

    SAME = "same values"  # as the first does, edits included
    OTHER_FIELD = "different fields"
    OTHER_VALUE = "different values"


@dataclass(frozen=True, slots=True)
class SecondAllocsync:
    """A second allocsync on a machine of its own, which has no faults of its own and is never ended.

    Its wall clock is `clock_ahead_seconds` ahead of that of the first. `wanted` has the allocations that it
    manages, the kind of each, and the field whose value it declares as "second"; empty for the same values.
    If the two want different values, the run goes on for `dispute_seconds` after all else has converged.
    """

    begin: float
    clock_ahead_seconds: float
    wanted: tuple[tuple[int, SecondKind, str], ...]
    dispute_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """One allocation: its first live fields, its first declaration, and how the server treats it."""

    key: int
    live: tuple[tuple[str, str], ...]
    declared: tuple[tuple[str, str], ...]
    ignored_field: str = ""  # a field that the server accepts and does not change
    has_moving_timestamp: bool = False  # `updated` differs in each read
    pending: bool = False  # its status is PENDING until an update is applied
    is_declared_at_first: bool = True  # in the first revision
    mode: Mode = Mode.ENFORCE  # in the first revision


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One run. Times are seconds of virtual time; there are no faults after `faults_end_at`.

    `closed_minutes` are the minutes of each hour of the wall clock in which the write windows are closed. A
    GET may answer what was true up to `cache_seconds` ago.
    """

    seed: int
    allocations: tuple[Allocation, ...]
    fault_periods: tuple[FaultPeriod, ...]
    events: tuple[Event, ...]
    faults_end_at: float
    bulk: str = "auto"
    has_list_route: bool = True  # whether the server has the list route
    resync_seconds: float = 60.0
    heartbeat_seconds: float = 10.0  # infinity: there are none
    slow: bool = False  # whether some answers take seconds
    checkpoint_pages: int = 0  # of the journal's write-ahead log; 0 is SQLite's default
    max_changes_percent: float = 100.0  # a revision that changes more is held; 100 holds none
    canary: int = 0  # how many allocations of a revision that is held are written first
    max_writes_per_hour: int | None = None
    closed_minutes: range | None = None
    outages: tuple[Outage, ...] = ()
    other_writer: OtherWriter | None = None
    second: SecondAllocsync | None = None
    cache_seconds: float = 0.0

    def without(self, events: range) -> "Schedule":
        """The same schedule without the events at these indexes."""
        return replace(self, events=self.events[: events.start] + self.events[events.stop :])


def draw_plain_schedule(seed: int, *, many: bool = False) -> Schedule:
    """The schedule of this seed without gates, outages, rejections and other writers.

    With `many`, it has as many allocations as a change limit needs.
    """
    rng = random.Random(seed)
    faults_end_at = rng.uniform(40.0, 240.0)
    number = rng.choice((1, 2, 3, 3, 4, 5))
    number = LEAST_OF_MANY if many else number
    allocations = tuple(_draw_allocation(rng, key) for key in range(number))
    fault_periods = tuple(_draw_fault_periods(rng, faults_end_at))
    events = [_draw_event(rng, faults_end_at, allocations) for _ in range(rng.randint(2, 18))]
    if rng.random() < 0.5:
        events += _draw_alternating_edits(rng, faults_end_at, allocations)
    return Schedule(
        seed=seed,
        allocations=allocations,
        fault_periods=fault_periods,
        events=tuple(sorted(events, key=lambda event: event.at)),
        faults_end_at=faults_end_at,
        bulk=rng.choice(("auto", "auto", "auto", "off")),
        has_list_route=rng.random() < 0.75,
        resync_seconds=rng.choice((30.0, 60.0)),
        slow=rng.random() < 0.4,
        checkpoint_pages=rng.choice((0, 0, 8)),
    )


def _draw_allocation(rng: random.Random, key: int) -> Allocation:
    fields = rng.sample(FIELDS, rng.randint(1, 3))
    live = tuple((field, rng.choice((*VALUES, "x"))) for field in FIELDS)
    declared = tuple((field, rng.choice(VALUES)) for field in FIELDS if field in fields)
    return Allocation(
        key=key,
        live=live,
        declared=declared if rng.random() < 0.8 else _values_at(live, declared),
        ignored_field=rng.choice(fields) if rng.random() < 0.08 else "",
        has_moving_timestamp=rng.random() < 0.5,
        pending=rng.random() < 0.15,
        is_declared_at_first=rng.random() < 0.9,
    )


def _values_at(
    live: tuple[tuple[str, str], ...], declared: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, str], ...]:
    return tuple((field, dict(live)[field]) for field, _ in declared)


def _draw_fault_periods(rng: random.Random, faults_end_at: float) -> list[FaultPeriod]:
    cuts = sorted(rng.uniform(0, faults_end_at) for _ in range(rng.randint(0, 3)))
    return [
        FaultPeriod(
            begin,
            end,
            reads=rng.choice((0.0, 0.0, 0.0, 0.1, 0.1, 0.4, 1.0)),
            updates=rng.choice((0.1, 0.3, 0.5, 0.5, 0.8, 1.0)),
            lists=rng.choice((0.0, 0.0, 0.3, 1.0)),
            late_seconds=rng.choice((2.0, 12.0, 30.0, 90.0)),
        )
        for begin, end in zip([0.0, *cuts], [*cuts, faults_end_at], strict=True)
    ]


def _draw_event(rng: random.Random, faults_end_at: float, allocations: tuple[Allocation, ...]) -> Event:
    key = rng.randrange(len(allocations))
    at = rng.uniform(0.0, faults_end_at * 0.9)
    seam = rng.choice(tuple(Seam)) if rng.random() < 0.6 else None
    draw = rng.random()
    action: Action
    if draw < 0.36:
        action = _draw_edit(rng, allocations[key])
    elif draw < 0.56:
        field = rng.choice((*FIELDS, *UNDECLARED, *UNDECLARED))
        action = ForeignWrite(key, field, f"foreign-{rng.randrange(10**6)}")
    elif draw < 0.80:
        action = _draw_end(rng)
    elif draw < 0.90:
        kind = rng.choice(tuple(DiskFaultKind))
        action = DiskFault(kind, min(rng.choice((0.5, 3.0, 30.0)), faults_end_at - at))
    elif draw < 0.93:
        action = SlowDisk(rng.choice((0.5, 2.5, 4.0)), min(20.0, faults_end_at - at))
    elif draw < 0.96:
        action = AllocationGone(key, min(rng.choice((5.0, 70.0)), faults_end_at - at))
    else:
        action = RequestResync()
    return Event(at, action, seam)


def _draw_edit(rng: random.Random, allocation: Allocation) -> Edit:
    draw = rng.random()
    if draw < 0.08:
        return Edit(allocation.key, ())
    mode = Mode.ENFORCE
    if draw < 0.2:
        mode = rng.choice((Mode.OBSERVE, Mode.SUSPEND))
    changed = [(field, rng.choice(VALUES)) for field, _ in allocation.declared]
    return Edit(allocation.key, tuple(changed), mode)


def _draw_end(rng: random.Random) -> EndProcess:
    how = rng.choice(
        (EndKind.KILL, EndKind.KILL, EndKind.POWER, EndKind.POWER, EndKind.POWER_IN_COMMIT, EndKind.STOP)
    )
    jump = rng.choice((0.0, 0.0, 0.0, 0.0, -30.0, 3600.0, 91 * DAY_SECONDS))
    down = rng.choice((0.1, 2.0, 20.0))
    return EndProcess(how, down, jump, damage=how is not EndKind.STOP and rng.random() < 0.15)


def _draw_alternating_edits(
    rng: random.Random, faults_end_at: float, allocations: tuple[Allocation, ...]
) -> list[Event]:
    """Edits of one allocation back and forth: a late write is hardest to recognise there."""
    allocation = rng.choice(allocations)
    every = rng.uniform(8.0, 40.0)
    begin = rng.uniform(0.0, faults_end_at / 2)
    events = []
    for number in range(rng.randint(2, 6)):
        value = VALUES[number % 2]
        fields = tuple((field, value) for field, _ in allocation.declared)
        at = begin + number * every
        if at < faults_end_at * 0.95:
            events.append(Event(at, Edit(allocation.key, fields)))
    return events
