"""The responses of the reference server, field by field and against an independent schema."""

import asyncio
import io
import json
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from yarl import URL

from allocsync.api import json_codec
from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.clouds import difference, with_change
from allocsync.reference_server.sample import sample_clouds
from tests.integration.reference_server.conftest import CLOUDS, ID, valid


async def snapshot(http: aiohttp.ClientSession, server: ReferenceServer, key: str = ID) -> Any:  # noqa: ANN401 - JSON
    async with http.get(f"{server.url}/allocation/{key}") as answer:
        assert answer.status == 200
        assert answer.content_type == "application/json"
        return valid(json.loads(await answer.read()))


async def post(http: aiohttp.ClientSession, server: ReferenceServer, body: object) -> tuple[int, str]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with http.post(f"{server.url}/allocation/update", data=data) as answer:
        return answer.status, await answer.text()


async def test_a_read_returns_the_object_unchanged(
    server: ReferenceServer, http: aiohttp.ClientSession
) -> None:
    async with http.get(f"{server.url}/allocation/{ID}", headers={"Accept": "text/html"}) as answer:
        assert await answer.read() == json_codec.dumps(CLOUDS[0])
    async with http.get(f"{server.url}//allocation/{ID}") as answer:
        assert answer.status == 200


async def test_a_read_of_a_missing_cloud_is_410_in_plain_text(
    server: ReferenceServer, http: aiohttp.ClientSession
) -> None:
    server.remove(ID)
    for key in (ID, "nobody", "a%2Fb%20c"):
        async with http.get(f"{server.url}/allocation/{key}") as answer:
            assert (answer.status, answer.content_type) == (410, "text/plain")
            assert await answer.text() == "Cloud not found."


async def test_the_list_contains_all_clouds(server: ReferenceServer, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{server.url}/allocations") as answer:
        rows = json.loads(await answer.read())["iterable"]
    assert [valid(row)["id"] for row in rows] == [cloud["id"] for cloud in CLOUDS]


async def test_an_update_replaces_the_object_and_changes_updated(
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
    assert after["flags"] is None  # a null in a field that is unknown to the API is kept
    assert after["updated"]["value"] not in ("never", before["updated"]["value"])
    assert after["schema"] == before["schema"]


async def test_an_update_without_changes_does_not_change_updated(
    server: ReferenceServer, http: aiohttp.ClientSession
) -> None:
    before = await snapshot(http, server)
    assert (await post(http, server, json_codec.dumps(CLOUDS[0])))[0] == 200
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
        json_codec.dumps({**CLOUDS[0], "id": "nobody"}),
        json_codec.dumps({**CLOUDS[0], "urls": {}}),
        json_codec.dumps({**CLOUDS[0], "status": None}),
        b'{"a":"' + b"x" * 1_100_000 + b'"}',
    ],
    ids=["none", "cut", "list", "null", "number", "bare", "unknown", "no urls", "no status", "too large"],
)
async def test_an_invalid_body_is_500_in_plain_text_and_changes_nothing(
    server: ReferenceServer, http: aiohttp.ClientSession, body: bytes
) -> None:
    before = dict(server.clouds)
    async with http.post(f"{server.url}/allocation/update", data=io.BytesIO(body)) as answer:
        assert (answer.status, answer.content_type) == (500, "text/plain")
        assert (await answer.text()).startswith("Internal Server Error: ")
    assert dict(server.clouds) == before
    (record,) = [row for row in server.records if row["op"] == "update"]
    assert (record["answer"], record["applied_at"]) == (500, None)


async def test_an_update_of_a_removed_cloud_is_500(
    server: ReferenceServer, http: aiohttp.ClientSession
) -> None:
    server.remove(ID)
    assert (await post(http, server, json_codec.dumps(CLOUDS[0])))[0] == 500
    assert ID not in server.clouds


async def test_health_and_version_are_answered_and_an_unknown_route_is_404(
    server: ReferenceServer, http: aiohttp.ClientSession
) -> None:
    responses = {}
    for path in ("/.well-known/health", "/.well-known/version", "/allocation"):
        async with http.get(server.url + path) as answer:
            responses[path] = (answer.status, await answer.text())
    assert responses["/.well-known/health"][1].startswith("ok:")
    assert responses["/.well-known/version"][0] == 200
    assert responses["/allocation"] == (404, "Route not found")


async def test_the_clouds_can_be_rebuilt_from_the_log(
    server: ReferenceServer, http: aiohttp.ClientSession
) -> None:
    for value in ("a", "b", "b", "c"):
        body: Any = {**server.clouds[ID], "region": value, "new": {"deep": value}}
        assert (await post(http, server, json_codec.dumps(body)))[0] == 200
    server.set_field(ID, "urls.base.url", "null.pieces.cloud")
    build_aborts: Any = CLOUDS[0]
    for record in server.records:
        for name, (_, after) in record.get("changed", {}).items():
            build_aborts = with_change(build_aborts, name, after)
    assert difference(build_aborts, server.clouds[ID]) == {}
    changed = [row["changed"] for row in server.records if row["op"] in ("update", "writer")]
    assert changed[0]["new"] == [None, {"deep": "a"}]
    assert changed[1] == {"region": ["a", "b"], "new": [{"deep": "a"}, {"deep": "b"}]}
    assert changed[2] == {}
    assert list(changed[4]) == ["urls.base.url"]


@pytest.mark.parametrize("key", ["a/b c", "100%", "a%2Fb", "{x}", "ü", "?#&+", "...", "update", "[::1]"])
async def test_an_id_may_be_any_text(http: aiohttp.ClientSession, key: str) -> None:
    async with ReferenceServer.start([{**CLOUDS[0], "id": key}]) as server:
        url = URL(f"{server.url}/allocation/{quote(key, safe='')}", encoded=True)
        async with http.get(url) as answer:
            assert answer.status == 200
            assert json.loads(await answer.read())["id"] == key
        assert (await post(http, server, json_codec.dumps({**CLOUDS[0], "id": key, "region": "mars"})))[
            0
        ] == 200
        assert server.clouds[key]["region"] == "mars"


@pytest.mark.parametrize(
    "path", ["region", "version", "updated", "schema", "urls.vanity", "urls.schema", "status.schema"]
)
async def test_an_explicit_null_for_an_optional_field_counts_as_absent(
    server: ReferenceServer, http: aiohttp.ClientSession, path: str
) -> None:
    body = json.loads(json_codec.dumps(CLOUDS[1]).replace(b"1e400", b"1"))
    parent, _, name = path.rpartition(".")
    (body[parent] if parent else body)[name] = None
    status, text = await post(http, server, body)
    assert status == 200
    after = valid(json.loads(text))
    assert path in ("updated", "schema") or name not in (after[parent] if parent else after)
    assert ("updated" in after, "schema" in after) == (True, True)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("region", 1, "region must be a string"),
        ("urls.base.url", None, "urls.base.url must be a string"),
        ("urls.vanity", {"url": "mark.pieces.cloud"}, "urls.vanity.status must be one of PENDING"),
        ("urls.vanity", "mark.pieces.cloud", "urls.vanity.url must be a string"),
        ("status.cloud", "RUNING", "status.cloud must be one of PENDING"),
        ("status.schema", {"migration": 1.5, "semantic": "x"}, "status.schema needs migration"),
    ],
)
async def test_an_update_that_violates_the_schema_is_not_applied(
    server: ReferenceServer, http: aiohttp.ClientSession, path: str, value: object, message: str
) -> None:
    holder = body = json.loads(json_codec.dumps(CLOUDS[1]).replace(b"1e400", b"1"))
    *parents, name = path.split(".")
    for parent in parents:
        holder = holder[parent]
    holder[name] = value
    status, text = await post(http, server, body)
    assert status == 500
    assert message in text
    assert server.clouds[str(CLOUDS[1]["id"])] == CLOUDS[1]


async def test_an_unknown_status_is_accepted_if_the_seed_has_it(http: aiohttp.ClientSession) -> None:
    cloud = {**CLOUDS[0], "status": {"cloud": "MIGRATING"}}
    async with ReferenceServer.start([cloud]) as server:
        assert (await post(http, server, json_codec.dumps({**cloud, "region": "mars"})))[0] == 200
        assert server.clouds[ID]["status"] == {"cloud": "MIGRATING"}


async def test_numbers_are_stored_and_returned_as_literals(
    server: ReferenceServer, http: aiohttp.ClientSession
) -> None:
    literals = b'"x":[1e400,1.10,-0,0.1e-7,123456789012345678901234567890]'
    status, text = await post(http, server, json_codec.dumps(CLOUDS[0])[:-1] + b"," + literals + b"}")
    assert status == 200
    assert literals.decode() in text
    async with http.get(f"{server.url}/allocation/{ID}") as answer:
        assert literals in await answer.read()


async def test_a_base_url_that_ends_with_a_slash_reaches_every_route(
    server: ReferenceServer, http: aiohttp.ClientSession
) -> None:
    for path in (f"/allocation/{ID}", "/allocations", "/.well-known/health", "/.well-known/version"):
        async with http.get(f"{server.url}/{path}") as answer:
            assert answer.status == 200, path
    async with http.post(f"{server.url}//allocation/update", data=json_codec.dumps(CLOUDS[0])) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", f"/allocation/{ID}"), ("DELETE", "/allocations"), ("GET", f"/allocation/{ID}/x"), ("GET", "/")],
)
async def test_another_route_is_404_in_plain_text(
    server: ReferenceServer, http: aiohttp.ClientSession, method: str, path: str
) -> None:
    async with http.request(method, server.url + path) as answer:
        assert (answer.status, answer.content_type) == (404, "text/plain")
        assert await answer.text() == "Route not found"


async def test_a_truncated_request_is_logged_and_the_server_keeps_running(
    server: ReferenceServer, http: aiohttp.ClientSession
) -> None:
    url = URL(server.url)
    _, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(b"POST /allocation/update HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    async with asyncio.timeout(10):
        while not server.records:
            await asyncio.sleep(0.01)
    (record,) = server.records
    assert (record["applied_at"], record["answer"]) == (None, "reset")
    assert (await snapshot(http, server))["id"] == ID


async def test_a_large_list_is_consistent_and_does_not_delay_other_requests(
    http: aiohttp.ClientSession,
) -> None:
    clouds = sample_clouds(5_000, 3)
    key = str(clouds[-1]["id"])
    async with ReferenceServer.start(clouds) as server:
        async with http.get(f"{server.url}/allocations") as answer:
            head = await answer.content.readexactly(20)
            server.set_field(key, "region", "mars")
            rows = json.loads(head + await answer.read())["iterable"]
        assert len(rows) == len(clouds)
        assert rows[-1]["region"] in (clouds[-1]["region"], "mars")
        assert (await snapshot(http, server, key))["region"] == "mars"


async def test_a_thousand_concurrent_reads_are_answered(
    server: ReferenceServer, http: aiohttp.ClientSession
) -> None:
    async with asyncio.TaskGroup() as group:
        reads = [group.create_task(snapshot(http, server)) for _ in range(1_000)]
    assert all(read.result()["id"] == ID for read in reads)
