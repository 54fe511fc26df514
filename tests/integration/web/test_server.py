"""The pages of the listener, read over real sockets."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from allocsync.errors import AllocsyncError, Problem
from allocsync.model.condition import Condition
from allocsync.model.ids import AllocationId, NotFound
from allocsync.model.times import Monotonic, WallTime
from allocsync.reconcile import events
from allocsync.reconcile.gates.pause import Pause
from allocsync.reconcile.status.controller_status import AllocationStatus, ControllerStatus
from allocsync.telemetry.metrics import Metrics
from allocsync.web.health import HealthResult
from allocsync.web.serializers import MAX_PROBLEMS, RejectedFiles
from allocsync.web.server import ROWS_PER_WRITE, Pages, make_app, serve_web
from tests.support.controller_status import WORKING
from tests.support.made_events import made
from tests.support.recording_daemon import RecordingDaemon

SINCE = WallTime(1_795_435_450.218)  # 2026-11-23T12:04:10.218Z
HEALTHY = HealthResult(ok=True, reason="well")


@dataclass
class Daemon:
    """What the pages are made of, for a test to change."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    live: HealthResult = HEALTHY
    ready: HealthResult = HEALTHY
    revision: str | None = "7f3a91c2"
    rows: list[AllocationStatus] = field(default_factory=list)
    rejection: RejectedFiles | None = None

    def status(self) -> ControllerStatus:
        counts = {condition: sum(row.condition is condition for row in self.rows) for condition in Condition}
        return replace(
            WORKING,
            revision=self.revision,
            active_revision=self.revision,
            active_since=SINCE,
            conditions={condition: count for condition, count in counts.items() if count},
        )

    def allocations(self) -> Iterator[AllocationStatus]:
        yield from list(self.rows)

    def pages(self) -> Pages:
        return Pages(
            registry=self.registry,
            status=self.status,
            api=lambda: self.status().api,
            allocations=self.allocations,
            explain=lambda name: NotFound(name, ()),
            live=lambda: self.live,
            ready=lambda: self.ready,
            rejection=lambda: self.rejection,
            files_read_at=lambda: SINCE,
        )


@pytest.fixture(name="daemon")
def _daemon() -> Daemon:
    return Daemon()


@pytest.fixture(name="client")
async def _client(daemon: Daemon) -> AsyncIterator[aiohttp.ClientSession]:
    async with (
        serve_web("127.0.0.1:0", make_app(daemon.pages(), RecordingDaemon().control())) as (host, port),
        aiohttp.ClientSession(f"http://{host}:{port}", timeout=aiohttp.ClientTimeout(30)) as session,
    ):
        yield session


def row(
    number: int, condition: Condition = Condition.IN_SYNC, at: WallTime | None = None
) -> AllocationStatus:
    return AllocationStatus(AllocationId(f"{number:08x}"), condition, "because", SINCE, at)


async def test_metrics_are_in_the_text_format_unless_openmetrics_is_requested(
    daemon: Daemon, client: aiohttp.ClientSession
) -> None:
    metrics = Metrics(daemon.registry)
    metrics.follow(daemon.status)
    metrics(made(events.UpdateSettled, outcome="applied", waited_seconds=10.0))

    async with client.get("/metrics") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        samples = {s.name: s.value for family in parse(await answer.text()) for s in family.samples}
    assert samples["allocsync_duplicate_writes_avoided_total"] == 1

    headers = {"Accept": "application/openmetrics-text; version=1.0.0,text/plain;q=0.5"}
    async with client.get("/metrics", headers=headers) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        names = {f.name for f in parse_openmetrics(await answer.text())}  # type: ignore[no-untyped-call]  # theirs
    assert "allocsync_duplicate_writes_avoided" in names


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_a_health_page_answers_a_status_and_a_reason(
    daemon: Daemon, client: aiohttp.ClientSession, path: str
) -> None:
    async with client.get(path) as answer:
        assert answer.status == 200

    name = path.strip("/").removesuffix("z")
    setattr(daemon, name, HealthResult(ok=False, reason=f"not {name}, and why"))
    async with client.get(path) as answer:
        assert (answer.status, await answer.text()) == (503, f"not {name}, and why\n")


async def test_the_status_has_the_documented_shape(daemon: Daemon, client: aiohttp.ClientSession) -> None:
    ends = "2026-11-23T13:00:00Z"
    pause = Pause(until=Monotonic(1.0), ends_at=WallTime(1.0), ends=ends, reason="a migration", owner="ops")
    second = replace(
        row(2, Condition.FAILING, SINCE + 10),
        paused=pause,
        declaration="its newest declaration awaits approval",
        needs_person=True,
        advice="do this",
    )
    daemon.rows = [replace(row(1), confirmed_at=SINCE, waits_for="the resync"), second]

    async with client.get("/api/v1/status") as answer:
        assert answer.headers["Content-Type"].startswith("application/json")
        assert answer.headers["Cache-Control"] == "no-store"
        found = await answer.json()

    assert found["schema"] == 1
    assert found["api"] == {
        "reachable": None,
        "since": None,
        "reason": "",
        "last_confirmed_at": None,
        "next_attempt_at": None,
    }
    assert (found["all_confirmed_since"], found["resync_seconds"]) == (None, 60.0)
    assert found["files_read_at"] == "2026-11-23T12:04:10.218Z"
    assert found["revision"] == {"active": "7f3a91c2", "awaiting_approval": None, "observed": "7f3a91c2"}
    assert set(found["conditions"]) == {condition.value for condition in Condition}
    assert (found["conditions"]["InSync"], found["conditions"]["Failing"]) == (1, 1)
    assert sum(found["conditions"].values()) == 2
    assert found["allocations"] == [
        {
            "id": "00000001",
            "condition": "InSync",
            "reason": "because",
            "since": "2026-11-23T12:04:10.218Z",
            "confirmed_at": "2026-11-23T12:04:10.218Z",
            "next_read_at": None,
            "waits_for": "the resync",
            "paused": None,
            "declaration": "",
            "needs_person": False,
            "advice": "",
        },
        {
            "id": "00000002",
            "condition": "Failing",
            "reason": "because",
            "since": "2026-11-23T12:04:10.218Z",
            "confirmed_at": None,
            "next_read_at": "2026-11-23T12:04:20.218Z",
            "waits_for": "",
            "paused": {"until": "2026-11-23T13:00:00Z", "owner": "ops", "reason": "a migration"},
            "declaration": "its newest declaration awaits approval",
            "needs_person": True,
            "advice": "do this",
        },
    ]


async def test_the_status_says_since_when_files_are_rejected_and_lists_the_first_problems(
    daemon: Daemon, client: aiohttp.ClientSession
) -> None:
    async with client.get("/api/v1/status") as answer:
        assert (await answer.json())["rejected"] is None

    wrong = [Problem("eu.yaml", line, 5, "allocations.a1.regoin", "unknown field") for line in range(1, 31)]
    daemon.rejection = RejectedFiles(SINCE, tuple(wrong))
    async with client.get("/api/v1/status") as answer:
        found = (await answer.json())["rejected"]

    assert (found["since"], found["count"]) == ("2026-11-23T12:04:10.218Z", 30)
    assert found["problems"][0] == {
        "file": "eu.yaml",
        "line": 1,
        "column": 5,
        "path": "allocations.a1.regoin",
        "message": "unknown field",
    }
    assert len(found["problems"]) == MAX_PROBLEMS


@pytest.mark.parametrize("at", [float("inf"), float("-inf"), float("nan")])
async def test_a_time_of_the_next_read_that_is_not_finite_is_null(
    daemon: Daemon, client: aiohttp.ClientSession, at: float
) -> None:
    daemon.rows = [row(1, at=WallTime(at))]

    async with client.get("/api/v1/status") as answer:
        assert (await answer.json())["allocations"][0]["next_read_at"] is None


@pytest.mark.parametrize(
    "count", [0, 1, ROWS_PER_WRITE - 1, ROWS_PER_WRITE, ROWS_PER_WRITE + 1, 3 * ROWS_PER_WRITE]
)
async def test_the_status_is_complete_at_every_size(
    daemon: Daemon, client: aiohttp.ClientSession, count: int
) -> None:
    daemon.revision = None
    daemon.rows = [row(number) for number in range(count)]

    async with client.get("/api/v1/status") as answer:
        found = await answer.json()

    assert found["revision"]["active"] is None
    assert [int(each["id"], 16) for each in found["allocations"]] == list(range(count))


async def test_other_tasks_run_while_a_status_of_100_000_allocations_is_sent(
    daemon: Daemon, client: aiohttp.ClientSession
) -> None:
    daemon.rows = [row(number) for number in range(100_000)]
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count_turns())
    async with client.get("/api/v1/status") as answer:
        body = await answer.read()
    counting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await counting

    assert body.count(b'"id"') == 100_000
    assert turns >= 100_000 / ROWS_PER_WRITE


async def test_head_answers_the_headers_without_a_body(daemon: Daemon, client: aiohttp.ClientSession) -> None:
    daemon.rows = [row(1)]

    for path in ("/metrics", "/livez", "/readyz", "/api/v1/status"):
        async with client.head(path) as answer:
            assert answer.status == 200
            assert await answer.read() == b""
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Server"] == "allocsync"


async def test_other_paths_answer_404_and_other_methods_405(client: aiohttp.ClientSession) -> None:
    for path in ("/", "/status", "/metrics/", "/api/v1", "/-/"):
        async with client.get(path) as answer:
            assert answer.status == 404
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        async with client.request(method, "/api/v1/status") as answer:
            assert answer.status == 405
            assert answer.headers["Allow"] == "GET,HEAD"


async def test_a_client_that_disconnects_does_not_disturb_others(
    daemon: Daemon, client: aiohttp.ClientSession
) -> None:
    daemon.rows = [row(number) for number in range(20_000)]

    answer = await client.get("/api/v1/status")
    await answer.content.readexactly(100)
    answer.close()

    async with client.get("/livez") as answer:
        assert answer.status == 200


async def test_a_port_in_use_is_an_error_that_may_pass(daemon: Daemon) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(AllocsyncError) as caught:
            async with serve_web(listen, make_app(daemon.pages(), RecordingDaemon().control())):
                raise AssertionError("bound")

    assert str(caught.value) == (
        f"ALLOCSYNC_LISTEN={listen}: another process uses this port. Stop it, or choose another port."
    )
    assert caught.value.exit_code == 1  # a supervisor tries again


@pytest.mark.parametrize(
    ("listen", "said", "exit_code"),
    [
        ("192.0.2.1:0", "this machine does not have this address", 1),
        ("no.such.host.invalid:1", "host name cannot be resolved", 78),
        ("a..b:1", "host name cannot be resolved", 78),
    ],
)
async def test_an_address_that_cannot_be_bound_is_an_error_with_the_cause(
    daemon: Daemon, listen: str, said: str, exit_code: int
) -> None:
    with pytest.raises(AllocsyncError, match=f"ALLOCSYNC_LISTEN={listen}: .*{said}") as caught:
        async with serve_web(listen, make_app(daemon.pages(), RecordingDaemon().control())):
            raise AssertionError("bound")
    assert caught.value.exit_code == exit_code


async def test_the_listener_closes_within_seconds_even_if_a_client_hangs(daemon: Daemon) -> None:
    daemon.rows = [row(number) for number in range(100_000)]
    async with serve_web("127.0.0.1:0", make_app(daemon.pages(), RecordingDaemon().control())) as (
        host,
        port,
    ):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"GET /api/v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"  # and then reads no more
        begun = time.monotonic()
    assert time.monotonic() - begun < 10
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    with pytest.raises(OSError, match="Connect call failed"):
        await asyncio.open_connection(host, port)
