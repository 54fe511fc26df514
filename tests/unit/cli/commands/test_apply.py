"""What `apply` says it has updated: what a read has not found to be otherwise."""

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


def test_what_was_accepted_and_not_honoured_is_not_updated() -> None:
    assert tally(*sent(1, "accepted")).updated == {ONE}
    found = tally(*sent(1, "accepted"), settled(1, "not_applied"))
    assert found.updated == found.confirmed == set()
    again = tally(*sent(1, "accepted"), *sent(2, "unknown"), settled(2, "not_applied"))
    assert again.updated == {ONE}, "the first one was"


@pytest.mark.parametrize("outcome", ["applied", "applied_partial", "late_applied"])
def test_what_a_read_shows_after_an_unknown_outcome_is_confirmed(outcome: str) -> None:
    found = tally(*sent(1, "unknown"), settled(1, outcome))
    assert found.updated == found.confirmed == {ONE}
    assert (found.updates, found.unknown) == (1, 1)


@pytest.mark.parametrize("outcome", ["applied_partial", "late_applied"])
def test_what_a_read_says_of_one_that_was_accepted_confirms_no_unknown_one(outcome: str) -> None:
    found = tally(*sent(1, "accepted"), settled(1, outcome))
    assert (found.updated, found.confirmed) == ({ONE}, set())


@pytest.mark.parametrize("outcome", ["superseded", "not_applied", "void", "stale_overwrite"])
def test_what_did_nothing_that_is_wanted_is_not_updated(outcome: str) -> None:
    assert tally(*sent(1, "unknown"), settled(1, outcome)).updated == set()
