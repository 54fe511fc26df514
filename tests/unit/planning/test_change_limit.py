"""The change limit: what a revision changes against the baseline, and when it awaits approval."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.model.desired_state import Desired, Mode, Revision
from allocsync.model.ids import AllocationId
from allocsync.planning.change_limit import (
    NO_LIMIT,
    Baseline,
    ChangeLimit,
    active_declarations,
    next_baseline,
    review_changes,
)

KEYS = [AllocationId(f"{number:02}") for number in range(20)]
LIMIT = ChangeLimit()


def desired(key: AllocationId, region: str = "a", mode: Mode = Mode.ENFORCE) -> Desired:
    return Desired(key, (("region", region),), mode, "desired.yaml:3")


def revision(
    allocations: Mapping[AllocationId, Desired], quarantined: tuple[AllocationId, ...] = ()
) -> Revision:
    return Revision("0123456789abcdef", allocations, dict.fromkeys(quarantined, ("wrong",)))


def declarations(changed: int = 0, *, number: int = 20, region: str = "b") -> dict[AllocationId, Desired]:
    return {key: desired(key, region if n < changed else "a") for n, key in enumerate(KEYS[:number])}


sets = st.dictionaries(
    st.sampled_from(KEYS),
    st.tuples(st.sampled_from("ab"), st.sampled_from([Mode.ENFORCE, Mode.OBSERVE])),
).map(lambda found: {key: desired(key, region, mode) for key, (region, mode) in found.items()})
limits = st.builds(ChangeLimit, percent=st.floats(0, 100), least=st.integers(1, 20))
quarantines = st.sets(st.sampled_from(KEYS)).map(tuple)


@given(sets, sets, quarantines, limits, limits)
def test_a_stricter_limit_never_allows_more(
    baseline: Baseline,
    new_set: Baseline,
    quarantined: tuple[AllocationId, ...],
    one: ChangeLimit,
    other: ChangeLimit,
) -> None:
    strict = ChangeLimit(min(one.percent, other.percent), min(one.least, other.least))
    new = revision({key: new_set[key] for key in new_set if key not in quarantined}, quarantined)
    if review_changes(baseline, new, one).awaits_approval:
        assert review_changes(baseline, new, strict).awaits_approval
    assert review_changes(baseline, new, one).withheld <= review_changes(baseline, new, strict).withheld


@given(sets, sets, quarantines, limits)
def test_reverting_an_edit_always_ends_the_wait_for_approval(
    baseline: Baseline, new_set: Baseline, quarantined: tuple[AllocationId, ...], limit: ChangeLimit
) -> None:
    back = {key: value for key, value in baseline.items() if key not in quarantined}
    kept = tuple(key for key in quarantined if key in baseline)
    assert not review_changes(baseline, revision(back, kept), limit).awaits_approval or not (back or kept)
    approved = next_baseline(baseline, revision(new_set))
    assert not review_changes(approved, revision(new_set), limit).awaits_approval


@given(sets, sets, quarantines, limits)
def test_exactly_the_changed_and_new_allocations_are_withheld(
    baseline: Baseline, new_set: Baseline, quarantined: tuple[AllocationId, ...], limit: ChangeLimit
) -> None:
    new = revision({key: new_set[key] for key in new_set if key not in quarantined}, quarantined)
    review = review_changes(baseline, new, limit)
    same = {key for key, value in new.allocations.items() if baseline.get(key) == value}
    assert not review.withheld & same
    assert not review.awaits_approval or review.withheld == new.allocations.keys() - same
    assert review.changes == len(review.changed) + len(review.added) + len(review.removed)
    assert not (review.removed & {*quarantined}), "an entry with errors is not a removal"
    active = active_declarations(new, review, baseline)
    assert dict(active) == {
        **new.allocations,
        **({key: baseline[key] for key in review.removed} if review.awaits_approval else {}),
    }
    assert bool(review.reason) == review.awaits_approval


@given(sets, st.sets(st.sampled_from(KEYS), min_size=1))
def test_neither_a_first_start_nor_a_limit_of_100_percent_needs_approval(
    new_set: Baseline, ids: set[AllocationId]
) -> None:
    assert not review_changes({}, revision(new_set), ChangeLimit(percent=0, least=1)).awaits_approval
    assert not review_changes(
        {key: desired(key, "z") for key in ids}, revision(new_set), NO_LIMIT
    ).awaits_approval


@pytest.mark.parametrize(
    ("number", "changed", "held"),
    [(20, 6, False), (20, 7, True), (10, 3, False), (10, 4, True), (9, 9, False), (1, 1, False)],
)
def test_the_limit_is_30_percent_from_10_allocations_on(
    number: int,
    changed: int,
    held: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    review = review_changes(
        declarations(number=number), revision(declarations(changed, number=number)), LIMIT
    )
    assert (review.changes, review.awaits_approval) == (changed, held)


def test_new_and_removed_allocations_and_changed_modes_count() -> None:
    before = declarations()
    grown = {**before, **{key: desired(key) for key in map(AllocationId, ("x1", "x2"))}}
    assert review_changes(before, revision(grown), LIMIT).changes == 2
    assert review_changes(before, revision(declarations(number=15)), LIMIT).changes == 5
    assert review_changes(before, revision(declarations(number=13)), LIMIT).awaits_approval
    enforced = revision({key: desired(key, mode=Mode.ENFORCE) for key in KEYS})
    observed = {key: desired(key, mode=Mode.OBSERVE) for key in KEYS}
    assert review_changes(observed, enforced, LIMIT).withheld == {*KEYS}


def test_a_moved_declaration_does_not_count() -> None:
    moved = {key: Desired(key, (("region", "a"),), Mode.ENFORCE, "other.yaml:99") for key in KEYS}
    assert review_changes(declarations(), revision(moved), LIMIT).changes == 0


def test_a_revision_without_allocations_awaits_approval_whatever_the_size_before() -> None:
    review = review_changes(declarations(number=2), revision({}), LIMIT)
    assert review.awaits_approval
    assert "declares no allocations (2 removed)" in review.reason
    assert not review_changes(declarations(number=2), revision({}, (KEYS[0],)), LIMIT).awaits_approval, (
        "an entry with errors is still there"
    )


def test_allocations_whose_entries_have_errors_keep_their_baseline() -> None:
    before = declarations()
    new = revision(declarations(number=10), tuple(KEYS[10:]))
    assert not review_changes(before, new, LIMIT).changes
    assert next_baseline(before, new) == before


def test_the_reason_gives_the_numbers_the_setting_and_the_command() -> None:
    assert review_changes(declarations(), revision({**declarations(7, number=19)}), LIMIT).reason == (
        "revision 01234567 awaits approval: it changes 8 of 20 allocations (40 %: 7 changed, 1 removed), and "
        "ALLOCSYNC_MAX_CHANGES_PERCENT allows 30 %; `allocsync approve 01234567` activates it"
    )


canary_limits = st.builds(
    ChangeLimit, percent=st.floats(0, 100), least=st.integers(1, 20), canary=st.integers(0, 25)
)


@given(sets, sets, quarantines, canary_limits)
def test_canaries_are_the_first_allocations_that_lead_to_updates_and_the_rest_is_withheld(
    baseline: Baseline, new_set: Baseline, quarantined: tuple[AllocationId, ...], limit: ChangeLimit
) -> None:
    new = revision({key: new_set[key] for key in new_set if key not in quarantined}, quarantined)
    review, without = (
        review_changes(baseline, new, limit),
        review_changes(baseline, new, replace(limit, canary=0)),
    )
    assert (review.awaits_approval, review.changes, without.canaries) == (
        without.awaits_approval,
        without.changes,
        frozenset(),
    )
    assert review.withheld == without.withheld - review.canaries
    testable = {key for key in without.withheld if new.allocations[key].mode is Mode.ENFORCE}
    assert review.canaries <= testable
    untestable = 100 * (review.changes - len(testable)) > limit.percent * review.total
    most = max(1, int(limit.percent * review.total / 100))
    assert len(review.canaries) == min(limit.canary, most, 0 if untestable else len(testable))
    # After a restart the same declarations may come in another order and from other places in the files.
    again = {key: baseline[key] for key in sorted(baseline, reverse=True)}
    moved = {
        key: replace(new.allocations[key], source="moved") for key in sorted(new.allocations, reverse=True)
    }
    assert review_changes(again, replace(new, allocations=moved), limit) == review


@given(sets, sets, canary_limits)
def test_one_more_canary_adds_one_and_replaces_none(
    baseline: Baseline, new_set: Baseline, limit: ChangeLimit
) -> None:
    more = replace(limit, canary=limit.canary + 1)
    few, many = (review_changes(baseline, revision(new_set), each).canaries for each in (limit, more))
    assert few <= many
    assert len(many) <= len(few) + 1


def test_canaries_are_the_first_by_id_with_changed_ones_before_new_ones() -> None:
    before = {key: desired(key) for key in KEYS[5:]}
    new_set = {key: desired(key, "b" if key in KEYS[15:] else "a") for key in KEYS}
    assert review_changes(before, revision(new_set), ChangeLimit(canary=2)).canaries == {*KEYS[15:17]}
    limit = ChangeLimit(percent=40, canary=7)
    assert review_changes(before, revision(new_set), limit).canaries == {*KEYS[15:], *KEYS[:2]}


@pytest.mark.parametrize(("percent", "most"), [(30, 6), (39, 7), (4, 1), (0, 1)])
def test_there_are_as_many_canaries_as_the_limit_allows_but_at_least_one(percent: float, most: int) -> None:
    review = review_changes(
        declarations(), revision(declarations(20)), ChangeLimit(percent=percent, canary=100)
    )
    assert review.awaits_approval
    assert review.canaries == {*KEYS[:most]}


def test_an_allocation_that_leads_to_no_update_is_no_canary() -> None:
    wide = {key: Desired(key, (("region", "a"), ("version", "1")), Mode.ENFORCE) for key in KEYS}
    wide[KEYS[1]] = replace(wide[KEYS[1]], mode=Mode.OBSERVE)
    new_set = {key: replace(wide[key], fields=(("region", "b"), ("version", "1"))) for key in KEYS}
    new_set[KEYS[0]] = replace(wide[KEYS[0]], fields=(("region", "a"),))
    new_set[KEYS[1]] = replace(wide[KEYS[1]], mode=Mode.ENFORCE)
    new_set[KEYS[2]] = replace(wide[KEYS[2]], fields=(*wide[KEYS[2]].fields, ("user", "u")))
    assert review_changes(wide, revision(new_set), ChangeLimit(canary=3)).canaries == {*KEYS[1:4]}
    narrow = {key: replace(wide[key], fields=(("region", "a"),), mode=Mode.ENFORCE) for key in KEYS}
    assert not review_changes(wide, revision(narrow), ChangeLimit(canary=3)).canaries, (
        "declaring fewer fields leads to no update"
    )


def test_a_revision_that_only_removes_or_observes_has_no_canaries() -> None:
    limit = ChangeLimit(canary=3)
    for new_set in ({}, declarations(number=5), {key: desired(key, "b", Mode.OBSERVE) for key in KEYS}):
        review = review_changes(declarations(), revision(new_set), limit)
        assert review.awaits_approval
        assert not review.canaries
        assert review.reason.endswith("; `allocsync approve 01234567` activates it")
        assert "ALLOCSYNC_CANARY" not in review.reason


@pytest.mark.parametrize(("removed", "observed", "shown"), [(6, 0, True), (7, 0, False), (3, 4, False)])
def test_there_are_no_canaries_if_untestable_changes_exceed_the_limit(
    removed: int,
    observed: int,
    shown: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    new_set = declarations(10, number=len(KEYS) - removed)
    for key in KEYS[:observed]:
        new_set[key] = desired(key, mode=Mode.OBSERVE)
    review = review_changes(declarations(), revision(new_set), ChangeLimit(canary=1))
    assert review.awaits_approval
    assert bool(review.canaries) == shown


def test_the_reason_gives_the_number_of_canaries_their_setting_and_their_progress() -> None:
    review = review_changes(declarations(), revision(declarations(8)), ChangeLimit(canary=3))
    first = (
        "revision 01234567 awaits approval: it changes 8 of 20 allocations (40 %: 8 changed), and "
        "ALLOCSYNC_MAX_CHANGES_PERCENT allows 30 %; ALLOCSYNC_CANARY updates 3 first, and the rest follows "
        "when a read has shown each of these in sync"
    )
    last = "; `allocsync approve 01234567` activates it at once"
    assert review.reason == first + last
    assert replace(review, progress="2 so far").reason == f"{first} (2 so far){last}"
