"""The charts show every request and no others."""

from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.storm_tables import BARS, COLUMNS, bar, chart

COUNTS = st.integers(0, 10_000)


@given(COUNTS, COUNTS)
def test_a_bar_grows_with_the_count_and_is_empty_only_for_zero(one: int, other: int) -> None:
    most = max(one, other)
    low, high = (BARS.index(bar(count, most)) for count in sorted((one, other)))
    assert low <= high
    assert (low == 0) == (min(one, other) == 0)


@given(st.lists(COUNTS, min_size=1, max_size=700), st.floats(1, 600))
def test_a_chart_fits_its_columns_and_marks_the_end_of_the_storm(counts: list[int], ends: float) -> None:
    _, line = chart("a storm", {"script": counts}, ends).splitlines()
    bars, _, most = line.removeprefix("script  ").partition("  most ")
    assert bars.count("│") == 1
    assert most == f"{max(counts):,}"
    assert len(bars.rstrip()) <= COLUMNS + 1


def test_all_lines_of_a_chart_have_one_scale() -> None:
    _, first, second = chart("a storm", {"a": [0, 1, 100], "bc": [10, 0, 0, 1]}, 2.0).splitlines()
    assert first == "a    ▁│█  most 100"
    assert second == "bc  ▅ │ ▁  most 10"
