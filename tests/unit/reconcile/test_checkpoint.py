"""What survives a restart, where it is not of one allocation."""

import pytest

from allocsync.model.intent_record import Restored
from allocsync.reconcile.checkpoint import MAX_AGE_SECONDS, Checkpoint
from allocsync.reconcile.parameters import Parameters
from tests.support.scripted_api import ListJournal, VirtualClock

pytestmark = pytest.mark.looptime


async def test_what_is_old_is_forgotten_of_allocations_alone_and_the_journals_own_is_let_be() -> None:
    clock, journal = VirtualClock(), ListJournal()
    old = clock.wall() - MAX_AGE_SECONDS - 1
    kept = {
        "allocation/a": {"at": old},
        "allocation/b": {"at": clock.wall()},
        "baseline/a": {"at": old, "leaves": [], "mode": "enforce"},
        "probe": old,  # what the journal writes to see whether a full disk can be written again
    }
    journal.memories = dict(kept)
    checkpoint = Checkpoint(journal, clock, Parameters(), Restored(memories=kept))
    assert set(journal.memories) == {"allocation/b", "baseline/a", "probe"}
    assert set(checkpoint.stored("baseline/")) == {"a"}
