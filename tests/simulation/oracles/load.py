"""P5: how many requests a run needed, from its history alone; it may send a fifth more, and twenty.

A read is needed

    when it is the first of a process, or the file was edited or a look was asked for since the last one
    a resync after the last one
    when an update follows: as its snapshot
    once per update of unknown outcome, to read it back, and twice per accepted one: to confirm it, and at the
    end of its grace

as long as it is answered, or is the first that is not. An update is needed when what it declares was not
there as it left. Of bulk reads there is one per resync and process, and one when a look is asked for, each
with three reads that check it; where they fail a process may try three before it believes that, and read
everything once instead. A process that nobody answers may find that out by ten failures, and send the
probes of a breaker; where too few allocations have failed for it to open, as many for each of them.

The rule: whatever else is sent is load that the API did not need: a wait that is too short, a look at what
nobody asked about, a second try where one was enough.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import TypeAlias

from allocsync.model.cloud import leaf
from allocsync.model.ids import AllocationId
from allocsync.reconcile.resync import CHECKED, FALL_BACK_AFTER
from allocsync.reconcile.scheduling import circuit_breaker
from tests.simulation.engine.history import Get, History, Post, Truth

# In which life, when it began, whether it was served, when it ended, and for which allocation.
Request: TypeAlias = tuple[int, float, bool, float, AllocationId]

SHARE, MORE = 1.2, 20
SCHEDULED = 0.85  # of a resync, which is spread by a tenth


@dataclass(frozen=True, slots=True)
class Load:
    """What was sent, and how much of it was needed, by reason."""

    sent: int
    reasons: tuple[tuple[str, int], ...]

    @property
    def needed(self) -> int:
        """All reasons together."""
        return sum(number for _, number in self.reasons)

    @property
    def is_too_much(self) -> bool:
        """Whether P5 is broken."""
        return self.sent > SHARE * self.needed + MORE

    def __str__(self) -> str:
        told = ", ".join(f"{number} {reason}" for reason, number in self.reasons if number)
        return f"{self.sent} requests were sent, and {self.needed} were needed ({told})"


def load(history: History, *, now: float, resync_seconds: float) -> Load:
    """What this run sent, up to now."""
    truths = list(history.truths.values())
    enough = min(circuit_breaker.KEYS, len(truths))
    scheduled_seconds = SCHEDULED * resync_seconds
    passes = sum(1 + int((min(end, now) - begin) / scheduled_seconds) for begin, end in history.lives)
    posts = [post for truth in truths for post in truth.posts if post.answer != "never left"]
    gets = [get for truth in truths for get in truth.gets]
    reads = [_reads(truth, history, scheduled_seconds) for truth in truths]
    answered = sum(ok for _, ok in history.listed)
    fallen_back = (len(history.listed) - answered) // FALL_BACK_AFTER
    beside = answered * CHECKED + fallen_back * len(truths)
    return Load(
        history.requests + history.lists,
        (
            ("reads", sum(needed for needed, _ in reads)),
            ("bulk reads", min(history.lists, passes + len(history.asked) + _disbelieved(history))),
            ("reads beside them", min(beside, sum(more for _, more in reads))),
            ("updates", sum(_changes(post, history.truths[post.key]) for post in posts)),
            ("reads while nobody is served", _in_silence([_read(get, now) for get in gets], enough)),
            (
                "updates while nobody is served",
                _in_silence([_update(post, now) for post in posts], enough),
            ),
        ),
    )


def _reads(truth: Truth, history: History, scheduled_seconds: float) -> tuple[int, int]:
    """How many were needed for this one alone, and how many more were answered."""
    needed = beside = 0
    last: Get | None = None  # that was answered
    tried: Get | None = None  # answered or not
    followed = {post.snapshot.order for post in truth.posts if post.snapshot is not None}
    for get in truth.gets:
        due = get.order in followed or _is_due(get, last, truth, history, scheduled_seconds)
        again = tried is not None and not tried.ok and not _is_wanted(get, tried, truth, history)
        needed += due and (get.ok or not again)
        beside += get.ok and not due
        last, tried = get if get.ok else last, get
    unknown = sum(post.unknown_since is not None for post in truth.posts)
    accepted = sum(post.answer == "accepted" for post in truth.posts)
    followed_up = min(beside, unknown + 2 * accepted)
    return needed + followed_up, beside - followed_up


def _is_due(get: Get, last: Get | None, truth: Truth, history: History, scheduled_seconds: float) -> bool:
    if last is None or last.answered is None:
        return True
    return get.begun >= last.answered + scheduled_seconds or _is_wanted(get, last, truth, history)


def _is_wanted(get: Get, last: Get, truth: Truth, history: History) -> bool:
    """Whether something new asked for it since that one."""
    return (
        get.life != last.life
        or any(last.order < order < get.order for _, order in truth.edits)
        or any(last.begun < at <= get.begun for at in history.asked)
    )


def _disbelieved(history: History) -> int:
    """How many bulk reads failed and were tried again, before there were as many as a process believes."""
    failed = (sum(begin <= at <= end and not ok for at, ok in history.listed) for begin, end in history.lives)
    return sum(min(each, FALL_BACK_AFTER - 1) for each in failed)


def _changes(post: Post, truth: Truth) -> bool:
    cloud = truth.at(post.order).cloud
    return cloud is None or any(leaf(cloud, name) != value for name, value in post.leaves.items())


def _read(get: Get, now: float) -> Request:
    return get.life, get.begun, get.ok, get.answered or now, get.key


def _update(post: Post, now: float) -> Request:
    return post.life, post.sent, post.served, post.answered or now, post.key


def _in_silence(requests: Sequence[Request], enough: int) -> int:
    """How many requests it takes to find out that nobody is served, and to see when that is over.

    A breaker opens when `enough` allocations have failed.
    """
    number, life = 0, 0
    failed: list[Request] = []
    for request in sorted(requests, key=lambda request: (request[0], request[3])):
        if request[0] != life:
            number += _found_out(failed, -inf, enough)
            failed, life = [], request[0]
        if request[2]:
            number += _found_out(failed, request[3], enough)
            failed = []
        else:
            failed.append(request)
    return number + _found_out(failed, -inf, enough)


def _found_out(failed: Sequence[Request], served_at: float, enough: int) -> int:
    """How many of these failures in a row were needed; `served_at` is when the next request was served."""
    if not failed:
        return 0
    left = max(served_at, failed[-1][3]) - min(begun for _, begun, *_ in failed)
    if left <= circuit_breaker.SILENT_SECONDS:
        return 0
    interval, probes = circuit_breaker.PROBE_FIRST_SECONDS, 0
    while left > 0:
        probes += 1
        left -= interval * (1 - circuit_breaker.PROBE_JITTER)
        interval = min(2 * interval, circuit_breaker.PROBE_MOST_SECONDS)
    keys = {key for *_, key in failed}
    return min(len(failed), circuit_breaker.FAILURES + probes * (1 if len(keys) >= enough else len(keys)))
