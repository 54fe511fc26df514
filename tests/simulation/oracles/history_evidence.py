"""What the history alone shows of one allocation: open outcomes, and whether the rules allow hours.

Left out: what follows from it (`promises`, `liveness`, `late_writes`).
"""

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf

from allocsync.model.cloud import Cloud, field_value
from allocsync.model.ids import AllocationId
from allocsync.reconcile.parameters import Parameters
from tests.simulation.engine.history import Get, Post, Truth

RULES = Parameters()
CLOCK_TOLERANCE_SECONDS = 1e-6  # between two readings of one clock
BASE_SECONDS, MOST_SECONDS = 2.0, 300.0
RECORDED_WITHIN_SECONDS = 10.0  # after a read, what it showed is in the journal
CONFLICT_WRITES = 3  # so many writes of one field by others may count as a conflict
UPDATES_NOT_SHOWN = 2  # so many accepted updates in a row that do not show make a field ignored
WINDOW_FACTOR = 1.5  # the propagation window is so many times the longest that a value took to show


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


def longest_backoff_seconds(
    failures: int, retry_after_seconds: float | None, *, most_seconds: float = MOST_SECONDS
) -> float:
    """The longest backoff after so many failures in a row, Retry-After included."""
    most = min(most_seconds, BASE_SECONDS * 2.0 ** max(failures - 1, 0))
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


def longest_window_seconds(truths: Iterable[Truth]) -> float:
    """The longest that the propagation window of an update accepted so far, or now, can be."""
    longest = learned = 0.0
    for truth in truths:
        accepted = [post for post in truth.posts if post.answer == "accepted"]
        longest = max(longest, *(post.window_seconds for post in accepted), 0.0)
        for post in accepted:
            for name, value in post.fields.items():
                first = next(other for other in accepted if other.fields.get(name) == value)
                shown = _shown_at(name, value, post, truth)
                learned = max(learned, 0.0 if shown == inf else shown - (first.answered or first.sent))
    window = max(RULES.propagation_window_seconds, longest, WINDOW_FACTOR * learned)
    return min(window, RULES.propagation_window_max_seconds)


def _shown_at(field: str, value: str, post: Post, truth: Truth) -> float:
    """When a read first showed this value after the update was sent; infinity if none has."""
    shown = (
        get.answered
        for get in truth.gets
        if get.order > post.order and get.cloud is not None and get.answered is not None
        if field_value(get.cloud, field) == value
    )
    return next(shown, inf)


def allows_hours(truth: Truth, ignored_field: str, process_ends: ProcessEnds, gap_at: float) -> bool:
    """Whether the rules allow hours: an ignored field, a conflict, a final rejection, or what looks like one.

    A field is ignored after two accepted updates that do not show. One that does not show is sent again at
    the end of its window, so it allows nothing. An update sent before a lost journal and applied after it
    counts as a write by another client.
    """
    forgotten = [
        (version.at, field)
        for version in truth.versions
        if version.post is not None and version.post.sent <= gap_at < version.at
        for field in version.post.fields
    ]
    foreign = [*truth.foreign, *forgotten]
    accepted = [post for post in truth.posts if post.answer == "accepted"]
    lost = sum(
        post.applies_at is None
        or post.applies_at - post.sent > post.window_seconds
        or (post.applied is None and truth.now.at > post.applies_at)
        for post in accepted
    )
    unseen = sum(
        any(
            field in post.fields and post.sent <= at <= _seen_at(field, post, truth, process_ends)
            for at, field in foreign
        )
        for post in truth.posts
        if post.answer not in {"rejected", "not_sent"}
    )
    undone = sum(_undone(post, truth, process_ends) for post in accepted)
    applied_twice = sum(_applied_twice(post, truth) for post in accepted)
    fields = [field for _, field in foreign]
    is_conflict = any(fields.count(field) >= CONFLICT_WRITES for field in fields)
    is_rejected = any(post.terminal for post in truth.posts)
    may_be_ignored = lost + unseen + undone + applied_twice >= UPDATES_NOT_SHOWN
    is_unclear = any(is_written_by_others(post, truth) for post in truth.posts if post.unknown_since)
    return bool(ignored_field) or may_be_ignored or is_conflict or is_rejected or is_unclear


def is_written_by_others(post: Post, truth: Truth) -> bool:
    """Whether another client set one of the fields to the value of this update, which looks the same."""
    since = 0.0 if post.answer == "never left" else post.sent  # its time is that of the next process
    return any(
        field_value(after, name) == value != field_value(before, name)
        for before, after in written_by_others(truth, since)
        for name, value in post.fields.items()
    )


def written_by_others(truth: Truth, since: float) -> Iterator[tuple[Cloud, Cloud]]:
    """What other clients replaced later than `since`, and by what."""
    for before, version in pairwise(truth.versions):
        if version.post is None and version.at > since and before.cloud and version.cloud:
            yield before.cloud, version.cloud


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


def reason_to_resend(
    name: str,
    post: Post,
    truth: Truth,
    process_ends: ProcessEnds,
    *,
    new_tries: Collection[int],
    remembered_from: float,
) -> str | None:
    """Why a value that the API has accepted may be sent again, or None if there is no reason.

    `new_tries` has the order numbers of edits and retries of the allocation. Updates that were sent before
    `remembered_from` are forgotten.
    """
    before = [
        other
        for other in truth.posts
        if other is not post and other.answer == "accepted" and other.changed.get(name) == post.fields[name]
    ]
    if not before or post.snapshot is None:
        return "it was not accepted before"
    last, snapshot = before[-1], post.snapshot
    is_known = last.process == post.process or is_recorded(
        last.process, last.answered or last.sent, process_ends
    )
    if last.sent < remembered_from or not is_known:
        return "this process does not know that it was accepted"
    if any(order > last.order for order in new_tries):
        return "the file was edited, or a person asked for another try"
    if truth.posts[-2] is not last:
        return "an update after it had a reason, and was not accepted"
    return _reason_in_reads(name, snapshot, before, truth, asked=max(new_tries, default=0))


def _reason_in_reads(name: str, snapshot: Get, before: list[Post], truth: Truth, *, asked: int) -> str | None:
    """Why the reads call for the value that the updates `before` were accepted with.

    `asked` is the order number of the last edit or retry: updates before it do not count for the schedule.
    """
    last = before[-1]
    shown = None if snapshot.cloud is None else field_value(snapshot.cloud, name)
    replaced = _replaced_values(name, before, truth)
    answered = last.answered or inf
    is_window_over = snapshot.begun >= answered + last.window_seconds - CLOCK_TOLERANCE_SECONDS
    since = [
        field_value(get.cloud, name)
        for get in truth.gets
        if get.order > last.order and get.cloud is not None and get.answered is not None
    ]
    earlier = {other.fields.get(name) for other in truth.posts if other.number < last.number}
    is_explained = not (earlier - {*replaced, last.fields[name]}).isdisjoint(since)
    if not is_window_over and replaced and all(each == shown for each in replaced) and not is_explained:
        return None  # it lags, even if a read has shown the new value in between, and no late write
    if last.fields[name] in since:
        return "a read has shown it"
    if any(other.number < last.number and other.fields.get(name) == shown for other in truth.posts):
        return "it may be a late write of an earlier update"
    recent = [each for each in before if each.order > asked]
    wait = _schedule_seconds(_updates_not_shown(name, recent, truth))
    is_time = snapshot.begun >= answered + wait - CLOCK_TOLERANCE_SECONDS
    return "it is time for the next try" if is_window_over and is_time else None


def _replaced_values(name: str, before: list[Post], truth: Truth) -> list[str]:
    """What the last of these updates replaced, and those before it that had not shown when the next was sent.

    Another client may have written meanwhile: then the value that may lag is one of several.
    """
    values, sent = list[str](), -inf
    for post in reversed(before):
        if _shown_at(name, post.fields[name], post, truth) < sent:
            break
        if post.snapshot is not None and post.snapshot.cloud is not None:
            values.append(str(field_value(post.snapshot.cloud, name)))
        sent = post.sent
    return values


def _updates_not_shown(name: str, before: list[Post], truth: Truth) -> int:
    """How many of the last accepted updates of one process no read has shown.

    One that another update followed within its window, for another field, was not judged.
    """
    number, sent = 0, inf
    for post in reversed(before):
        if post.process != before[-1].process or _shown_at(name, post.fields[name], post, truth) < inf:
            break
        window_ends = (post.answered or post.sent) + RULES.propagation_window_seconds
        number += sent >= window_ends - CLOCK_TOLERANCE_SECONDS
        sent = post.sent
    return number


def _schedule_seconds(not_shown: int) -> float:
    """The shortest wait after the last of so many accepted updates that do not show."""
    if not_shown < UPDATES_NOT_SHOWN:
        return RULES.propagation_window_seconds
    doublings = not_shown - UPDATES_NOT_SHOWN
    wait = min(RULES.field_retry_first_seconds * 2.0**doublings, RULES.field_retry_max_seconds)
    return wait + (RULES.propagation_window_seconds if not_shown == UPDATES_NOT_SHOWN else 0.0)
