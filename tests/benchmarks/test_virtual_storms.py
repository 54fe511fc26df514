"""The storms still blow; what they show is not a test."""

from allocsync.reconcile.scheduling import concurrency
from tests.benchmarks.virtual_storms import STORMS, VARIANTS, refusing, replaced, run_one


def test_a_storm_passes_and_what_was_replaced_is_put_back() -> None:
    before = concurrency.SLOW_SECONDS
    with replaced(VARIANTS["no slow pool"]):
        assert before < concurrency.SLOW_SECONDS
        assert "never" not in run_one(refusing(20))
    assert before == concurrency.SLOW_SECONDS
    assert len(STORMS) >= 8
