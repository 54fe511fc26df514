"""A storm over a few, with real processes: it blows, it is judged, and allocsync keeps what it promises."""

import pytest

from tests.bench.contenders import CONTENDERS
from tests.bench.storm import STORMS, weather

NUMBER, SECONDS = 60, 3.0


@pytest.mark.parametrize("name", ["allocsync", "script"])
async def test_a_short_storm_over_a_few_is_judged_by_the_log(name: str) -> None:
    found = await weather(CONTENDERS[name], STORMS["50"], number=NUMBER, seconds=SECONDS)
    assert found.recovery_seconds is not None
    assert found.posts >= NUMBER
    assert sum(found.per_second) == found.sent == found.reads + found.posts + found.lists
    assert min(found.faults[f"update.timeout_{when}"] for when in ("before", "after")) > 5
    assert (found.fields_lost, found.avoidable_needless) == (0, 0)
    if name == "allocsync":
        assert (found.avoidable_duplicates, found.blind, found.false_failures) == (0, 0, 0)
    else:
        assert found.needless > 0
        assert found.avoidable_duplicates > 0
