"""What the history alone shows of one allocation: open outcomes, and whether the rules allow hours.

Left out: what follows from it (`promises`, `liveness`, `late_writes`).
"""

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

from allocsync.model.cloud import field_value
from allocsync.model.ids import AllocationId
from allocsync.reconcile.parameters import Parameters
from tests.simulation.engine.drawn_schedule import STRIKES
from tests.simulation.engine.history import Post, Truth

RULES = Parameters()
CLOCK_TOLERANCE_SECONDS = 1e-6  # between two readings of one clock
BASE_SECONDS, MOST_SECONDS = 2.0, 300.0
RECORDED_WITHIN_SECONDS = 10.0  # after a read, what it showed is in the journal
REPAIRED_MISSES = 1 if STRIKES else 0  # so many writes by others before a read that confirms are repaired
CONFLICT_WRITES = 3  # so many writes of one field by others may count as a conflict


def longest_settle_seconds(truths: Iterable[Truth], longest_unknown_seconds: float) -> float:
    """The longest that the settle time can be."""
    lag = 0.0
    for truth in truths:
        if _has_similar_update(truth):
            return RULES.settle_max_seconds
        for post in truth.posts:
            if post.applied is not None and post.applied > (post.answered or post.sent):
                lag = max(lag, post.applied - post.sent)
    learned = max(longest_unknown_seconds, 2 * (lag + RULES.lag_seen_seconds) if lag > 0 else 0.0)
    return min(max(RULES.settle_seconds, learned), RULES.settle_max_seconds)


@dataclass(slots=True)
class ProcessEnds:
    """When each process ended, and the times between which the disk failed."""

    processes: dict[int, float] = field(default_factory=dict)
    disk_faults: list[tuple[float, float]] = field(default_factory=list)


def is_recorded(process: int, at: float, process_ends: ProcessEnds) -> bool:
    """Whether a process ran long enough on a working disk to record what it learned at `at`."""
    for begin, end in process_ends.disk_faults:
        if begin - RECORDED_WITHIN_SECONDS <= at < end:
            at = end
    return process_ends.processes.get(process, inf) >= at + RECORDED_WITHIN_SECONDS


def journal_settle_seconds(journal: sqlite3.Connection | None) -> float:
    """The settle time by the journal's own record."""
    found = journal.execute("SELECT value FROM memory WHERE key = 'settle'").fetchone() if journal else None
    if not found:
        return RULES.settle_seconds
    kept = json.loads(found[0].partition(" ")[2])
    longest: float = max((took for _, took in kept["unknowns"]), default=0.0)
    learned: float = max(RULES.settle_seconds, 2 * kept["lag_seconds"], longest)
    return min(learned, RULES.settle_max_seconds)


def journal_has_open_intent(journal: sqlite3.Connection | None, key: AllocationId) -> bool:
    """Whether the journal has an open intent of this allocation."""
    open_now = "SELECT 1 FROM entries JOIN open_intents USING (sequence) WHERE entries.allocation = ?"
    return journal is not None and journal.execute(open_now, (key,)).fetchone() is not None


def longest_backoff_seconds(failures: int, retry_after_seconds: float | None) -> float:
    """The longest backoff after so many failures in a row, Retry-After included."""
    most = min(MOST_SECONDS, BASE_SECONDS * 2.0 ** max(failures - 1, 0))
    return max(most, min(retry_after_seconds or 0.0, MOST_SECONDS))


def unsettled(truth: Truth, gap_at: float) -> bool:
    """Whether the outcome of an update is open. Updates sent before a lost journal do not count."""
    return any(
        post.unknown_since is not None and not post.settled and post.sent > gap_at for post in truth.posts
    )


def _has_similar_update(truth: Truth) -> bool:
    """Whether a later update with the same value was applied, which can be taken for a late write."""
    return any(
        second.applied is not None and second.number > first.number and second.fields.get(name) == value
        for first in truth.posts
        if first.unknown_since is not None
        for second in truth.posts
        for name, value in first.fields.items()
    )


def allows_hours(truth: Truth, ignored_field: str, process_ends: ProcessEnds, gap_at: float) -> bool:
    """Whether the rules allow hours: an ignored field, a conflict, a final rejection, or what looks like one.

    An update sent before a lost journal and applied after it counts as a write by another client.
    """
    forgotten = [
        (version.at, field)
        for version in truth.versions
        if version.post is not None and version.post.sent <= gap_at < version.at
        for field in version.post.fields
    ]
    foreign = [*truth.foreign, *forgotten]
    accepted = [post for post in truth.posts if post.answer == "accepted"]
    is_lost = any(
        post.applies_at is None
        or post.applies_at - post.sent > RULES.propagation_window_seconds
        or (post.applied is None and truth.now.at > post.applies_at)
        for post in accepted
    )
    unseen = [
        field
        for at, field in foreign
        if any(
            field in post.fields and post.sent <= at <= _seen_at(field, post, truth, process_ends)
            for post in truth.posts
            if post.answer not in {"rejected", "not_sent"}
        )
    ]
    is_undone = any(_undone(post, truth, process_ends) for post in accepted)
    is_applied_twice = any(_applied_twice(post, truth) for post in accepted)
    fields = [field for _, field in foreign]
    is_conflict = any(fields.count(field) >= CONFLICT_WRITES for field in fields)
    is_rejected = any(post.terminal for post in truth.posts)
    return (
        bool(ignored_field)
        or is_lost
        or len(unseen) > REPAIRED_MISSES
        or is_undone
        or is_applied_twice
        or is_conflict
        or is_rejected
    )


def _undone(post: Post, truth: Truth, process_ends: ProcessEnds) -> bool:
    """Whether an older update restored a field before any read showed the newer value."""
    before = None if post.snapshot is None else post.snapshot.cloud
    return before is not None and any(
        version.post.fields.get(field) == field_value(before, field) != value
        and post.sent <= version.at <= _seen_at(field, post, truth, process_ends)
        for version in truth.versions
        if version.post is not None and version.post.number < post.number
        for field, value in post.fields.items()
    )


def _applied_twice(post: Post, truth: Truth) -> bool:
    """Whether several older updates with the same fields were applied: each late write counts once."""
    applied = [
        tuple(sorted(other.fields.items()))
        for other in truth.posts
        if other.number < post.number and other.applied is not None
    ]
    return len(applied) > len(set(applied))


def _seen_at(field: str, post: Post, truth: Truth, process_ends: ProcessEnds) -> float:
    """When a read first showed the value of this update, in a process that recorded it."""
    seen = (
        get.answered
        for get in truth.gets
        if get.order > post.order and get.cloud is not None and get.answered is not None
        if field_value(get.cloud, field) == post.fields[field]
        if is_recorded(get.process, get.answered, process_ends)
    )
    return next(seen, inf)


def reason_to_resend(name: str, post: Post, truth: Truth) -> str | None:
    """Why a value that the API has accepted may be sent again, or None if there is no reason."""
    value = post.fields[name]
    before = [
        other
        for other in truth.posts
        if other is not post and other.answer == "accepted" and other.changed.get(name) == value
    ]
    if not before or before[-1].process != post.process:
        return "it was not accepted in this process"
    last = before[-1]
    if any(order > last.order for _, order in truth.edits):
        return "the file was edited"
    if post.sent >= (last.answered or inf) + RULES.ignored_seconds:
        return "the time for a retry has come"
    for get in truth.gets:
        if get.order > last.order and get.cloud is not None and get.answered is not None:
            shown = field_value(get.cloud, name)
            if shown == value:
                return "a read has shown it"
            if (
                last.snapshot is None
                or last.snapshot.cloud is None
                or shown != field_value(last.snapshot.cloud, name)
            ):
                return "the value has changed since"
            earlier = any(
                other.number < last.number and other.fields.get(name) == shown for other in truth.posts
            )
            if (
                earlier
                and get.begun
                >= (last.answered or inf) + RULES.propagation_window_seconds - CLOCK_TOLERANCE_SECONDS
            ):
                return "it may be a late write of an earlier update"
    return None
