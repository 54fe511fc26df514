"""What the tests of this folder share."""

import asyncio

import pytest


@pytest.fixture(scope="session", autouse=True)
def _no_loop_out_of_nowhere() -> None:
    """Keep Python 3.11 from making an event loop when pytest-asyncio asks which one there was.

    Nobody would close that one, and warnings are errors.
    """
    asyncio.set_event_loop(None)
