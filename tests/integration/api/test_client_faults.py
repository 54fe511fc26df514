"""The client against every fault of the reference server: its result, and that the fault fired."""

from collections.abc import AsyncIterator

import pytest

from allocsync.errors import BulkUnavailable
from allocsync.model.api_answers import (
    Accepted,
    Failed,
    OutcomeUnknown,
    Rejected,
    RejectionClass,
    UpdateAnswer,
)
from allocsync.model.ids import AllocationId
from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.faults import FAULTS
from allocsync.reference_server.sample import sample_clouds
from tests.integration.api.conftest import open_client

CLOUDS = sample_clouds(3, 5)
ID = AllocationId(str(CLOUDS[0]["id"]))
SLOW = {"drip_seconds": 0.2}  # about 500 bytes then take far longer than the deadline

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
    "400": Rejected,
    "401": Rejected,
    "409": Rejected,
    "422": Rejected,
    "425": Rejected,
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
APPLIED: dict[str, set[bool]] = {  # whether the update may be applied when the response arrives
    **{name: {True} for name in ("timeout_after", "reset_after", "partly", "timeout_partly")},
    **{name: {True, False} for name in ("500", "502", "503", "204", "cut_off", "drip", "html", "wrong_id")},
}


@pytest.fixture
async def server() -> AsyncIterator[ReferenceServer]:
    async with ReferenceServer.start(CLOUDS, log_all=True) as running:
        yield running


def fault_names(operation: str) -> list[str]:
    return [fault.name for fault in FAULTS if operation in fault.operations]


def test_every_fault_of_updates_has_an_expected_outcome() -> None:
    assert set(UPDATES) == set(fault_names("update"))


@pytest.mark.parametrize("applied", [0, 1], ids=["not applied", "applied"])
@pytest.mark.parametrize("fault", fault_names("update"))
async def test_an_update_that_may_have_been_applied_is_never_rejected_or_not_sent(
    server: ReferenceServer, fault: str, applied: int
) -> None:
    server.set_faults({"update": {fault: 1, "applied": applied, "late_seconds": 60, **SLOW}})
    async with open_client(server.url, post_seconds=0.5) as client:
        answer = await client.update(ID, {**CLOUDS[0], "region": "mars"})
    assert type(answer) is UPDATES[fault]
    assert server.fired == {f"update.{fault}": 1}, "every request is counted, so the update was sent once"
    happened = server.clouds[ID]["region"] == "mars"
    assert happened in APPLIED.get(fault, {False})
    if APPLIED.get(fault) == {True, False}:
        assert happened == bool(applied)
    assert not (happened and isinstance(answer, Rejected))


@pytest.mark.parametrize("fault", fault_names("snapshot"))
async def test_a_read_that_meets_a_fault_fails(server: ReferenceServer, fault: str) -> None:
    server.set_faults({"snapshot": {fault: 1, **SLOW}})
    async with open_client(server.url, get_seconds=0.5) as client:
        answer = await client.snapshot(ID)
    assert isinstance(answer, Failed)
    assert answer.reason
    assert server.fired[f"snapshot.{fault}"] >= 1


@pytest.mark.parametrize("fault", fault_names("list"))
async def test_a_list_that_meets_a_fault_is_unavailable(server: ReferenceServer, fault: str) -> None:
    server.set_faults({"list": {fault: 1, **SLOW}})
    async with open_client(server.url, list_seconds=0.5) as client:
        with pytest.raises(BulkUnavailable):
            [listed async for listed in client.list()]
    assert server.fired[f"list.{fault}"] >= 1


@pytest.mark.parametrize("operation", ["update", "snapshot"])
async def test_a_slow_response_within_the_deadline_is_used(server: ReferenceServer, operation: str) -> None:
    server.set_faults({operation: {"drip": 1}})
    async with open_client(server.url) as client:
        if operation == "update":
            assert isinstance(await client.update(ID, CLOUDS[0]), Accepted)
        else:
            assert not isinstance(await client.snapshot(ID), Failed)
    assert server.fired[f"{operation}.drip"] == 1


@pytest.mark.parametrize(
    ("retry_after", "low", "high"),
    [
        ({"retry_after": 7}, 7.0, 7.0),
        ({"retry_after": "999999999"}, 999_999_999.0, 999_999_999.0),
        ({"retry_after_date_seconds": 30}, 28.0, 31.0),
        ({"retry_after_date_seconds": -30}, None, None),
        ({"retry_after": "soon"}, None, None),
    ],
)
async def test_retry_after_is_read_as_seconds_or_as_a_date(
    server: ReferenceServer, retry_after: dict[str, object], low: float | None, high: float | None
) -> None:
    server.set_faults({"update": {"429": 1, **retry_after}})
    async with open_client(server.url) as client:
        answer = await client.update(ID, CLOUDS[0])
    assert isinstance(answer, Rejected)
    assert answer.kind is RejectionClass.NOT_NOW
    after = answer.retry_after_seconds
    assert after is None if low is None or high is None else after is not None and low <= after <= high
    assert server.fired == {"update.429": 1}


async def test_no_redirect_is_followed(server: ReferenceServer) -> None:
    server.set_faults({"all": {"302": 0.5, "307": 0.5}})
    async with open_client(server.url) as client:
        await client.update(ID, CLOUDS[0])
        answer = await client.snapshot(ID)
    assert isinstance(answer, Failed)
    assert "redirects are never followed" in answer.reason
    assert [record["op"] for record in server.records if record["op"] != "fault"] == ["update", "snapshot"]
