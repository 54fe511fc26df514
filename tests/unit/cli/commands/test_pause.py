"""How the duration and the target of a pause are given."""

import pytest

from allocsync.cli.commands.pause import parse_duration, parse_target
from allocsync.errors import UsageError


@pytest.mark.parametrize(
    ("length", "seconds"),
    [("90s", 90), ("1m", 60), ("30min", 1800), ("2h", 7200), ("1.5d", 129_600), ("30d", 2_592_000)],
)
def test_a_duration_is_a_number_and_a_unit(length: str, seconds: float) -> None:
    assert parse_duration(length) == seconds


@pytest.mark.parametrize(
    "length", ["", "2", "h", "0s", "-1h", "2 h", "31d", "1w", "2h30m", "1e9s", "٢h", "nan"]
)
def test_any_other_duration_is_an_error_with_examples(length: str) -> None:
    with pytest.raises(UsageError, match=r"Try 90s, 30min, 2h or 1\.5d"):
        parse_duration(length)


def test_a_command_names_one_allocation_or_all_and_not_both() -> None:
    assert parse_target("7b0c", everything=False) == {"id": "7b0c"}
    assert parse_target(None, everything=True) == {"all": True}
    for key, everything in ((None, False), ("7b0c", True)):
        with pytest.raises(UsageError, match="--all"):
            parse_target(key, everything=everything)
