"""The simulation finds each mutant by ordinary schedules, by a promise that the mutant names.

`test_schedules` asserts that the product without mutants passes the same schedules. The first test begins
with the schedule that last found the mutant (`bugs.jsonl`), and runs the others only if this one fails to.
"""

import json
from contextlib import ExitStack

import pytest

from allocsync.planning.diff import update_body
from allocsync.reconcile import controller
from allocsync.reconcile.allocation.managed_allocation import ManagedAllocation
from allocsync.reconcile.allocation.write_backoff import WriteBackoff
from tests.simulation.disk.sqlite_shim import SqliteShim
from tests.simulation.mutants.mutant import DetachedMutantError, Mutant, replace_function, replace_slot
from tests.simulation.mutants.mutants import MUTANTS
from tests.simulation.run import MUTANT_RESULTS, schedules_until_found
from tests.simulation.test_schedules import SCHEDULES

ROWS = [json.loads(line) for line in MUTANT_RESULTS.read_text(encoding="utf-8").splitlines()]
LAST_FOUND_BY = {row["bug"]: row["schedules"] - 1 for row in ROWS}  # seeds start at 0
EACH_MUTANT = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)


@EACH_MUTANT
def test_a_mutant_is_found_by_a_promise_that_it_breaks(mutant: Mutant, shim: SqliteShim) -> None:
    first = LAST_FOUND_BY.get(mutant.name, 0)
    assert first < SCHEDULES, "test_schedules does not run this schedule without the mutant"
    number, promise = schedules_until_found(mutant, shim, (first, *range(SCHEDULES)))
    assert promise is not None, f"not found in {number} schedules"
    assert promise in mutant.promises


@pytest.mark.slow
@EACH_MUTANT
def test_a_mutant_is_found_by_schedules_in_the_order_of_their_seeds(mutant: Mutant, shim: SqliteShim) -> None:
    number, promise = schedules_until_found(mutant, shim)
    assert promise is not None, f"not found in {number} schedules"
    assert promise in mutant.promises
    assert number <= SCHEDULES


def test_a_replaced_function_or_slot_is_restored_when_the_context_closes() -> None:
    function, operation = vars(ManagedAllocation)["queue_entry"], vars(WriteBackoff)["failures"]
    seven = property(lambda _: 7, lambda _self, _value: None)
    with ExitStack() as stack:
        replace_function(stack, ManagedAllocation.queue_entry, lambda self: self.queue_entry())
        replace_slot(stack, WriteBackoff.failures, seven)  # type: ignore[misc] # a slot
        assert vars(ManagedAllocation)["queue_entry"] is not function
        assert WriteBackoff().failures == 7
    assert vars(ManagedAllocation)["queue_entry"] is function
    assert vars(WriteBackoff)["failures"] is operation


def test_a_function_that_the_product_does_not_look_up_there_is_not_replaced() -> None:
    def local() -> None:
        """Belongs to no module."""

    with ExitStack() as stack:
        with pytest.raises(DetachedMutantError):
            replace_function(stack, update_body, update_body, imported_by=controller)
        with pytest.raises(DetachedMutantError):
            replace_function(stack, local, local)
        with pytest.raises(DetachedMutantError):
            replace_slot(stack, 7, property())
