"""What a seed draws for a run of the real parts: allocations, faults, edits, crashes, and a calm at the end.

The rule: the seed decides everything, and all of it is in the schedule before anything runs.

Left out: what the faults do (`allocsync.reference_server`) and how a process ends (`life`).
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from allocsync.reference_server.faults import FAULTS, Effect, Fault

FIELDS = ("project", "region", "version", "urls.base.url")  # in the order of a declaration
VALUES = ("alpha", "beta", "gamma")
# A server that has answered 200 and done otherwise has refused a leaf, as far as anybody can tell; so has one
# whose leaf somebody else has changed before it was seen. Only an edit makes that good at once.
LIES = ("partly", "timeout_partly", "drip")
LATE_MOST_SECONDS = 40.0
DRIP_MOST_SECONDS = 0.25
SLOWEST_SECONDS = 100.0  # a client has given up long before


class Moment(StrEnum):
    """Where a process can be ended, besides at any time."""

    READ = "a read has been answered"
    SENDING = "an update is about to leave"
    SENT = "an update has been answered"
    RECORDING = "a commit is about to begin"
    RECORDED = "a commit is done, and nobody knows yet"


class How(StrEnum):
    """How a process ends."""

    KILL = "kill -9"
    POWER = "power cut"
    STOP = "SIGTERM"


@dataclass(frozen=True, slots=True)
class Spell:
    """These faults are in force from this time on."""

    begin: float
    faults: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Edit:
    """The files declare this of an allocation from now on."""

    at: float
    key: int
    leaves: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Foreign:
    """Somebody else writes one field."""

    at: float
    key: int
    field: str
    value: str


@dataclass(frozen=True, slots=True)
class Ends:
    """The process ends at this time, or when it next comes to this moment after it."""

    at: float
    how: How
    down_seconds: float
    moment: Moment | None


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Nobody listens: connections are refused."""

    begin: float
    end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One run. After `calm_at` nothing goes wrong any more."""

    seed: int
    declared: tuple[tuple[tuple[str, str], ...], ...]  # of each allocation
    spells: tuple[Spell, ...]
    edits: tuple[Edit, ...]
    foreign: tuple[Foreign, ...]
    ends: tuple[Ends, ...]
    unreachable: tuple[Unreachable, ...] = ()
    calm_at: float
    bulk: str = "auto"
    resync_seconds: float = 60.0
    last: tuple[tuple[tuple[str, str], ...], ...] = field(default=())  # what the files say in the calm


def drawn(seed: int) -> Schedule:
    """The schedule of this seed."""
    chance = random.Random(seed)
    calm_at = chance.uniform(30.0, 110.0)
    declared = tuple(_declared(chance) for _ in range(chance.randint(3, 6)))
    spells = tuple(_spells(chance, calm_at))
    lies = any(name in spell.faults["update"] for spell in spells for name in LIES)
    foreign = _foreign(chance, calm_at, len(declared))
    outages = [chance.uniform(0, calm_at * 0.7)] if chance.random() < 0.25 else []
    return Schedule(
        seed=seed,
        declared=declared,
        spells=spells,
        edits=tuple(_edits(chance, calm_at, declared)),
        foreign=tuple(foreign),
        ends=tuple(_ends(chance, calm_at)),
        unreachable=tuple(
            Unreachable(begin, min(begin + chance.choice((1.0, 15.0)), calm_at)) for begin in outages
        ),
        calm_at=calm_at,
        bulk=chance.choice(("auto", "auto", "off")),
        resync_seconds=chance.choice((30.0, 60.0)),
        last=tuple(_renewed(leaves) for leaves in declared)
        if lies or foreign or chance.random() < 0.3
        else (),
    )


def _declared(chance: random.Random) -> tuple[tuple[str, str], ...]:
    names = chance.sample(FIELDS, chance.randint(1, 3))
    return tuple((name, chance.choice(VALUES)) for name in FIELDS if name in names)


def _renewed(leaves: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple((name, "omega") for name, _ in leaves)


def _spells(chance: random.Random, calm_at: float) -> list[Spell]:
    begins = [0.0, *sorted(chance.uniform(5.0, calm_at) for _ in range(chance.randint(0, 2)))]
    return [Spell(begin, _faults(chance)) for begin in begins]


def _faults(chance: random.Random) -> dict[str, Any]:
    slow = {"latency_seconds": [0, chance.choice((0.2, 1.0, 5.0))]} if chance.random() < 0.5 else {}
    timeouts = {"timeout_seconds": [0, chance.choice((0.5, 5.0, 30.0))]}
    drips = {"drip_seconds": chance.choice((0.05, DRIP_MOST_SECONDS))}
    late = {"late_seconds": [1, chance.choice((3.0, 15.0, LATE_MOST_SECONDS))]}
    after = {"retry_after": chance.choice(("3", "20", "soon"))} if chance.random() < 0.3 else {}
    shares = {
        "update": _shares(chance, "update", chance.randint(1, 5), chance.choice((0.3, 0.5, 0.6))),
        "snapshot": _shares(chance, "snapshot", chance.randint(0, 4), chance.choice((0.1, 0.3, 0.6))),
        "list": _shares(chance, "list", chance.randint(0, 3), chance.choice((0.3, 0.6))),
    }
    both = {**timeouts, **drips, **slow, **after}
    listed = {"omits": 0.2} if chance.random() < 0.2 else {}
    old = {"stale_seconds": 45} if chance.random() < 0.2 else {}
    return {
        "seed": chance.randrange(10**6),
        "update": {**shares["update"], **both, **late, "applied": chance.choice((0.2, 0.5, 0.8))},
        "snapshot": {**shares["snapshot"], **both},
        "list": {**shares["list"], **both, **listed, **old},
    }


def _shares(chance: random.Random, operation: str, number: int, most: float) -> dict[str, float]:
    """So many faults, whose shares add up to `most`; those that may land are drawn more often."""
    possible = [fault for fault in FAULTS if operation in fault.operations]
    weights = [_weight(fault) for fault in possible]
    names = {fault.name for fault in chance.choices(possible, weights, k=number)}
    return dict.fromkeys(sorted(names), round(most / max(1, len(names)), 3))


def _weight(fault: Fault) -> float:
    if fault.name in LIES:
        return 0.7
    return 2.0 if fault.effect in (Effect.LATE, Effect.BEFORE_ANSWER) else 1.0


def _edits(
    chance: random.Random, calm_at: float, declared: tuple[tuple[tuple[str, str], ...], ...]
) -> list[Edit]:
    edits = []
    for _ in range(chance.randint(0, 6)):
        key = chance.randrange(len(declared))
        leaves = tuple((name, chance.choice(VALUES)) for name, _ in declared[key])
        edits.append(Edit(chance.uniform(0.0, calm_at), key, leaves))
    return sorted(edits, key=lambda edit: edit.at)


def _foreign(chance: random.Random, calm_at: float, number: int) -> list[Foreign]:
    """At most one of each allocation: what somebody fights for is left alone for longer and longer."""
    keys = chance.sample(range(number), chance.choice((0, 0, 1, 2)))
    return sorted(
        (
            Foreign(chance.uniform(0.0, calm_at), key, chance.choice(("user", *FIELDS)), f"foreign-{key}")
            for key in keys
        ),
        key=lambda foreign: foreign.at,
    )


def _ends(chance: random.Random, calm_at: float) -> list[Ends]:
    """One at most between two starts."""
    number = chance.choice((0, 0, 1, 1, 2))
    times = sorted(chance.uniform(0.5, calm_at * 0.9) for _ in range(number))
    return [
        Ends(
            at,
            chance.choice((How.KILL, How.KILL, How.POWER, How.STOP)),
            chance.choice((0.1, 2.0, 12.0)),
            chance.choice(tuple(Moment)) if chance.random() < 0.6 else None,
        )
        for at in times
    ]
