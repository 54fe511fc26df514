"""The script's loop and allocsync's controller in the same virtual outage; no test asserts the cost."""

import asyncio

import pytest

from tests.benchmarks.virtual_outage import Scene, run_scene
from tests.benchmarks.virtual_storms import unreachable_api
from tests.support.scripted_api import ScriptedApi


@pytest.mark.parametrize("loop", ["allocsync", "script"])
def test_a_loop_converges_after_an_outage_and_every_request_is_in_the_series(loop: str) -> None:
    apis: list[ScriptedApi] = []

    def make() -> ScriptedApi:
        apis.append(unreachable_api(40, 30.0))
        return apis[-1]

    found = run_scene(Scene(make, lambda _: asyncio.sleep(30), 30.0), loop)
    (api,) = apis
    series = found["per_second"]
    assert isinstance(series, list)
    assert (found["never_in_sync"], found["differed"]) == (0, 4)
    assert len(api.posts) == 4
    assert sum(series) == found["sent"] == len(api.reads) + len(api.posts)
    assert sum(series[:30]) == found["sent_during"]
    assert sum(series[:30]) > 4  # some requests failed
