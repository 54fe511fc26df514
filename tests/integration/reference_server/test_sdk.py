"""A client that is not ours: the official SDK does both operations, and sees each documented status."""

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
from allocsync.model.desired_state import Desired, Generation
from allocsync.model.ids import AllocationId
from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from allocsync.runtime.clock import SystemClock
from allocsync.runtime.wiring import build_loop, open_journal
from allocsync.settings.model import Settings
from tests.integration.reference_server.conftest import CLOUDS, ID


def sdk(url: str, ask: Any) -> Any:  # noqa: ANN401 - whatever the SDK answers
    """Ask in a client of its own, which is closed afterwards."""
    with ApiClient(Configuration(host=url)) as client:
        try:
            return ask(AllocationApi(client))
        finally:
            client.rest_client.pool_manager.clear()


async def ask(server: ReferenceServer, question: Any) -> Any:  # noqa: ANN401 - likewise
    return await asyncio.to_thread(sdk, server.url, question)


async def test_it_reads_every_sample(server: ReferenceServer) -> None:
    for cloud in CLOUDS:
        read = await ask(server, lambda api, key=cloud["id"]: api.allocation_snapshot(key))
        assert (read.id, read.version, read.urls.id.url) == (
            cloud["id"],
            cloud["version"],
            cloud["urls"]["id"]["url"],  # type: ignore[index,call-overload]  # a sample is whole
        )
        assert read.updated.value.year == 2026


async def test_it_sees_410_for_what_is_gone(server: ReferenceServer) -> None:
    with pytest.raises(ApiException) as caught:
        await ask(server, lambda api: api.allocation_snapshot("nobody/at home"))
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
async def test_it_reads_and_updates_every_shape(shape: str) -> None:
    cloud = SHAPES[shape]
    async with ReferenceServer.start([cloud]) as server:
        read = await ask(server, lambda api: api.allocation_snapshot("a/b c"))
        read.region = "mars"
        answer = await ask(server, lambda api: api.allocation_update(read))
        again = await ask(server, lambda api: api.allocation_snapshot("a/b c"))
        truth = server.clouds["a/b c"]
    assert answer == again
    assert (again.region, again.version) == ("mars", cloud.get("version"))
    assert (again.updated.value.utcoffset(), truth.get("schema")) == (timedelta(0), cloud.get("schema"))
    (record,) = server.records
    assert record["changed"] == {"region": [cloud.get("region"), "mars"]}


async def test_it_reaches_both_operations_below_a_base_url_that_ends_in_a_slash(
    server: ReferenceServer,
) -> None:
    read = await asyncio.to_thread(sdk, server.url + "/", lambda api: api.allocation_snapshot(ID))
    answer = await asyncio.to_thread(sdk, server.url + "/", lambda api: api.allocation_update(read))
    assert answer.id == ID


async def test_it_sees_500_for_what_is_gone(server: ReferenceServer) -> None:
    read = await ask(server, lambda api: api.allocation_snapshot(ID))
    server.remove(ID)
    with pytest.raises(ApiException) as caught:
        await ask(server, lambda api: api.allocation_update(read))
    assert (caught.value.status, caught.value.body) == (500, "Internal Server Error: no cloud has this id")


async def test_it_updates_and_loses_the_fields_that_it_does_not_know(server: ReferenceServer) -> None:
    read = await ask(server, lambda api: api.allocation_snapshot(ID))
    read.region = "mars"
    answer = await ask(server, lambda api: api.allocation_update(read))
    assert answer.region == "mars"
    assert server.clouds[ID]["region"] == "mars"
    assert "billing" not in server.clouds[ID]  # its models drop what they do not know


async def test_it_sees_500_without_a_body(server: ReferenceServer) -> None:
    with pytest.raises(ApiException) as caught:
        await ask(server, lambda api: api.allocation_update())
    assert caught.value.status == 500
    assert "there is no body" in str(caught.value.body)


async def test_it_sees_504_before_and_after(server: ReferenceServer) -> None:
    cloud = AllocationCloud.from_json(json_codec.dumps({**CLOUDS[0], "region": "mars"}).decode())
    for kind, applied in (("timeout_before", False), ("timeout_after", True)):
        server.set_faults({"update": {kind: 1}})
        with pytest.raises(ApiException) as caught:
            await ask(server, lambda api: api.allocation_update(cloud))
        assert caught.value.status == 504
        assert (server.clouds[ID]["region"] == "mars") == applied
        assert server.fired[f"update.{kind}"] == 1


async def test_every_body_that_allocsync_posts_is_an_allocation_cloud_to_it(tmp_path: Path) -> None:
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
        loop = build_loop(
            settings,
            api=api,
            clock=clock,
            observer=lambda _: None,
            journal=journal,
            restored=restored,
        )
        loop.adopt(Generation("g", wanted))
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
