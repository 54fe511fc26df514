"""The limiter: never more in flight than the limit, in any order of calls."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.reconcile.limiter import Limiter, Slot


@given(
    limits=st.fixed_dictionaries(dict.fromkeys(Slot, st.integers(1, 5))),
    calls=st.lists(st.tuples(st.sampled_from(Slot), st.booleans()), max_size=60),
)
def test_what_is_in_flight_never_exceeds_the_limit(
    limits: dict[Slot, int], calls: list[tuple[Slot, bool]]
) -> None:
    limiter = Limiter(limits)
    model = dict.fromkeys(Slot, 0)
    for slot, give_back in calls:
        if give_back and model[slot]:
            limiter.release(slot)
            model[slot] -= 1
        elif limiter.admit(slot, 0.0) is None:
            model[slot] += 1
        else:
            assert model[slot] == limits[slot]
        assert limiter.in_flight == model
        assert all(model[each] <= limits[each] for each in Slot)


def test_a_full_kind_of_slot_does_not_hold_the_other_up() -> None:
    limiter = Limiter({Slot.READ: 1, Slot.WRITE: 1})
    assert limiter.admit(Slot.WRITE, 0.0) is None
    assert limiter.admit(Slot.WRITE, 0.0) == inf
    assert limiter.admit(Slot.READ, 0.0) is None


def test_closed_slots_admit_nothing_before_their_time() -> None:
    limiter = Limiter(dict.fromkeys(Slot, 1))
    limiter.close(Slot.WRITE, 30.0)
    limiter.close(Slot.WRITE, 20.0)
    assert limiter.admit(Slot.WRITE, 29.9) == 30.0
    assert limiter.opens_at(29.9) == 30.0
    assert limiter.in_flight[Slot.WRITE] == 0
    assert limiter.admit(Slot.READ, 29.9) is None
    assert limiter.admit(Slot.WRITE, 30.0) is None
    assert limiter.opens_at(30.0) == inf


def test_a_limit_below_one_and_a_slot_never_taken_are_errors() -> None:
    with pytest.raises(ValueError, match="below one"):
        Limiter({Slot.READ: 0, Slot.WRITE: 1})
    with pytest.raises(ValueError, match="no read slot"):
        Limiter(dict.fromkeys(Slot, 1)).release(Slot.READ)
