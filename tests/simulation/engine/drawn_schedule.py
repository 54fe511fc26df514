"""The schedule of a seed: a plain one, and in a part of them more: gates, outages, retries, other writers.

The rules: each kind is drawn by itself with its own share, from random numbers of its own, so that one kind
does not change what the others of a seed are. A kind that allocsync cannot stand yet has a flag below, with
the reason; with False it is never drawn, and the engine's own tests still cover it.

Left out: edits, crashes, disk faults and failing requests (`schedule`), and what each kind does (`world`,
`machine`, `server`, `request_faults`).
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import replace

from tests.simulation.engine.schedule import (
    FIELDS,
    UNDECLARED,
    VALUES,
    WHOLE_API,
    Allocation,
    Approve,
    BeginPause,
    Edit,
    EndKind,
    EndProcess,
    Event,
    ForeignWrite,
    LiftPause,
    Operation,
    OtherWriter,
    Outage,
    OutageKind,
    RejectNextUpdate,
    Retry,
    Schedule,
    Seam,
    SecondAllocsync,
    SecondKind,
    SimultaneousEdits,
    SlowDisk,
    StrikeAfterAcceptance,
    draw_plain_schedule,
)

MANY_SHARE = 0.11  # of schedules with so many allocations that the change limit counts
SHARES: Mapping[str, float] = {
    "pauses": 0.22,
    "windows": 0.10,
    "quota": 0.09,
    "rejections": 0.5,
    "outage": 0.14,
    "hang": 0.3,
    "strikes": 0.18,
    "other writer": 0.08,
    "cache": 0.08,
    "retries": 0.14,
    "second allocsync": 0.08,
}
REJECTIONS = (400, 401, 403, 404, 409, 413, 415, 418, 422, 423, 425, 429)
DISPUTE_SECONDS = 600.0  # long enough for the schedule of a conflict to show
NOT_NOW = (409, 423, 425)
BACKOFFS = 6  # so many rejections in a row make the backoff about half a minute
OUTAGE_SECONDS = (30.0, 60.0, 120.0, 300.0, 1200.0)
QUOTA_RESYNC_SECONDS = 300.0  # an hour's wait for the quota would be thousands of reads otherwise
RISKY_SEAMS = (Seam.COMMIT, Seam.COMMITTED, Seam.GOT)  # between the decision on an update and its sending


def draw_schedule(seed: int) -> Schedule:
    """The schedule of this seed."""
    rng = random.Random(seed ^ 0x5EED)
    many = rng.random() < MANY_SHARE
    schedule = draw_plain_schedule(seed, many=many)
    if many:
        schedule = _with_change_limit(rng, schedule)
    for kind, draw in _DRAWS.items():
        own = random.Random(seed * 131 + sum(kind.encode()))
        if own.random() < SHARES[kind]:
            schedule = draw(own, schedule)
    return replace(schedule, events=tuple(sorted(schedule.events, key=lambda event: event.at)))


def _with_change_limit(rng: random.Random, schedule: Schedule) -> Schedule:
    """Edits of several allocations at once; nothing is removed, which the oracle does not cover."""
    allocations = tuple(replace(each, is_declared_at_first=True) for each in schedule.allocations)
    kept = [
        event for event in schedule.events if not (isinstance(event.action, Edit) and not event.action.fields)
    ]
    events = list[Event]()
    for _ in range(rng.randint(1, 2)):
        chosen = rng.sample(allocations, rng.randint(2, len(allocations)))
        edits = tuple(_edit_to(rng.choice(VALUES), each) for each in chosen)
        at = rng.uniform(2.0, schedule.faults_end_at * 0.9)
        events.append(Event(at, SimultaneousEdits(edits)))
        if rng.random() < 0.4:
            events.append(Event(at + rng.uniform(0.5, 60.0), Approve()))
    return replace(
        schedule,
        allocations=allocations,
        events=(*kept, *events),
        max_changes_percent=rng.choice((10.0, 25.0, 40.0)),
        canary=rng.choice((0, 1, 1, 1, 2)),
    )


def _edit_to(value: str, allocation: Allocation) -> Edit:
    return Edit(allocation.key, tuple((field, value) for field, _ in allocation.declared))


def _with_pauses(rng: random.Random, schedule: Schedule) -> Schedule:
    events = list[Event]()
    for _ in range(rng.randint(2, 3)):
        key = None if rng.random() < 0.5 else rng.choice(schedule.allocations).key
        at = rng.uniform(1.0, schedule.faults_end_at * 0.8)
        seconds = rng.choice((10.0, 40.0, 120.0, 600.0))
        seam = rng.choice(RISKY_SEAMS) if rng.random() < 0.5 else None
        events.append(Event(at, BeginPause(key, seconds), seam))
        if rng.random() < 0.6:
            lifted = key if rng.random() < 0.8 else None
            events.append(Event(at + rng.uniform(0.2, 1.2) * min(seconds, 60.0), LiftPause(lifted)))
        if rng.random() < 0.4:
            how = rng.choice((EndKind.KILL, EndKind.STOP))
            events.append(Event(at + rng.uniform(0.5, 30.0), EndProcess(how, 2.0)))
        if rng.random() < 0.4:
            edited = rng.choice(schedule.allocations)
            events.append(
                Event(max(0.0, at + rng.uniform(-0.05, 10.0)), _edit_to(rng.choice(VALUES), edited))
            )
    return replace(schedule, events=(*schedule.events, *events))


def _with_windows(rng: random.Random, schedule: Schedule) -> Schedule:
    """Windows that close within the run, with an edit and slow commits just before."""
    closed = range(begin := rng.choice((0, 1, 1, 2)), begin + rng.randint(1, 3))
    closes_at = 60.0 * closed.start
    events = list[Event]()
    if closes_at:
        events.append(Event(closes_at - 4.0, SlowDisk(rng.choice((0.5, 1.0)), 5.0)))
        events += [
            Event(closes_at - rng.uniform(0.2, 0.6), _edit_to(rng.choice(VALUES), each))
            for each in schedule.allocations
        ]
    return replace(
        schedule,
        closed_minutes=closed,
        events=(*schedule.events, *events),
        faults_end_at=max(schedule.faults_end_at, closes_at + 20.0),
    )


def _with_quota(rng: random.Random, schedule: Schedule) -> Schedule:
    return replace(
        schedule,
        max_writes_per_hour=rng.randint(2, 2 + len(schedule.allocations)),
        resync_seconds=QUOTA_RESYNC_SECONDS,
    )


def _with_rejections(rng: random.Random, schedule: Schedule) -> Schedule:
    events = []
    for _ in range(rng.randint(3, 5)):
        retry_after_seconds = rng.choice((None, None, 3.0, 20.0, 60.0))
        at = rng.uniform(0.0, schedule.faults_end_at * 0.8)
        events.append(Event(at, RejectNextUpdate(rng.choice(REJECTIONS), retry_after_seconds)))
    return replace(schedule, events=(*schedule.events, *events))


def _with_outage(rng: random.Random, schedule: Schedule) -> Schedule:
    return _add_outage(rng, schedule, rng.choice(tuple(OutageKind)), WHOLE_API, rng.choice(OUTAGE_SECONDS))


def _with_hang(rng: random.Random, schedule: Schedule) -> Schedule:
    operations = frozenset({rng.choice((Operation.GET, *2 * (Operation.POST, Operation.LIST)))})
    return _add_outage(rng, schedule, OutageKind.HANGS, operations, rng.uniform(20.0, 60.0))


def _add_outage(
    rng: random.Random,
    schedule: Schedule,
    kind: OutageKind,
    operations: frozenset[Operation],
    seconds: float,
) -> Schedule:
    """An outage, with an edit and writes by another client in it. Some begin before the first request."""
    begin = max(0.0, rng.uniform(-0.1, 1.2) * schedule.faults_end_at)
    outage = Outage(begin, begin + seconds, kind, operations)
    edited = rng.choice(schedule.allocations)
    edit = _edit_to(rng.choice(VALUES), edited)
    written_at = begin + rng.uniform(0.0, 0.2) * seconds
    others = [each for each in schedule.allocations if each is not edited] or [edited]
    events = (
        Event(begin + rng.uniform(0.0, 0.5) * seconds, edit),
        *(Event(written_at, ForeignWrite(each.key, each.declared[0][0], "foreign")) for each in others),
    )
    return replace(
        schedule,
        outages=(*schedule.outages, outage),
        events=(*schedule.events, *events),
        faults_end_at=max(schedule.faults_end_at, outage.end),
    )


def _with_strikes(rng: random.Random, schedule: Schedule) -> Schedule:
    """Each strikes once: another writer that strikes again and again is a conflict."""
    events = [
        Event(
            rng.uniform(0.0, schedule.faults_end_at * 0.8),
            StrikeAfterAcceptance(rng.choice(("", f"third-{number}")), rng.uniform(0.05, 0.9)),
        )
        for number in range(rng.randint(1, 2))
    ]
    return replace(schedule, events=(*schedule.events, *events))


def _with_other_writer(rng: random.Random, schedule: Schedule) -> Schedule:
    """A second controller: it wants the same values, other fields, or different values."""
    wanted = []
    for each in schedule.allocations:
        field, value = rng.choice(each.declared)
        draw = rng.random()
        if draw < 0.35:
            wanted.append((each.key, field, value))
        elif draw < 0.7:
            wanted.append((each.key, rng.choice((*UNDECLARED, *_undeclared_fields(each))), "second"))
        else:
            wanted.append((each.key, field, "second"))
    begin = rng.uniform(0.0, schedule.faults_end_at / 2)
    return replace(schedule, other_writer=OtherWriter(begin, rng.uniform(60.0, 300.0), tuple(wanted)))


def _undeclared_fields(allocation: Allocation) -> tuple[str, ...]:
    return tuple(field for field in FIELDS if field not in dict(allocation.declared))


def _with_cache(rng: random.Random, schedule: Schedule) -> Schedule:
    return replace(schedule, cache_seconds=rng.uniform(0.0, 120.0))


def _with_retries(rng: random.Random, schedule: Schedule) -> Schedule:
    """A part of them comes after rejections, whose backoff they end; they do not end Retry-After."""
    events = list[Event]()
    for _ in range(rng.randint(2, 4)):
        key = None if rng.random() < 0.5 else rng.choice(schedule.allocations).key
        at = rng.uniform(1.0, schedule.faults_end_at * 0.9)
        seam = rng.choice(tuple(Seam)) if rng.random() < 0.4 else None
        draw = rng.random()
        if draw < 0.6:
            number, retry_after_seconds = (1, rng.choice((20.0, 60.0))) if draw < 0.3 else (BACKOFFS, None)
            rejection = RejectNextUpdate(rng.choice(NOT_NOW), retry_after_seconds)
            edited = rng.choice(schedule.allocations)
            events += [Event(at, rejection)] * number
            events.append(Event(at, _edit_to(rng.choice(VALUES), edited)))
            at += rng.uniform(0.0, 20.0 * number**0.5)
        events.append(Event(at, Retry(key), seam))
    return replace(schedule, events=(*schedule.events, *events))


def _with_second_allocsync(rng: random.Random, schedule: Schedule) -> Schedule:
    wanted = []
    for each in schedule.allocations:
        kind = rng.choice(tuple(SecondKind))
        fields = {
            SecondKind.SAME: ("",),
            SecondKind.OTHER_FIELD: (*UNDECLARED, *_undeclared_fields(each)),
            SecondKind.OTHER_VALUE: tuple(field for field, _ in each.declared),
        }[kind]
        wanted.append((each.key, kind, rng.choice(fields)))
    begin, ahead = rng.uniform(0.0, schedule.faults_end_at / 2), rng.uniform(-60.0, 60.0)
    dispute_seconds = rng.choice((0.0, DISPUTE_SECONDS))
    return replace(schedule, second=SecondAllocsync(begin, ahead, tuple(wanted), dispute_seconds))


_DRAWS: Mapping[str, Callable[[random.Random, Schedule], Schedule]] = {
    "pauses": _with_pauses,
    "windows": _with_windows,
    "quota": _with_quota,
    "rejections": _with_rejections,
    "outage": _with_outage,
    "hang": _with_hang,
    "strikes": _with_strikes,
    "other writer": _with_other_writer,
    "cache": _with_cache,
    "retries": _with_retries,
    "second allocsync": _with_second_allocsync,
}
