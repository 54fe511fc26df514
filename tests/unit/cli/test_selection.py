"""`plan` and `apply` select the allocations that the command line names, by id or by prefix."""

import pytest

from allocsync.cli.selection import select
from allocsync.errors import UsageError
from allocsync.model.desired_state import Desired, Mode, Revision
from allocsync.model.ids import AllocationId

GOOD, OTHER, QUARANTINED = (AllocationId(key) for key in ("7b0c4c5e-1", "91d2a0f3-1", "abcdefgh-1"))


def revision() -> Revision:
    allocations = {
        key: Desired(key, (("region", "a"),), mode=Mode.ENFORCE, source="a.yaml:3") for key in (GOOD, OTHER)
    }
    return Revision("0" * 64, allocations, {QUARANTINED: ("a mistake",)}, files=1)


def test_without_a_name_everything_is_selected() -> None:
    everything = revision()
    assert select(everything, ()) is everything


def test_an_id_and_a_prefix_of_eight_characters_select_one_allocation_each() -> None:
    selected = select(revision(), [GOOD, "7b0c4c5e", "abcdefgh"])
    assert set(selected.allocations) == {GOOD}
    assert set(selected.quarantined) == {QUARANTINED}


def test_every_name_that_is_not_found_is_an_error_with_suggestions() -> None:
    with pytest.raises(UsageError) as caught:
        select(revision(), [GOOD, "91d2", "no\x1bbody"])
    assert str(caught.value).splitlines() == [
        "91d2 is too short: give the whole id, or at least its first 8 characters",
        "Ids that begin alike:",
        "  91d2a0f3-1",
        "no\\x1bbody: no such allocation is declared",
    ]
