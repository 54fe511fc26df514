"""What happens in one simulated run, drawn from a seed: who edits, who else writes, what breaks and when.

A schedule is plain data, so that it can be shown, made smaller and run again. What a single request meets is
not in it: that is drawn when the request comes, from the seed, the allocation and the number of the request,
so that leaving out one event does not deal all the others anew.
"""

import random
from dataclasses import dataclass, replace
from enum import StrEnum

from allocsync.model.desired_state import Mode

FIELDS = ("region", "version", "urls.vanity.url")
VALUES = ("a", "b", "c")
UNDECLARED = ("project", "note")
DAY_SECONDS = 86_400.0


class Seam(StrEnum):
    """Where a process meets the world, before and after each await."""

    GET = "a read is about to leave"
    GOT = "a read has been answered"
    POST = "an update is about to leave"
    POSTED = "an update has been answered"
    COMMIT = "a commit is about to begin"
    COMMITTED = "a commit is done, and nobody knows yet"
    LIST = "a bulk read is about to leave"
    LISTED = "a bulk read has been answered"


class How(StrEnum):
    """How a process ends."""

    KILL = "kill -9"
    POWER = "power cut"
    POWER_IN_COMMIT = "power cut in the middle of a commit"
    STOP = "SIGTERM"


class DiskTrouble(StrEnum):
    """What the disk does."""

    FULL = "full"
    IO_ERROR = "gives errors"
    SYNC_ERROR = "cannot sync"
    READ_ONLY = "read-only"


@dataclass(frozen=True, slots=True)
class Edit:
    """The files declare this of an allocation from now on; no leaves: it is not declared any more."""

    key: int
    leaves: tuple[tuple[str, str], ...]
    mode: Mode = Mode.ENFORCE


@dataclass(frozen=True, slots=True)
class Edits:
    """Several entries change at once, in one generation."""

    edits: tuple[Edit, ...]


@dataclass(frozen=True, slots=True)
class Approve:
    """Somebody approves what the files say, which the rail holds."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """Somebody else writes one field."""

    key: int
    field: str
    value: str


@dataclass(frozen=True, slots=True)
class Gone:
    """The API answers 410 for so long."""

    key: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Ends:
    """The process ends, and another one starts `down_seconds` later, with the wall clock moved."""

    how: How
    down_seconds: float
    wall_jump_seconds: float = 0.0
    damage: bool = False


@dataclass(frozen=True, slots=True)
class DiskFails:
    """The disk does this for so long."""

    trouble: DiskTrouble
    seconds: float


@dataclass(frozen=True, slots=True)
class SlowDisk:
    """Commits take so long, for so long."""

    commit_seconds: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Look:
    """Somebody asks for a look at everything now."""


Action = Edit | Edits | Approve | Foreign | Gone | Ends | DiskFails | SlowDisk | Look


@dataclass(frozen=True, slots=True)
class Event:
    """Something happens: at a time, or when a process next comes to this seam after that time."""

    at: float
    action: Action
    seam: Seam | None = None


@dataclass(frozen=True, slots=True)
class Spell:
    """Weather from one time to another: the shares of requests that fail, and how late what is late lands."""

    begin: float
    end: float
    reads: float
    updates: float
    lists: float
    late_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """One allocation: how it is at first, what is declared of it, and what the server does with it."""

    key: int
    live: tuple[tuple[str, str], ...]
    declared: tuple[tuple[str, str], ...]
    deaf: str = ""  # a field that the server accepts and ignores
    ticking: bool = False  # `updated` moves by itself
    pending: bool = False  # its status is PENDING while an update is carried out
    present: bool = True  # whether the first generation declares it
    mode: Mode = Mode.ENFORCE  # at first


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One run. After `calm_at` nothing goes wrong any more."""

    seed: int
    allocations: tuple[Allocation, ...]
    spells: tuple[Spell, ...]
    events: tuple[Event, ...]
    calm_at: float
    bulk: str = "auto"
    bulk_route: bool = True  # whether the server has it
    resync_seconds: float = 60.0
    slow: bool = False  # now and then an answer takes seconds
    checkpoint_pages: int = 0  # how soon the journal's log is carried over; 0: as it comes
    max_changes_percent: float = 100.0  # more is held; 100 holds nothing

    def without(self, events: range) -> "Schedule":
        """The same without some of its events."""
        return replace(self, events=self.events[: events.start] + self.events[events.stop :])


def drawn(seed: int) -> Schedule:
    """The schedule of this seed."""
    chance = random.Random(seed)
    calm_at = chance.uniform(40.0, 240.0)
    allocations = tuple(_allocation(chance, key) for key in range(chance.choice((1, 2, 3, 3, 4, 5))))
    spells = tuple(_spells(chance, calm_at))
    events = [_event(chance, calm_at, allocations) for _ in range(chance.randint(2, 18))]
    if chance.random() < 0.5:
        events += _to_and_fro(chance, calm_at, allocations)
    return Schedule(
        seed=seed,
        allocations=allocations,
        spells=spells,
        events=tuple(sorted(events, key=lambda event: event.at)),
        calm_at=calm_at,
        bulk=chance.choice(("auto", "auto", "auto", "off")),
        bulk_route=chance.random() < 0.75,
        resync_seconds=chance.choice((30.0, 60.0)),
        slow=chance.random() < 0.4,
        checkpoint_pages=chance.choice((0, 0, 8)),
    )


def _allocation(chance: random.Random, key: int) -> Allocation:
    fields = chance.sample(FIELDS, chance.randint(1, 3))
    live = tuple((field, chance.choice((*VALUES, "x"))) for field in FIELDS)
    declared = tuple((field, chance.choice(VALUES)) for field in FIELDS if field in fields)
    return Allocation(
        key=key,
        live=live,
        declared=declared if chance.random() < 0.8 else _as_live(live, declared),
        deaf=chance.choice(fields) if chance.random() < 0.08 else "",
        ticking=chance.random() < 0.5,
        pending=chance.random() < 0.15,
        present=chance.random() < 0.9,
    )


def _as_live(
    live: tuple[tuple[str, str], ...], declared: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, str], ...]:
    return tuple((field, dict(live)[field]) for field, _ in declared)


def _spells(chance: random.Random, calm_at: float) -> list[Spell]:
    cuts = sorted(chance.uniform(0, calm_at) for _ in range(chance.randint(0, 3)))
    return [
        Spell(
            begin,
            end,
            reads=chance.choice((0.0, 0.0, 0.0, 0.1, 0.1, 0.4, 1.0)),
            updates=chance.choice((0.1, 0.3, 0.5, 0.5, 0.8, 1.0)),
            lists=chance.choice((0.0, 0.0, 0.3, 1.0)),
            late_seconds=chance.choice((2.0, 12.0, 30.0, 90.0)),
        )
        for begin, end in zip([0.0, *cuts], [*cuts, calm_at], strict=True)
    ]


def _event(chance: random.Random, calm_at: float, allocations: tuple[Allocation, ...]) -> Event:
    key = chance.randrange(len(allocations))
    at = chance.uniform(0.0, calm_at * 0.9)
    seam = chance.choice(tuple(Seam)) if chance.random() < 0.6 else None
    draw = chance.random()
    action: Action
    if draw < 0.36:
        action = _edit(chance, allocations[key])
    elif draw < 0.56:
        field = chance.choice((*FIELDS, *UNDECLARED, *UNDECLARED))
        action = Foreign(key, field, f"foreign-{chance.randrange(10**6)}")
    elif draw < 0.80:
        action = _end(chance)
    elif draw < 0.90:
        trouble = chance.choice(tuple(DiskTrouble))
        action = DiskFails(trouble, min(chance.choice((0.5, 3.0, 30.0)), calm_at - at))
    elif draw < 0.93:
        action = SlowDisk(chance.choice((0.5, 2.5, 4.0)), min(20.0, calm_at - at))
    elif draw < 0.96:
        action = Gone(key, min(chance.choice((5.0, 70.0)), calm_at - at))
    else:
        action = Look()
    return Event(at, action, seam)


def _edit(chance: random.Random, allocation: Allocation) -> Edit:
    draw = chance.random()
    if draw < 0.08:
        return Edit(allocation.key, ())
    mode = Mode.ENFORCE
    if draw < 0.2:
        mode = chance.choice((Mode.OBSERVE, Mode.SUSPEND))
    changed = [(field, chance.choice(VALUES)) for field, _ in allocation.declared]
    return Edit(allocation.key, tuple(changed), mode)


def _end(chance: random.Random) -> Ends:
    how = chance.choice((How.KILL, How.KILL, How.POWER, How.POWER, How.POWER_IN_COMMIT, How.STOP))
    jump = chance.choice((0.0, 0.0, 0.0, 0.0, -30.0, 3600.0, 91 * DAY_SECONDS))
    down = chance.choice((0.1, 2.0, 20.0))
    return Ends(how, down, jump, damage=how is not How.STOP and chance.random() < 0.15)


def _to_and_fro(chance: random.Random, calm_at: float, allocations: tuple[Allocation, ...]) -> list[Event]:
    """One allocation whose file goes back and forth, which is what late landings are worst for."""
    allocation = chance.choice(allocations)
    every = chance.uniform(8.0, 40.0)
    begin = chance.uniform(0.0, calm_at / 2)
    events = []
    for number in range(chance.randint(2, 6)):
        value = VALUES[number % 2]
        leaves = tuple((field, value) for field, _ in allocation.declared)
        at = begin + number * every
        if at < calm_at * 0.95:
            events.append(Event(at, Edit(allocation.key, leaves)))
    return events
