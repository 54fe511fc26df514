"""What `allocsync retry` prints: which allocations are tried again, and what still holds each back."""

from datetime import UTC, datetime
from typing import Any

import pytest

from allocsync.cli.commands.retry import format_retries
from allocsync.model.condition import Condition
from allocsync.planning.rendering import Tone

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
BEFORE = "2026-11-23T12:05:00Z"
PAUSE = {"until": BEFORE, "owner": "mark@here", "reason": "a migration"}
HELD_BACK = {
    *(Condition.OUTCOME_UNKNOWN, Condition.AWAITING_APPROVAL, Condition.BLOCKED),
    *(Condition.SUSPENDED, Condition.DRIFTED),
}


def explanation(**more: object) -> dict[str, Any]:
    plain = {"id": "7b0c4c5e", "condition": "Pending", "reason": "because"}
    return {**plain, "no_update_before": None, "paused": None, **more}


def test_each_allocation_has_a_line() -> None:
    lines = list(format_retries([explanation(), explanation(id="91d2a0f3")], NOW))
    assert [line.text for line in lines] == ["retrying 7b0c4c5e now", "retrying 91d2a0f3 now"]
    assert {line.tone for line in lines} == {Tone.GOOD}


@pytest.mark.parametrize(
    ("more", "obstacle"),
    [
        ({"no_update_before": BEFORE}, "no update before 12:05:00Z (in 5 min)"),
        ({"paused": PAUSE}, "paused by mark@here: a migration"),
        (
            {"no_update_before": BEFORE, "paused": PAUSE},
            "no update before 12:05:00Z (in 5 min); paused by mark@here: a migration",
        ),
        ({"condition": "Blocked"}, "Blocked: because"),
    ],
)
def test_what_still_holds_it_back_is_named(more: dict[str, object], obstacle: str) -> None:
    (line,) = format_retries([explanation(**more)], NOW)
    assert (line.text, line.tone) == (f"retrying 7b0c4c5e; {obstacle}", Tone.WAIT)


@pytest.mark.parametrize("condition", Condition)
def test_only_a_condition_that_a_retry_does_not_end_is_an_obstacle(condition: Condition) -> None:
    (line,) = format_retries([explanation(condition=condition.value)], NOW)
    assert (line.tone is Tone.WAIT) == (condition in HELD_BACK)


def test_control_characters_from_a_daemon_do_not_reach_the_terminal() -> None:
    odd = explanation(id="\x1b[2Ja", condition="Blocked", reason="\x1b]0;x\x07")
    assert all(line.text.isprintable() for line in format_retries([odd], NOW))
