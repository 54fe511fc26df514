"""Real client, real server, real controller and real journal, in virtual time over real sockets.

Each schedule is a seed. A failing test prints the seed and the run's timeline.

Left out: what takes hours or thousands of schedules to show; the simulation with a simulated server has it
(`test_schedules`).
"""

import random
import selectors
from collections import Counter
from typing import Any

import pytest

from allocsync.reference_server.faults import FAULTS
from tests.simulation.disk.disk import Disk
from tests.simulation.disk.sqlite_shim import SqliteShim
from tests.simulation.real_parts.oracle import find_breaches, timeline
from tests.simulation.real_parts.schedule import LEFT_OUT, EndKind, draw_schedule
from tests.simulation.real_parts.world import Outcome, run_schedule
from tests.support.tier import part_of

RARE_FAULT_SEEDS = (34, 39, 61, 75, 104)  # the schedules that contain the rare faults
SEEDS = sorted({*range(part_of(120)), *RARE_FAULT_SEEDS})
SLOW = pytest.mark.slow
REPLAYED_SEEDS = (3, 17, *(pytest.param(seed, marks=SLOW) for seed in (42, 77, 101)))
LEAST_UPDATES = part_of(500)


def _run_seed(shim: SqliteShim, seed: int) -> Outcome:
    try:
        with Disk(shim) as disk:
            return run_schedule(draw_schedule(seed), disk)
    except BaseException as error:
        error.add_note(f"seed {seed}")
        raise


# One test, so that each schedule runs once, whatever the number of workers.
def test_no_schedule_breaks_a_promise_and_they_contain_every_fault_end_of_a_process_and_outcome(
    shim: SqliteShim,
) -> None:
    fired: Counter[str] = Counter()
    endings = set[str]()
    updates = 0
    for seed in SEEDS:
        outcome = _run_seed(shim, seed)
        if found := find_breaches(outcome):
            pytest.fail("\n".join([f"seed {seed}", *found, timeline(outcome)]), pytrace=False)
        fired.update(outcome.fired)
        endings |= {each.outcome for past in outcome.past for each in past.endings}
        updates += sum(each["op"] == "update" for each in outcome.records)
    faults = [
        f"{operation}.{fault.name}"
        for fault in FAULTS
        for operation in fault.operations
        if fault.name not in LEFT_OUT
    ]
    others = [*EndKind, "refused", "list.omits", "list.stale_seconds", "update.latency_seconds"]
    assert [name for name in (*faults, *others) if not fired[name]] == []
    assert updates >= LEAST_UPDATES
    assert endings >= {"applied", "not_applied", "late_applied", "applied_partial", "rejected", "not_sent"}


@pytest.mark.parametrize("seed", REPLAYED_SEEDS)
def test_the_same_seed_makes_the_same_run(seed: int, shim: SqliteShim) -> None:
    first, again = (_run_seed(shim, seed) for _ in range(2))
    assert again.records == first.records
    assert again.past == first.past
    assert timeline(again) == timeline(first)


def test_a_kernel_that_delivers_slowly_makes_the_same_run(
    shim: SqliteShim, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed, rng = 3, random.Random(1)
    first = _run_seed(shim, seed)
    select = selectors.DefaultSelector.select
    aborted = 0

    def slow(selector: selectors.DefaultSelector, timeout: float | None = None) -> Any:  # noqa: ANN401 - events
        nonlocal aborted
        events = select(selector, timeout)
        delivered = [each for each in events if rng.random() < 0.5]
        aborted += len(events) - len(delivered)
        return delivered

    monkeypatch.setattr(selectors.DefaultSelector, "select", slow)
    again = _run_seed(shim, seed)
    assert aborted > 100
    assert again.records == first.records
