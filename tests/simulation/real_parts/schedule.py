"""What a seed draws for a run of the real parts: allocations, faults, edits and crashes.

The rule: the seed determines everything, and all of it is in the schedule before the run starts.

Left out: what the faults do (`allocsync.reference_server`), and how a process ends (`process`).
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from allocsync.reference_server.faults import FAULTS, Effect, Fault

FIELDS = ("project", "region", "version", "urls.base.url")  # in the order of a declaration
VALUES = ("alpha", "beta", "gamma")
# After one of these the server seems to ignore a field: it answers 200 and does something else. So it does
# if another client changed the field before it was read. Only an edit is sent again at once.
FALSE_ANSWERS = ("partly", "timeout_partly", "drip")
LATE_MOST_SECONDS = 40.0
DRIP_MOST_SECONDS = 0.25
SLOWEST_SECONDS = 100.0  # longer than any deadline of a client


class Seam(StrEnum):
    """A point at which a process can be ended, besides any time."""

    READ = "a read has been answered"
    SENDING = "an update is about to be sent"
    SENT = "an update has been answered"
    RECORDING = "a commit is about to begin"
    RECORDED = "a commit is done and not reported yet"


class EndKind(StrEnum):
    """How a process ends."""

    KILL = "kill -9"
    POWER = "power cut"
    STOP = "SIGTERM"


@dataclass(frozen=True, slots=True)
class FaultPeriod:
    """These faults are active from this time on."""

    begin: float
    faults: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Edit:
    """The files declare these fields of an allocation from now on."""

    at: float
    key: int
    fields: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ForeignWrite:
    """Another client writes one field."""

    at: float
    key: int
    field: str
    value: str


@dataclass(frozen=True, slots=True)
class EndProcess:
    """The process ends at this time, or when it next reaches the seam after it."""

    at: float
    how: EndKind
    down_seconds: float
    seam: Seam | None


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Connections are refused."""

    begin: float
    end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One run. Times are virtual seconds; there are no faults after `faults_end_at`."""

    seed: int
    declared: tuple[tuple[tuple[str, str], ...], ...]  # of each allocation
    fault_periods: tuple[FaultPeriod, ...]
    edits: tuple[Edit, ...]
    foreign: tuple[ForeignWrite, ...]
    ends: tuple[EndProcess, ...]
    unreachable: tuple[Unreachable, ...] = ()
    faults_end_at: float
    bulk: str = "auto"
    resync_seconds: float = 60.0
    final: tuple[tuple[tuple[str, str], ...], ...] = field(default=())  # the edits at the end of the faults


def draw_schedule(seed: int) -> Schedule:
    """The schedule of this seed."""
    rng = random.Random(seed)
    faults_end_at = rng.uniform(30.0, 110.0)
    declared = tuple(_draw_declared(rng) for _ in range(rng.randint(3, 6)))
    fault_periods = tuple(_draw_fault_periods(rng, faults_end_at))
    has_false_answers = any(
        name in period.faults["update"] for period in fault_periods for name in FALSE_ANSWERS
    )
    foreign = _draw_foreign_writes(rng, faults_end_at, len(declared))
    outages = [rng.uniform(0, faults_end_at * 0.7)] if rng.random() < 0.25 else []
    return Schedule(
        seed=seed,
        declared=declared,
        fault_periods=fault_periods,
        edits=tuple(_draw_edits(rng, faults_end_at, declared)),
        foreign=tuple(foreign),
        ends=tuple(_draw_ends(rng, faults_end_at)),
        unreachable=tuple(
            Unreachable(begin, min(begin + rng.choice((1.0, 15.0)), faults_end_at)) for begin in outages
        ),
        faults_end_at=faults_end_at,
        bulk=rng.choice(("auto", "auto", "off")),
        resync_seconds=rng.choice((30.0, 60.0)),
        final=tuple(_final_fields(fields) for fields in declared)
        if has_false_answers or foreign or rng.random() < 0.3
        else (),
    )


def _draw_declared(rng: random.Random) -> tuple[tuple[str, str], ...]:
    names = rng.sample(FIELDS, rng.randint(1, 3))
    return tuple((name, rng.choice(VALUES)) for name in FIELDS if name in names)


def _final_fields(fields: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple((name, "omega") for name, _ in fields)


def _draw_fault_periods(rng: random.Random, faults_end_at: float) -> list[FaultPeriod]:
    begins = [0.0, *sorted(rng.uniform(5.0, faults_end_at) for _ in range(rng.randint(0, 2)))]
    return [FaultPeriod(begin, _draw_faults(rng)) for begin in begins]


def _draw_faults(rng: random.Random) -> dict[str, Any]:
    slow = {"latency_seconds": [0, rng.choice((0.2, 1.0, 5.0))]} if rng.random() < 0.5 else {}
    timeouts = {"timeout_seconds": [0, rng.choice((0.5, 5.0, 30.0))]}
    drips = {"drip_seconds": rng.choice((0.05, DRIP_MOST_SECONDS))}
    late = {"late_seconds": [1, rng.choice((3.0, 15.0, LATE_MOST_SECONDS))]}
    after = {"retry_after": rng.choice(("3", "20", "soon"))} if rng.random() < 0.3 else {}
    shares = {
        "update": _draw_shares(rng, "update", rng.randint(1, 5), rng.choice((0.3, 0.5, 0.6))),
        "snapshot": _draw_shares(rng, "snapshot", rng.randint(0, 4), rng.choice((0.1, 0.3, 0.6))),
        "list": _draw_shares(rng, "list", rng.randint(0, 3), rng.choice((0.3, 0.6))),
    }
    both = {**timeouts, **drips, **slow, **after}
    listed = {"omits": 0.2} if rng.random() < 0.2 else {}
    old = {"stale_seconds": 45} if rng.random() < 0.2 else {}
    return {
        "seed": rng.randrange(10**6),
        "update": {**shares["update"], **both, **late, "applied": rng.choice((0.2, 0.5, 0.8))},
        "snapshot": {**shares["snapshot"], **both},
        "list": {**shares["list"], **both, **listed, **old},
    }


def drawn_faults() -> tuple[Fault, ...]:
    """The faults of the schedules: not 400 and 422, after which the same update waits for an hour."""
    return tuple(fault for fault in FAULTS if fault.name not in {"400", "422"})


def _draw_shares(rng: random.Random, operation: str, number: int, most: float) -> dict[str, float]:
    """Shares of `number` faults, `most` in total; faults that may apply an update are drawn more often."""
    possible = [fault for fault in drawn_faults() if operation in fault.operations]
    weights = [_weight(fault) for fault in possible]
    names = {fault.name for fault in rng.choices(possible, weights, k=number)}
    return dict.fromkeys(sorted(names), round(most / max(1, len(names)), 3))


def _weight(fault: Fault) -> float:
    if fault.name in FALSE_ANSWERS:
        return 0.7
    return 2.0 if fault.effect in (Effect.LATE, Effect.BEFORE_ANSWER) else 1.0


def _draw_edits(
    rng: random.Random, faults_end_at: float, declared: tuple[tuple[tuple[str, str], ...], ...]
) -> list[Edit]:
    edits = []
    for _ in range(rng.randint(0, 6)):
        key = rng.randrange(len(declared))
        fields = tuple((name, rng.choice(VALUES)) for name, _ in declared[key])
        edits.append(Edit(rng.uniform(0.0, faults_end_at), key, fields))
    return sorted(edits, key=lambda edit: edit.at)


def _draw_foreign_writes(rng: random.Random, faults_end_at: float, number: int) -> list[ForeignWrite]:
    """At most one per allocation: a field in conflict is left alone for longer and longer."""
    keys = rng.sample(range(number), rng.choice((0, 0, 1, 2)))
    return sorted(
        (
            ForeignWrite(
                rng.uniform(0.0, faults_end_at), key, rng.choice(("user", *FIELDS)), f"foreign-{key}"
            )
            for key in keys
        ),
        key=lambda foreign: foreign.at,
    )


def _draw_ends(rng: random.Random, faults_end_at: float) -> list[EndProcess]:
    """At most one end between two starts."""
    number = rng.choice((0, 0, 1, 1, 2))
    times = sorted(rng.uniform(0.5, faults_end_at * 0.9) for _ in range(number))
    return [
        EndProcess(
            at,
            rng.choice((EndKind.KILL, EndKind.KILL, EndKind.POWER, EndKind.STOP)),
            rng.choice((0.1, 2.0, 12.0)),
            rng.choice(tuple(Seam)) if rng.random() < 0.6 else None,
        )
        for at in times
    ]
