"""The simulation bites: each planted bug is found by ordinary schedules, by the promise that it names.

That the unbroken code passes the same seeds is asserted in `test_schedules`: they are its first five hundred.
"""

import pytest

from tests.simulation.disk.sqlite_shim import SqliteShim
from tests.simulation.mutants.mutant import Bug
from tests.simulation.mutants.mutants import BUGS
from tests.simulation.run import SEEDS_PER_BUG, schedules_until_found
from tests.simulation.test_schedules import SCHEDULES


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found_by_the_promise_that_it_breaks(bug: Bug, shim: SqliteShim) -> None:
    number, promise = schedules_until_found(bug, shim)
    assert promise is not None, f"not found in {number} schedules"
    assert promise in bug.promises


def test_the_unbroken_code_passes_the_same_schedules() -> None:
    assert SCHEDULES >= SEEDS_PER_BUG
