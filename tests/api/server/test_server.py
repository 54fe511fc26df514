"""What the reference server answers, field by field; every answer passes a schema written on its own."""

import asyncio
import io
import json
from typing import Any

import aiohttp
import pytest

from allocsync.api import wire
from allocsync.api.server import ReferenceServer
from tests.api.server.conftest import CLOUDS, ID, valid


async def snapshot(http: aiohttp.ClientSession, server: ReferenceServer, key: str = ID) -> Any:  # noqa: ANN401 - JSON
    async with http.get(f"{server.url}/allocation/{key}") as answer:
        assert answer.status == 200
        assert answer.content_type == "application/json"
        return valid(json.loads(await answer.read()))


async def post(http: aiohttp.ClientSession, server: ReferenceServer, body: object) -> tuple[int, str]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with http.post(f"{server.url}/allocation/update", data=data) as answer:
        return answer.status, await answer.text()


async def test_a_snapshot_is_the_object_to_the_letter(
    server: ReferenceServer, http: aiohttp.ClientSession
) -> None:
    async with http.get(f"{server.url}/allocation/{ID}", headers={"Accept": "text/html"}) as answer:
        assert await answer.read() == wire.dumps(CLOUDS[0])
    async with http.get(f"{server.url}//allocation/{ID}") as answer:
        assert answer.status == 200


async def test_what_is_not_there_is_gone_in_plain_text(
    server: ReferenceServer, http: aiohttp.ClientSession
) -> None:
    server.remove(ID)
    for key in (ID, "nobody", "a%2Fb%20c"):
        async with http.get(f"{server.url}/allocation/{key}") as answer:
            assert (answer.status, answer.content_type) == (410, "text/plain")
            assert await answer.text() == "Cloud not found."


async def test_all_come_in_one_answer(server: ReferenceServer, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{server.url}/allocations") as answer:
        rows = json.loads(await answer.read())["iterable"]
    assert [valid(row)["id"] for row in rows] == [cloud["id"] for cloud in CLOUDS]


async def test_an_update_replaces_the_object_and_moves_updated(
    server: ReferenceServer, http: aiohttp.ClientSession
) -> None:
    before = await snapshot(http, server)
    body = {**before, "region": "mars", "extra": {"kept": 1}, "flags": None, "updated": {"value": "never"}}
    del body["billing"]
    status, text = await post(http, server, body)
    after = await snapshot(http, server)
    assert status == 200
    assert valid(json.loads(text)) == after
    assert (after["region"], after["extra"]) == ("mars", {"kept": 1})
    assert "billing" not in after
    assert "flags" not in after
    assert after["updated"]["value"] not in ("never", before["updated"]["value"])
    assert after["schema"] == before["schema"]


async def test_an_update_that_changes_nothing_leaves_updated_alone(
    server: ReferenceServer, http: aiohttp.ClientSession
) -> None:
    before = await snapshot(http, server)
    assert (await post(http, server, wire.dumps(CLOUDS[0])))[0] == 200
    assert await snapshot(http, server) == before
    assert server.records[-2]["changed"] == {}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"id": 1}',
        json.dumps({"id": ID}).encode(),
        wire.dumps({**CLOUDS[0], "id": "nobody"}),
        wire.dumps({**CLOUDS[0], "urls": {}}),
        wire.dumps({**CLOUDS[0], "status": None}),
        b'{"a":"' + b"x" * 1_100_000 + b'"}',
    ],
    ids=["none", "cut", "list", "null", "number", "bare", "unknown", "no urls", "no status", "too large"],
)
async def test_a_body_that_cannot_be_used_is_500_in_plain_text_and_changes_nothing(
    server: ReferenceServer, http: aiohttp.ClientSession, body: bytes
) -> None:
    before = dict(server.clouds)
    async with http.post(f"{server.url}/allocation/update", data=io.BytesIO(body)) as answer:
        assert (answer.status, answer.content_type) == (500, "text/plain")
        assert (await answer.text()).startswith("Internal Server Error: ")
    assert dict(server.clouds) == before
    (record,) = [row for row in server.records if row["op"] == "update"]
    assert (record["answer"], record["applied_at"]) == (500, None)


async def test_a_gone_cloud_takes_no_update(server: ReferenceServer, http: aiohttp.ClientSession) -> None:
    server.remove(ID)
    assert (await post(http, server, wire.dumps(CLOUDS[0])))[0] == 500
    assert ID not in server.clouds


async def test_health_version_and_an_unknown_route(
    server: ReferenceServer, http: aiohttp.ClientSession
) -> None:
    said = {}
    for path in ("/.well-known/health", "/.well-known/version", "/allocation"):
        async with http.get(server.url + path) as answer:
            said[path] = (answer.status, await answer.text())
    assert said["/.well-known/health"][1].startswith("ok:")
    assert said["/.well-known/version"][0] == 200
    assert said["/allocation"] == (404, "Route not found")


async def test_the_log_lets_the_truth_be_rebuilt(
    server: ReferenceServer, http: aiohttp.ClientSession
) -> None:
    for value in ("a", "b", "b", "c"):
        body: Any = {**server.clouds[ID], "region": value, "new": {"deep": value}}
        assert (await post(http, server, wire.dumps(body)))[0] == 200
    server.set_leaf(ID, "urls.base.url", "null.pieces.cloud")
    truth: dict[str, Any] = {}
    for record in server.records:
        for name, (before, after) in record.get("changed", {}).items():
            assert truth.get(name, before) == before
            truth[name] = after
    live = await snapshot(http, server)
    assert (truth["region"], truth["new.deep"]) == ("c", "c") == (live["region"], live["new"]["deep"])
    assert truth["new"] == {"deep": "a"}
    assert truth["urls.base.url"] == "null.pieces.cloud" == live["urls"]["base"]["url"]


async def test_a_thousand_at_once(server: ReferenceServer, http: aiohttp.ClientSession) -> None:
    async with asyncio.TaskGroup() as group:
        looks = [group.create_task(snapshot(http, server)) for _ in range(1_000)]
    assert all(look.result()["id"] == ID for look in looks)
