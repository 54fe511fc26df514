"""Which allocations `apply` reports as updated: those of which no read has shown otherwise."""

import pytest

from allocsync.cli.commands.apply import Tally
from allocsync.model.ids import AllocationId
from allocsync.reconcile.events import Event, UpdateFinished, UpdateIntended, UpdateSettled
from tests.support.made_events import made

ONE = AllocationId("one")


def tally(*happened: Event) -> Tally:
    found = Tally()
    for event in happened:
        found(event)
    return found


def sent(sequence: int, outcome: str) -> tuple[Event, Event]:
    return (
        made(UpdateIntended, allocation=ONE, sequence=sequence),
        made(UpdateFinished, allocation=ONE, outcome=outcome),
    )


def settled(sequence: int, outcome: str) -> Event:
    return made(UpdateSettled, allocation=ONE, sequence=sequence, outcome=outcome)


def test_an_update_that_was_accepted_and_not_applied_does_not_count() -> None:
    assert tally(*sent(1, "accepted")).updated == {ONE}
    found = tally(*sent(1, "accepted"), settled(1, "not_applied"))
    assert found.updated == found.confirmed == set()
    again = tally(*sent(1, "accepted"), *sent(2, "unknown"), settled(2, "not_applied"))
    assert again.updated == {ONE}, "the first update was applied"


@pytest.mark.parametrize("outcome", ["applied", "applied_partial", "late_applied"])
def test_an_update_of_unknown_outcome_that_a_read_shows_applied_is_confirmed(outcome: str) -> None:
    found = tally(*sent(1, "unknown"), settled(1, outcome))
    assert found.updated == found.confirmed == {ONE}
    assert (found.updates, found.unknown) == (1, 1)


@pytest.mark.parametrize("outcome", ["applied_partial", "late_applied"])
def test_an_accepted_update_is_updated_but_not_confirmed_after_an_unknown_outcome(outcome: str) -> None:
    found = tally(*sent(1, "accepted"), settled(1, outcome))
    assert (found.updated, found.confirmed) == ({ONE}, set())


@pytest.mark.parametrize("outcome", ["superseded", "not_applied", "void", "stale_overwrite"])
def test_an_update_of_unknown_outcome_that_was_not_applied_does_not_count(outcome: str) -> None:
    assert tally(*sent(1, "unknown"), settled(1, outcome)).updated == set()
