"""Parses the dates of HTTP headers, in the three forms of RFC 9110. Pure.

    Sun, 06 Nov 1994 08:49:37 GMT      IMF-fixdate
    Sunday, 06-Nov-94 08:49:37 GMT     RFC 850
    Sun Nov  6 08:49:37 1994           asctime

The rules: a date is GMT, whatever the time zone of this machine, also without a zone or with the zone `-0000`
of mail. Another numeric zone such as `+0200` is obeyed. The name of the weekday is not checked. A leap second
is the second after it. Anything else is no date.

Left out: what a date means (`api.responses`, `api.evidence_time`).
"""

import re
from datetime import UTC, datetime, timedelta

from allocsync.model.times import WallTime

_TIME = r"(?P<hour>\d{2}):(?P<minute>\d{2}):(?P<second>\d{2})"
_ZONE = r"(?: (?:GMT|UTC|Z|(?P<zone>[+-]\d{4})))?"
_FORMS = tuple(
    re.compile(form, re.ASCII | re.IGNORECASE)
    for form in (
        rf"[a-z]{{3}}, (?P<day>\d{{1,2}}) (?P<month>[a-z]{{3}}) (?P<year>\d{{4}}) {_TIME}{_ZONE}",
        rf"[a-z]{{6,9}}, (?P<day>\d{{2}})-(?P<month>[a-z]{{3}})-(?P<year>\d{{2}}) {_TIME}{_ZONE}",
        rf"[a-z]{{3}} (?P<month>[a-z]{{3}}) {{1,2}}(?P<day>\d{{1,2}}) {_TIME} (?P<year>\d{{4}})",
    )
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_FULL_YEAR_DIGITS = 4
_CENTURY = 100
_MOST_YEARS_AHEAD = 50  # RFC 9110: a year of two digits that seems further ahead lies in the past
_LEAP_SECOND = 60
_MAX_ZONE_MINUTES = 59


def parse_http_date(text: str, *, wall: WallTime) -> WallTime | None:
    """Return the date in seconds since the epoch, or None if the text is no date.

    `wall` (seconds since the epoch) decides the century of a year with two digits.
    """
    for form in _FORMS:
        if match := form.fullmatch(text):
            return _timestamp(match, wall)
    return None


def _timestamp(match: re.Match[str], wall: WallTime) -> WallTime | None:
    parts = match.groupdict()
    try:
        month = _MONTHS.index(parts["month"].lower()) + 1
        second = int(parts["second"])
        date = datetime(
            _full_year(parts["year"], wall),
            month,
            int(parts["day"]),
            int(parts["hour"]),
            int(parts["minute"]),
            second - (second == _LEAP_SECOND),
            tzinfo=UTC,
        )
        date += timedelta(seconds=second == _LEAP_SECOND) - _zone(parts.get("zone"))
    except (ValueError, OverflowError):  # such as 31 Feb, or a date that no datetime can hold
        return None
    return WallTime(date.timestamp())


def _full_year(digits: str, wall: WallTime) -> int:
    year = int(digits)
    if len(digits) == _FULL_YEAR_DIGITS:
        return year
    this_year = datetime.fromtimestamp(float(wall), UTC).year
    year += this_year - this_year % _CENTURY
    return year - _CENTURY if year > this_year + _MOST_YEARS_AHEAD else year


def _zone(zone: str | None) -> timedelta:
    if zone is None:
        return timedelta()
    hours, minutes = int(zone[1:3]), int(zone[3:5])
    if minutes > _MAX_ZONE_MINUTES:
        raise ValueError(zone)
    offset = timedelta(hours=hours, minutes=minutes)
    return -offset if zone[0] == "-" else offset
