"""The second tier: real client, real server, real loop and real journal, in virtual time over real sockets.

Each schedule is a seed. What fails prints it, and the run as a timeline.

Left out: what only hours or very many schedules show; the first tier has them, and a model server.
"""

import random
import selectors
from collections import Counter
from typing import Any

import pytest

from allocsync.reference_server.faults import FAULTS
from tests.simulation.disk.disk import Disk
from tests.simulation.disk.sqlite_shim import SqliteShim
from tests.simulation.real_parts.oracle import timeline, verdict
from tests.simulation.real_parts.schedule import How, drawn
from tests.simulation.real_parts.world import Outcome, play

SEEDS = range(120)
TWICE = (3, 17, 42, 77, 101)
LEAST_UPDATES = 500


@pytest.fixture(scope="module")
def outcomes(shim: SqliteShim) -> dict[int, Outcome]:
    return {seed: _played(shim, seed) for seed in SEEDS}


def _played(shim: SqliteShim, seed: int) -> Outcome:
    try:
        with Disk(shim) as disk:
            return play(drawn(seed), disk)
    except BaseException as error:
        error.add_note(f"seed {seed}")
        raise


@pytest.mark.parametrize("seed", SEEDS)
def test_a_schedule_breaks_no_promise(seed: int, outcomes: dict[int, Outcome]) -> None:
    outcome = outcomes[seed]
    found = verdict(outcome)
    if found:
        pytest.fail("\n".join([f"seed {seed}", *found, timeline(outcome)]), pytrace=False)


def test_every_fault_has_struck_and_processes_have_ended_in_every_way(outcomes: dict[int, Outcome]) -> None:
    fired: Counter[str] = Counter()
    for outcome in outcomes.values():
        fired.update(outcome.fired)
    faults = [f"{operation}.{fault.name}" for fault in FAULTS for operation in fault.operations]
    others = [*How, "refused", "list.omits", "list.stale_seconds", "update.latency_seconds"]
    assert [name for name in (*faults, *others) if not fired[name]] == []


def test_the_schedules_have_made_updates_of_every_ending(outcomes: dict[int, Outcome]) -> None:
    posts = [each for outcome in outcomes.values() for each in outcome.records if each["op"] == "update"]
    assert len(posts) >= LEAST_UPDATES
    endings = {
        each.outcome for outcome in outcomes.values() for past in outcome.past for each in past.endings
    }
    assert endings >= {"applied", "not_applied", "late_applied", "applied_partial", "rejected", "not_sent"}


@pytest.mark.parametrize("seed", TWICE)
def test_the_same_seed_makes_the_same_run(seed: int, shim: SqliteShim, outcomes: dict[int, Outcome]) -> None:
    again = _played(shim, seed)
    assert again.records == outcomes[seed].records
    assert again.past == outcomes[seed].past
    assert timeline(again) == timeline(outcomes[seed])


def test_a_kernel_that_is_slow_to_deliver_makes_the_same_run(
    shim: SqliteShim, outcomes: dict[int, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    seed, chance = TWICE[0], random.Random(1)
    select = selectors.DefaultSelector.select
    held = 0

    def slow(selector: selectors.DefaultSelector, timeout: float | None = None) -> Any:  # noqa: ANN401 - events
        nonlocal held
        events = select(selector, timeout)
        kept = [each for each in events if chance.random() < 0.5]
        held += len(events) - len(kept)
        return kept

    monkeypatch.setattr(selectors.DefaultSelector, "select", slow)
    again = _played(shim, seed)
    assert held > 100
    assert again.records == outcomes[seed].records
