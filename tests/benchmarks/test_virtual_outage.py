"""The script's loop and ours meet the same outage in virtual time; what it costs them is not a test."""

import asyncio

import pytest

from tests.benchmarks.virtual_outage import Scene, play
from tests.benchmarks.virtual_storms import dead
from tests.support.scripted_api import ScriptedApi


@pytest.mark.parametrize("loop", ["allocsync", "script"])
def test_a_loop_comes_through_an_outage_and_every_request_is_in_the_series(loop: str) -> None:
    apis: list[ScriptedApi] = []

    def make() -> ScriptedApi:
        apis.append(dead(40, 30.0))
        return apis[-1]

    found = play(Scene(make, lambda _: asyncio.sleep(30), 30.0), loop)
    (api,) = apis
    series = found["per_second"]
    assert isinstance(series, list)
    assert (found["never_in_sync"], found["differed"]) == (0, 4)
    assert len(api.posts) == 4
    assert sum(series) == found["sent"] == len(api.looks) + len(api.posts)
    assert sum(series[:30]) == found["sent_during"]
    assert sum(series[:30]) > 4  # it did ask in vain
