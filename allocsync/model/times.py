"""Points in time, each with its clock: `Monotonic` and `WallTime`. Pure.

The rule: the times of two clocks are never compared or subtracted; mypy reports it. A time plus or minus
seconds is a time, and the difference of two times is seconds. A time is no number: code that stores it, shows
it or passes it to a library converts it by `float(…)`. Only `to_wall_time` and `to_monotonic` move a time to
the other clock. At run time both types are plain floats; only mypy sees the classes below.

Left out: reading the clocks (`runtime.clock`), durations (plain floats, named `…_seconds`), and times with a
date as text (`telemetry.log_setup.rfc3339`).
"""

from typing import TYPE_CHECKING, NewType, Self, final, overload

_DAY_SECONDS, _HOUR_SECONDS, _MINUTE_SECONDS = 86_400, 3600, 60

if TYPE_CHECKING:
    # The two have no common base class: with one, mypy would accept `sorted([monotonic, wall_time])`.

    @final
    class Monotonic:
        """Seconds on the event loop's monotonic clock, which never jumps and starts anywhere."""

        def __init__(self, seconds: float, /) -> None: ...
        def __float__(self) -> float: ...
        def __add__(self, seconds: float, /) -> Self: ...
        @overload
        def __sub__(self, earlier: Self, /) -> float: ...
        @overload
        def __sub__(self, seconds: float, /) -> Self: ...
        def __sub__(self, other: Self | float, /) -> Self | float: ...
        def __lt__(self, other: Self, /) -> bool: ...
        def __le__(self, other: Self, /) -> bool: ...
        def __gt__(self, other: Self, /) -> bool: ...
        def __ge__(self, other: Self, /) -> bool: ...

    @final
    class WallTime:
        """Seconds since the epoch on the wall clock, which can jump."""

        def __init__(self, seconds: float, /) -> None: ...
        def __float__(self) -> float: ...
        def __add__(self, seconds: float, /) -> Self: ...
        @overload
        def __sub__(self, earlier: Self, /) -> float: ...
        @overload
        def __sub__(self, seconds: float, /) -> Self: ...
        def __sub__(self, other: Self | float, /) -> Self | float: ...
        def __lt__(self, other: Self, /) -> bool: ...
        def __le__(self, other: Self, /) -> bool: ...
        def __gt__(self, other: Self, /) -> bool: ...
        def __ge__(self, other: Self, /) -> bool: ...

else:
    Monotonic = NewType("Monotonic", float)
    WallTime = NewType("WallTime", float)

NEVER = Monotonic(float("inf"))  # later than every other time
LONG_AGO = Monotonic(float("-inf"))  # earlier than every other time


def clock_offset_seconds(wall: WallTime, now: Monotonic) -> float:
    """Return the wall clock minus the monotonic clock, from one moment read on both."""
    return float(wall) - float(now)


def to_wall_time(at: Monotonic, offset_seconds: float) -> WallTime:
    """Return the time on the wall clock; `offset_seconds` is the wall clock minus the monotonic clock."""
    return WallTime(float(at) + offset_seconds)


def to_monotonic(at: WallTime, offset_seconds: float) -> Monotonic:
    """Return the time on the monotonic clock; `offset_seconds` is as in `to_wall_time`."""
    return Monotonic(float(at) - offset_seconds)


def time_of_day(wall: WallTime) -> str:
    """Return the hour, minute and second in UTC, such as `12:05:11Z`; for times within a day."""
    seconds = int(float(wall) % _DAY_SECONDS)
    hours, minutes = seconds // _HOUR_SECONDS, seconds % _HOUR_SECONDS // _MINUTE_SECONDS
    return f"{hours:02}:{minutes:02}:{seconds % _MINUTE_SECONDS:02}Z"
