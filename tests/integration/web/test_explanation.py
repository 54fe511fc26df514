"""The page about one allocation, read over real sockets."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import quote

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from yarl import URL

from allocsync.model.change import Change
from allocsync.model.cloud import NumberLiteral
from allocsync.model.condition import Condition
from allocsync.model.desired_state import Mode
from allocsync.model.ids import AllocationId, NotFound
from allocsync.model.times import WallTime
from allocsync.reconcile.status.controller_status import AllocationStatus, ApiStatus, ControllerStatus
from allocsync.reconcile.status.explain import Explanation, FieldHistory, OpenUpdate
from allocsync.web.health import HealthResult
from allocsync.web.server import Pages, make_app, serve_web
from tests.support.recording_daemon import RecordingDaemon

SINCE = WallTime(1_795_435_450.218)  # 2026-11-23T12:04:10.218Z
HEALTHY = HealthResult(ok=True, reason="well")


def no_status() -> ControllerStatus:
    raise AssertionError("the page about one allocation needs no status")


@dataclass
class Daemon:
    """Gives the page a fixed explanation, and records which names were looked up."""

    explained: Explanation | NotFound = field(default_factory=lambda: NotFound("nothing here", ()))
    names: list[str] = field(default_factory=list)

    def explain(self, name: str) -> Explanation | NotFound:
        self.names.append(name)
        return self.explained


@pytest.fixture(name="daemon")
def _daemon() -> Daemon:
    return Daemon()


@pytest.fixture(name="client")
async def _client(daemon: Daemon) -> AsyncIterator[aiohttp.ClientSession]:
    pages = Pages(
        registry=CollectorRegistry(),
        status=no_status,
        api=ApiStatus,
        allocations=tuple,
        explain=daemon.explain,
        live=lambda: HEALTHY,
        ready=lambda: HEALTHY,
        rejection=lambda: None,
        files_read_at=lambda: None,
    )
    async with (
        serve_web("127.0.0.1:0", make_app(pages, RecordingDaemon().control())) as (host, port),
        aiohttp.ClientSession(f"http://{host}:{port}", timeout=aiohttp.ClientTimeout(30)) as session,
    ):
        yield session


async def test_an_explanation_has_the_documented_shape(daemon: Daemon, client: aiohttp.ClientSession) -> None:
    changes = (Change("region", NumberLiteral("1.10"), "b"), Change("version", None, "2"))
    daemon.explained = Explanation(
        status=AllocationStatus(
            AllocationId("00000001"), Condition.OUTCOME_UNKNOWN, "because", SINCE, SINCE + 10
        ),
        source="a.yaml:3",
        mode=Mode.ENFORCE,
        desired=(("region", "b"), ("version", "2")),
        problems=(),
        differences=changes,
        observed_at=SINCE - 1,
        answer_age_seconds=43.4,
        missing=False,
        last_error="504",
        read_failures=0,
        write_failures=2,
        no_update_before=None,
        open_update=OpenUpdate(changes=changes, unknown_since=SINCE, settles_at=SINCE + 10),
        fields=(
            FieldHistory(
                field="region",
                ignored_since=None,
                in_conflict=True,
                next_attempt_at=SINCE + 300,
                changed_back_at=(SINCE - 60, SINCE),
                another_writer=True,
            ),
        ),
    )
    expected_changes = [
        {"field": "region", "live": '{"number": "1.10"}', "desired": "b"},
        {"field": "version", "live": None, "desired": "2"},
    ]
    async with client.get("/api/v1/allocations/00000001") as answer:
        assert answer.status == 200
        assert await answer.json() == {
            "schema": 1,
            "id": "00000001",
            "condition": "OutcomeUnknown",
            "reason": "because",
            "since": "2026-11-23T12:04:10.218Z",
            "confirmed_at": None,
            "next_read_at": "2026-11-23T12:04:20.218Z",
            "waits_for": "",
            "paused": None,
            "declaration": "",
            "needs_person": False,
            "advice": "",
            "source": "a.yaml:3",
            "mode": "enforce",
            "problems": [],
            "desired": {"region": "b", "version": "2"},
            "differences": expected_changes,
            "canary": False,
            "observed_at": "2026-11-23T12:04:09.218Z",
            "answer_age_seconds": 43,
            "missing": False,
            "last_error": "504",
            "read_failures": 0,
            "write_failures": 2,
            "no_update_before": None,
            "fields": [
                {
                    "field": "region",
                    "ignored_since": None,
                    "in_conflict": True,
                    "next_attempt_at": "2026-11-23T12:09:10.218Z",
                    "changed_back_at": ["2026-11-23T12:03:10.218Z", "2026-11-23T12:04:10.218Z"],
                    "another_writer": True,
                }
            ],
            "open_update": {
                "changes": expected_changes,
                "unknown_since": "2026-11-23T12:04:10.218Z",
                "settles_at": "2026-11-23T12:04:20.218Z",
            },
            "api": {
                "reachable": None,
                "since": None,
                "reason": "",
                "last_confirmed_at": None,
                "next_attempt_at": None,
            },
            "rejected": None,
        }


async def test_an_unknown_allocation_answers_404_with_the_reason_and_suggestions(
    daemon: Daemon, client: aiohttp.ClientSession
) -> None:
    daemon.explained = NotFound("x matches 2 allocations", (AllocationId("x1"), AllocationId("x2")))
    async with client.get("/api/v1/allocations/x") as answer:
        assert answer.status == 404
        assert answer.headers["Cache-Control"] == "no-store"
        assert await answer.json() == {
            "schema": 1,
            "error": "x matches 2 allocations",
            "suggestions": ["x1", "x2"],
        }


@pytest.mark.parametrize("name", ["a/b", "a%2Fb", "é", "a?b#c", "..", "a+b", "%", "a&b=c;d"])
async def test_an_id_with_any_characters_is_passed_on_unchanged(
    daemon: Daemon, client: aiohttp.ClientSession, name: str
) -> None:
    url = URL(f"/api/v1/allocations/{quote(name, safe='').replace('.', '%2E')}", encoded=True)
    async with client.get(url):
        assert daemon.names == [name]
