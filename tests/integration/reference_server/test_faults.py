"""Each fault: that it fired, what the client got, and what the clouds are afterwards."""

import asyncio
import time
from collections.abc import Mapping

import aiohttp
import pytest
from yarl import URL

from allocsync.api import json_codec
from allocsync.model.cloud import field_value
from allocsync.reference_server import ReferenceServer
from tests.integration.reference_server.conftest import CLOUDS, ID

BODY = json_codec.dumps({**CLOUDS[0], "region": "mars"})


async def post(http: aiohttp.ClientSession, server: ReferenceServer) -> int | str:
    try:
        async with http.post(f"{server.url}/allocation/update", data=BODY) as answer:
            await answer.read()
            return answer.status
    except aiohttp.ClientError:
        return "reset"


def region(server: ReferenceServer) -> object:
    return server.clouds[ID]["region"]


@pytest.mark.parametrize(
    ("kind", "seen", "applied"),
    [
        ("timeout_before", 504, False),
        ("timeout_after", 504, True),
        ("reset_before", "reset", False),
        ("reset_after", "reset", True),
    ],
)
async def test_a_timeout_or_reset_applies_an_update_exactly_as_its_name_says(
    server: ReferenceServer, http: aiohttp.ClientSession, kind: str, seen: int | str, *, applied: bool
) -> None:
    server.set_faults({"update": {kind: 1}})
    assert await post(http, server) == seen
    assert server.fired == {f"update.{kind}": 1}
    assert (region(server) == "mars") == applied
    record = next(row for row in server.records if row["op"] == "update")
    assert record["answer"] == seen
    assert (record["applied_at"] is not None) == applied


async def test_a_late_update_is_applied_after_its_504(
    server: ReferenceServer, http: aiohttp.ClientSession
) -> None:
    server.set_faults({"update": {"timeout_late": 1, "late_seconds": 0.3}})
    begun = time.monotonic()
    assert await post(http, server) == 504
    assert region(server) != "mars"
    assert not [row for row in server.records if row["op"] == "update"]
    async with asyncio.timeout(10):
        while region(server) != "mars":
            await asyncio.sleep(0.01)
    assert time.monotonic() - begun >= 0.3
    record = next(row for row in server.records if row["op"] == "update")
    assert record["applied_at"] > record["answered_at"]
    assert server.fired == {"update.timeout_late": 1}


async def test_a_late_update_is_never_applied_after_the_server_stops() -> None:
    async with (
        ReferenceServer.start(CLOUDS, faults={"update": {"timeout_late": 1, "late_seconds": 60}}) as server,
        aiohttp.ClientSession() as http,
    ):
        assert await post(http, server) == 504
    (record,) = server.records
    assert record["applied_at"] is None
    assert region(server) != "mars"


@pytest.mark.parametrize(("operation", "path"), [("snapshot", f"/allocation/{ID}"), ("list", "/allocations")])
async def test_reads_time_out_and_are_reset(
    server: ReferenceServer, http: aiohttp.ClientSession, operation: str, path: str
) -> None:
    server.set_faults({operation: {"timeout": 1}})
    async with http.get(server.url + path) as answer:
        assert answer.status == 504
    server.set_faults({operation: {"reset": 1}})
    with pytest.raises(aiohttp.ClientError):
        await http.get(server.url + path)
    assert server.fired[f"{operation}.timeout"] == 1
    assert server.fired[f"{operation}.reset"] >= 1  # aiohttp sends a read again by itself


async def test_latency_delays_the_response(server: ReferenceServer, http: aiohttp.ClientSession) -> None:
    server.set_faults({"snapshot": {"latency_seconds": [0.2, 0.25]}})
    begun = time.monotonic()
    async with http.get(f"{server.url}/allocation/{ID}") as answer:
        assert answer.status == 200
    assert time.monotonic() - begun >= 0.2


async def test_the_other_client_changes_a_field_until_it_is_removed_from_the_faults(
    server: ReferenceServer,
) -> None:
    server.set_faults({"writer": {"per_second": 200, "field": "region", "value": "elsewhere"}})
    async with asyncio.timeout(10):
        while not all(cloud["region"] == "elsewhere" for cloud in server.clouds.values()):
            await asyncio.sleep(0.01)
    server.set_faults({})
    assert [row for row in server.records if row["op"] == "writer"]
    record_count = len(server.records)
    await asyncio.sleep(0.1)  # time enough for twenty writes, none of which may happen
    assert len(server.records) == record_count


async def test_faults_are_set_read_and_cleared_over_http(
    server: ReferenceServer, http: aiohttp.ClientSession
) -> None:
    url = f"{server.url}/-/faults"
    async with http.put(url, json={"update": {"timeout_after": 1}}) as answer:
        assert answer.status == 200
    await post(http, server)
    async with http.get(url) as answer:
        assert await answer.json() == {"update": {"timeout_after": 1}, "fired": {"update.timeout_after": 1}}
    async with http.put(url, data=b"{") as answer:
        assert answer.status == 400
    async with http.put(url, json={"update": {"timeout_befor": 1}}) as answer:
        assert answer.status == 400
        assert "'timeout_befor'; allowed are timeout_before" in await answer.text()
    async with http.delete(url) as answer:
        assert "update" not in await answer.json()
    assert await post(http, server) == 200


async def test_the_other_client_skips_clouds_without_the_field(server: ReferenceServer) -> None:
    server.set_faults({"writer": {"per_second": 500, "field": "urls.vanity.url", "value": "null"}})
    async with asyncio.timeout(10):
        while sum(row["op"] == "writer" for row in server.records) < 2:
            await asyncio.sleep(0.01)
    vanities = [field_value(cloud, "urls.vanity") for cloud in server.clouds.values()]
    assert None in vanities
    assert {"url": "null"} not in vanities


async def test_the_client_gets_a_tcp_reset(server: ReferenceServer) -> None:
    server.set_faults({"update": {"reset_after": 1}})
    url = URL(server.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(b"POST /allocation/update HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(BODY))
    writer.write(BODY)
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert server.fired["update.reset_after"] == 1
    assert region(server) == "mars"


async def test_a_504_is_delayed_and_its_update_is_applied_before_the_delay(
    server: ReferenceServer, http: aiohttp.ClientSession
) -> None:
    server.set_faults({"update": {"timeout_after": 1, "timeout_seconds": 0.3}})
    assert await post(http, server) == 504
    record = next(row for row in server.records if row["op"] == "update")
    assert record["applied_at"] - record["received_at"] < 0.3 <= record["answered_at"] - record["received_at"]


async def test_a_late_update_overwrites_newer_changes(
    server: ReferenceServer, http: aiohttp.ClientSession
) -> None:
    server.set_faults({"update": {"timeout_late": 1, "late_seconds": 0.3}})
    assert await post(http, server) == 504
    server.set_faults({})
    newer = json_codec.dumps({**CLOUDS[0], "region": "venus", "version": "3"})
    async with http.post(f"{server.url}/allocation/update", data=newer) as answer:
        assert answer.status == 200
    async with asyncio.timeout(10):
        while region(server) != "mars":
            await asyncio.sleep(0.01)
    assert server.clouds[ID]["version"] == CLOUDS[0]["version"]
    updates = [row for row in server.records if row["op"] == "update"]
    assert [row["n"] for row in updates] == [2, 1]
    assert updates[1]["changed"] == {"region": ["venus", "mars"], "version": ["3", CLOUDS[0]["version"]]}


async def test_a_late_update_of_a_removed_cloud_is_never_applied(
    server: ReferenceServer, http: aiohttp.ClientSession
) -> None:
    server.set_faults({"update": {"timeout_late": 1, "late_seconds": 0.1}})
    assert await post(http, server) == 504
    server.remove(ID)
    async with asyncio.timeout(10):
        while not any(row["op"] == "update" for row in server.records):
            await asyncio.sleep(0.01)
    assert server.records[-1]["applied_at"] is None
    assert ID not in server.clouds


async def test_an_update_in_flight_when_the_server_stops_is_logged_without_a_response() -> None:
    faults = {"update": {"latency_seconds": 60}}
    async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
        async with ReferenceServer.start(CLOUDS, faults=faults) as server:
            asked = group.create_task(post(http, server))
            async with asyncio.timeout(10):
                while not server.fired["update.latency_seconds"]:
                    await asyncio.sleep(0.01)
        assert await asked == "reset"
    (record,) = server.records
    assert (record["answer"], record["applied_at"]) == ("reset", None)
    assert region(server) != "mars"


async def test_an_invalid_body_meets_faults_and_nothing_is_applied(
    server: ReferenceServer, http: aiohttp.ClientSession
) -> None:
    server.set_faults({"update": {"timeout_after": 0.5, "timeout_late": 0.5}})
    for _ in range(8):
        async with http.post(f"{server.url}/allocation/update", data=b"{") as answer:
            assert answer.status == 504
    assert server.fired["update.timeout_after"] + server.fired["update.timeout_late"] == 8
    updates = [row for row in server.records if row["op"] == "update"]
    assert [(row["applied_at"], row["id"]) for row in updates] == [(None, None)] * 8


async def test_log_all_logs_every_fault(server: ReferenceServer, http: aiohttp.ClientSession) -> None:
    server.set_faults({"update": {"timeout_before": 1}, "snapshot": {"timeout": 1}, "list": {"timeout": 1}})
    await post(http, server)
    for path in (f"/allocation/{ID}", "/allocations"):
        async with http.get(server.url + path) as answer:
            assert answer.status == 504
    faults = [row for row in server.records if row["op"] == "fault"]
    assert [(row["kind"], row["id"], row["n"]) for row in faults] == [
        ("update.timeout_before", ID, 1),
        ("snapshot.timeout", ID, None),
        ("list.timeout", None, None),
    ]
    assert [row["op"] for row in server.records if row["op"] != "fault"] == ["update", "snapshot", "list"]
    assert {row["answer"] for row in server.records if row["op"] != "fault"} == {504}


@pytest.mark.parametrize(
    "faults",
    [
        {"seed": 4, "update": {"timeout_before": 1}},
        {"timeline": [{"seconds": 60, "update": {"timeout_before": 1}}]},
        {"timeline": [{"seconds": 60, "update": {"timeout_before": 1}}, {}]},
    ],
)
async def test_the_faults_that_a_get_returns_can_be_put_back(
    server: ReferenceServer, http: aiohttp.ClientSession, faults: Mapping[str, object]
) -> None:
    url = f"{server.url}/-/faults"
    server.set_faults(faults)
    await post(http, server)
    async with http.get(url) as answer:
        shown = await answer.text()
    async with http.put(url, data=shown) as answer:
        assert await answer.text() == shown


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"\xff", b"[" * 10_000, b'{"seed": NaN}', b'{"seed": 1' + b"0" * 9_000 + b"}"]
)
async def test_an_invalid_fault_configuration_is_400_and_changes_nothing(
    server: ReferenceServer, http: aiohttp.ClientSession, body: bytes
) -> None:
    server.set_faults({"update": {"timeout_before": 1}})
    async with http.put(f"{server.url}/-/faults", data=body) as answer:
        assert (answer.status, answer.content_type) == (400, "text/plain")
        assert len((await answer.text()).splitlines()) == 1
    assert await post(http, server) == 504
