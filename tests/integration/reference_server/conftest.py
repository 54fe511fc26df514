"""A reference server with three clouds on a real socket, and a plain HTTP client."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import pytest

from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds

CLOUDS = sample_clouds(3, 5)
ID = str(CLOUDS[0]["id"])
SCHEMA = json.loads(Path(__file__).with_name("allocation_cloud.schema.json").read_text())


@pytest.fixture
async def server() -> AsyncIterator[ReferenceServer]:
    """A running server that logs everything."""
    async with ReferenceServer.start(CLOUDS, log_all=True) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A plain HTTP client that shares no code with allocsync."""
    async with aiohttp.ClientSession() as session:
        yield session


def valid(cloud: Any) -> Any:  # noqa: ANN401 - JSON
    """Check the cloud against the independent schema and return it."""
    checker = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker())
    checker.validate(cloud)
    return cloud
