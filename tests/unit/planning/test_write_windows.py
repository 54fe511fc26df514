"""Write windows are parsed as written and open exactly when a calendar says so."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.model.times import WallTime
from allocsync.planning.write_windows import DAYS, WriteWindows, parse_windows

walls = st.floats(0, 4e9)
times = st.tuples(st.integers(0, 23), st.integers(0, 59))


@given(st.lists(st.tuples(st.sampled_from(DAYS), times, times), min_size=1, max_size=3), walls)
def test_a_window_is_open_exactly_when_the_calendar_says_so(
    spans: list[tuple[str, tuple[int, int], tuple[int, int]]], wall: WallTime
) -> None:
    spans = [
        (day, begin, end if end != begin else (begin[0], (begin[1] + 1) % 60)) for day, begin, end in spans
    ]
    text = ", ".join(
        f"{day.title()} {begin[0]:02}:{begin[1]:02}-{end[0]:02}:{end[1]:02}" for day, begin, end in spans
    )
    now = datetime.fromtimestamp(float(wall), UTC)

    def is_inside(day: str, begin: tuple[int, int], end: tuple[int, int], at: datetime) -> bool:
        midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
        for days_ago in range(8):
            first = midnight - timedelta(days=days_ago)
            if first.weekday() == DAYS.index(day):
                opens = first + timedelta(hours=begin[0], minutes=begin[1])
                closes = first + timedelta(hours=end[0], minutes=end[1])
                closes += timedelta(days=closes <= opens)
                if opens <= at < closes:
                    return True
        return False

    windows = parse_windows(text)
    closed = windows.closed_seconds(wall)
    assert (closed == 0) == any(is_inside(*span, now) for span in spans)
    if closed:
        assert windows.closed_seconds(wall + closed + 1) == 0
        assert windows.closed_seconds(wall + closed / 2) > 0
        assert closed <= 7 * 86_400


@given(walls)
def test_no_window_and_a_window_of_the_whole_day_are_always_open(wall: WallTime) -> None:
    assert WriteWindows().closed_seconds(wall) == 0
    assert parse_windows("00:00-24:00").closed_seconds(wall) == 0


def test_a_range_of_days_may_cross_the_end_of_the_week() -> None:
    assert parse_windows("Sat-Mon 01:00-02:00").spans == ((7260, 60), (8700, 60), (60, 60))
    assert len(parse_windows("mon-sun 22:00-06:00").spans) == 7
    assert parse_windows("22:00-06:00").spans[0] == (1320, 480)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "Mon", "Mon-Fri", "Mon 22:00", "22-06", "22:00-22:00", "24:01-02:00", "1:00-02:00"),
        *("Mon Tue 01:00-02:00", "Xyz 01:00-02:00", "01:00-02:00,", "01:00-02:60", "01:00-02:00-03:00"),
        *("\u0660\u0661:00-02:00", "Mon- 25:00-26:00", "-"),
    ],
)
def test_malformed_windows_are_rejected(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message is not shown: the setting says what it must be
        parse_windows(text)
