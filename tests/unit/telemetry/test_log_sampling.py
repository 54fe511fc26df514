"""When the same happens to many allocations, the log has a page of lines and counts the others."""

import asyncio
import io
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.errors import BulkUnavailable
from allocsync.model.api_answers import Failed, Live, Rejected, RejectionClass, Snapshot, UpdateAnswer
from allocsync.model.cloud import Cloud
from allocsync.model.condition import Condition
from allocsync.model.times import Monotonic, WallTime
from allocsync.reconcile import events
from allocsync.telemetry.log_events import LogObserver
from allocsync.telemetry.log_sampling import (
    FIRST_LINES,
    SUMMARY_FIRST_SECONDS,
    SUMMARY_MAX_SECONDS,
    LogSampler,
)
from allocsync.telemetry.log_setup import configure
from tests.support.failing_api import DEAD, TIMEOUT, named, now, real_run
from tests.support.made_events import made
from tests.support.scripted_api import ScriptedApi, revision
from tests.support.tier import part_of

NUMBER = part_of(2_000)
OUTAGE_FROM, OUTAGE_UNTIL = 120.0, 720.0
MAX_LINES = 50


def wall() -> WallTime:
    """The wall clock, which here starts with the event loop."""
    return WallTime(now())


@dataclass
class Log:
    """A log at level debug; `loud` gives its lines from level info on."""

    stream: io.StringIO = field(default_factory=io.StringIO)

    def observer(self) -> LogObserver:
        logger = configure("json", "debug", self.stream, environ={}, wall=wall)
        return LogObserver(logger, wall=wall, now=lambda: Monotonic(now()))

    def rows(self, *events: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.stream.getvalue().splitlines()]
        return [row for row in found if not events or row["event"] in events]

    def loud(self, *events: str) -> list[dict[str, Any]]:
        return [row for row in self.rows(*events) if row["level"] != "debug"]

    def suppressed(self) -> Counter[tuple[str, str | None]]:
        counts: Counter[tuple[str, str | None]] = Counter()
        for row in self.rows("lines_suppressed"):
            assert row["lines"] == sum(each["lines"] for each in row["of"])
            counts.update({(each["event"], each.get("after")): each["lines"] for each in row["of"]})
        return counts


class OutageApi(ScriptedApi):
    """An API with an outage of ten minutes, of one of several kinds; its allocations drift when it begins."""

    def __init__(self, how: str) -> None:
        super().__init__(keys=named(NUMBER))
        self.how = how
        self.seconds = 0.05
        self.fired = 0
        self.on_snapshot = self._snapshot
        self.on_update = self._post
        self.post_seconds = lambda _key: 30.0 if self._fails("updates hang") else self.seconds

    def _fails(self, *hows: str) -> bool:
        return self.how in hows and OUTAGE_FROM <= now() < OUTAGE_UNTIL

    def _snapshot(self, _key: str) -> Snapshot | None:
        if not self._fails("502", "refused"):
            return None
        self.fired += 1
        return DEAD if self.how == "502" else Failed("no connection", None, unreachable=True)

    def _post(self, _key: str, _body: Cloud) -> UpdateAnswer | None:
        if not self._fails("updates 504", "updates hang", "updates 401", "502"):
            return None
        self.fired += 1
        return (
            Rejected(401, "401 Unauthorized", RejectionClass.OTHER) if self.how == "updates 401" else TIMEOUT
        )

    async def list(self) -> AsyncIterator[Live]:
        if self._fails("502", "refused"):
            raise BulkUnavailable("502 Bad Gateway", supported=True)
        async for row in super().list():
            yield row


@pytest.mark.looptime
@pytest.mark.parametrize("how", ["502", "refused", "updates 504", "updates hang", "updates 401"])
async def test_an_outage_of_many_allocations_is_a_page_of_lines_between_breaker_opened_and_breaker_closed(
    how: str,
) -> None:
    log, api = Log(), OutageApi(how)
    async with real_run(api, observer=log.observer()) as run:
        run.controller.activate(revision("live", named(NUMBER)))
        await asyncio.sleep(OUTAGE_FROM)
        for key in named(NUMBER):
            api.truth[key] = {**api.truth[key], "region": "drift"}
        await asyncio.sleep(OUTAGE_UNTIL - OUTAGE_FROM)
        (opened,) = run.events(events.BreakerOpened)
        assert api.fired >= 10
        logged = log.loud()
        assert [row["event"] for row in logged[:2]] == ["revision_activated", "all_in_sync"]
        assert len(log.loud("breaker_opened")) == 1
        assert len(logged) <= MAX_LINES
        await asyncio.sleep(120)
        assert run.count(Condition.IN_SYNC) == NUMBER
    assert opened.operation == ("write" if how.startswith("updates") else "read")
    rows = log.rows()
    loud = [row["event"] for row in log.loud()]
    assert loud.index("breaker_opened") < loud.index("breaker_closed") < loud.index("all_in_sync", 3)
    if how.startswith("updates"):
        name = "update_rejected" if how == "updates 401" else "update_outcome_unknown"
        first = [row for row in rows if row["event"] == name][:FIRST_LINES]
        assert {row["level"] for row in first} == {"warning"}, "the first failures are logged one by one"
    # Every line that was not logged is counted.
    summed = log.suppressed()
    quiet = Counter((row["event"], row.get("after")) for row in rows if row["level"] == "debug")
    assert {group: quiet[group] for group in summed} == dict(summed)
    if how == "updates 504":
        assert summed["update_outcome_unknown", None] > 50
        failed = sum(outcome == "unknown" for outcome in _outcomes(run.emitted))
        assert failed == len(log.rows("update_outcome_unknown")) == api.fired


def _outcomes(seen: list[events.Event]) -> list[str]:
    return [event.outcome for event in seen if isinstance(event, events.UpdateFinished)]


@pytest.mark.looptime
async def test_if_most_requests_fail_the_log_is_bounded_without_an_open_breaker() -> None:
    log, api, chance, seconds = Log(), ScriptedApi(keys=named(NUMBER), bulk=False), random.Random(5), 400.0
    api.on_snapshot = lambda _key: DEAD if chance.random() < 0.9 else None
    async with real_run(api, observer=log.observer()) as run:
        run.controller.activate(revision("live", named(NUMBER)))
        await asyncio.sleep(seconds)
        assert not run.events(events.BreakerOpened)
    every = [row for row in log.rows("condition_changed") if row["after"] == "Failing"]
    logged = [row for row in every if row["level"] == "warning"]
    assert len(every) > 10 * FIRST_LINES
    assert FIRST_LINES <= len(logged) <= FIRST_LINES + seconds / 60 + 1
    assert log.suppressed()["condition_changed", "Failing"] == len(every) - len(logged)
    assert [row["event"] for row in log.rows()[-2:]] == ["lines_suppressed", "stopped"]


def test_a_summary_is_logged_when_it_is_due_and_before_the_daemon_stops() -> None:
    stream, at = io.StringIO(), 0.0
    logger = configure("json", "info", stream, environ={}, wall=lambda: WallTime(0.0))
    observer = LogObserver(logger, wall=lambda: WallTime(0.0), now=lambda: Monotonic(at))

    def failing(number: int) -> None:
        for _ in range(number):
            observer(made(events.ConditionChanged, after=Condition.FAILING, reason="\x1b[2J503"))

    failing(FIRST_LINES + 3)
    observer.tick()
    assert len(stream.getvalue().splitlines()) == FIRST_LINES
    at = SUMMARY_FIRST_SECONDS
    observer.tick()
    found = json.loads(stream.getvalue().splitlines()[-1])
    assert (found["event"], found["level"], found["lines"]) == ("lines_suppressed", "warning", 3)
    assert found["of"] == [
        {"event": "condition_changed", "after": "Failing", "lines": 3, "reason": "\x1b[2J503"}
    ]
    failing(5)
    observer(made(events.Stopped))
    names = [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
    assert names[-2:] == ["lines_suppressed", "stopped"]


def test_commands_accepted_updates_and_errors_are_always_logged() -> None:
    log = io.StringIO()
    logger = configure("json", "info", log, environ={}, wall=lambda: WallTime(0.0))
    observer = LogObserver(logger, wall=lambda: WallTime(0.0), now=lambda: Monotonic(0.0))
    for key in named(100):
        observer(made(events.UpdateFinished, allocation=key, outcome="accepted"))
        observer(made(events.UpdateSettled, allocation=key, outcome="stale_overwrite"))
        observer(made(events.PauseBegun, allocation=key))
    assert len(log.getvalue().splitlines()) == 300


groups = st.sampled_from([("a", None), ("b", None), ("b", "c")])


@given(st.lists(st.tuples(groups, st.floats(0, 100), st.booleans()), max_size=200))
def test_every_line_is_either_logged_or_counted(
    lines: list[tuple[tuple[str, str | None], float, bool]],
) -> None:
    sampler, now, allowed = LogSampler(), 0.0, Counter[tuple[str, str | None]]()
    summed = Counter[tuple[str, str | None]]()

    def take() -> None:
        found = sampler.take_summary(Monotonic(now))
        for group in found.suppressed if found else ():
            summed[group.event, group.after] += group.lines

    for group, later, outage in lines:
        now += later
        if sampler.is_summary_due(Monotonic(now)):
            take()
        allowed[group] += sampler.allow(*group, reason="why", now=Monotonic(now), outage=outage)
    take()
    assert allowed + summed == Counter(group for group, _, _ in lines)
    assert not sampler.is_summary_due(Monotonic(1e9))
    for group, number in allowed.items():
        first = next(index for index, line in enumerate(lines) if line[0] == group)
        assert number <= FIRST_LINES + sum(later for _, later, _ in lines[first + 1 :]) / 60


def test_one_line_a_minute_is_always_logged_and_only_ten_during_an_outage() -> None:
    for outage, allowed in ((False, 100), (True, FIRST_LINES)):
        sampler = LogSampler()
        results = [
            sampler.allow("a", None, reason="", now=Monotonic(60.0 * number), outage=outage)
            for number in range(100)
        ]
        assert results == [number < allowed for number in range(100)]


def test_summaries_become_less_frequent_and_start_again_after_a_quiet_time() -> None:
    sampler = LogSampler()
    times: list[float] = []
    for second in range(7_200):
        sampler.allow("a", None, reason="", now=Monotonic(second), outage=True)
        if sampler.is_summary_due(Monotonic(second)):
            times.append(second)
            assert sampler.take_summary(Monotonic(second))
    apart = [round(later - earlier) for earlier, later in pairwise([0.0, *times])]
    assert apart[:4] == pytest.approx([70, 121, 241, 481], abs=1)
    assert set(apart[4:]) == {SUMMARY_MAX_SECONDS + 1}
    assert sampler.take_summary(Monotonic(7_200.0))
    sampler.allow("a", None, reason="", now=Monotonic(20_000.0), outage=True)
    assert not sampler.is_summary_due(Monotonic(20_000.0 + SUMMARY_FIRST_SECONDS - 1))
    assert sampler.is_summary_due(Monotonic(20_000.0 + SUMMARY_FIRST_SECONDS))
