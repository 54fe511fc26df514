"""The script's loop and ours meet the same outage in virtual time; what it costs them is not a test."""

import asyncio

from tests.bench.storms import dead
from tests.bench.virtual import Scene, play

SHORT = Scene(lambda: dead(40, 30.0), lambda _: asyncio.sleep(30), 30.0)


def test_both_loops_come_through_an_outage_and_every_request_is_in_the_series() -> None:
    for loop in SHORT.loops:
        found = play(SHORT, loop)
        series = found["per_second"]
        assert isinstance(series, list)
        assert (found["never_in_sync"], found["differed"]) == (0, 4)
        assert sum(series) == found["sent"]
        assert sum(series[:30]) == found["sent_during"]
        assert sum(series[:30]) > 4  # it did ask in vain
