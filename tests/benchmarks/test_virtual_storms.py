"""The virtual storms still run; no test asserts their figures."""

import pytest

from allocsync.reconcile.scheduling import concurrency
from tests.benchmarks.virtual_storms import STORMS, VARIANTS, failing_updates, replaced, run_one


def test_a_storm_ends_and_replaced_constants_are_restored() -> None:
    before = concurrency.SLOW_MAX_SECONDS
    with replaced(VARIANTS["no slow pool"]):
        assert before < concurrency.SLOW_MAX_SECONDS
        assert "never" not in run_one(failing_updates(20))
    assert before == concurrency.SLOW_MAX_SECONDS
    assert len(STORMS) >= 8


def test_a_constant_that_no_module_has_is_not_replaced() -> None:
    with pytest.raises(LookupError), replaced({"NO_SUCH_CONSTANT": 1}):
        pass
