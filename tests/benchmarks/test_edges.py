"""The measurements of poison allocations and fresh edits still run; no test asserts a time."""

from tests.benchmarks import fresh_edit
from tests.benchmarks.poison import Latencies, latencies, percentile, summary


async def test_poison_updates_hang_and_healthy_ones_are_timed_from_the_start_and_the_edit() -> None:
    found = await latencies(60, poison=True, edits=1, hangs_seconds=1.0)
    assert found.strikes >= 2
    assert (len(found.cold), len(found.later)) == (58, 12)
    assert min(*found.cold, *found.later) > 0


async def test_a_fresh_edit_is_timed_until_its_update_arrives() -> None:
    found = await fresh_edit.measure(60, "off", 2)
    seconds = found["to_the_wire_seconds"]
    assert isinstance(seconds, list)
    assert len(seconds) == 2
    assert min(seconds) > 0
    assert found["lists"] == 0


def test_the_ratio_uses_nearest_rank_percentiles() -> None:
    hundred = [float(number) for number in range(1, 101)]
    assert percentile(hundred, 0.99) == 99.0
    assert percentile([5.0], 0.99) == 5.0
    found = summary(Latencies(hundred, [1.0], 0), Latencies([2 * each for each in hundred], [3.0], 4))
    assert found["cold"] == {"p99_seconds": [99.0, 198.0], "median_seconds": [50.0, 100.0], "ratio": 2.0}
    assert found["strikes"] == 4
