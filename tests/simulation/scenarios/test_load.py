"""API outages, overload and endless edits: how many requests are sent, and how everything converges."""

import random
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from math import inf

import pytest

from allocsync.model.api_answers import Rejected, RejectionClass
from allocsync.reconcile.operation import Operation
from allocsync.reconcile.scheduling.concurrency import MAX_LIMIT
from tests.simulation.disk.sqlite_shim import SqliteShim
from tests.simulation.engine.schedule import Allocation
from tests.simulation.engine.script import accepted, allocation, at, edits, failed, run_script, unknown
from tests.simulation.faults.request_faults import ReadResponse, UpdateResponse
from tests.simulation.faults.scripted_faults import (
    SOON,
    ListResponse,
    OverloadedApi,
    ScriptedFaults,
    faults_until,
)
from tests.simulation.oracles.run_record import RunRecord

SETTLE_SECONDS, RESYNC_SECONDS, RESYNC_JITTER = 10.0, 60.0, 0.1
SILENT_SECONDS, FAILURES = 10.0, 10  # until a breaker opens
PROBE_FIRST_SECONDS, PROBE_MOST_SECONDS, PROBE_JITTER = 1.0, 8.0, 0.2
SPREAD_SECONDS = 10.0  # over which failed requests are retried once the breaker closes
READS_AT_FIRST, WRITES_AT_FIRST = 8, 4  # concurrent requests at the start
SLOW_SECONDS = 1.0  # older requests of a fast API take no slot
PASS_SECONDS, MARGIN_SECONDS = 0.2, 1.0  # from a probe's slot to its request; for short delays
CHECKED = 3  # reads that check each list
UNAUTHORIZED = Rejected(401, "401 Unauthorized", RejectionClass.OTHER)


def converged(keys: Iterable[int]) -> list[Allocation]:
    return [allocation(key, declared={"region": "x"}) for key in keys]


def are_probes(times: Sequence[float]) -> bool:
    """Whether these are a breaker's probes: each one at its interval after the one before."""
    seconds = PROBE_FIRST_SECONDS
    for earlier, later in pairwise(times):
        if not seconds * (1 - PROBE_JITTER) - PASS_SECONDS <= later - earlier <= seconds + PASS_SECONDS:
            return False
        seconds = min(2 * seconds, PROBE_MOST_SECONDS)
    return True


def are_all_converged(run: RunRecord, at: float) -> bool:
    """Whether no truth changed after that time."""
    return all(truth.now.at <= at for truth in run.history.truths.values())


@pytest.mark.parametrize("bulk", ["auto", "off"])
def test_an_outage_of_updates_does_not_slow_reads_and_sends_one_write_probe_per_interval(
    shim: SqliteShim, bulk: str
) -> None:
    ends, differing, fine = 300.0, range(100), range(100, 200)
    run = run_script(
        shim,
        allocations=[*(allocation(key) for key in differing), *converged(fine)],
        scripted_faults=faults_until(ends, ScriptedFaults(updates=lambda _key, _now: unknown(applied=None))),
        bulk=bulk,
        resync_seconds=RESYNC_SECONDS,
        until=ends,
    )
    dead = [post for post in run.all_posts() if post.sent < ends]
    assert {post.answer for post in dead} == {"unknown"}
    before = [post for post in dead if post.sent < SILENT_SECONDS + MARGIN_SECONDS]
    assert len(differing) <= len(before) <= len(differing) + WRITES_AT_FIRST
    probes = [post.sent for post in dead[len(before) :]]
    assert len(probes) >= 10
    assert are_probes(probes)
    least = (1 - RESYNC_JITTER) * RESYNC_SECONDS
    most = (1 + RESYNC_JITTER) * RESYNC_SECONDS + MARGIN_SECONDS
    resyncs = [run.lists] if bulk == "auto" else [run.reads(key) for key in fine]
    for times in resyncs:
        assert all(least <= later - earlier <= most for earlier, later in pairwise(times))
        assert len([time for time in times if time < ends]) >= ends // most
    assert are_all_converged(run, ends + PROBE_MOST_SECONDS + SPREAD_SECONDS + SETTLE_SECONDS)


@pytest.mark.parametrize("number", [10, 1000, pytest.param(4000, marks=pytest.mark.slow)])
def test_all_allocations_converge_after_an_outage_at_a_bounded_rate(shim: SqliteShim, number: int) -> None:
    ends, seconds, all_of_them, drifted = 600.0, 0.05, range(number), range(0, number, 10)
    dead = failed("502 Bad Gateway", 502)
    run = run_script(
        shim,
        allocations=[
            allocation(key, declared={"region": "a" if key in drifted else "x"}) for key in all_of_them
        ],
        scripted_faults=ScriptedFaults(
            reads=lambda _key, now: dead if now < ends else ReadResponse(SOON, seconds),
            updates=lambda _key, now: unknown(applied=None) if now < ends else accepted(seconds),
            lists=lambda now: ListResponse(fault="502 Bad Gateway") if now < ends else None,
        ),
        bulk="auto",
        resync_seconds=RESYNC_SECONDS,
        until=ends,
    )
    failed_reads = [get.begun for get in run.all_gets() if get.begun < ends]
    opened = failed_reads[0] + SILENT_SECONDS + MARGIN_SECONDS / 2
    probes = [begun for begun in failed_reads if begun > opened]
    assert len(failed_reads) - len(probes) >= FAILURES
    assert len(probes) >= 20
    assert are_probes(probes)
    assert not [get for get in run.all_gets() if get.ok and get.begun < ends]

    closed = ends + PROBE_MOST_SECONDS
    served = sorted(get.answered or 0.0 for get in run.all_gets() if get.ok)
    assert served[0] <= closed + PASS_SECONDS
    under_way = run.under_way(since=served[0], until=served[0] + 2.0)
    at_first = READS_AT_FIRST + MAX_LIMIT[Operation.WRITE]  # no update has failed, so their limit may double
    assert all(at_once <= at_first + (at - served[0]) / seconds for at, at_once in under_way)
    assert number < 1000 or max(at_once for _, at_once in under_way) > 10
    assert are_all_converged(run, closed + SPREAD_SECONDS + MARGIN_SECONDS)
    assert len(run.all_posts()) == len(drifted)
    first_reads_and_confirmations = len(all_of_them) + len(drifted)
    over = closed + 2 * SPREAD_SECONDS
    checks = CHECKED * sum(ends <= time < over for time in run.lists)
    reads = [get for get in run.all_gets() if ends <= get.begun < over]
    assert len(reads) <= first_reads_and_confirmations + checks


def test_an_api_that_slows_down_under_load_recovers(shim: SqliteShim) -> None:
    begin, end, seconds, at_once = 2.0, 32.0, 0.1, 8
    api = OverloadedApi(seconds=seconds, at_once=at_once, reduced=2, begin=begin, end=end)
    run = run_script(
        shim, allocations=converged(range(1500)), scripted_faults=ScriptedFaults(reads=api.reads), until=150.0
    )
    assert api.timeouts
    served = sum(get.ok and end + 5 <= get.begun < end + 15 for get in run.all_gets())
    at_best = 10 * at_once / seconds
    assert served > at_best / 4


def edit_latencies(shim: SqliteShim, poison: Collection[int]) -> tuple[list[float], list[float]]:
    """The seconds that edits of 200 healthy allocations take, sorted: from a cold start, and later.

    All start cold, then a dozen is edited every seven seconds, then a dozen after each long pause. Updates of
    the allocations in `poison` end after half a minute with a 504 and are not applied.
    """
    keys = range(220)
    healthy = [key for key in keys if key not in poison][-200:]
    rng = random.Random(3)
    times = [*(7.0 * number for number in range(1, 17)), *(120.0 + 50.0 * number for number in range(4))]
    edited = [(time, f"edit{number}", rng.sample(healthy, 12)) for number, time in enumerate(times)]
    ends = times[-1] + 50.0

    def updates(key: int, now: float) -> UpdateResponse | None:
        hangs = key in poison and now < ends
        return unknown(30.0, applied=None) if hangs else accepted(0.05, applied=0.05)

    run = run_script(
        shim,
        allocations=[allocation(key) for key in keys],
        scripted_faults=ScriptedFaults(updates=updates),
        events=[at(time, edits(region, chosen)) for time, region, chosen in edited],
        until=ends,
    )
    assert sum(len(run.posts(key)) for key in poison) >= 2 * len(poison)
    cold: list[float] = []
    later: list[float] = []
    for key in healthy:
        edits_of_one = [(time, region) for time, region, chosen in edited if key in chosen]
        for since, seconds in convergence_times(run, key, edits_of_one):
            (later if since else cold).append(seconds)
    return sorted(cold), sorted(later)


def convergence_times(
    run: RunRecord, key: int, edits_of_one: Sequence[tuple[float, str]]
) -> Iterator[tuple[float, float]]:
    """Since when and how long the truth differed from the file; `edits_of_one` are its edits."""
    since: float | None = None
    for (time, region), (following, _) in pairwise([(0.0, "a"), *edits_of_one, (inf, "")]):
        since = time if since is None else since
        done = [at for at in run.shows(key, region) if time <= at < following]
        if done:
            yield since, done[0] - since
            since = None


def test_twenty_hanging_allocations_hardly_delay_the_healthy_ones(shim: SqliteShim) -> None:
    cold, later = edit_latencies(shim, ())
    assert len(cold) == 200
    assert len(later) >= 200
    assert cold[-1] < 1.0
    assert later[-1] < 0.2
    for poison, most in (
        (range(0, 220, 11), 2.0),
        (range(20), 12.0),
    ):  # spread among the others, or before all of them
        from_cold, after = edit_latencies(shim, poison)
        assert len(from_cold) == 200
        assert from_cold[-1] <= most
        assert after[len(after) // 2] <= 2 * later[-1]
        assert after[-1] <= later[-1] + SLOW_SECONDS + MARGIN_SECONDS


def test_updates_converge_although_nine_of_ten_fail(shim: SqliteShim) -> None:
    keys, ends, rng = range(100), 3600.0, random.Random(4)

    def updates(_key: int, now: float) -> UpdateResponse:
        fails = now < ends and rng.random() < 0.9
        return unknown(1.0, applied=None) if fails else accepted(1.0, applied=1.0)

    run = run_script(
        shim,
        allocations=[allocation(key) for key in keys],
        scripted_faults=ScriptedFaults(updates=updates),
        until=ends,
    )
    applied = [at for key in keys for at in run.shows(key, "a") if at < ends]
    lost = [post for post in run.all_posts() if post.answer == "unknown"]
    assert len(lost) > 7 * len(applied)
    first, second, third = (sum(at < time for at in applied) for time in (600.0, 1800.0, ends))
    assert len(keys) / 2 < first < second < third
    assert third >= 0.95 * len(keys)
    assert not run.events("breaker_opened")


@pytest.mark.parametrize("of", ["everything", "updates"])
def test_401_for_all_requests_costs_one_probe_per_interval(shim: SqliteShim, of: str) -> None:
    ends, keys = 600.0, range(500)
    scripted_faults = ScriptedFaults(updates=lambda _key, _now: unknown(applied=None, answer=UNAUTHORIZED))
    if of == "everything":
        scripted_faults = replace(
            scripted_faults,
            reads=lambda _key, _now: failed("401 Unauthorized", 401),
            lists=lambda _now: ListResponse(fault="401 Unauthorized"),
        )
    run = run_script(
        shim,
        allocations=[allocation(key) for key in keys],
        scripted_faults=faults_until(ends, scripted_faults),
        bulk="auto",
        resync_seconds=RESYNC_SECONDS,
        until=ends,
    )
    reads, writes = [get.begun for get in run.all_gets()], [post.sent for post in run.all_posts()]
    asked, at_first = (reads, READS_AT_FIRST) if of == "everything" else (writes, WRITES_AT_FIRST)
    rejected = [at for at in asked if at < ends]
    before = [at for at in rejected if at < rejected[0] + PROBE_FIRST_SECONDS / 2]
    assert FAILURES <= len(before) <= FAILURES + at_first
    assert len(rejected) - len(before) >= 20
    assert are_probes(rejected[len(before) :])
    assert are_all_converged(run, ends + PROBE_MOST_SECONDS + 2 * SPREAD_SECONDS)


def test_endless_edits_in_an_outage_of_updates_do_not_bypass_the_probes(shim: SqliteShim) -> None:
    ends, keys = 120.0, range(40)
    run = run_script(
        shim,
        allocations=[allocation(key) for key in keys],
        scripted_faults=faults_until(ends, ScriptedFaults(updates=lambda _key, _now: unknown(applied=None))),
        events=[at(0.5 * number, edits(f"edit{number}", keys)) for number in range(240)],
        until=ends,
    )
    posts = [post.sent for post in run.all_posts() if post.sent < ends]
    before = [at for at in posts if at < SILENT_SECONDS + MARGIN_SECONDS]
    assert len(before) <= len(keys) + WRITES_AT_FIRST
    assert len(posts) - len(before) >= 8
    assert are_probes(posts[len(before) :])
    reads = [get for get in run.all_gets() if get.begun < ends]
    snapshots_and_read_backs = 2 * len(posts)
    assert len(reads) <= len(keys) + snapshots_and_read_backs


def test_endless_edits_during_faults_add_no_load(shim: SqliteShim) -> None:
    ends, keys, rng = 60.0, range(20), random.Random(5)

    storm = ScriptedFaults(
        reads=lambda _key, _now: failed("504", 504) if rng.random() < 0.2 else None,
        updates=lambda _key, _now: unknown(applied=None) if rng.random() < 0.5 else None,
    )
    run = run_script(
        shim,
        allocations=[allocation(key) for key in keys],
        scripted_faults=faults_until(ends, storm),
        events=[at(0.5 * number, edits(f"edit{number}", keys)) for number in range(120)],
        until=ends,
    )
    posts = [post for post in run.all_posts() if post.sent < ends]
    lost = [post for post in posts if post.answer == "unknown"]
    reads = [get for get in run.all_gets() if get.begun < ends]
    assert len(lost) > len(posts) / 3
    assert sum(not get.ok for get in reads) > len(reads) / 8
    # The read at the end of a settle time is the snapshot of the next update.
    assert sum(get.ok for get in reads) <= len(posts) + 2 * len(keys)


@pytest.mark.parametrize("number", [40, 200])
def test_an_outage_of_everything_costs_at_most_a_fifth_more_requests_than_needed(
    shim: SqliteShim, number: int
) -> None:
    # Each allocation is read once until the outage is noticed; after that there is one probe at a time.
    ends = 600.0
    run = run_script(
        shim,
        allocations=[allocation(key, declared={"region": "x"}) for key in range(number)],
        scripted_faults=ScriptedFaults(
            reads=lambda _, now: failed("502 Bad Gateway", 502) if now < ends else None
        ),
        until=ends,
    )
    assert len([get for get in run.all_gets() if not get.ok]) > number
