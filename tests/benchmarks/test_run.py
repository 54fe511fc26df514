"""The benchmark still runs; no test asserts a time."""

from tests.benchmarks.run import measure, summary


async def test_the_benchmark_runs_on_a_few_allocations() -> None:
    taken = await measure(20, 1)
    assert all(len(seconds) == 1 and seconds[0] > 0 for seconds in taken.values())
    assert set(taken) == {"one_by_one", "bare_reads", "bulk", "bare_list", "load", "library_load"}
    assert summary(taken, 20)["allocations"] == 20
