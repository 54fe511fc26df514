"""Every fault of the reference server, met by the client: what it makes of it, and that it was there."""

from collections.abc import AsyncIterator

import pytest

from allocsync.errors import BulkUnavailable
from allocsync.model.api_answers import Accepted, Failed, OutcomeUnknown, Rejected, UpdateAnswer
from allocsync.model.ids import AllocationId
from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.faults import FAULTS
from allocsync.reference_server.sample import sample_clouds
from tests.integration.api.conftest import client_of

CLOUDS = sample_clouds(3, 5)
ID = AllocationId(str(CLOUDS[0]["id"]))
SLOW = {"drip_seconds": 0.2}  # a cloud has some five hundred bytes: far more than the deadline

UPDATES: dict[str, type[UpdateAnswer]] = {
    "timeout_before": OutcomeUnknown,
    "timeout_after": OutcomeUnknown,
    "timeout_late": OutcomeUnknown,
    "timeout_partly": OutcomeUnknown,
    "reset_before": OutcomeUnknown,
    "reset_after": OutcomeUnknown,
    "500": OutcomeUnknown,
    "502": OutcomeUnknown,
    "503": OutcomeUnknown,
    "401": Rejected,
    "423": Rejected,
    "429": Rejected,
    "202": Accepted,
    "204": OutcomeUnknown,
    "302": OutcomeUnknown,
    "307": OutcomeUnknown,
    "partly": Accepted,
    "cut_off": OutcomeUnknown,
    "drip": OutcomeUnknown,
    "html": OutcomeUnknown,
    "wrong_id": OutcomeUnknown,
}
APPLIED: dict[str, set[bool]] = {  # whether the update can have been applied when the answer is there
    **{name: {True} for name in ("timeout_after", "reset_after", "partly", "timeout_partly")},
    **{name: {True, False} for name in ("500", "502", "503", "204", "cut_off", "drip", "html", "wrong_id")},
}


@pytest.fixture
async def server() -> AsyncIterator[ReferenceServer]:
    async with ReferenceServer.start(CLOUDS, log_all=True) as running:
        yield running


def names(operation: str) -> list[str]:
    return [fault.name for fault in FAULTS if operation in fault.operations]


def test_every_fault_of_updates_has_an_expectation() -> None:
    assert set(UPDATES) == set(names("update"))


@pytest.mark.parametrize("applied", [0, 1], ids=["not applied", "applied"])
@pytest.mark.parametrize("fault", names("update"))
async def test_an_update_is_called_what_it_may_have_become(
    server: ReferenceServer, fault: str, applied: int
) -> None:
    server.set_faults({"update": {fault: 1, "applied": applied, "late_seconds": 60, **SLOW}})
    async with client_of(server.url, post_seconds=0.5) as client:
        answer = await client.update(ID, {**CLOUDS[0], "region": "mars"})
    assert type(answer) is UPDATES[fault]
    assert server.fired == {f"update.{fault}": 1}, "each request is counted: it was sent once"
    happened = server.clouds[ID]["region"] == "mars"
    assert happened in APPLIED.get(fault, {False})
    if APPLIED.get(fault) == {True, False}:
        assert happened == bool(applied)
    assert not (happened and isinstance(answer, Rejected))


@pytest.mark.parametrize("fault", names("snapshot"))
async def test_a_read_that_meets_a_fault_teaches_nothing(server: ReferenceServer, fault: str) -> None:
    server.set_faults({"snapshot": {fault: 1, **SLOW}})
    async with client_of(server.url, get_seconds=0.5) as client:
        answer = await client.snapshot(ID)
    assert isinstance(answer, Failed)
    assert answer.reason
    assert server.fired[f"snapshot.{fault}"] >= 1


@pytest.mark.parametrize("fault", names("list"))
async def test_a_list_that_meets_a_fault_is_not_taken_for_the_truth(
    server: ReferenceServer, fault: str
) -> None:
    server.set_faults({"list": {fault: 1, **SLOW}})
    async with client_of(server.url, list_seconds=0.5) as client:
        with pytest.raises(BulkUnavailable):
            [cloud async for cloud in client.list()]
    assert server.fired[f"list.{fault}"] >= 1


@pytest.mark.parametrize("operation", ["update", "snapshot"])
async def test_a_drip_within_the_deadline_is_an_answer_like_any_other(
    server: ReferenceServer, operation: str
) -> None:
    server.set_faults({operation: {"drip": 1}})
    async with client_of(server.url) as client:
        if operation == "update":
            assert isinstance(await client.update(ID, CLOUDS[0]), Accepted)
        else:
            assert not isinstance(await client.snapshot(ID), Failed)
    assert server.fired[f"{operation}.drip"] == 1


@pytest.mark.parametrize(
    ("knob", "low", "high"),
    [
        ({"retry_after": 7}, 7.0, 7.0),
        ({"retry_after": "999999999"}, 999_999_999.0, 999_999_999.0),
        ({"retry_after_date_seconds": 30}, 28.0, 31.0),
        ({"retry_after_date_seconds": -30}, None, None),
        ({"retry_after": "soon"}, None, None),
    ],
)
async def test_what_the_server_asks_to_wait_is_read_as_it_is_meant(
    server: ReferenceServer, knob: dict[str, object], low: float | None, high: float | None
) -> None:
    server.set_faults({"update": {"429": 1, **knob}})
    async with client_of(server.url) as client:
        answer = await client.update(ID, CLOUDS[0])
    assert isinstance(answer, Rejected)
    assert not answer.terminal
    after = answer.retry_after_seconds
    assert after is None if low is None or high is None else after is not None and low <= after <= high
    assert server.fired == {"update.429": 1}


async def test_a_redirect_is_not_followed_by_anything(server: ReferenceServer) -> None:
    server.set_faults({"all": {"302": 0.5, "307": 0.5}})
    async with client_of(server.url) as client:
        await client.update(ID, CLOUDS[0])
        answer = await client.snapshot(ID)
    assert isinstance(answer, Failed)
    assert "redirects are never followed" in answer.reason
    assert [record["op"] for record in server.records if record["op"] != "fault"] == ["update", "snapshot"]
