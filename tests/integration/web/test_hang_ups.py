"""Clients that hang up, at any point of any route, over real sockets: nothing above debug is logged."""

import asyncio
import logging
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import replace

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from allocsync.model.condition import Condition
from allocsync.model.ids import AllocationId, NotFound
from allocsync.model.times import WallTime
from allocsync.reconcile.status.controller_status import AllocationStatus, ControllerStatus
from allocsync.reconcile.status.explain import Explanation
from allocsync.web.health import HealthResult
from allocsync.web.server import ROWS_PER_WRITE, Pages, make_app, serve_web
from tests.support.controller_status import WORKING
from tests.support.recording_daemon import TOKEN, RecordingDaemon

ROWS = 20_000
RESET_WITHOUT_DELAY = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends RST
LIBRARIES = ("aiohttp", "asyncio")


def hang_up(client: socket.socket, *, reset: bool) -> None:
    """Close the connection: with a reset, or as a program that ends."""
    if reset:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_WITHOUT_DELAY)
    client.close()


class ManyMetrics(Collector):
    """More metrics than the buffers of a socket hold; `meanwhile` is called while they are collected."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        self._meanwhile = meanwhile

    def collect(self) -> Iterable[GaugeMetricFamily]:
        self._meanwhile()
        yield from (GaugeMetricFamily(f"a{number}", "x" * 1000, number) for number in range(5000))


class Daemon(RecordingDaemon):
    """A daemon whose client hangs up while it makes an answer, if `hang_up` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.hang_up: Callable[[], None] | None = None
        self.hang_ups = self.requests = 0
        self.failures: list[BaseException] = []
        self.rows = 0

    def _meanwhile(self) -> None:
        if self.hang_up is not None:
            self.hang_up()
            self.hang_ups += 1
            self.hang_up = None

    def status(self) -> ControllerStatus:
        self._meanwhile()
        return WORKING

    def allocations(self) -> Iterator[AllocationStatus]:
        for self.rows in range(1, ROWS + 1):
            yield AllocationStatus(
                AllocationId(f"{self.rows:08x}"), Condition.IN_SYNC, "because " * 20, WallTime(1e9), None
            )

    def explain(self, name: str) -> Explanation | NotFound:
        self._meanwhile()
        return NotFound(name, ())

    def health(self) -> HealthResult:
        self._meanwhile()
        return HealthResult(ok=True, reason="well")

    def find_token(self) -> str:
        self._meanwhile()
        return self.token

    async def _flush(self) -> None:
        for _ in range(100):
            await asyncio.sleep(0)  # the loop notices that the connection is closed

    def app(self) -> web.Application:
        registry = CollectorRegistry(auto_describe=False)
        app = make_app(
            Pages(
                registry=registry,
                status=self.status,
                api=lambda: WORKING.api,
                allocations=self.allocations,
                explain=self.explain,
                live=self.health,
                ready=self.health,
                rejection=lambda: None,
                files_read_at=lambda: None,
            ),
            replace(self.control(), token=self.find_token, flush_seconds=10.0),
        )
        registry.register(ManyMetrics(self._meanwhile))
        app.middlewares.append(self._record_failures)
        return app

    @web.middleware
    async def _record_failures(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self.requests += 1
        try:
            return await handler(request)
        except BaseException as error:
            self.failures.append(error)
            raise


@pytest.fixture(name="daemon")
def _daemon() -> Daemon:
    return Daemon()


async def connected(port: int, text: str) -> socket.socket:
    """Connect, with a small buffer for answers, and send this."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("127.0.0.1", port))
    await loop.sock_sendall(client, text.encode())
    return client


def get(path: str) -> str:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"


def post(path: str, body: str, *, length: int | None = None, chunked: bool = False) -> str:
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {length or len(body)}"
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n{framing}\r\n\r\n{body}"
    )


async def no_requests_left() -> None:
    """Wait until no connection is served any more."""
    await until(lambda: not connections())


def connections() -> int:
    """Return the number of connections that are served."""
    return sum("RequestHandler" in repr(task.get_coro()) for task in asyncio.all_tasks())


async def until(probe: Callable[[], object]) -> None:
    """Wait until this is true."""
    async with asyncio.timeout(10):
        while not probe():
            await asyncio.sleep(0.01)


def assert_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG] == []


@pytest.mark.parametrize("reset", [True, False])
async def test_a_client_that_hangs_up_in_the_middle_of_a_large_status_is_no_error(
    daemon: Daemon, caplog: pytest.LogCaptureFixture, *, reset: bool
) -> None:
    for library in LIBRARIES:
        caplog.set_level(logging.DEBUG, library)
    async with serve_web("127.0.0.1:0", daemon.app()) as (_, port):
        client = await connected(port, get("/api/v1/status"))
        assert (await asyncio.get_running_loop().sock_recv(client, 4096)).startswith(b"HTTP/1.1 200")
        hang_up(client, reset=reset)
        await no_requests_left()
    assert ROWS_PER_WRITE <= daemon.rows < ROWS, "it was in the middle"
    (failure,) = daemon.failures
    assert isinstance(failure, ConnectionError)
    assert_nothing_is_logged(caplog)


BODY = '{"all": true, "seconds": 60, "reason": "r", "owner": "o", "revision": "7f3a91c2"}'
WHOLE = (
    *(
        get(path)
        for path in ("/metrics", "/livez", "/readyz", "/api/v1/status", "/api/v1/allocations/nobody")
    ),
    *(post(f"/-/{name}", BODY) for name in ("sync", "reload", "retry", "approve", "pause", "resume")),
)


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("text", WHOLE, ids=lambda text: text.split()[1])
async def test_a_client_that_hangs_up_while_its_answer_is_made_is_no_error(
    daemon: Daemon, caplog: pytest.LogCaptureFixture, text: str, *, reset: bool
) -> None:
    for library in LIBRARIES:
        caplog.set_level(logging.DEBUG, library)
    async with serve_web("127.0.0.1:0", daemon.app()) as (_, port):
        client = await connected(port, text)
        daemon.hang_up = lambda: hang_up(client, reset=reset)
        await until(lambda: daemon.hang_ups)
        await no_requests_left()
    assert_nothing_is_logged(caplog)


PARTS = (
    *("GET /api/v1/st", get("/api/v1/status")[:-2], post("/-/pause", '{"all', length=100)),
    *(post("/-/pause", "5\r\n{", chunked=True), post("/-/pause", '5\r\n{"all\r\n', chunked=True)),
    post("/-/pause", '{"all', length=100).replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n"),
)


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("text", PARTS)
async def test_a_client_that_hangs_up_in_the_middle_of_its_request_is_no_error(
    daemon: Daemon, caplog: pytest.LogCaptureFixture, text: str, *, reset: bool
) -> None:
    for library in LIBRARIES:
        caplog.set_level(logging.DEBUG, library)
    async with serve_web("127.0.0.1:0", daemon.app()) as (_, port):
        client = await connected(port, text)
        await until(lambda: daemon.requests or (connections() and text.startswith("GET")))
        hang_up(client, reset=reset)
        await no_requests_left()
    assert not daemon.done, "no command is carried out"
    assert all(isinstance(failure, ConnectionError) for failure in daemon.failures)
    assert len(daemon.failures) == text.startswith("POST"), "a command had begun to read its body"
    assert_nothing_is_logged(caplog)


async def test_an_error_of_the_daemon_itself_is_still_logged_with_its_traceback(
    daemon: Daemon, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise OSError("not of this connection")

    daemon.hang_up = fail
    async with serve_web("127.0.0.1:0", daemon.app()) as (_, port):
        client = await connected(port, get("/readyz"))
        assert (await asyncio.get_running_loop().sock_recv(client, 4096)).startswith(b"HTTP/1.1 500")
        client.close()
        await no_requests_left()
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "not of this connection"
