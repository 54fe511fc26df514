"""The official SDK as a client: both operations, and each documented status."""

import asyncio
import copy
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pieces_os_client.api.allocation_api import AllocationApi
from pieces_os_client.api_client import ApiClient
from pieces_os_client.configuration import Configuration
from pieces_os_client.exceptions import ApiException
from pieces_os_client.models.allocation_cloud import AllocationCloud

from allocsync.api import json_codec
from allocsync.api.client import AllocationClient
from allocsync.model.cloud import Cloud, NumberLiteral
from allocsync.model.desired_state import Desired, Revision
from allocsync.model.ids import AllocationId
from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from allocsync.runtime.clock import SystemClock
from allocsync.runtime.wiring import build_controller, open_journal
from allocsync.settings.model import Settings
from tests.integration.reference_server.conftest import CLOUDS, ID


def call_sdk(url: str, call: Any) -> Any:  # noqa: ANN401 - whatever the SDK answers
    """Call the SDK with a client of its own, and close its connections afterwards."""
    with ApiClient(Configuration(host=url)) as client:
        try:
            return call(AllocationApi(client))
        finally:
            client.rest_client.pool_manager.clear()


async def run_in_sdk(server: ReferenceServer, call: Any) -> Any:  # noqa: ANN401 - likewise
    return await asyncio.to_thread(call_sdk, server.url, call)


async def test_the_sdk_reads_every_sample(server: ReferenceServer) -> None:
    for cloud in CLOUDS:
        read = await run_in_sdk(server, lambda api, key=cloud["id"]: api.allocation_snapshot(key))
        assert (read.id, read.version, read.urls.id.url) == (
            cloud["id"],
            cloud["version"],
            cloud["urls"]["id"]["url"],  # type: ignore[index,call-overload]  # samples have these fields
        )
        assert read.updated.value.year == 2026


async def test_the_sdk_gets_410_for_a_missing_cloud(server: ReferenceServer) -> None:
    with pytest.raises(ApiException) as caught:
        await run_in_sdk(server, lambda api: api.allocation_snapshot("nobody/at home"))
    assert caught.value.status == 410
    assert caught.value.body == "Cloud not found."


SCHEMA: Cloud = {"migration": NumberLiteral("7"), "semantic": "MAJOR_0_MINOR_0_PATCH_1"}
URL: Cloud = {"status": "RUNNING", "url": "base.a.run.app"}
BARE: Cloud = {
    "id": "a/b c",
    "user": "u",
    "project": "p",
    "status": {"cloud": "FAILED"},
    "urls": {"base": URL, "id": URL},
}
SHAPES: dict[str, Cloud] = {
    "bare": BARE,
    "full": {
        **BARE,
        "region": "us-central1",
        "version": "1.10",
        "schema": SCHEMA,
        "status": {"cloud": "SUCCEEDED", "schema": SCHEMA},
        "urls": {"base": {**URL, "schema": SCHEMA}, "id": URL, "vanity": URL, "schema": SCHEMA},
        "updated": {"value": "2026-01-02T03:04:05.678Z", "readable": "Last week", "schema": SCHEMA},
    },
    "disconnected": {**BARE, "status": {"cloud": "DISCONNECTED"}},
    "nulls": {**BARE, "region": None, "version": None, "updated": None, "schema": None},
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_the_sdk_reads_and_updates_every_shape_of_a_cloud(shape: str) -> None:
    cloud = SHAPES[shape]
    async with ReferenceServer.start([cloud]) as server:
        read = await run_in_sdk(server, lambda api: api.allocation_snapshot("a/b c"))
        read.region = "mars"
        answer = await run_in_sdk(server, lambda api: api.allocation_update(read))
        again = await run_in_sdk(server, lambda api: api.allocation_snapshot("a/b c"))
        stored = server.clouds["a/b c"]
    assert answer == again
    assert (again.region, again.version) == ("mars", cloud.get("version"))
    assert (again.updated.value.utcoffset(), stored.get("schema")) == (timedelta(0), cloud.get("schema"))
    (record,) = server.records
    assert record["changed"] == {"region": [cloud.get("region"), "mars"]}


async def test_the_sdk_reaches_both_operations_with_a_base_url_that_ends_with_a_slash(
    server: ReferenceServer,
) -> None:
    read = await asyncio.to_thread(call_sdk, server.url + "/", lambda api: api.allocation_snapshot(ID))
    answer = await asyncio.to_thread(call_sdk, server.url + "/", lambda api: api.allocation_update(read))
    assert answer.id == ID


async def test_the_sdk_gets_500_for_an_update_of_a_missing_cloud(server: ReferenceServer) -> None:
    read = await run_in_sdk(server, lambda api: api.allocation_snapshot(ID))
    server.remove(ID)
    with pytest.raises(ApiException) as caught:
        await run_in_sdk(server, lambda api: api.allocation_update(read))
    assert (caught.value.status, caught.value.body) == (500, "Internal Server Error: no cloud has this id")


async def test_an_update_by_the_sdk_drops_the_fields_that_the_sdk_does_not_know(
    server: ReferenceServer,
) -> None:
    read = await run_in_sdk(server, lambda api: api.allocation_snapshot(ID))
    read.region = "mars"
    answer = await run_in_sdk(server, lambda api: api.allocation_update(read))
    assert answer.region == "mars"
    assert server.clouds[ID]["region"] == "mars"
    assert "billing" not in server.clouds[ID]  # the models of the SDK drop unknown fields


async def test_the_sdk_gets_500_for_an_update_without_a_body(server: ReferenceServer) -> None:
    with pytest.raises(ApiException) as caught:
        await run_in_sdk(server, lambda api: api.allocation_update())
    assert caught.value.status == 500
    assert "there is no body" in str(caught.value.body)


async def test_the_sdk_gets_504_whether_or_not_the_update_was_applied(server: ReferenceServer) -> None:
    cloud = AllocationCloud.from_json(json_codec.dumps({**CLOUDS[0], "region": "mars"}).decode())
    for kind, applied in (("timeout_before", False), ("timeout_after", True)):
        server.set_faults({"update": {kind: 1}})
        with pytest.raises(ApiException) as caught:
            await run_in_sdk(server, lambda api: api.allocation_update(cloud))
        assert caught.value.status == 504
        assert (server.clouds[ID]["region"] == "mars") == applied
        assert server.fired[f"update.{kind}"] == 1


async def test_the_sdk_accepts_every_body_that_allocsync_posts(tmp_path: Path) -> None:
    clouds = sample_clouds(30, 9)
    wanted = {
        AllocationId(str(cloud["id"])): Desired(AllocationId(str(cloud["id"])), (("region", "mars"),))
        for cloud in clouds
    }
    settings = Settings(bulk="off", settle_seconds=5, state_dir=tmp_path)
    clock = SystemClock()
    async with (
        open_journal(settings, clock) as (journal, restored),
        ReferenceServer.start(copy.deepcopy(clouds), log_all=True) as server,
        AllocationClient.open(server.url) as api,
        asyncio.TaskGroup() as group,
    ):
        loop = build_controller(
            settings,
            api=api,
            clock=clock,
            observer=lambda _: None,
            journal=journal,
            restored=restored,
        )
        loop.activate(Revision("g", wanted))
        running = group.create_task(loop.run())
        async with asyncio.timeout(20):
            while not loop.settled():
                await asyncio.sleep(0.02)
        loop.stop()
        await running
    bodies = [record["body"] for record in server.records if record["op"] == "update"]
    assert len(bodies) == len(clouds)
    for body in bodies:
        parsed = AllocationCloud.from_json(json_codec.dumps(body).decode())
        assert parsed is not None
        assert parsed.region == "mars"
        assert body["billing"] == next(cloud["billing"] for cloud in clouds if cloud["id"] == body["id"])
