"""An allocation is named by its whole id, or by at least 8 characters with which exactly one id begins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.model.ids import PREFIX_MIN, SUGGESTIONS, AllocationId, NotFound, find

IDS = {AllocationId(key) for key in ("7b0c4c5e-1", "7b0c4c5e-2", "91d2", "91d2a0f3-1", "abcdefghi")}


@pytest.mark.parametrize("key", sorted(IDS))
def test_a_whole_id_is_found_even_if_it_is_short_or_a_prefix_of_another_one(key: str) -> None:
    assert find(key, IDS) == key


@pytest.mark.parametrize(("prefix", "key"), [("91d2a0f3", "91d2a0f3-1"), ("abcdefgh", "abcdefghi")])
def test_eight_characters_are_enough_if_one_id_begins_with_them(prefix: str, key: str) -> None:
    assert find(prefix, IDS) == key


@pytest.mark.parametrize(
    ("name", "why", "suggestions"),
    [
        (
            "7b0c4c5e",
            "7b0c4c5e matches 2 allocations; give more characters of the id",
            ("7b0c4c5e-1", "7b0c4c5e-2"),
        ),
        (
            "abcdefg",
            "abcdefg is too short: give the whole id, or at least its first 8 characters",
            ("abcdefghi",),
        ),
        ("7b0c4c5e-3", "7b0c4c5e-3: no such allocation is declared", ("7b0c4c5e-1", "7b0c4c5e-2")),
        ("91d2xxxxxx", "91d2xxxxxx: no such allocation is declared", ("91d2", "91d2a0f3-1")),
        ("nobody", "nobody: no such allocation is declared", ()),
    ],
)
def test_any_other_name_is_not_found_and_ids_that_begin_alike_are_suggested(
    name: str, why: str, suggestions: tuple[str, ...]
) -> None:
    assert find(name, IDS) == NotFound(why, tuple(map(AllocationId, suggestions)))


def test_the_message_says_which_ids_were_searched() -> None:
    assert find("nobody", IDS, among="live") == NotFound("nobody: no such allocation is live", ())


def test_at_most_ten_ids_are_suggested() -> None:
    ids = {AllocationId(f"abcdefgh-{number:02}") for number in range(30)}
    found = find("abcdefgh", ids)
    assert isinstance(found, NotFound)
    assert found.suggestions == tuple(sorted(ids))[:SUGGESTIONS]


@given(st.sets(st.text("ab", min_size=1, max_size=12)), st.text("ab", max_size=12))
def test_a_name_never_finds_an_allocation_whose_id_does_not_begin_with_it(ids: set[str], name: str) -> None:
    found = find(name, {AllocationId(key) for key in ids})
    if isinstance(found, NotFound):
        assert name not in ids
        assert len(name) < PREFIX_MIN or sum(key.startswith(name) for key in ids) != 1
    else:
        assert found in ids
        assert found == name or (len(name) >= PREFIX_MIN and found.startswith(name))
