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
from tests.simulation.real_parts.schedule import EndKind, draw_schedule
from tests.simulation.real_parts.world import Outcome, run_schedule

SEEDS = range(120)
REPLAYED_SEEDS = (3, 17, 42, 77, 101)
LEAST_UPDATES = 500


@pytest.fixture(scope="module")
def outcomes(shim: SqliteShim) -> dict[int, Outcome]:
    return {seed: _run_seed(shim, seed) for seed in SEEDS}


def _run_seed(shim: SqliteShim, seed: int) -> Outcome:
    try:
        with Disk(shim) as disk:
            return run_schedule(draw_schedule(seed), disk)
    except BaseException as error:
        error.add_note(f"seed {seed}")
        raise


@pytest.mark.parametrize("seed", SEEDS)
def test_a_schedule_breaks_no_promise(seed: int, outcomes: dict[int, Outcome]) -> None:
    outcome = outcomes[seed]
    found = find_breaches(outcome)
    if found:
        pytest.fail("\n".join([f"seed {seed}", *found, timeline(outcome)]), pytrace=False)


def test_the_schedules_contain_every_fault_and_every_end_of_a_process(outcomes: dict[int, Outcome]) -> None:
    fired: Counter[str] = Counter()
    for outcome in outcomes.values():
        fired.update(outcome.fired)
    faults = [f"{operation}.{fault.name}" for fault in FAULTS for operation in fault.operations]
    others = [*EndKind, "refused", "list.omits", "list.stale_seconds", "update.latency_seconds"]
    assert [name for name in (*faults, *others) if not fired[name]] == []


def test_the_schedules_contain_updates_with_every_outcome(outcomes: dict[int, Outcome]) -> None:
    posts = [each for outcome in outcomes.values() for each in outcome.records if each["op"] == "update"]
    assert len(posts) >= LEAST_UPDATES
    endings = {
        each.outcome for outcome in outcomes.values() for past in outcome.past for each in past.endings
    }
    assert endings >= {"applied", "not_applied", "late_applied", "applied_partial", "rejected", "not_sent"}


@pytest.mark.parametrize("seed", REPLAYED_SEEDS)
def test_the_same_seed_makes_the_same_run(seed: int, shim: SqliteShim, outcomes: dict[int, Outcome]) -> None:
    again = _run_seed(shim, seed)
    assert again.records == outcomes[seed].records
    assert again.past == outcomes[seed].past
    assert timeline(again) == timeline(outcomes[seed])


def test_a_kernel_that_delivers_slowly_makes_the_same_run(
    shim: SqliteShim, outcomes: dict[int, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    seed, rng = REPLAYED_SEEDS[0], random.Random(1)
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
    assert again.records == outcomes[seed].records
