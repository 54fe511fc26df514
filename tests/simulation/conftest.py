"""Fixtures: a simulated disk for each test that uses one."""

from collections.abc import Iterator

import pytest

from tests.simulation.disk.disk import Disk
from tests.simulation.disk.sqlite_shim import SqliteShim


@pytest.fixture(scope="module")
def shim() -> Iterator[SqliteShim]:
    with SqliteShim() as shim:
        yield shim


@pytest.fixture
def disk(shim: SqliteShim) -> Iterator[Disk]:
    with Disk(shim) as disk:
        yield disk
