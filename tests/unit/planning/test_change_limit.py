"""The rail by itself: what a generation would change against the baseline, and when it is held."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.model.desired_state import Desired, Generation, Mode
from allocsync.model.ids import AllocationId
from allocsync.planning.change_limit import NO_LIMIT, Baseline, Limit, in_force, rule, settled_on

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
    force = in_force(new, ruling, baseline)
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


canaries = st.builds(Limit, percent=st.floats(0, 100), least=st.integers(1, 20), canary=st.integers(0, 25))


@given(sets, sets, lost, canaries)
def test_canaries_are_the_first_few_that_can_show_something_and_all_else_stays_held(
    baseline: Baseline, wanted: Baseline, quarantined: tuple[AllocationId, ...], limit: Limit
) -> None:
    new = generation({key: wanted[key] for key in wanted if key not in quarantined}, quarantined)
    ruling, without = rule(baseline, new, limit), rule(baseline, new, replace(limit, canary=0))
    assert (ruling.held, ruling.changes, without.canaries) == (without.held, without.changes, frozenset())
    assert ruling.withheld == without.withheld - ruling.canaries
    able = {key for key in without.withheld if new.allocations[key].mode is Mode.ENFORCE}
    assert ruling.canaries <= able
    unshown = 100 * (ruling.changes - len(able)) > limit.percent * ruling.total
    most = max(1, int(limit.percent * ruling.total / 100))
    assert len(ruling.canaries) == min(limit.canary, most, 0 if unshown else len(able))
    # A restart reads the same in another order, and from other places in the files.
    again = {key: baseline[key] for key in sorted(baseline, reverse=True)}
    moved = {
        key: replace(new.allocations[key], source="moved") for key in sorted(new.allocations, reverse=True)
    }
    assert rule(again, replace(new, allocations=moved), limit) == ruling


@given(sets, sets, canaries)
def test_one_canary_more_adds_one_and_swaps_none(baseline: Baseline, wanted: Baseline, limit: Limit) -> None:
    more = replace(limit, canary=limit.canary + 1)
    few, many = (rule(baseline, generation(wanted), each).canaries for each in (limit, more))
    assert few <= many
    assert len(many) <= len(few) + 1


def test_canaries_are_the_first_by_id_and_the_changed_before_the_new() -> None:
    before = {key: desired(key) for key in KEYS[5:]}
    wanted = {key: desired(key, "b" if key in KEYS[15:] else "a") for key in KEYS}
    assert rule(before, generation(wanted), Limit(canary=2)).canaries == {*KEYS[15:17]}
    limit = Limit(percent=40, canary=7)
    assert rule(before, generation(wanted), limit).canaries == {*KEYS[15:], *KEYS[:2]}


@pytest.mark.parametrize(("percent", "most"), [(30, 6), (39, 7), (4, 1), (0, 1)])
def test_there_are_no_more_canaries_than_the_rail_would_let_through_and_at_least_one(
    percent: float, most: int
) -> None:
    ruling = rule(declared(), generation(declared(20)), Limit(percent=percent, canary=100))
    assert ruling.held
    assert ruling.canaries == {*KEYS[:most]}


def test_what_cannot_lead_to_an_update_is_no_canary() -> None:
    wide = {key: Desired(key, (("region", "a"), ("version", "1")), Mode.ENFORCE) for key in KEYS}
    wide[KEYS[1]] = replace(wide[KEYS[1]], mode=Mode.OBSERVE)
    wanted = {key: replace(wide[key], leaves=(("region", "b"), ("version", "1"))) for key in KEYS}
    wanted[KEYS[0]] = replace(wide[KEYS[0]], leaves=(("region", "a"),))
    wanted[KEYS[1]] = replace(wide[KEYS[1]], mode=Mode.ENFORCE)
    wanted[KEYS[2]] = replace(wide[KEYS[2]], leaves=(*wide[KEYS[2]].leaves, ("user", "u")))
    assert rule(wide, generation(wanted), Limit(canary=3)).canaries == {*KEYS[1:4]}
    narrow = {key: replace(wide[key], leaves=(("region", "a"),), mode=Mode.ENFORCE) for key in KEYS}
    assert not rule(wide, generation(narrow), Limit(canary=3)).canaries, "it is all that cannot be shown"


def test_what_is_only_removed_or_not_enforced_has_no_canaries() -> None:
    limit = Limit(canary=3)
    for wanted in ({}, declared(number=5), {key: desired(key, "b", Mode.OBSERVE) for key in KEYS}):
        ruling = rule(declared(), generation(wanted), limit)
        assert ruling.held
        assert not ruling.canaries
        assert ruling.reason.endswith("; `allocsync approve 01234567` lets it through")
        assert "ALLOCSYNC_CANARY" not in ruling.reason


@pytest.mark.parametrize(("removed", "observed", "shown"), [(6, 0, True), (7, 0, False), (3, 4, False)])
def test_canaries_do_not_speak_for_more_than_the_limit_of_what_they_cannot_show(
    removed: int,
    observed: int,
    shown: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    wanted = declared(10, number=len(KEYS) - removed)
    for key in KEYS[:observed]:
        wanted[key] = desired(key, mode=Mode.OBSERVE)
    ruling = rule(declared(), generation(wanted), Limit(canary=1))
    assert ruling.held
    assert bool(ruling.canaries) == shown


def test_the_reason_says_how_many_go_first_by_which_setting_and_how_far_they_are() -> None:
    ruling = rule(declared(), generation(declared(8)), Limit(canary=3))
    first = (
        "generation 01234567 is held: it changes 8 of 20 allocations (40 %: 8 changed), and "
        "ALLOCSYNC_MAX_CHANGES_PERCENT allows 30 %; ALLOCSYNC_CANARY lets 3 go first, and the rest follows "
        "when a GET has shown each of these in sync"
    )
    last = "; `allocsync approve 01234567` lets it through at once"
    assert ruling.reason == first + last
    assert replace(ruling, progress="2 so far").reason == f"{first} (2 so far){last}"
