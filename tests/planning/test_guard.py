"""The rail by itself: what a generation would change against the baseline, and when it is held."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.planning.guard import NO_LIMIT, Baseline, Limit, in_force, rule, settled_on
from allocsync.planning.model import AllocationId, Desired, Generation, Mode

KEYS = [AllocationId(f"{number:02}") for number in range(20)]
LIMIT = Limit()


def desired(key: AllocationId, region: str = "a", mode: Mode = Mode.ENFORCE) -> Desired:
    return Desired(key, (("region", region),), mode, "desired.yaml:3")


def generation(
    allocations: Mapping[AllocationId, Desired], quarantined: tuple[AllocationId, ...] = ()
) -> Generation:
    return Generation("0123456789abcdef", allocations, dict.fromkeys(quarantined, ("wrong",)))


def declared(changed: int = 0, *, number: int = 20, region: str = "b") -> dict[AllocationId, Desired]:
    return {key: desired(key, region if n < changed else "a") for n, key in enumerate(KEYS[:number])}


sets = st.dictionaries(
    st.sampled_from(KEYS),
    st.tuples(st.sampled_from("ab"), st.sampled_from([Mode.ENFORCE, Mode.OBSERVE])),
).map(lambda found: {key: desired(key, region, mode) for key, (region, mode) in found.items()})
limits = st.builds(Limit, percent=st.floats(0, 100), least=st.integers(1, 20))
lost = st.sets(st.sampled_from(KEYS)).map(tuple)


@given(sets, sets, lost, limits, limits)
def test_a_stricter_limit_never_allows_more(
    baseline: Baseline, wanted: Baseline, quarantined: tuple[AllocationId, ...], one: Limit, other: Limit
) -> None:
    strict = Limit(min(one.percent, other.percent), min(one.least, other.least))
    new = generation({key: wanted[key] for key in wanted if key not in quarantined}, quarantined)
    if rule(baseline, new, one).held:
        assert rule(baseline, new, strict).held
    assert rule(baseline, new, one).withheld <= rule(baseline, new, strict).withheld


@given(sets, sets, lost, limits)
def test_taking_an_edit_back_always_opens(
    baseline: Baseline, wanted: Baseline, quarantined: tuple[AllocationId, ...], limit: Limit
) -> None:
    back = {key: value for key, value in baseline.items() if key not in quarantined}
    kept = tuple(key for key in quarantined if key in baseline)
    assert not rule(baseline, generation(back, kept), limit).held or not (back or kept)
    approved = settled_on(baseline, generation(wanted))
    assert not rule(approved, generation(wanted), limit).held


@given(sets, sets, lost, limits)
def test_only_what_is_otherwise_is_held_and_everything_that_is(
    baseline: Baseline, wanted: Baseline, quarantined: tuple[AllocationId, ...], limit: Limit
) -> None:
    new = generation({key: wanted[key] for key in wanted if key not in quarantined}, quarantined)
    ruling = rule(baseline, new, limit)
    same = {key for key, value in new.allocations.items() if baseline.get(key) == value}
    assert not ruling.withheld & same
    assert not ruling.held or ruling.withheld == new.allocations.keys() - same
    assert ruling.changes == len(ruling.changed) + len(ruling.added) + len(ruling.removed)
    assert not (ruling.removed & {*quarantined}), "what is in quarantine is still declared"
    force = in_force(baseline, new, ruling)
    assert dict(force) == {
        **new.allocations,
        **({key: baseline[key] for key in ruling.removed} if ruling.held else {}),
    }
    assert bool(ruling.reason) == ruling.held


@given(sets, st.sets(st.sampled_from(KEYS), min_size=1))
def test_a_first_start_is_not_held_and_a_limit_of_100_holds_nothing(
    wanted: Baseline, ids: set[AllocationId]
) -> None:
    assert not rule({}, generation(wanted), Limit(percent=0, least=1)).held
    assert not rule({key: desired(key, "z") for key in ids}, generation(wanted), NO_LIMIT).held


@pytest.mark.parametrize(
    ("number", "changed", "held"),
    [(20, 6, False), (20, 7, True), (10, 3, False), (10, 4, True), (9, 9, False), (1, 1, False)],
)
def test_the_limit_is_30_percent_from_10_allocations_on(number: int, changed: int, held: bool) -> None:  # noqa: FBT001 - a parameter of the test
    ruling = rule(declared(number=number), generation(declared(changed, number=number)), LIMIT)
    assert (ruling.changes, ruling.held) == (changed, held)


def test_new_and_removed_ones_count_and_so_does_the_mode() -> None:
    before = declared()
    grown = {**before, **{key: desired(key) for key in map(AllocationId, ("x1", "x2"))}}
    assert rule(before, generation(grown), LIMIT).changes == 2
    assert rule(before, generation(declared(number=15)), LIMIT).changes == 5
    assert rule(before, generation(declared(number=13)), LIMIT).held
    enforced = generation({key: desired(key, mode=Mode.ENFORCE) for key in KEYS})
    observed = {key: desired(key, mode=Mode.OBSERVE) for key in KEYS}
    assert rule(observed, enforced, LIMIT).withheld == {*KEYS}


def test_a_place_in_a_file_is_no_change() -> None:
    moved = {key: Desired(key, (("region", "a"),), Mode.ENFORCE, "other.yaml:99") for key in KEYS}
    assert rule(declared(), generation(moved), LIMIT).changes == 0


def test_a_set_that_turns_empty_is_held_however_small_it_was() -> None:
    ruling = rule(declared(number=2), generation({}), LIMIT)
    assert ruling.held
    assert "declares nothing any more (2 removed)" in ruling.reason
    assert not rule(declared(number=2), generation({}, (KEYS[0],)), LIMIT).held, "it is being written"


def test_what_is_in_quarantine_stays_as_it_was_in_the_baseline() -> None:
    before = declared()
    new = generation(declared(number=10), tuple(KEYS[10:]))
    assert not rule(before, new, LIMIT).changes
    assert settled_on(before, new) == before


def test_the_reason_names_the_numbers_the_setting_and_the_command() -> None:
    assert rule(declared(), generation({**declared(7, number=19)}), LIMIT).reason == (
        "generation 01234567 is held: it changes 8 of 20 allocations (40 %: 7 changed, 1 removed), and "
        "ALLOCSYNC_MAX_CHANGES_PERCENT allows 30 %; `allocsync approve 01234567` lets it through"
    )
