"""Everything known of one allocation, as a plain value for people. Pure.

The rule: an explanation makes no request. It shows what the latest usable read observed and when that was;
`differences` is None until a read was compared with what is declared now.

Left out: which allocation a name means (`model.ids`), and the condition (`condition_rules`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from allocsync.model.change import Change
from allocsync.model.desired_state import Mode
from allocsync.model.ids import AllocationId, NotFound, find
from allocsync.model.times import WallTime
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.status.controller_status import AllocationStatus
from allocsync.reconcile.status.report import Moment, ReportedCondition, status_of


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenUpdate:
    """An update that was sent, or is about to be, and whose outcome is not known.

    `unknown_since` is None while it is in flight. A read that begins before `settles_at` cannot show that it
    was not applied. Times are wall-clock seconds.
    """

    changes: tuple[Change, ...]
    unknown_since: WallTime | None
    settles_at: WallTime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldHistory:
    """One declared field that did not stay as declared. Times are wall-clock seconds.

    `ignored_since` is None unless the API accepted the value and reads do not show it. `in_conflict` says
    that it is changed back again and again. `next_attempt_at` is when such a field is sent again by itself,
    None for others. `changed_back_at` has the times over the last day at which reads found it changed back,
    oldest first; `another_writer` says that these are enough to suspect another writer.
    """

    field: str
    ignored_since: WallTime | None
    in_conflict: bool
    next_attempt_at: WallTime | None
    changed_back_at: tuple[WallTime, ...]
    another_writer: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One allocation. Times are seconds since the epoch, None for never or not known.

    `read_failures` and `write_failures` count failures in a row. `no_update_before` is when the last of
    pause, backoff, Retry-After, rejection, write windows and write quota permits an update; None if none of
    them delays one, or if the allocation awaits approval. `answer_age_seconds` is how old the answer of the
    latest read was; 0 unless a cache gave it.
    """

    status: AllocationStatus
    source: str
    mode: Mode | None  # None: no declaration without errors is active
    desired: tuple[tuple[str, str], ...]
    problems: tuple[str, ...]
    differences: tuple[Change, ...] | None
    observed_at: WallTime | None
    missing: bool
    last_error: str
    read_failures: int
    write_failures: int
    no_update_before: WallTime | None
    open_update: OpenUpdate | None
    answer_age_seconds: float = 0.0
    canary: bool = False  # it is updated first, while its revision awaits approval
    fields: tuple[FieldHistory, ...] = ()  # those that did not stay as declared


def explain(
    name: str,
    allocations: Mapping[AllocationId, ManagedAllocation],
    reported: Mapping[AllocationId, ReportedCondition],
    moment: Moment,
) -> Explanation | NotFound:
    """Explain the allocation with this id, or the only one whose id begins with these 8 or more characters.

    `reported` has every key of `allocations`, as `ConditionTracker` ensures. Return NotFound, with similar
    ids, if the name has no match or several.
    """
    key = find(name, allocations)
    if isinstance(key, NotFound):
        return key
    return _explanation(
        allocations[key], status_of(allocations[key], reported[key], moment, name=key), moment
    )


def _explanation(allocation: ManagedAllocation, status: AllocationStatus, moment: Moment) -> Explanation:
    current = allocation.desired is not None and allocation.compared == allocation.desired
    no_update_before = max(
        [
            moment.now,
            allocation.write_gate.prohibited_until(allocation.id),
            *allocation.write_backoff.until.values(),
            *allocation.write_gate.shared_limits_until(allocation.id, moment.now).values(),
        ]
    )
    if allocation.write_backoff.terminal and allocation.write_backoff.terminal == allocation.changes:
        no_update_before = max(no_update_before, allocation.write_backoff.terminal_until)
    return Explanation(
        status=status,
        source=allocation.desired.source if allocation.desired else "",
        mode=allocation.desired.mode if allocation.desired else None,
        desired=allocation.desired.fields if allocation.desired else (),
        problems=allocation.problems,
        differences=allocation.changes if current else None,
        observed_at=moment.at(allocation.observed_at),
        missing=allocation.missing,
        last_error=allocation.write_backoff.error,
        read_failures=allocation.read_failures,
        write_failures=allocation.write_backoff.failures,
        no_update_before=moment.at(no_update_before) if no_update_before > moment.now else None,
        open_update=_open_update(allocation, moment),
        answer_age_seconds=allocation.answer_age_seconds,
        canary=allocation.id in allocation.write_gate.canaries,
        fields=tuple(_fields(allocation, moment)),
    )


def _fields(allocation: ManagedAllocation, moment: Moment) -> Iterator[FieldHistory]:
    records = allocation.read_back.field_records
    many = {field for field, _ in records.flips(moment.now, allocation.rules)}
    for field, record in records.records.items():
        is_ignored, in_conflict = record.ignored is not None, bool(record.slowdowns)
        if not (is_ignored or in_conflict or record.flips):
            continue
        flips = (moment.at(at) for at in record.flips)
        yield FieldHistory(
            field=field,
            ignored_since=moment.at(record.ignored_at) if is_ignored else None,
            in_conflict=in_conflict,
            next_attempt_at=moment.at(max(record.next_attempt_at, moment.now))
            if is_ignored or in_conflict
            else None,
            changed_back_at=tuple(at for at in flips if at is not None),
            another_writer=in_conflict or field in many,
        )


def _open_update(allocation: ManagedAllocation, moment: Moment) -> OpenUpdate | None:
    if allocation.intent is None:
        return None
    return OpenUpdate(
        changes=allocation.intent.changes,
        unknown_since=moment.at(allocation.intent.unknown_since),
        settles_at=moment.at(allocation.intent.settles_at),
    )
