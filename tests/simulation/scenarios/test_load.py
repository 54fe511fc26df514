"""An API in trouble, and edits without end: how much is asked of it, and how all come into line after it."""

import random
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from math import inf

import pytest

from allocsync.model.api_answers import Rejected
from tests.simulation.disk.sqlite_shim import SqliteShim
from tests.simulation.engine.schedule import Allocation
from tests.simulation.engine.script import accepted, allocation, at, edits, failed, play, unknown
from tests.simulation.faults.request_faults import ReadFate, UpdateFate
from tests.simulation.faults.scripted_faults import SOON, Listed, Pressed, Weather, until
from tests.simulation.oracles.run_record import Run

SETTLE_SECONDS, RESYNC_SECONDS, RESYNC_JITTER = 10.0, 60.0, 0.1
SILENT_SECONDS, FAILURES = 10.0, 10  # until a breaker opens
PROBE_FIRST_SECONDS, PROBE_MOST_SECONDS, PROBE_JITTER = 1.0, 8.0, 0.2
SPREAD_SECONDS = 10.0  # over which those come back that failed while it was open
READS_AT_FIRST, WRITES_AT_FIRST = 8, 4  # slots
SLOW_SECONDS = 1.0  # older ones of an API that is quick hold no slot any more
PASS_SECONDS, MARGIN_SECONDS = 0.2, 1.0  # from the admission of a probe to its request; for whatever is short
CHECKED = 3  # of each bulk answer
UNAUTHORIZED = Rejected(401, "401 Unauthorized", terminal=False)


def in_line(keys: Iterable[int]) -> list[Allocation]:
    return [allocation(key, declared={"region": "x"}) for key in keys]


def are_probes(times: Sequence[float]) -> bool:
    """Whether these are a breaker's: each as long after the one before as they must be, and no longer."""
    seconds = PROBE_FIRST_SECONDS
    for earlier, later in pairwise(times):
        if not seconds * (1 - PROBE_JITTER) - PASS_SECONDS <= later - earlier <= seconds + PASS_SECONDS:
            return False
        seconds = min(2 * seconds, PROBE_MOST_SECONDS)
    return True


def all_are_in_line(run: Run, at: float) -> bool:
    """Whether nothing had to become true any more after that time."""
    return all(truth.now.at <= at for truth in run.history.truths.values())


@pytest.mark.parametrize("bulk", ["auto", "off"])
def test_dead_updates_leave_the_looks_alone_and_one_write_probe_goes_an_interval(
    shim: SqliteShim, bulk: str
) -> None:
    ends, differing, fine = 300.0, range(100), range(100, 200)
    run = play(
        shim,
        allocations=[*(allocation(key) for key in differing), *in_line(fine)],
        weather=until(ends, Weather(updates=lambda _key, _now: unknown(lands=None))),
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
    assert all_are_in_line(run, ends + PROBE_MOST_SECONDS + SPREAD_SECONDS + SETTLE_SECONDS)


@pytest.mark.parametrize("number", [10, 4000])
def test_all_come_in_line_after_an_outage_and_the_ramp_is_bounded(shim: SqliteShim, number: int) -> None:
    ends, seconds, all_of_them, drifted = 600.0, 0.05, range(number), range(0, number, 10)
    dead = failed("502 Bad Gateway", 502)
    run = play(
        shim,
        allocations=[
            allocation(key, declared={"region": "a" if key in drifted else "x"}) for key in all_of_them
        ],
        weather=Weather(
            reads=lambda _key, now: dead if now < ends else ReadFate(SOON, seconds),
            updates=lambda _key, now: unknown(lands=None) if now < ends else accepted(seconds),
            lists=lambda now: Listed(fault="502 Bad Gateway") if now < ends else None,
        ),
        bulk="auto",
        resync_seconds=RESYNC_SECONDS,
        until=ends,
    )
    in_vain = [get.begun for get in run.all_gets() if get.begun < ends]
    opened = in_vain[0] + SILENT_SECONDS + MARGIN_SECONDS / 2
    probes = [begun for begun in in_vain if begun > opened]
    assert len(in_vain) - len(probes) >= FAILURES
    assert len(probes) >= 20
    assert are_probes(probes)
    assert not [get for get in run.all_gets() if get.ok and get.begun < ends]

    closed = ends + PROBE_MOST_SECONDS
    served = sorted(get.answered or 0.0 for get in run.all_gets() if get.ok)
    assert served[0] <= closed + PASS_SECONDS
    under_way = run.under_way(since=served[0], until=served[0] + 2.0)
    assert all(at_once <= READS_AT_FIRST + (at - served[0]) / seconds for at, at_once in under_way)
    assert number < 1000 or max(at_once for _, at_once in under_way) > 10
    assert all_are_in_line(run, closed + SPREAD_SECONDS + MARGIN_SECONDS)
    assert len(run.all_posts()) == len(drifted)
    first_looks_and_confirmations = len(all_of_them) + len(drifted)
    over = closed + 2 * SPREAD_SECONDS
    checks = CHECKED * sum(ends <= time < over for time in run.lists)
    looks = [get for get in run.all_gets() if ends <= get.begun < over]
    assert len(looks) <= first_looks_and_confirmations + checks


def test_an_api_whose_throughput_falls_under_pressure_recovers(shim: SqliteShim) -> None:
    begin, end, seconds, at_once = 2.0, 32.0, 0.1, 8
    api = Pressed(seconds=seconds, at_once=at_once, less=2, begin=begin, end=end)
    run = play(shim, allocations=in_line(range(1500)), weather=Weather(reads=api.reads), until=150.0)
    assert api.timeouts
    served = sum(get.ok and end + 5 <= get.begun < end + 15 for get in run.all_gets())
    at_best = 10 * at_once / seconds
    assert served > at_best / 4


def edits_take(shim: SqliteShim, poison: Collection[int]) -> tuple[list[float], list[float]]:
    """The seconds that edits of 200 healthy allocations take, sorted: from a cold start, and later.

    All from a cold start, then a dozen every seven seconds, then a dozen after each long pause. Updates of
    poison ones end after half a minute with a 504, and are not carried out.
    """
    keys = range(220)
    healthy = [key for key in keys if key not in poison][-200:]
    chance = random.Random(3)
    times = [*(7.0 * number for number in range(1, 17)), *(120.0 + 50.0 * number for number in range(4))]
    edited = [(time, f"edit{number}", chance.sample(healthy, 12)) for number, time in enumerate(times)]
    ends = times[-1] + 50.0

    def updates(key: int, now: float) -> UpdateFate | None:
        hangs = key in poison and now < ends
        return unknown(30.0, lands=None) if hangs else accepted(0.05, lands=0.05)

    run = play(
        shim,
        allocations=[allocation(key) for key in keys],
        weather=Weather(updates=updates),
        events=[at(time, edits(region, chosen)) for time, region, chosen in edited],
        until=ends,
    )
    assert sum(len(run.posts(key)) for key in poison) >= 2 * len(poison)
    cold: list[float] = []
    later: list[float] = []
    for key in healthy:
        wishes = [(time, region) for time, region, chosen in edited if key in chosen]
        for since, seconds in waits(run, key, wishes):
            (later if since else cold).append(seconds)
    return sorted(cold), sorted(later)


def waits(run: Run, key: int, wishes: Sequence[tuple[float, str]]) -> Iterator[tuple[float, float]]:
    """Since when, and how long, the truth was not what the file said; `wishes` are its edits."""
    since: float | None = None
    for (time, region), (following, _) in pairwise([(0.0, "a"), *wishes, (inf, "")]):
        since = time if since is None else since
        done = [at for at in run.shows(key, region) if time <= at < following]
        if done:
            yield since, done[0] - since
            since = None


def test_twenty_allocations_that_hang_hardly_hold_the_healthy_ones_up(shim: SqliteShim) -> None:
    cold, later = edits_take(shim, ())
    assert len(cold) == 200
    assert len(later) >= 200
    assert cold[-1] < 1.0
    assert later[-1] < 0.2
    for poison, most in ((range(0, 220, 11), 2.0), (range(20), 12.0)):  # among the others, or in front of all
        from_cold, after = edits_take(shim, poison)
        assert len(from_cold) == 200
        assert from_cold[-1] <= most
        assert after[len(after) // 2] <= 2 * later[-1]
        assert after[-1] <= later[-1] + SLOW_SECONDS + MARGIN_SECONDS


def test_nine_of_ten_updates_fail_for_ever_and_it_goes_on(shim: SqliteShim) -> None:
    keys, ends, chance = range(100), 3600.0, random.Random(4)

    def updates(_key: int, now: float) -> UpdateFate:
        fails = now < ends and chance.random() < 0.9
        return unknown(1.0, lands=None) if fails else accepted(1.0, lands=1.0)

    run = play(
        shim, allocations=[allocation(key) for key in keys], weather=Weather(updates=updates), until=ends
    )
    landed = [at for key in keys for at in run.shows(key, "a") if at < ends]
    lost = [post for post in run.all_posts() if post.answer == "unknown"]
    assert len(lost) > 7 * len(landed)
    first, second, third = (sum(at < time for at in landed) for time in (600.0, 1800.0, ends))
    assert len(keys) / 2 < first < second < third
    assert third >= 0.95 * len(keys)
    assert not run.told("breaker_opened")


@pytest.mark.parametrize("of", ["everything", "updates"])
def test_401_for_everybody_costs_one_probe_an_interval(shim: SqliteShim, of: str) -> None:
    ends, keys = 600.0, range(500)
    weather = Weather(updates=lambda _key, _now: unknown(lands=None, ending=UNAUTHORIZED))
    if of == "everything":
        weather = replace(
            weather,
            reads=lambda _key, _now: failed("401 Unauthorized", 401),
            lists=lambda _now: Listed(fault="401 Unauthorized"),
        )
    run = play(
        shim,
        allocations=[allocation(key) for key in keys],
        weather=until(ends, weather),
        bulk="auto",
        resync_seconds=RESYNC_SECONDS,
        until=ends,
    )
    reads, writes = [get.begun for get in run.all_gets()], [post.sent for post in run.all_posts()]
    asked, at_first = (reads, READS_AT_FIRST) if of == "everything" else (writes, WRITES_AT_FIRST)
    refused = [at for at in asked if at < ends]
    before = [at for at in refused if at < refused[0] + PROBE_FIRST_SECONDS / 2]
    assert FAILURES <= len(before) <= FAILURES + at_first
    assert len(refused) - len(before) >= 20
    assert are_probes(refused[len(before) :])
    assert all_are_in_line(run, ends + PROBE_MOST_SECONDS + 2 * SPREAD_SECONDS)


def test_edits_without_pause_in_an_outage_of_updates_do_not_get_round_the_probes(shim: SqliteShim) -> None:
    ends, keys = 120.0, range(40)
    run = play(
        shim,
        allocations=[allocation(key) for key in keys],
        weather=until(ends, Weather(updates=lambda _key, _now: unknown(lands=None))),
        events=[at(0.5 * number, edits(f"edit{number}", keys)) for number in range(240)],
        until=ends,
    )
    posts = [post.sent for post in run.all_posts() if post.sent < ends]
    before = [at for at in posts if at < SILENT_SECONDS + MARGIN_SECONDS]
    assert len(before) <= len(keys) + WRITES_AT_FIRST
    assert len(posts) - len(before) >= 8
    assert are_probes(posts[len(before) :])
    looks = [get for get in run.all_gets() if get.begun < ends]
    snapshots_and_read_backs = 2 * len(posts)
    assert len(looks) <= len(keys) + snapshots_and_read_backs


def test_edits_without_pause_in_a_storm_do_not_add_to_it(shim: SqliteShim) -> None:
    ends, keys, chance = 60.0, range(20), random.Random(5)

    storm = Weather(
        reads=lambda _key, _now: failed("504", 504) if chance.random() < 0.2 else None,
        updates=lambda _key, _now: unknown(lands=None) if chance.random() < 0.5 else None,
    )
    run = play(
        shim,
        allocations=[allocation(key) for key in keys],
        weather=until(ends, storm),
        events=[at(0.5 * number, edits(f"edit{number}", keys)) for number in range(120)],
        until=ends,
    )
    posts = [post for post in run.all_posts() if post.sent < ends]
    lost = [post for post in posts if post.answer == "unknown"]
    looks = [get for get in run.all_gets() if get.begun < ends]
    assert len(lost) > len(posts) / 3
    assert sum(not get.ok for get in looks) > len(looks) / 8
    # The one at the end of a settle time is the snapshot of the next update.
    assert sum(get.ok for get in looks) <= len(posts) + 2 * len(keys)


@pytest.mark.parametrize("number", [40, 200])
def test_an_outage_of_everything_costs_no_more_than_a_fifth_more_than_it_needs(
    shim: SqliteShim, number: int
) -> None:
    # Each asks once, and no more before it is seen that nobody is served; then it is one probe at a time.
    ends = 600.0
    run = play(
        shim,
        allocations=[allocation(key, declared={"region": "x"}) for key in range(number)],
        weather=Weather(reads=lambda _, now: failed("502 Bad Gateway", 502) if now < ends else None),
        until=ends,
    )
    assert len([get for get in run.all_gets() if not get.ok]) > number
