"""The oracle of what the daemon reports goes red on each planted lie, and only then."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf

import pytest

from allocsync.model.api_answers import Failed
from allocsync.model.condition import Condition
from allocsync.model.desired_state import Revision
from allocsync.model.ids import AllocationId
from allocsync.model.times import WallTime
from allocsync.reconcile.status.controller_status import AllocationStatus
from tests.simulation.engine import virtual_time
from tests.simulation.engine.files import Files
from tests.simulation.engine.schedule import Outage, OutageKind, Schedule
from tests.simulation.engine.script import allocation
from tests.simulation.engine.server import Server, id_of
from tests.simulation.oracles.liveness import LivenessOracle
from tests.simulation.oracles.reports import NO_TIME_SECONDS, ReportOracle
from tests.simulation.oracles.write_gates import WriteGatesOracle

KEY = id_of(0)
RESYNC_SECONDS = 60.0
SCHEDULE = Schedule(
    seed=1,
    allocations=(allocation(declared={"region": "x"}),),
    fault_periods=(),
    events=(),
    faults_end_at=0.0,
)


@dataclass(slots=True)
class Judged:
    """The oracle of a process that runs with an allocation in sync, and what it found."""

    schedule: Schedule = SCHEDULE
    breaches: list[str] = field(default_factory=list)

    def run(self, act: Callable[[ReportOracle, Server, LivenessOracle], object]) -> list[str]:
        """Run `act`, which may return what to await; return the promises that are broken."""

        async def main() -> None:
            server = Server(self.schedule, lambda *_: None)
            liveness = LivenessOracle(
                server,
                resync_seconds=RESYNC_SECONDS,
                bulk=False,
                gates=WriteGatesOracle(),
                report_breach=self._report,
            )
            oracle = ReportOracle(server, liveness, resync_seconds=RESYNC_SECONDS, report_breach=self._report)
            server.history.process_started(1, 0.0)
            liveness.process_started(gap=False, waits=False)
            oracle.process_started()
            revision = Revision("1", Files(self.schedule.allocations).declared)
            list(server.history.activate(revision, 0.0, approved=False))
            awaited = act(oracle, server, liveness)
            if asyncio.iscoroutine(awaited):
                await awaited

        virtual_time.run(main(), random.Random(1))
        return self.breaches

    def _report(self, promise: str, _what: str) -> None:
        self.breaches.append(promise)


def in_sync(key: AllocationId = KEY) -> AllocationStatus:
    """What the daemon says of an allocation in sync."""
    return AllocationStatus(
        id=key, condition=Condition.IN_SYNC, reason="", since=WallTime(0.0), next_read_at=None
    )


@pytest.mark.parametrize(("seconds", "broken"), [(2.9 * RESYNC_SECONDS, []), (3.1 * RESYNC_SECONDS, ["P11"])])
def test_in_sync_is_a_lie_if_the_allocation_differed_for_longer_than_the_age_that_is_shown(
    seconds: float, broken: list[str]
) -> None:
    async def act(oracle: ReportOracle, server: Server) -> None:
        await asyncio.sleep(10.0)
        server.write_field(KEY, "region", "theirs")
        await asyncio.sleep(seconds)
        oracle.judge_condition(in_sync(), confirmed_at=0.0)
        oracle.judge_condition(replace(in_sync(), condition=Condition.PENDING), confirmed_at=0.0)

    assert Judged().run(lambda oracle, server, _: act(oracle, server)) == broken


@pytest.mark.parametrize(
    ("begin", "said", "broken"),
    [(10.0, False, ["P11"]), (10.0, True, []), (40.0, False, [])],
)
def test_an_outage_of_the_whole_api_is_said_within_30_seconds(
    begin: float, *, said: bool, broken: list[str]
) -> None:
    async def act(oracle: ReportOracle) -> None:
        await asyncio.sleep(60.0)
        oracle.judge_reachability(said=said)

    schedule = replace(
        SCHEDULE, outages=(Outage(begin, 100.0, OutageKind.NO_CONNECTION),), faults_end_at=100.0
    )
    assert Judged(schedule).run(lambda oracle, *_: act(oracle)) == broken


async def state_and_wait(oracle: ReportOracle, stated: tuple[float, ...], seconds: float) -> None:
    """State these times, one each ten seconds, and the last one again after `seconds`."""
    for by in stated:
        oracle.judge_attempt(KEY, by)
        await asyncio.sleep(10.0)
    await asyncio.sleep(seconds)
    oracle.judge_attempt(KEY, stated[-1])


@pytest.mark.parametrize(
    ("stated", "seconds", "broken"),
    [
        ((300.0,), 100.0, []),
        ((50.0,), 100.0, ["P12"]),  # nothing happens at the stated time
        ((-5.0,), 100.0, ["P12"]),  # the stated time has passed, and nothing explains it
        ((50.0, 300.0), 100.0, ["P12"]),  # put off without a reason
        ((inf,), NO_TIME_SECONDS, ["P12"]),  # no time is stated
        ((inf,), NO_TIME_SECONDS / 2, []),
    ],
)
def test_an_allocation_that_is_left_alone_after_its_stated_attempt_is_found(
    stated: tuple[float, ...], seconds: float, broken: list[str]
) -> None:
    assert Judged().run(lambda oracle, *_: state_and_wait(oracle, stated, seconds)) == broken


def test_a_request_or_a_failure_of_another_one_may_move_the_stated_attempt() -> None:
    async def act(oracle: ReportOracle, server: Server, liveness: LivenessOracle) -> None:
        oracle.judge_attempt(KEY, 20.0)
        await asyncio.sleep(19.0)
        liveness.request_sent(KEY)
        server.history.add_read(1, KEY, server.now())
        await asyncio.sleep(100.0)
        oracle.judge_attempt(KEY, 300.0)
        server.history.failures += 1
        oracle.judge_attempt(KEY, 400.0)
        await asyncio.sleep(200.0)
        oracle.judge_attempt(KEY, 400.0)

    assert not Judged().run(act)


@pytest.mark.parametrize(("seconds", "broken"), [(10.0, []), (20.0, ["P12"])])
@pytest.mark.parametrize("scope", [KEY, None])
def test_a_retry_that_no_request_follows_is_found(
    scope: AllocationId | None, seconds: float, broken: list[str]
) -> None:
    async def act(server: Server, liveness: LivenessOracle) -> None:
        server.history.add_retry(scope, server.now())
        liveness.retried(scope)
        await asyncio.sleep(seconds)
        liveness.check()

    assert Judged().run(lambda _, server, liveness: act(server, liveness)) == broken


def test_an_allocation_that_retry_after_holds_is_none_that_a_heartbeat_may_read() -> None:
    async def act(server: Server, liveness: LivenessOracle) -> None:
        assert liveness.may_be_asked(KEY)
        get = server.history.add_read(1, KEY, server.now())
        liveness.read_answered(get, Failed("503", 503, retry_after_seconds=60.0))
        assert not liveness.may_be_asked(KEY)
        await asyncio.sleep(61.0)
        assert liveness.may_be_asked(KEY)

    assert not Judged().run(lambda _, server, liveness: act(server, liveness))
