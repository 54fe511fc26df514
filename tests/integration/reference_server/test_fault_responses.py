"""Fault responses as a plain HTTP client gets them: status, headers, body, and the clouds afterwards."""

import asyncio
import json
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from allocsync.api import json_codec
from allocsync.model.cloud import field_value
from allocsync.reference_server import ReferenceServer
from tests.integration.reference_server.conftest import CLOUDS, ID, valid

Http = aiohttp.ClientSession
BODY = json_codec.dumps({**CLOUDS[0], "region": "mars", "version": "9"})


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def post(http: Http, server: ReferenceServer) -> aiohttp.ClientResponse:
    answer = await http.post(f"{server.url}/allocation/update", data=BODY, allow_redirects=False)
    await answer.read()
    return answer


async def read_list(http: Http, server: ReferenceServer) -> list[Any]:
    async with http.get(f"{server.url}/allocations") as answer:
        rows = json.loads(await answer.text())["iterable"]
    assert isinstance(rows, list)
    return rows


@pytest.mark.parametrize("status", ["500", "502", "503", "400", "401", "423", "429"])
async def test_an_error_status_has_its_phrase_as_text_and_the_configured_retry_after(
    server: ReferenceServer, http: Http, status: str
) -> None:
    server.set_faults({"all": {status: 1, "retry_after": "86400", "applied": 0}})
    for answer in (await post(http, server), await http.get(f"{server.url}/allocations")):
        assert (answer.status, answer.content_type) == (int(status), "text/plain")
        assert answer.headers["Retry-After"] == "86400"
        assert await answer.text() == answer.reason
    assert server.clouds[ID] == CLOUDS[0]
    assert server.fired == {f"update.{status}": 1, f"list.{status}": 1}


async def test_a_retry_after_date_is_the_configured_seconds_from_now(
    server: ReferenceServer, http: Http
) -> None:
    server.set_faults({"update": {"503": 1, "retry_after_date_seconds": 60}})
    answer = await post(http, server)
    dates = [parsedate_to_datetime(answer.headers[name]) for name in ("Date", "Retry-After")]
    assert 58 <= (dates[1] - dates[0]).total_seconds() <= 61


@pytest.mark.parametrize("status", ["302", "307"])
async def test_a_redirect_leads_to_the_same_path(server: ReferenceServer, http: Http, status: str) -> None:
    server.set_faults({"update": {status: 1}})
    answer = await post(http, server)
    assert (answer.status, answer.headers["Location"]) == (int(status), "/allocation/update")
    assert server.clouds[ID] == CLOUDS[0]


async def test_204_202_html_and_wrong_id_respond_as_described(server: ReferenceServer, http: Http) -> None:
    server.set_faults({"update": {"204": 1, "applied": 1}})
    assert (await post(http, server)).status == 204
    assert server.clouds[ID]["region"] == "mars"
    server.set_faults({"update": {"202": 1, "late_seconds": 0.05}})
    server.set_field(ID, "region", "venus")
    assert (await post(http, server)).status == 202
    assert server.clouds[ID]["region"] == "venus"
    await eventually(lambda: server.clouds[ID]["region"] == "mars")
    server.set_faults({"snapshot": {"html": 0.5, "wrong_id": 0.5}})
    seen: set[str] = set()
    while len(seen) < 2:
        async with http.get(f"{server.url}/allocation/{ID}") as answer:
            assert answer.status == 200
            seen.add(answer.content_type)
            if answer.content_type == "application/json":
                assert valid(json.loads(await answer.text()))["id"] != ID
    assert seen == {"text/html", "application/json"}


async def test_a_cut_off_body_is_shorter_than_its_content_length(server: ReferenceServer, http: Http) -> None:
    server.set_faults({"snapshot": {"cut_off": 1}})
    async with http.get(f"{server.url}/allocation/{ID}") as answer:
        assert answer.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
    assert server.fired == {"snapshot.cut_off": 1}


async def test_a_dripping_response_is_complete_at_the_end(server: ReferenceServer, http: Http) -> None:
    server.set_faults({"snapshot": {"drip": 1}})
    async with http.get(f"{server.url}/allocation/{ID}") as answer:
        assert json_codec.loads(await answer.read()) == CLOUDS[0]


@pytest.mark.parametrize("fault", ["partly", "timeout_partly"])
async def test_a_partial_update_applies_only_every_other_field(
    server: ReferenceServer, http: Http, fault: str
) -> None:
    server.set_faults({"update": {fault: 1}})
    await post(http, server)
    now = server.clouds[ID]
    assert (now["region"] == "mars") != (now["version"] == "9")
    assert set(server.records[-1]["changed"]) in ({"region"}, {"version"})
    assert server.fired == {f"update.{fault}": 1}


async def test_an_ignored_field_is_echoed_but_not_changed(server: ReferenceServer, http: Http) -> None:
    server.set_faults({"update": {"ignores": ["region"]}})
    answer = await post(http, server)
    assert (answer.status, json.loads(await answer.text())["region"]) == (200, "mars")
    assert server.clouds[ID]["region"] == CLOUDS[0]["region"]
    assert server.clouds[ID]["version"] == "9"
    assert server.fired == {"update.ignores": 1}
    await post(http, server)
    assert server.fired == {"update.ignores": 2}


async def test_an_ignored_field_of_a_new_url_drops_the_whole_url() -> None:
    urls = field_value(CLOUDS[0], "urls")
    assert isinstance(urls, dict)
    pair = {name: urls[name] for name in ("base", "id")}
    bare = {**CLOUDS[0], "urls": pair}
    body = {**CLOUDS[0], "urls": {**pair, "vanity": {"status": "RUNNING", "url": "v"}}}
    async with ReferenceServer.start([bare], faults={"update": {"ignores": ["urls.vanity.url"]}}) as server:
        async with (
            Http() as http,
            http.post(f"{server.url}/allocation/update", data=json_codec.dumps(body)) as answer,
        ):
            assert answer.status == 200
        assert field_value(server.clouds[ID], "urls.vanity.status") is None
        assert server.fired == {"update.ignores": 1}


async def test_a_list_omits_the_configured_share_of_clouds(server: ReferenceServer, http: Http) -> None:
    server.set_faults({"list": {"omits": 0.5}})
    lengths = [len(await read_list(http, server)) for _ in range(30)]
    assert min(lengths) < len(CLOUDS)
    assert sum(lengths) + server.fired["list.omits"] == 30 * len(CLOUDS)


async def test_a_stale_list_shows_outdated_clouds_until_its_age_is_reached(
    server: ReferenceServer, http: Http
) -> None:
    server.set_faults({"list": {"stale_seconds": 0.5}})
    await read_list(http, server)
    server.set_field(ID, "region", "mars")
    assert (await read_list(http, server))[0]["region"] == CLOUDS[0]["region"]
    assert server.fired == {"list.stale_seconds": 1}
    async with asyncio.timeout(10):
        while (await read_list(http, server))[0]["region"] != "mars":
            await asyncio.sleep(0.05)


async def test_ticks_change_updated_and_nothing_else(server: ReferenceServer) -> None:
    server.set_faults({"ticks_per_second": 200})
    await eventually(lambda: server.fired["ticks"] >= 10)
    server.set_faults({})
    assert any(server.clouds[str(cloud["id"])]["updated"] != cloud["updated"] for cloud in CLOUDS)
    for cloud in CLOUDS:
        assert {**server.clouds[str(cloud["id"])], "updated": 0} == {**cloud, "updated": 0}


async def test_the_other_client_restores_a_field_to_its_first_value(
    server: ReferenceServer, http: Http
) -> None:
    await post(http, server)
    assert server.clouds[ID]["region"] == "mars"
    server.set_faults({"writer": {"per_second": 200, "field": "region", "back": True}})
    await eventually(lambda: server.clouds[ID]["region"] == CLOUDS[0]["region"])
    assert server.fired["writer.write"] == 1, "only a field that differs is restored"
    assert server.clouds[ID]["version"] == "9"


async def test_a_timeline_runs_its_phases_in_order_and_stays_in_the_last(
    server: ReferenceServer, http: Http
) -> None:
    phases = [{"seconds": 0.2, "update": {"500": 1}}, {"seconds": 0.2, "update": {"503": 1}}, {}]
    async with http.put(f"{server.url}/-/faults", json={"timeline": phases}) as answer:
        assert answer.status == 200
    seen = []
    async with asyncio.timeout(10):
        while 200 not in seen:
            seen.append((await post(http, server)).status)
    assert sorted(set(seen)) == [200, 500, 503]
    assert seen == sorted(seen, key=[500, 503, 200].index)
    async with http.get(f"{server.url}/-/faults") as answer:
        shown = await answer.json()
    assert (shown["phase"], shown["timeline"]) == (2, phases)
    async with http.put(f"{server.url}/-/faults", json=shown) as answer:
        assert answer.status == 200
    assert (await post(http, server)).status == 500


async def test_a_failed_write_is_500_and_the_server_recovers(tmp_path: Path, http: Http) -> None:
    state = tmp_path / "there" / "state.json"
    state.parent.mkdir()
    async with ReferenceServer.start(CLOUDS, state=state) as server:
        state.unlink()
        state.parent.rmdir()
        assert (await post(http, server)).status == 500
        state.parent.mkdir()
        assert (await post(http, server)).status == 200
