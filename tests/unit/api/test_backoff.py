"""Backoff: full jitter below a doubling ceiling, Retry-After as a lower bound, and retried reads."""

import asyncio
import random
from collections.abc import Callable
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.api.backoff import FullJitter, read_with_retries
from allocsync.api.responses import parse_retry_after
from allocsync.model.api_answers import Failed, Live, Missing, Snapshot
from allocsync.model.ids import AllocationId
from allocsync.model.times import WallTime
from tests.integration.api.conftest import http_response, open_client, raw_server, respond_with

A = AllocationId("a")
LIVE = Live({"id": "a"})


def draw_highest(_: float, high: float) -> float:
    return high


def draw_lowest(low: float, _: float) -> float:
    return low


class ScriptedApi:
    """An API that returns these results in turn and records the time of each read (event loop's clock)."""

    def __init__(self, *results: Snapshot) -> None:
        self._results = list(results)
        self.read_times: list[float] = []

    async def snapshot(self, allocation_id: AllocationId) -> Snapshot:
        assert allocation_id == A
        self.read_times.append(asyncio.get_running_loop().time())
        return self._results.pop(0)


def test_the_ceiling_doubles_from_the_base_to_the_maximum() -> None:
    wait = FullJitter(uniform=draw_highest)
    assert [wait.delay_seconds(n) for n in range(1, 11)] == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert wait.delay_seconds(10_000) == 300
    assert wait.delay_seconds(0) == 2
    assert FullJitter(uniform=draw_lowest).delay_seconds(9) == 0


@given(
    failures=st.integers(0, 10**6),
    after=st.none() | st.floats(allow_nan=True, allow_infinity=True),
    seed=st.integers(0, 99),
    base=st.floats(0.1, 10),
    most=st.floats(10, 300),
)
def test_a_delay_lies_between_its_floor_and_its_ceiling(
    *, failures: int, after: float | None, seed: int, base: float, most: float
) -> None:
    wait = FullJitter(uniform=random.Random(seed).uniform, base_seconds=base, max_seconds=most)
    delay = wait.delay_seconds(failures, after)
    floor = min(after, 300.0) if after is not None and after > 0 else 0.0
    assert floor <= delay <= max(floor, min(most, base * 2.0 ** min(failures, 60)))


def test_delays_come_from_the_given_random_source_alone() -> None:
    def delays() -> list[float]:
        wait = FullJitter(uniform=random.Random(7).uniform)
        return [wait.delay_seconds(n) for n in range(1, 20)]

    random.seed(1)
    first = delays()
    random.seed(2)
    assert delays() == first


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("86400", 86400.0),
        ("-5", None),
        ("12.5", 13.0),
        ("12.0", 12.0),
        ("0.1", 1.0),
        (".5", None),
        ("1.", None),
        ("1.5.1", None),
        ("1e3", None),
        ("", None),
        (None, None),
        ("soon", None),
        ("٣", None),
        ("9" * 5000, None),
        ("Fri, 99 Foo 2026", None),
        (formatdate(1_800_000_060, usegmt=True), 60.0),
        (formatdate(1_799_999_940, usegmt=True), None),
        (formatdate(1_800_000_000, usegmt=True), None),
        ("Mon, 01 Jan 99999 00:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_garbage_is_ignored(
    value: str | None, seconds: float | None
) -> None:
    assert parse_retry_after(value, date=None, wall=WallTime(1_800_000_000.0)) == seconds


def test_a_date_is_compared_with_the_clock_of_the_server() -> None:
    retry_at, server_date = formatdate(1_800_000_060, usegmt=True), formatdate(1_800_000_000, usegmt=True)
    assert parse_retry_after(retry_at, date=server_date, wall=WallTime(1_900_000_000.0)) == 60
    assert parse_retry_after(retry_at, date="garbage", wall=WallTime(1_800_000_030.0)) == 30


@given(st.text(max_size=40))
def test_no_retry_after_header_raises(value: str) -> None:
    found = parse_retry_after(value, date=value, wall=WallTime(0.0))
    assert found is None or found >= 0


@pytest.mark.looptime
@pytest.mark.parametrize(
    "found", [LIVE, Missing(), Failed("401", 401), Failed("404", 404), Failed("302", 302)]
)
async def test_a_result_that_a_retry_cannot_change_is_read_once(found: Snapshot) -> None:
    api = ScriptedApi(found)
    assert await read_with_retries(api, A, wait=FullJitter(uniform=draw_highest)) == found
    assert len(api.read_times) == 1


@pytest.mark.looptime
@pytest.mark.parametrize("status", [None, 200, 408, 423, 425, 429, 500, 503, 504])
async def test_a_temporary_failure_is_retried_after_a_backoff(status: int | None) -> None:
    api = ScriptedApi(Failed("no", status), LIVE)
    assert await read_with_retries(api, A, wait=FullJitter(uniform=draw_highest)) == LIVE
    assert [b - a for a, b in zip(api.read_times, api.read_times[1:], strict=False)] == [2]


@pytest.mark.looptime
async def test_the_delays_double_and_the_last_failure_is_returned() -> None:
    api = ScriptedApi(*(Failed(f"failure {n}", 503) for n in range(4)))
    found = await read_with_retries(api, A, wait=FullJitter(uniform=draw_highest), attempts=4)
    assert found == Failed("failure 3", 503)
    assert [at - api.read_times[0] for at in api.read_times] == [0, 2, 6, 14]


@pytest.mark.looptime
async def test_retry_after_is_the_lower_bound_of_the_delay() -> None:
    api = ScriptedApi(Failed("busy", 429, 30.0), Failed("busy", 429, -4.0), LIVE)
    assert await read_with_retries(api, A, wait=FullJitter(uniform=draw_lowest)) == LIVE
    assert [at - api.read_times[0] for at in api.read_times] == [0, 30, 30]


@pytest.mark.looptime
@pytest.mark.parametrize(("limit", "asked"), [(1.0, 1), (2.0, 2), (5.9, 2), (6.0, 3)])
async def test_no_attempt_begins_after_the_deadline(limit: float, asked: int) -> None:
    api = ScriptedApi(*(Failed("no", 503) for _ in range(9)))
    wait = FullJitter(uniform=draw_highest)
    found = await read_with_retries(api, A, wait=wait, attempts=9, stop_after_seconds=limit)
    assert found == Failed("no", 503)
    assert len(api.read_times) == asked


@pytest.mark.looptime
async def test_a_backoff_can_be_cancelled() -> None:
    api = ScriptedApi(Failed("no", 503))
    task = asyncio.create_task(read_with_retries(api, A, wait=FullJitter(uniform=draw_highest)))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_read_over_a_real_socket_is_retried() -> None:
    wait = FullJitter(uniform=draw_highest, base_seconds=0.01)
    script = respond_with(
        http_response(503), http_response(200, b"<html>"), http_response(200, b'{"id":"a"}')
    )
    async with raw_server(script) as server, open_client(server) as client:
        assert await read_with_retries(client, A, wait=wait) == LIVE
    assert len(server.requests) == 3


def test_delay_seconds_has_the_signature_that_the_queue_needs() -> None:
    backoff: Callable[[int, float | None], float] = FullJitter(uniform=draw_lowest).delay_seconds
    assert backoff(1, 4000.0) == 300
    assert FullJitter(uniform=draw_lowest).delay_seconds(1, retry_after_seconds=3) == 3
