"""Dates of HTTP headers: three forms, always GMT, and nothing else."""

import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocsync.api.http_date import parse_http_date
from allocsync.api.responses import parse_retry_after
from allocsync.model.times import WallTime

AT = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT
NOW = 1_800_000_000.0


@pytest.fixture(params=["UTC", "America/New_York", "Asia/Kolkata"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun, 6 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 -0000",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 10:49:37 +0200",
        "Sun, 06 Nov 1994 03:19:37 -0530",
        "sun, 06 nov 1994 08:49:37 gmt",
    ],
)
def test_each_form_is_gmt_whatever_the_zone_of_the_machine(zone: str, text: str) -> None:
    here = time.strftime("%z", time.localtime(AT))
    assert here == {"UTC": "+0000", "America/New_York": "-0500", "Asia/Kolkata": "+0530"}[zone]
    assert parse_http_date(text, wall=WallTime(NOW)) == WallTime(AT)


@pytest.mark.parametrize(
    "form",
    ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"],
    ids=["IMF-fixdate", "RFC 850", "asctime"],
)
def test_retry_after_in_each_form_is_the_same_wait_in_each_zone(zone: str, form: str) -> None:
    assert zone
    retry_at = datetime.fromtimestamp(NOW + 90, UTC).strftime(form)
    assert parse_retry_after(retry_at, date=None, wall=WallTime(NOW)) == 90
    assert parse_retry_after(retry_at, date=formatdate(NOW + 30, usegmt=True), wall=WallTime(0.0)) == 60


@given(st.integers(-2_000_000_000, 200_000_000_000))
def test_what_the_standard_library_formats_is_read_back(timestamp: int) -> None:
    assert parse_http_date(formatdate(timestamp, usegmt=True), wall=WallTime(NOW)) == WallTime(timestamp)


@given(st.integers(int(NOW) - 49 * 365 * 86_400, int(NOW) + 49 * 365 * 86_400))
def test_a_year_of_two_digits_lies_within_fifty_years(timestamp: int) -> None:
    text = datetime.fromtimestamp(timestamp, UTC).strftime("%A, %d-%b-%y %H:%M:%S GMT")
    assert parse_http_date(text, wall=WallTime(NOW)) == WallTime(timestamp)


@pytest.mark.parametrize(
    "text",
    [
        *("", "soon", "12.5", "Sun", "06 Nov 1994 08:49:37 GMT", "Sun, 31 Feb 1994 08:49:37 GMT"),
        *("Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 06 Nov 1994 24:00:00 GMT", "Sun, 06 Nov 1994 08:49:37 PST"),
        *("Sun, 06 Nov 1994 08:49:37 +0099", "Sun, 06 Nov 0000 08:49:37 GMT", "1994-11-06T08:49:37Z"),
        *("Sun, 06 Nov ١٩٩٤ 08:49:37 GMT", "Sun, 01 Jan 0001 00:00:00 +0100", " Sun Nov  6 08:49:37 1994"),
    ],
)
def test_anything_else_is_no_date(text: str) -> None:
    assert parse_http_date(text, wall=WallTime(NOW)) is None


@given(st.text(max_size=40))
def test_no_text_raises(text: str) -> None:
    found = parse_http_date(text, wall=WallTime(NOW))
    assert found is None or math.isfinite(found)


def test_a_leap_second_is_the_second_after_it() -> None:
    assert parse_http_date("Sat, 31 Dec 2016 23:59:60 GMT", wall=WallTime(NOW)) == WallTime(1_483_228_800)
