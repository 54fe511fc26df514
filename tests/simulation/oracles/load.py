"""P5: how many requests a run needed, by its history alone. It may send a fifth more, and twenty.

A read is needed if one of these holds:

    it is the first of a process, or since the last read the file was edited, a resync or a retry was
    requested, a pause ended, a write window opened or the write quota got a token
    a resync interval has passed since the last read that succeeded
    it is the snapshot of an update
    it succeeds and follows an update: one for each update of unknown outcome, to read it back; for each
    accepted one those that confirm it: after waits that double, and at the end of its propagation window,
    until one shows it

Of failed reads in a row, only the first is needed, unless something new called for another. An update is
needed if the truth differed from its fields when it was sent. One list is needed per resync and process, and
per requested resync, each with three reads that check it. Where lists fail, a process may try two more before
it reads everything once instead. Two heartbeat reads are needed for each ten seconds without a success. A
process whose requests all fail may find that out by ten failures, and then send a breaker's probes; where too
few allocations have failed to open the breaker, as many for each of them.

The rule: every other request is load that the API did not need, such as a retry after too short a wait, or a
read that nothing called for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf, log2
from typing import TypeAlias

from allocsync.model.cloud import field_value
from allocsync.model.ids import AllocationId
from allocsync.reconcile.parameters import Parameters
from allocsync.reconcile.resync import CHECKS_PER_LIST
from allocsync.reconcile.scheduling import circuit_breaker
from allocsync.reconcile.scheduling.reachability import HEARTBEAT_READS
from tests.simulation.engine.history import Get, History, Post, Truth
from tests.simulation.oracles.write_gates import WriteGatesOracle

# Its process, when it began, whether it succeeded, when it ended, and its allocation.
Request: TypeAlias = tuple[int, float, bool, float, AllocationId]

ALLOWED_FACTOR, ALLOWED_EXTRA = 1.2, 20
RETRIED_LISTS = 2  # before a process reads each allocation by itself instead
LEAST_RESYNC_FACTOR = 0.85  # of the resync interval, which varies by a tenth


@dataclass(frozen=True, slots=True)
class RequestLoad:
    """What was sent, and how much of it was needed, by reason."""

    sent: int
    reasons: tuple[tuple[str, int], ...]

    @property
    def needed(self) -> int:
        """The number of needed requests."""
        return sum(number for _, number in self.reasons)

    @property
    def is_excessive(self) -> bool:
        """Whether P5 is broken."""
        return self.sent > ALLOWED_FACTOR * self.needed + ALLOWED_EXTRA

    def __str__(self) -> str:
        reasons = ", ".join(f"{number} {reason}" for reason, number in self.reasons if number)
        return f"{self.sent} requests were sent, and {self.needed} were needed ({reasons})"


def measure_load(
    history: History, gates: WriteGatesOracle, *, now: float, resync_seconds: float
) -> RequestLoad:
    """The load of this run up to `now`."""
    truths = list(history.truths.values())
    enough = min(circuit_breaker.MIN_KEYS, len(truths))
    scheduled_seconds = LEAST_RESYNC_FACTOR * resync_seconds
    passes = sum(1 + int((min(end, now) - begin) / scheduled_seconds) for begin, end in history.processes)
    posts = [post for truth in truths for post in truth.posts if post.answer != "never left"]
    gets = [get for truth in truths for get in truth.gets]
    needs = _ReadNeeds(history, gates, scheduled_seconds)
    reads = [_reads(truth, needs) for truth in truths]
    answered = sum(ok for _, ok in history.list_ends)
    beside = answered * CHECKS_PER_LIST + _list_outages(history) * len(truths)
    beside_lists = min(beside, sum(more for _, more in reads))
    others = len(gets) - sum(needed for needed, _ in reads) - beside_lists
    return RequestLoad(
        history.requests + len(history.list_begins),
        (
            ("reads", sum(needed for needed, _ in reads)),
            (
                "lists",
                min(
                    len(history.list_begins), passes + len(history.resync_requests) + _retried_lists(history)
                ),
            ),
            ("reads that check lists", beside_lists),
            ("heartbeats", min(_heartbeats(history, gets, posts, now), max(0, others))),
            ("updates", sum(_differs(post, history.truths[post.key]) for post in posts)),
            ("reads in an outage", _outage_requests([_read(get, now) for get in gets], enough)),
            (
                "updates in an outage",
                _outage_requests([_update(post, now) for post in posts], enough),
            ),
        ),
    )


@dataclass(frozen=True, slots=True)
class _ReadNeeds:
    """What calls for reads."""

    history: History
    gates: WriteGatesOracle
    scheduled_seconds: float

    def are_due(self, get: Get, last: Get | None) -> bool:
        """Whether something calls for this read after the last one that succeeded."""
        if last is None or last.answered is None:
            return True
        return (
            get.begun >= last.answered + self.scheduled_seconds
            or self.are_requested(get, last)
            or self.gates.opened_between(last.begun, get.begun)
        )

    def are_requested(self, get: Get, last: Get) -> bool:
        """Whether something new called for a read since `last`."""
        openings = (at for at, scope in self.history.openings if scope in {None, get.key})
        return (
            get.process != last.process
            or any(last.order < order < get.order for order in self.history.new_tries(get.key))
            or any(last.begun < at <= get.begun for at in (*self.history.resync_requests, *openings))
        )


def _reads(truth: Truth, needs: _ReadNeeds) -> tuple[int, int]:
    """How many reads of one allocation were needed by themselves, and how many others succeeded."""
    needed = beside = 0
    last: Get | None = None  # the last that succeeded
    tried: Get | None = None  # the last of all
    followed = {post.snapshot.order for post in truth.posts if post.snapshot is not None}
    for get in truth.gets:
        due = get.order in followed or needs.are_due(get, last)
        again = tried is not None and not tried.ok and not needs.are_requested(get, tried)
        needed += due and (get.ok or not again)
        beside += get.ok and not due
        last, tried = get if get.ok else last, get
    unknown = sum(post.unknown_since is not None for post in truth.posts)
    confirming = sum(_confirming(post, truth) for post in truth.posts if post.answer == "accepted")
    followed_up = min(beside, unknown + confirming)
    return needed + followed_up, beside - followed_up


def _confirming(post: Post, truth: Truth) -> int:
    """How many reads may look for this accepted update: the first that shows it is the last."""
    answered = post.answered or post.sent
    shown = (
        get.begun
        for get in truth.gets
        if get.order > post.order and get.cloud is not None
        if all(field_value(get.cloud, name) == value for name, value in post.changed.items())
    )
    seconds = min(next(shown, inf) - answered, post.window_seconds)
    return 2 + int(log2(max(1.0, seconds)))


def _retried_lists(history: History) -> int:
    """How many lists failed and were retried before the process fell back to single reads."""
    failed = (
        sum(begin <= at <= end and not ok for at, ok in history.list_ends) for begin, end in history.processes
    )
    return sum(min(each, RETRIED_LISTS) for each in failed)


def _list_outages(history: History) -> int:
    """How often lists began to fail."""
    results = [True, *(ok for _, ok in history.list_ends)]
    return sum(before and not after for before, after in pairwise(results))


def _heartbeats(history: History, gets: Sequence[Get], posts: Sequence[Post], now: float) -> int:
    """How many reads a process may make because nothing has succeeded for a while."""
    succeeded = sorted(
        [
            *(get.answered for get in gets if get.ok and get.answered is not None),
            *(post.answered for post in posts if post.answer == "accepted" and post.answered is not None),
            *(at for at, ok in history.list_ends if ok),
        ]
    )
    found = 0
    for begin, end in history.processes:
        within = [begin, *(at for at in succeeded if begin <= at <= end), min(end, now)]
        found += sum(
            int((after - before) / Parameters().heartbeat_seconds) for before, after in pairwise(within)
        )
    return found * HEARTBEAT_READS


def _differs(post: Post, truth: Truth) -> bool:
    cloud = truth.at(post.order).cloud
    return cloud is None or any(field_value(cloud, name) != value for name, value in post.fields.items())


def _read(get: Get, now: float) -> Request:
    return get.process, get.begun, get.ok, get.answered or now, get.key


def _update(post: Post, now: float) -> Request:
    return post.process, post.sent, post.served, post.answered or now, post.key


def _outage_requests(requests: Sequence[Request], enough: int) -> int:
    """How many requests it takes to notice that all of them fail, and to notice when that ends.

    A breaker opens when `enough` allocations have failed.
    """
    number, process = 0, 0
    failed: list[Request] = []
    for request in sorted(requests, key=lambda request: (request[0], request[3])):
        if request[0] != process:
            number += _needed_failures(failed, -inf, enough)
            failed, process = [], request[0]
        if request[2]:
            number += _needed_failures(failed, request[3], enough)
            failed = []
        else:
            failed.append(request)
    return number + _needed_failures(failed, -inf, enough)


def _needed_failures(failed: Sequence[Request], served_at: float, enough: int) -> int:
    """How many of these failures in a row were needed; `served_at` is the next success."""
    if not failed:
        return 0
    left = max(served_at, failed[-1][3]) - min(begun for _, begun, *_ in failed)
    if left <= circuit_breaker.SILENT_SECONDS:
        return 0
    interval, probes = circuit_breaker.PROBE_FIRST_SECONDS, 0
    while left > 0:
        probes += 1
        left -= interval * (1 - circuit_breaker.PROBE_JITTER)
        interval = min(2 * interval, circuit_breaker.PROBE_MAX_SECONDS)
    keys = {key for *_, key in failed}
    return min(len(failed), circuit_breaker.MIN_FAILURES + probes * (1 if len(keys) >= enough else len(keys)))
