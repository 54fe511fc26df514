"""The checkpoint drops what is too old."""

import pytest

from allocsync.model.intent_record import Restored
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
