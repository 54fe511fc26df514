"""The checkpoint drops what is too old, and counts updates that a process did not live to count."""

import pytest

from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import IntentRecord, OpenIntent, Restored
from allocsync.reconcile.checkpoint import MAX_AGE_SECONDS, Checkpoint
from allocsync.reconcile.parameters import Parameters
from tests.support.scripted_api import ListJournal, VirtualClock

pytestmark = pytest.mark.looptime


async def test_only_old_values_of_allocations_are_dropped() -> None:
    clock, journal = VirtualClock(), ListJournal()
    old = clock.wall() - MAX_AGE_SECONDS - 1
    stored = {
        "allocation/a": {"at": old},
        "allocation/b": {"at": clock.wall()},
        "baseline/a": {"at": old, "leaves": [], "mode": "enforce"},
        "probe": old,  # the journal writes it to find out whether a full disk can be written again
    }
    journal.memories = dict(stored)
    checkpoint = Checkpoint(journal, clock, Parameters(), Restored(memories=stored))
    assert set(journal.memories) == {"allocation/b", "baseline/a", "probe"}
    assert set(checkpoint.stored("baseline/")) == {"a"}


@pytest.mark.parametrize(
    ("intent_at", "stored_at", "left"),
    [
        (-1.0, -100.0, 0),  # the process ended before it stored the token of this update
        (-1.0, None, 0),
        (-100.0, -1.0, 1),  # the token is among the stored ones
    ],
)
async def test_an_open_intent_counts_towards_the_write_quota_if_its_token_may_be_lost(
    intent_at: float, stored_at: float | None, left: int
) -> None:
    clock, journal = VirtualClock(), ListJournal()
    wall = clock.wall()
    record = IntentRecord(changes=(), fields=(), unmanaged_hash="")
    intent = OpenIntent(1, AllocationId("a"), wall + intent_at, record)
    stored = {} if stored_at is None else {"writes": {"at": wall + stored_at, "spent": [[wall - 100.0, 1]]}}
    limit = 1 + bool(stored)
    restored = Restored(memories=stored, open_intents=(intent,))
    checkpoint = Checkpoint(journal, clock, Parameters(writes_per_hour=limit), restored)
    assert checkpoint.write_gate.write_quota.is_exhausted(clock.now()) is (left == 0)


async def test_without_a_write_quota_open_intents_spend_nothing() -> None:
    clock, journal = VirtualClock(), ListJournal()
    record = IntentRecord(changes=(), fields=(), unmanaged_hash="")
    intent = OpenIntent(1, AllocationId("a"), clock.wall(), record)
    checkpoint = Checkpoint(journal, clock, Parameters(), Restored(open_intents=(intent,)))
    assert not checkpoint.write_gate.write_quota.spent
    assert not journal.memories
